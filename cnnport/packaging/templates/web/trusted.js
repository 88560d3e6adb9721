// The page's policy lets no text become a program. Addresses of scripts are the one thing that must, and only those of
// this folder do.

const FOLDER = new URL("./", import.meta.url).href;

const check = (address) => {
  if (!address.startsWith(FOLDER)) {
    throw new TypeError(`${address} is not a script of this page`);
  }
  return address;
};

const policy = globalThis.trustedTypes?.createPolicy("cnnport", { createScriptURL: check });

/**
 * The address of a script of this folder, as browsers want it that enforce trusted types.
 *
 * @param {string} name Of a file beside this one.
 * @returns {string} A TrustedScriptURL where there is such a thing.
 */
export function scriptAddress(name) {
  const address = new URL(name, FOLDER).href;
  return /** @type {string} */ (/** @type {unknown} */ (policy?.createScriptURL(address)) ?? check(address));
}
