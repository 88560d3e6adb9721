// What the folder says of itself: cnnport.json, from which the page learns all that differs between models.

/**
 * @typedef {object} Manifest
 * @property {string} name
 * @property {string} cnnport
 * @property {{file: string, sha256: string, bytes: number, name: string, precision: string}} model
 * @property {{name: string, shape: (number|string)[]}[]} inputs
 * @property {{name: string, shape: (number|string)[]}[]} outputs
 * @property {{layout: "nhwc"|"nchw", preprocess: "normalize"|"full", top: number}} picture
 * @property {{size: [number, number], resize: number|null, interpolation: "bilinear"|"bicubic", background: number,
 *   channels: number}} preprocess
 * @property {string[]|null} labels
 * @property {Record<string, string>} metadata
 * @property {string} licence
 * @property {{file: string, tolerance: number, top: {index: number, probability: number}[]}} example
 * @property {Record<string, string>} files
 */

const FOLDER = new URL("./", import.meta.url);
const NAME = "cnnport.json";

/**
 * Read the manifest of this folder.
 *
 * @returns {Promise<Manifest>}
 */
export async function readManifest() {
  const response = await fetch(new URL(NAME, FOLDER));
  if (!response.ok) {
    throw new Error(`${NAME} cannot be loaded: the server answers ${response.status}`);
  }
  return response.json();
}

/**
 * The address of a file of this folder. It names the content too, so that whoever keeps it keeps the right one.
 *
 * @param {Manifest} manifest
 * @param {string} file As in the manifest.
 * @returns {URL}
 */
export function addressOf(manifest, file) {
  const address = new URL(file, FOLDER);
  address.searchParams.set("sha256", manifest.files[file]);
  return address;
}

/**
 * Addresses of what the page needs when it is opened again.
 *
 * @param {Manifest} manifest
 * @param {string[]} runtime Files of the runtime that is in use.
 * @returns {{needed: string[], known: string[]}} Known: every address that still stands for a file of this folder.
 */
export function addressesToKeep(manifest, runtime) {
  const byContent = (file) => addressOf(manifest, file).href;
  const plain = (file) => new URL(file, FOLDER).href;
  const files = Object.keys(manifest.files);
  const large = [manifest.model.file, ...runtime];
  const page = files.filter((file) => !file.startsWith("runtime/") && /\.(html|js|css|svg|png)$/.test(file));
  return {
    needed: [FOLDER.href, plain(NAME), ...page.map(plain), ...large.map(byContent)],
    known: files.map(byContent),
  };
}
