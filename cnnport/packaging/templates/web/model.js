// The model in onnxruntime-web: loaded, held to the answer that is expected of it, and run.

import { addressOf } from "./manifest.js";
import { PictureError, readPixels } from "./pixels.js";
import { resizeAndCrop, resizedSize } from "./resample.js";
import { RUNTIME } from "./runtime.js";

// More make small networks no faster, and a phone hot.
const MOST_THREADS = 4;

// Of float32 values, while a picture is resized within the graph.
const MOST_RESIZED = 25_000_000;

// Ways to run a model on a backend, the next being tried where one fails. Of onnxruntime-web 1.30.0, convolutions with
// channels last, its own choice for WebGPU, are wrong for some numbers of channels (microsoft/onnxruntime, issue 29651).
const PROVIDERS = {
  wasm: ["wasm"],
  webgpu: [{ name: "webgpu" }, { name: "webgpu", preferredLayout: "NCHW" }],
};

/** One model, ready to run. */
export class Model {
  #manifest;
  #backend;
  #runtime;
  #session;
  #threads;

  constructor(manifest, backend, runtime, session) {
    this.#manifest = manifest;
    this.#backend = backend;
    this.#runtime = runtime;
    this.#session = session;
    this.#threads = runtime.env.wasm.numThreads;
  }

  /**
   * Load runtime and model, and hold it to the answer that is expected for the package's own picture.
   *
   * @param {import("./manifest.js").Manifest} manifest
   * @param {"wasm"|"webgpu"} backend
   * @param {(loaded: number, total: number) => void} onProgress Told bytes of the model.
   * @returns {Promise<[Model, {difference: number, tolerance: number}]>} The model, how far a probability is off, and how
   *   far it may be.
   * @throws {Error} If the backend does not work here, the model is not the one of the manifest, or its answer is wrong.
   */
  static async open(manifest, backend, onProgress) {
    const loading = loadModel(manifest, onProgress);
    // Whoever waits for the runtime first must not leave this unhandled.
    loading.catch(() => {});
    const runtime = await loadRuntime(manifest, backend);
    const data = await loading;
    let reason;
    for (const provider of PROVIDERS[backend]) {
      try {
        const options = { executionProviders: [provider], logSeverityLevel: 3 };
        const session = await runtime.InferenceSession.create(data, options);
        const model = new Model(manifest, backend, runtime, session);
        return [model, await model.#check()];
      } catch (error) {
        reason = error;
      }
    }
    throw reason;
  }

  async #check() {
    const { file, top, tolerance } = this.#manifest.example;
    const response = await fetch(new URL(file, import.meta.url));
    if (!response.ok) {
      throw new Error(`${file} cannot be loaded: the server answers ${response.status}`);
    }
    // Of a model that leaves resizing to the caller, this picture has the right size already.
    const picture = await readPixels(await response.blob(), this.#manifest.preprocess);
    const { probabilities } = await this.#run(picture);
    const differences = top.map(({ index, probability }) => Math.abs(probabilities[index] - probability));
    const difference = Math.max(...differences);
    // Written so that what is no number fails as well.
    if (!(difference <= tolerance)) {
      throw new Error(
        `the model gives other answers here than where it was packaged: a probability is off by ${difference}`,
      );
    }
    return { difference, tolerance };
  }

  /**
   * Classify a picture.
   *
   * @param {Blob} blob A picture file.
   * @returns {Promise<{probabilities: Float32Array, top: {index: number, label: string|null, probability: number}[],
   *   width: number, height: number, averaged: number, decodeMs: number, runMs: number}>}
   * @throws {PictureError} If the picture cannot be read.
   */
  async classify(blob) {
    const begun = performance.now();
    const read = await readPixels(blob, this.#manifest.preprocess);
    const picture = this.#prepared(read);
    const ready = performance.now();
    const answer = await this.#run(picture);
    const done = performance.now();
    return {
      ...answer,
      width: read.original[0],
      height: read.original[1],
      averaged: read.averaged,
      decodeMs: ready - begun,
      runMs: done - ready,
    };
  }

  /** What it runs on: backend and number of threads. */
  get about() {
    return { backend: this.#backend, threads: this.#threads };
  }

  /** The model's answer to pixels. */
  async #run(picture) {
    const names = ["probabilities", "top_probabilities", "top_indices"];
    const feeds = { [this.#manifest.inputs[0].name]: this.#tensor(picture) };
    const outputs = await this.#session.run(feeds, names);
    const [all, values, indices] = await Promise.all(names.map((name) => outputs[name].getData()));
    const labels = this.#manifest.labels;
    const top = Array.from({ length: outputs.top_indices.dims[1] }, (_, place) => {
      const index = Number(indices[place]);
      return { index, label: labels?.[index] ?? null, probability: values[place] };
    });
    // Of a model with a fixed batch, the first of its answers.
    return { probabilities: Float32Array.from(all.slice(0, outputs.probabilities.dims[1])), top };
  }

  #prepared(picture) {
    const { preprocess, picture: input } = this.#manifest;
    const [width, height] = resizedSize(picture, preprocess);
    if (width * Math.max(height, picture.height) > MOST_RESIZED) {
      throw new PictureError(
        `The picture is too long and narrow: ${picture.original[0]} × ${picture.original[1]} pixels.`,
      );
    }
    return input.preprocess === "normalize" ? resizeAndCrop(picture, preprocess) : picture;
  }

  #tensor({ width, height, channels, data }) {
    const first = this.#manifest.inputs[0].shape[0];
    const count = typeof first === "number" ? first : 1;
    const isLast = this.#manifest.picture.layout === "nhwc";
    const one = isLast || channels === 1 ? data : planes(data, channels);
    const all = count === 1 ? one : new Uint8Array(count * one.length);
    for (let place = 0; count > 1 && place < count; place += 1) {
      all.set(one, place * one.length);
    }
    const shape = isLast ? [count, height, width, channels] : [count, channels, height, width];
    return new this.#runtime.Tensor("uint8", all, shape);
  }
}

/** Channel after channel instead of pixel after pixel. */
function planes(data, channels) {
  const size = data.length / channels;
  const result = new Uint8Array(data.length);
  for (let channel = 0; channel < channels; channel += 1) {
    for (let pixel = 0; pixel < size; pixel += 1) {
      result[channel * size + pixel] = data[pixel * channels + channel];
    }
  }
  return result;
}

async function loadRuntime(manifest, backend) {
  const [module, wasm] = RUNTIME[backend];
  const runtime = await import(addressOf(manifest, module).href);
  const { env } = runtime;
  env.logLevel = "error";
  env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  env.wasm.wasmPaths = { wasm: addressOf(manifest, wasm) };
  return runtime;
}

async function loadModel(manifest, onProgress) {
  const { file, sha256, bytes } = manifest.model;
  const response = await fetch(addressOf(manifest, file));
  if (!response.ok) {
    throw new Error(`${file} cannot be loaded: the server answers ${response.status}`);
  }
  const data = new Uint8Array(bytes);
  const wrong = new Error(`${file} is not the model that was packaged`);
  const reader = response.body.getReader();
  let loaded = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    if (loaded + value.length > bytes) {
      throw wrong;
    }
    data.set(value, loaded);
    loaded += value.length;
    onProgress(loaded, bytes);
  }
  // Only pages that came over a safe connection are given what computes hashes.
  const digest = await globalThis.crypto.subtle?.digest("SHA-256", data);
  if (loaded !== bytes || (digest !== undefined && hexadecimal(digest) !== sha256)) {
    throw wrong;
  }
  return data;
}

function hexadecimal(buffer) {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
