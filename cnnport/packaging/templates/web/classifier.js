// The model of this folder for any page of the same site:
//
//     import { openClassifier } from "./classifier.js";
//
//     const classifier = await openClassifier();
//     const { top } = await classifier.classify(file);
//     console.log(top[0].label, top[0].probability);
//
// Nothing leaves the browser, and nothing but files of this folder is asked for.

import { readManifest } from "./manifest.js";
import { PictureError } from "./pixels.js";
import { scriptAddress } from "./trusted.js";

export { PictureError };

/**
 * @typedef {object} Answer
 * @property {{index: number, label: string|null, probability: number}[]} top The best classes, best first.
 * @property {Float32Array} probabilities Of every class, by index.
 * @property {number} width Of the picture, in pixels.
 * @property {number} height
 * @property {number} averaged Side of the squares of pixels that were averaged first, as very large pictures need; 1 for
 *   none.
 * @property {number} decodeMs Milliseconds for decoding.
 * @property {number} runMs Milliseconds for the model.
 *
 * @typedef {object} About
 * @property {"wasm"|"webgpu"} backend What the model runs on.
 * @property {number} threads Of WebAssembly.
 * @property {string} reason Why it does not run on WebGPU, where that was wanted; otherwise empty.
 * @property {{difference: number, tolerance: number}} check How far the probabilities of the package's own picture are
 *   from the expected ones, and may be.
 *
 * @typedef {object} Options
 * @property {"auto"|"wasm"|"webgpu"} [backend] With "auto", WebGPU where it works.
 * @property {(loaded: number, total: number) => void} [onProgress] Told bytes of the model.
 * @property {import("./manifest.js").Manifest} [manifest] If it has been read already.
 */

/**
 * Load the model of this folder and check that it gives the expected answer here.
 *
 * @param {Options} [options]
 * @returns {Promise<Classifier>}
 * @throws {Error} If it cannot be loaded or gives other answers.
 */
export async function openClassifier({ backend = "auto", onProgress = () => {}, manifest } = {}) {
  const stated = manifest ?? (await readManifest());
  const classifier = new Classifier(stated, backend, onProgress);
  await classifier.open();
  return classifier;
}

/** A model that was loaded: `openClassifier` makes it. */
export class Classifier {
  #manifest;
  #wanted;
  #onProgress;
  #thread;

  /** @type {About} */
  about;

  constructor(manifest, wanted, onProgress) {
    this.#manifest = manifest;
    this.#wanted = wanted;
    this.#onProgress = onProgress;
  }

  /** Start the thread that computes; `openClassifier` has done so. */
  async open() {
    let reason = "";
    if (this.#wanted !== "wasm") {
      try {
        await requireGpu(this.#wanted === "webgpu");
        await this.#start("webgpu", "");
        return;
      } catch (error) {
        if (this.#wanted === "webgpu") {
          throw error;
        }
        reason = error.message;
      }
    }
    await this.#start("wasm", reason);
  }

  /**
   * Classify a picture file.
   *
   * @param {Blob} blob
   * @returns {Promise<Answer>}
   * @throws {PictureError} If the browser cannot read it, or it is too large.
   */
  async classify(blob) {
    try {
      return await this.#thread.ask("classify", { blob });
    } catch (error) {
      // A graphics processor may be taken away at any time, such as when the computer sleeps.
      if (error instanceof PictureError || this.about.backend === "wasm" || this.#wanted === "webgpu") {
        throw error;
      }
      await this.#start("wasm", error.message);
      return this.#thread.ask("classify", { blob });
    }
  }

  /** Stop, and give back the memory. */
  close() {
    this.#thread?.end();
  }

  async #start(backend, reason) {
    this.#thread?.end();
    this.#thread = new Thread(this.#onProgress);
    try {
      const found = await this.#thread.ask("open", { manifest: this.#manifest, backend });
      this.about = { ...found, reason };
    } catch (error) {
      this.#thread.end();
      throw error;
    }
  }
}

/** @throws {Error} If there is nothing that WebGPU could run on. */
async function requireGpu(softwareIsFine) {
  if (!("gpu" in navigator)) {
    throw new Error("this browser has no WebGPU");
  }
  const adapter = await /** @type {any} */ (navigator.gpu).requestAdapter();
  if (adapter === null) {
    throw new Error("this browser offers no graphics processor");
  }
  if (!softwareIsFine && (adapter.info?.isFallbackAdapter || adapter.isFallbackAdapter)) {
    throw new Error("WebGPU is only simulated here, which is slower than the processor");
  }
}

/** A worker that is asked and answers. */
class Thread {
  #worker = new Worker(scriptAddress("worker.js"), { type: "module" });
  #waiting = new Map();
  #count = 0;

  constructor(onProgress) {
    this.#worker.addEventListener("message", ({ data }) => {
      if (data.progress !== undefined) {
        onProgress(data.progress.loaded, data.progress.total);
        return;
      }
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.error === undefined) {
        resolve(data.answer);
      } else {
        reject(new (data.error.isPicture ? PictureError : Error)(data.error.message));
      }
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#fail(event.message || "a script of the page cannot be loaded");
    });
  }

  ask(task, details) {
    this.#count += 1;
    const id = this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, task, ...details });
    });
  }

  end() {
    this.#worker.terminate();
    this.#fail("the model was closed");
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) {
      reject(new Error(reason));
    }
    this.#waiting.clear();
  }
}
