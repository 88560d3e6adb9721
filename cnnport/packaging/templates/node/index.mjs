// The model that lies beside this file; all that depends on it is read from cnnport.json.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import ort from 'onnxruntime-node';

import { MAX_PIXELS, decode } from './lib/decode.mjs';
import { PictureError } from './lib/errors.mjs';
import { recoloured } from './lib/pixels.mjs';

export { PictureError, decode };

// Of a file that leaves the number of images open: more at once take more memory and are hardly faster.
const LARGEST_BATCH = 16;

export class Model {
  #session;
  #input;

  static async load({ folder = dirname(fileURLToPath(import.meta.url)), threads, providers = ['cpu'] } = {}) {
    if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
      throw new RangeError(`threads are a whole number of at least 1, not ${threads}`);
    }
    const manifest = await readManifest(join(folder, 'cnnport.json'));
    const bytes = await readModel(join(folder, manifest.model.file), manifest.model.sha256);
    const options = { executionProviders: providers };
    if (threads !== undefined) options.intraOpNumThreads = threads;
    return new Model(manifest, await ort.InferenceSession.create(bytes, options));
  }

  /** @private Use `Model.load`. */
  constructor(manifest, session) {
    this.#session = session;
    [this.#input] = manifest.inputs;
    const { size, channels, background } = manifest.preprocess;
    this.manifest = manifest;
    this.name = manifest.name;
    this.labels = manifest.labels;
    this.channels = channels;
    this.background = background;
    this.size = manifest.picture.preprocess === 'full' ? null : { height: size[0], width: size[1] };
    this.classes = manifest.outputs.find(({ name }) => name === 'probabilities').shape[1];
  }

  async classify(image, { top = 5 } = {}) {
    const [guesses] = await this.classifyAll([image], { top });
    return guesses;
  }

  async classifyAll(images, { top = 5 } = {}) {
    if (!(Number.isInteger(top) && top >= 1)) throw new RangeError(`top is a whole number of at least 1, not ${top}`);
    return (await this.probabilities(images)).map((row) => this.#best(row, top));
  }

  async probabilities(images) {
    const pictures = images.map((image, place) => this.#prepared(image, place));
    const rows = new Array(pictures.length);
    for (const places of batches(pictures, this.#batch())) {
      const answers = await this.#run(places.map((place) => pictures[place]));
      places.forEach((place, number) => {
        rows[place] = answers.slice(number * this.classes, (number + 1) * this.classes);
      });
    }
    return rows;
  }

  async dispose() {
    await this.#session.release();
  }

  #batch() {
    const [size] = this.#input.shape;
    return Number.isInteger(size) ? size : LARGEST_BATCH;
  }

  /** One picture in the colours of the network, from a file's bytes or from pixels. */
  #prepared(image, place) {
    const name = `image ${place}`;
    const picture = isBytes(image)
      ? decode(image, { channels: this.channels, background: this.background })
      : checked(image, name);
    const { height, width, channels = this.channels, data } = picture;
    if (this.size !== null && (height !== this.size.height || width !== this.size.width)) {
      const wanted = `${this.size.height} x ${this.size.width}`;
      throw new PictureError(`${name} is ${height} x ${width}: this model takes ${wanted}, so resize and crop it first`);
    }
    return { height, width, data: recoloured(data, channels, this.channels, this.background) };
  }

  /** Run pictures of one size; a file of a fixed number of images is fed so many, and surplus answers are dropped. */
  async #run(pictures) {
    const [{ height, width }] = pictures;
    const [fixed] = this.#input.shape;
    const count = Number.isInteger(fixed) ? fixed : pictures.length;
    const isLast = this.manifest.picture.layout === 'nhwc';
    const one = height * width * this.channels;
    const data = new Uint8Array(count * one);
    for (let number = 0; number < count; number += 1) {
      const picture = pictures[Math.min(number, pictures.length - 1)];
      data.set(isLast ? picture.data : planes(picture.data, this.channels), number * one);
    }
    const shape = isLast ? [count, height, width, this.channels] : [count, this.channels, height, width];
    const feeds = { [this.#input.name]: new ort.Tensor('uint8', data, shape) };
    const { probabilities } = await this.#session.run(feeds, ['probabilities']);
    return probabilities.data;
  }

  #best(row, top) {
    // Sorting is stable: of equal ones the first comes first.
    const order = Array.from(row.keys()).sort((one, other) => row[other] - row[one]);
    return order.slice(0, top).map((index) => ({
      index,
      label: this.labels === null ? null : this.labels[index],
      probability: row[index],
    }));
  }
}

async function readManifest(path) {
  let text;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`${dirname(path)} holds no cnnport.json: it is no package of cnnport`, { cause: error });
  }
  try {
    const manifest = JSON.parse(text);
    if (manifest.format === 1) return manifest;
  } catch (error) {
    throw new Error(`${path} is damaged: ${error.message}`, { cause: error });
  }
  throw new Error(`${path} is of another version than this file: keep the files of a package together`);
}

/** The model's bytes, which are those that were packaged. */
async function readModel(path, sha256) {
  const bytes = await readFile(path);
  const found = createHash('sha256').update(bytes).digest('hex');
  if (found !== sha256) {
    const facts = `its SHA-256 is ${found.slice(0, 16)}..., not ${sha256.slice(0, 16)}...`;
    throw new Error(`${path} is damaged or another model: ${facts}`);
  }
  return bytes;
}

/** Places of pictures in groups of one size, of at most `largest`. */
function batches(pictures, largest) {
  const bySize = new Map();
  pictures.forEach(({ height, width }, place) => {
    const key = `${height} x ${width}`;
    const groups = bySize.get(key) ?? [[]];
    if (groups[groups.length - 1].length === largest) groups.push([]);
    groups[groups.length - 1].push(place);
    bySize.set(key, groups);
  });
  return [...bySize.values()].flat();
}

// Of `ImageData` and the like `data` is clamped, and a Buffer is a Uint8Array.
function isBytes(value) {
  return value instanceof Uint8Array || value instanceof Uint8ClampedArray;
}

function checked(image, name) {
  const { width, height, data, channels = data?.length / (width * height) } = image ?? {};
  if (!isBytes(data) || !Number.isInteger(width) || !Number.isInteger(height)) {
    throw new PictureError(`${name} is neither the bytes of a file nor { width, height, data } of bytes`);
  }
  if (width < 1 || height < 1 || width * height > MAX_PIXELS) {
    throw new PictureError(`${name} is ${height} x ${width}: a picture has from 1 to ${MAX_PIXELS} pixels`);
  }
  if (![1, 2, 3, 4].includes(channels) || data.length !== width * height * channels) {
    throw new PictureError(`${name} has ${data.length} bytes for ${height} x ${width} pixels of 1 to 4 channels`);
  }
  return { width, height, channels, data };
}

/** Channel after channel, from pixel after pixel. */
function planes(data, channels) {
  const count = data.length / channels;
  const result = new Uint8Array(data.length);
  for (let channel = 0; channel < channels; channel += 1) {
    for (let pixel = 0; pixel < count; pixel += 1) result[channel * count + pixel] = data[pixel * channels + channel];
  }
  return result;
}
