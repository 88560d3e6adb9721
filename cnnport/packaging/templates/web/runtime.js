// The builds of onnxruntime-web that lie in the folder.

/**
 * By the backend that they are for: a module, and the WebAssembly that it loads.
 *
 * @type {Record<string, [string, string]>}
 */
export const RUNTIME = {
  wasm: ["runtime/ort.wasm.bundle.min.js", "runtime/ort-wasm-simd-threaded.wasm"],
  webgpu: ["runtime/ort.webgpu.bundle.min.js", "runtime/ort-wasm-simd-threaded.asyncify.wasm"],
};
