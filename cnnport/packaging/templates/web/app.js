// The page: pictures in by every way that a browser has, answers out.
//
// Other scripts of the page find the model as `cnnport.ready`, a promise of a classifier as classifier.js describes it.

import { PictureError, openClassifier } from "./classifier.js";
import { addressesToKeep, readManifest } from "./manifest.js";
import { keep, startServiceWorker } from "./offline.js";
import { nameOf, percent, showFacts, showResults } from "./results.js";
import { RUNTIME } from "./runtime.js";

const BACKENDS = { wasm: "WebAssembly on the processor", webgpu: "WebGPU" };
const SHOWN_DIGITS = 12;

// Pictures of so few pixels are shown large, pixel by pixel.
const TINY = 64;

const find = (id) => document.getElementById(id);
const [status, progress, error, preview] = ["status", "progress", "error", "preview"].map(find);
const backend = /** @type {HTMLSelectElement} */ (find("backend"));

/** @type {import("./manifest.js").Manifest} */
let manifest;
/** @type {Promise<ServiceWorkerRegistration|null>} */
const serviceWorker = startServiceWorker();
/** @type {Promise<import("./classifier.js").Classifier>} */
let ready;
let latest = 0;

start();

async function start() {
  // On a first visit the page may be loaded anew here.
  await serviceWorker;
  try {
    say("Loading the model…");
    manifest = await readManifest();
  } catch (reason) {
    fail(reason);
    return;
  }
  introduce();
  const asked = new URLSearchParams(location.search).get("backend");
  if (asked in BACKENDS) {
    backend.value = asked;
  }
  backend.addEventListener("change", () => open());
  takePictures();
  open();
}

/** Load the model, for the backend that is chosen. */
async function open() {
  state("loading");
  const before = ready;
  const opening = openClassifier({ backend: /** @type {any} */ (backend.value), onProgress, manifest });
  ready = opening;
  globalThis.cnnport = { ready };
  before?.then((classifier) => classifier.close()).catch(() => {});
  latest += 1;
  hideError();
  showResults(find("results"), []);
  showFacts(find("facts"), []);
  try {
    const classifier = await opening;
    if (opening === ready) {
      progress.hidden = true;
      say("Ready: choose a picture.");
      state("ready");
      await describe(classifier);
    }
  } catch (reason) {
    if (opening === ready) {
      fail(reason);
    }
  }
}

function onProgress(loaded, total) {
  progress.hidden = loaded === total;
  progress.setAttribute("max", total);
  progress.setAttribute("value", loaded);
}

/** Classify a picture file, and show the answer unless another picture has been chosen meanwhile. */
async function show(blob, name) {
  latest += 1;
  const own = latest;
  hideError();
  if (document.documentElement.dataset.state === "ready") {
    say("Looking at the picture…");
  }
  try {
    const classifier = await ready;
    const backendBefore = classifier.about.backend;
    const answer = await classifier.classify(blob);
    if (own !== latest) {
      return;
    }
    display(blob, name, answer);
    showResults(find("results"), answer.top);
    showFacts(find("facts"), factsOf(answer));
    const [best] = answer.top;
    say(`${nameOf(best)}, ${percent(best.probability)}`);
    // On a phone they are below the picture.
    find("results").scrollIntoView({ block: "nearest" });
    document.documentElement.dataset.shown = String(own);
    if (classifier.about.backend !== backendBefore) {
      await describe(classifier);
    }
  } catch (reason) {
    if (own === latest) {
      say("No answer.");
      showResults(find("results"), []);
      showFacts(find("facts"), []);
      showError(sentence(reason instanceof PictureError ? reason.message : `That did not work: ${reason.message}`));
    }
  }
}

function factsOf(answer) {
  /** @type {[string, string][]} */
  const facts = [
    ["Model", `${milliseconds(answer.runMs)}`],
    ["Decoding", `${milliseconds(answer.decodeMs)}`],
    ["Picture", `${answer.width} × ${answer.height} pixels`],
  ];
  if (answer.averaged > 1) {
    const side = answer.averaged;
    facts.push(["Very large", `squares of ${side} × ${side} pixels were averaged before the model saw them`]);
  }
  return facts;
}

