// The thread that decodes and computes, so that the page stays responsive. It speaks with classifier.js alone.

import { Model } from "./model.js";
import { PictureError } from "./pixels.js";

/** @type {Model} */
let model;

const TASKS = {
  async open({ manifest, backend }) {
    const onProgress = (loaded, total) => postMessage({ progress: { loaded, total } });
    const [opened, check] = await Model.open(manifest, backend, onProgress);
    model = opened;
    return { ...model.about, check };
  },

  async classify({ blob }) {
    return model.classify(blob);
  },
};

// One after the other: a session runs once at a time.
let last = Promise.resolve();
addEventListener("message", ({ data }) => {
  last = last.then(() => serve(data));
});

async function serve({ id, task, ...details }) {
  try {
    postMessage({ id, answer: await TASKS[task](details) });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    postMessage({ id, error: { message, isPicture: error instanceof PictureError } });
  }
}
