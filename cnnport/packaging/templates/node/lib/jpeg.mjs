// JPEG by libjpeg-turbo as WebAssembly: the pixels are those that Pillow gives, to the bit.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { PictureError } from './errors.mjs';

const require = createRequire(import.meta.url);
const compiled = new WebAssembly.Module(readFileSync(require.resolve('@cwasm/jpeg-turbo/jpeg-turbo.wasm')));

// turbojpeg.h
const TJPF_RGBA = 7;
const TJCS_CMYK = 3;
const TJCS_YCCK = 4;

const refused = () => {
  throw new PictureError('the JPEG is damaged');
};

// libjpeg jumps out of an error; here that is an exception, after which the instance is dropped.
const imports = {
  env: { setjmp: () => 0, longjmp: refused },
  wasi_snapshot_preview1: {
    environ_sizes_get: () => 0,
    environ_get: refused,
    proc_exit: refused,
    fd_close: refused,
    fd_seek: refused,
    fd_write: refused,
  },
};

/**
 * Decode a JPEG file, baseline or progressive, grey or in colours.
 *
 * Every picture gets an instance of its own: what a damaged one does to its memory ends with it.
 *
 * @param {Uint8Array} bytes the file
 * @param {number} maxPixels the most pixels that it may have
 * @returns {{width: number, height: number, data: Uint8Array}} red, green, blue and alpha of each pixel
 * @throws {PictureError} if it is damaged, too large, or in the four colours of print
 */
export function decodeJpeg(bytes, maxPixels) {
  const { exports: jpeg } = new WebAssembly.Instance(compiled, imports);
  const reserve = (size) => {
    const place = jpeg.malloc(size) >>> 0;
    if (place === 0) throw new PictureError('the JPEG is too large for the memory that there is');
    return place;
  };
  try {
    const file = reserve(bytes.length);
    new Uint8Array(jpeg.memory.buffer, file, bytes.length).set(bytes);
    const decoder = jpeg.tjInitDecompress();
    const facts = reserve(16);
    if (jpeg.tjDecompressHeader3(decoder, file, bytes.length, facts, facts + 4, facts + 8, facts + 12) !== 0) {
      refused();
    }
    const [width, height, , space] = new Uint32Array(jpeg.memory.buffer, facts, 4);
    if (width * height > maxPixels) {
      throw new PictureError(`the JPEG is too large: ${width} x ${height} is above ${maxPixels} pixels`);
    }
    if (space === TJCS_CMYK || space === TJCS_YCCK) {
      throw new PictureError('the JPEG is in CMYK: convert it to RGB');
    }
    const size = width * height * 4;
    const pixels = reserve(size);
    if (jpeg.tjDecompress2(decoder, file, bytes.length, pixels, width, width * 4, height, TJPF_RGBA, 0) !== 0) {
      refused();
    }
    return { width, height, data: new Uint8Array(jpeg.memory.buffer, pixels, size).slice() };
  } catch (error) {
    // A damaged file may also make the program fault.
    if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) refused();
    throw error;
  }
}
