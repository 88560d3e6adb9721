// What the page needs to work without a network, and with threads: a service worker (service_worker.js).

import { scriptAddress } from "./trusted.js";

const RELOADED = `cnnport reloaded ${new URL("./", import.meta.url).pathname}`;
const PATIENCE_MS = 5000;

/**
 * Put the service worker in place.
 *
 * Where the server does not isolate the page, which threads need, the service worker does so, but only for a page that it
 * has loaded itself: on the first visit the page is loaded once more, before anything large has been fetched.
 *
 * @returns {Promise<ServiceWorkerRegistration|null>} Null where there can be none.
 */
export async function startServiceWorker() {
  if (!("serviceWorker" in navigator)) {
    return null;
  }
  try {
    const workers = navigator.serviceWorker;
    const registration = await workers.register(scriptAddress("service_worker.js"));
    if (workers.controller === null && registration.active === null) {
      await Promise.race([workers.ready, pause(PATIENCE_MS)]);
      if (!globalThis.crossOriginIsolated && registration.active !== null && isFirstTime()) {
        location.reload();
        await new Promise(() => {});
      }
    }
    return registration;
  } catch {
    // Private windows and managed browsers may refuse.
    return null;
  }
}

/**
 * Have the service worker keep what the page needs.
 *
 * @param {ServiceWorkerRegistration} registration
 * @param {{needed: string[], known: string[]}} addresses
 * @returns {Promise<boolean>} Whether everything is there now.
 */
export function keep(registration, addresses) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener("message", ({ data }) => resolve(data === "kept"), { once: true });
    port1.start();
    if (registration.active === null) {
      resolve(false);
      return;
    }
    registration.active.postMessage({ keep: addresses }, [port2]);
  });
}

function isFirstTime() {
  try {
    const isFirst = sessionStorage.getItem(RELOADED) === null;
    sessionStorage.setItem(RELOADED, "yes");
    return isFirst;
  } catch {
    // Without memory it might load itself for ever.
    return false;
  }
}

function pause(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
