// From a picture file to pixels: upright, opaque and in the colours that a network takes.

import { PictureError } from './errors.mjs';
import { exifOfJpeg, orientationOf } from './exif.mjs';
import { decodeJpeg } from './jpeg.mjs';
import { recoloured, upright } from './pixels.mjs';
import { decodePng } from './png.mjs';

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG = [0xff, 0xd8, 0xff];

/** The most pixels that a picture may have, unless it is said otherwise. */
export const MAX_PIXELS = 100_000_000;

/**
 * Decode a JPEG or PNG file.
 *
 * @param {Uint8Array} bytes the file
 * @param {{channels?: 1 | 3, background?: number, maxPixels?: number}} [options] 3 for colours, which is the default,
 *     or 1 for grey; the grey level that shows through transparent pixels, 255; the most pixels that it may have
 * @returns {{width: number, height: number, channels: 1 | 3, data: Uint8Array}} row by row, from 0, black, to 255
 * @throws {PictureError} if it is neither, or damaged, or too large
 */
export function decode(bytes, { channels = 3, background = 255, maxPixels = MAX_PIXELS } = {}) {
  const begins = (magic) => magic.every((byte, place) => bytes[place] === byte);
  let picture;
  let orientation;
  if (begins(JPEG)) {
    picture = decodeJpeg(bytes, maxPixels);
    orientation = orientationOf(exifOfJpeg(bytes));
  } else if (begins(PNG)) {
    picture = decodePng(bytes, maxPixels);
    orientation = orientationOf(picture.exif);
  } else {
    throw new PictureError(bytes.length === 0 ? 'the picture is empty' : 'this is neither a JPEG nor a PNG file');
  }
  const { width, height, data } = upright(picture, orientation);
  return { width, height, channels, data: recoloured(data, 4, channels, background) };
}