function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function display(blob, name, { width, height }) {
  const old = preview.getAttribute("src");
  preview.setAttribute("src", URL.createObjectURL(blob));
  preview.setAttribute("alt", `The picture that was classified: ${name}`);
  preview.classList.toggle("tiny", Math.max(width, height) <= TINY);
  preview.hidden = false;
  find("hint").textContent = name;
  if (old !== null) {
    URL.revokeObjectURL(old);
  }
}

/** Every way for a picture to get in. */
function takePictures() {
  for (const id of ["choose", "photograph"]) {
    const input = /** @type {HTMLInputElement} */ (find(id));
    input.addEventListener("change", () => {
      take(input.files);
      // The same file may be chosen again.
      input.value = "";
    });
  }
  find("example").addEventListener("click", async () => {
    try {
      const response = await fetch(new URL(manifest.example.file, import.meta.url));
      await show(await response.blob(), "the example");
    } catch (reason) {
      showError(sentence(`The example cannot be loaded: ${reason.message}`));
    }
  });
  const drop = find("drop");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0) {
      event.preventDefault();
      take(event.clipboardData.files);
    }
  });
}

function take(files) {
  const [file] = files;
  if (file === undefined) {
    showError("That was no picture file: save the picture first, then drop or choose the file.");
    return;
  }
  show(file, file.name || "a pasted picture");
}

/** Say what the manifest says of the model. */
function introduce() {
  document.title = `${manifest.model.name}: picture classifier`;
  find("name").textContent = manifest.model.name;
  find("licence").textContent = manifest.licence;
  find("made").textContent = `Made with cnnport ${manifest.cnnport}.`;
  if (manifest.metadata["cnnport.weights"] === "random") {
    const notice = find("notice");
    notice.textContent = "The weights of this model are random: it shows how fast it runs, and its answers mean nothing.";
    notice.hidden = false;
  }
}

/** Say how the model runs here, and whether it would without a network. */
async function describe(classifier) {
  const { backend: used, threads, reason, check } = classifier.about;
  const { model, labels, outputs } = manifest;
  const count = labels?.length ?? outputs.find(({ name }) => name === "probabilities")?.shape[1];
  /** @type {[string, string][]} */
  const facts = [
    ["Runs on", used === "wasm" ? `${BACKENDS.wasm}, ${threads === 1 ? "1 thread" : `${threads} threads`}` : BACKENDS.webgpu],
    ...whyNot(reason),
    ["Checked", `the example's probabilities are within ${check.difference.toExponential(0)} of the expected ones`],
    ["Without a network", "…"],
    ["Model", `${(model.bytes / 1e6).toFixed(1)} MB, ${model.precision}, ${count} classes`],
    ["SHA-256", `${model.sha256.slice(0, SHOWN_DIGITS)}…`],
  ];
  showFacts(find("about"), facts);
  const registration = await serviceWorker;
  const isKept = registration !== null && (await keep(registration, addressesToKeep(manifest, RUNTIME[used])));
  facts.find(([name]) => name === "Without a network")[1] = isKept
    ? "works: everything is kept in this browser"
    : "does not work: this browser keeps nothing for pages that come over http, or in this kind of window";
  showFacts(find("about"), facts);
  document.documentElement.dataset.offline = isKept ? "yes" : "no";
}

/** With a capital at the beginning and one full stop at the end, wherever the words come from. */
function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/[\s.]+$/, "")}.`;
}

/** @returns {[string, string][]} */
function whyNot(reason) {
  return reason ? [["Why not WebGPU", reason]] : [];
}

function say(text) {
  status.textContent = text;
}

function state(name) {
  document.documentElement.dataset.state = name;
}

function fail(reason) {
  state("failed");
  progress.hidden = true;
  say("The model cannot run here.");
  showError(sentence(reason.message));
}

function showError(text) {
  error.textContent = text;
  error.hidden = false;
}

function hideError() {
  error.hidden = true;
  error.textContent = "";
}
