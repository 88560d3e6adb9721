// Keeps the page for use without a network, and adds the headers that isolate it, which WebAssembly's threads need and
// servers for static files cannot be told to send.
//
// Addresses that name their content (?sha256=) are answered from what is kept. All others are asked for first, so that a
// page that was replaced on the server is replaced here as well.

const FOLDER = new URL("./", self.location.href).href;
const CACHE = `cnnport ${FOLDER}`;
const PATIENCE_MS = 4000;

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** Answers that are being written to the cache, by their addresses. */
const beingKept = new Map();

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(FOLDER) && !request.headers.has("Range")) {
    event.respondWith(answer(event));
  }
});

self.addEventListener("message", (event) => {
  if (event.data?.keep) {
    event.waitUntil(
      keep(event.data.keep).then(
        () => event.ports[0].postMessage("kept"),
        () => event.ports[0].postMessage("not kept"),
      ),
    );
  }
});

async function answer(event) {
  const address = addressOf(event.request);
  const kept = await (await caches.open(CACHE)).match(address);
  if (kept === undefined) {
    return prepared(event.request, await fetched(event, address));
  }
  if (namesContent(address)) {
    return prepared(event.request, kept);
  }
  // A network that is there but answers nothing must not keep the page waiting.
  const late = new Promise((resolve) => {
    setTimeout(resolve, PATIENCE_MS, kept);
  });
  const fresh = fetched(event, address).then(
    (response) => (response.ok ? response : kept),
    () => kept,
  );
  return prepared(event.request, await Promise.race([fresh, late]));
}

/** The answer of the server, of which a copy is kept. */
async function fetched(event, address) {
  // A navigation's request cannot be sent again with other settings; its address can.
  const response = await fetch(address, { cache: namesContent(address) ? "default" : "no-cache" });
  if (response.ok) {
    const copy = response.clone();
    // A full disk must not break the page.
    event.waitUntil(store(address, copy).catch(() => {}));
  }
  return response;
}

async function store(address, response) {
  const writing = caches.open(CACHE).then((cache) => cache.put(address, response));
  beingKept.set(address, writing);
  try {
    await writing;
  } finally {
    beingKept.delete(address);
  }
}

async function keep({ needed, known }) {
  const cache = await caches.open(CACHE);
  for (const address of needed) {
    await beingKept.get(address);
    if ((await cache.match(address)) === undefined) {
      await cache.add(address);
    }
  }
  const kept = await cache.keys();
  const old = kept.filter(({ url }) => namesContent(url) && !known.includes(url));
  await Promise.all(old.map((request) => cache.delete(request)));
}

/** Pages are the same whatever their address asks of them. */
function addressOf(request) {
  return request.mode === "navigate" ? request.url.replace(/[?#].*$/, "") : request.url.replace(/#.*$/, "");
}

function namesContent(address) {
  return new URL(address).searchParams.has("sha256");
}

/** An answer with the headers that isolate, where it is a page or a program. Data is passed on as it is. */
function prepared(request, response) {
  if (request.destination === "") {
    return response;
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) {
    headers.set(name, value);
  }
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
