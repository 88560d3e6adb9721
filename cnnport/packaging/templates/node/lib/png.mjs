// PNG by its specification (W3C, third edition); samples of 16 bits become 8 as Pillow makes them.

import { constants, inflateSync } from 'node:zlib';

import { PictureError } from './errors.mjs';

const GREY = 0;
const COLOUR = 2;
const PALETTE = 3;
const GREY_ALPHA = 4;
const COLOUR_ALPHA = 6;

const CHANNELS = { [GREY]: 1, [COLOUR]: 3, [PALETTE]: 1, [GREY_ALPHA]: 2, [COLOUR_ALPHA]: 4 };
const DEPTHS = {
  [GREY]: [1, 2, 4, 8, 16],
  [COLOUR]: [8, 16],
  [PALETTE]: [1, 2, 4, 8],
  [GREY_ALPHA]: [8, 16],
  [COLOUR_ALPHA]: [8, 16],
};

// Adam7: left, top, and the steps to the right and down of each pass.
const PASSES = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];

const CRCS = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/**
 * Decode a PNG file of any kind; of an animated one the first picture.
 *
 * @param {Uint8Array} bytes the file
 * @param {number} maxPixels the most pixels that it may have
 * @returns {{width: number, height: number, data: Uint8Array, exif: Uint8Array | null}} red, green, blue and alpha of
 *     each pixel, and what the file says in the manner of cameras
 * @throws {PictureError} if it is damaged or too large
 */
export function decodePng(bytes, maxPixels) {
  const file = read(bytes);
  const { width, height } = file;
  if (width * height > maxPixels) {
    throw new PictureError(`the PNG is too large: ${width} x ${height} is above ${maxPixels} pixels`);
  }
  const data = new Uint8Array(width * height * 4);
  const parts = file.interlaced ? PASSES : [[0, 0, 1, 1]];
  const sizes = parts.map(([left, top, across, down]) => [
    Math.ceil(Math.max(0, width - left) / across),
    Math.ceil(Math.max(0, height - top) / down),
  ]);
  const bits = CHANNELS[file.type] * file.depth;
  const lengths = sizes.map(([w, h]) => (w > 0 ? (Math.ceil((w * bits) / 8) + 1) * h : 0));
  const rows = inflated(file.packed, lengths.reduce((sum, length) => sum + length, 0));
  let start = 0;
  parts.forEach(([left, top, across, down], part) => {
    const [w, h] = sizes[part];
    if (lengths[part] === 0) return;
    const pixels = unfiltered(rows.subarray(start, start + lengths[part]), Math.ceil((w * bits) / 8), h, bits);
    start += lengths[part];
    // Most files are of the kind that the short way is for.
    const write = file.depth === 8 && file.type !== PALETTE && file.clear === null ? putBytes : put;
    for (let y = 0; y < h; y += 1) {
      for (let x = 0; x < w; x += 1) {
        write(file, pixels, y, x, w, data, ((top + y * down) * width + left + x * across) * 4);
      }
    }
  });
  return { width, height, data, exif: file.exif };
}

/** What the chunks of a file say; the pixels are still packed. */
function read(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const file = { width: 0, height: 0, palette: null, transparent: null, exif: null, packed: [] };
  let place = 8;
  for (let number = 0; ; number += 1) {
    if (place + 12 > bytes.length) throw new PictureError('the PNG is cut off');
    const length = view.getUint32(place);
    if (length > bytes.length - place - 12) throw new PictureError('the PNG is cut off');
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const body = bytes.subarray(place + 8, place + 8 + length);
    // What a decoder can do without begins with a small letter, and may be damaged.
    const isNeeded = kind[0] === kind[0].toUpperCase();
    if (isNeeded && crc(bytes.subarray(place + 4, place + 8 + length)) !== view.getUint32(place + 8 + length)) {
      throw new PictureError(`the PNG is damaged at ${kind}`);
    }
    if ((number === 0) !== (kind === 'IHDR')) throw new PictureError('the PNG does not begin as one');
    place += 12 + length;
    if (kind === 'IHDR') Object.assign(file, header(body));
    else if (kind === 'PLTE') file.palette = body;
    else if (kind === 'tRNS') file.transparent = body;
    else if (kind === 'eXIf') file.exif = body;
    else if (kind === 'IDAT') file.packed.push(body);
    else if (kind === 'IEND') break;
    else if (isNeeded) throw new PictureError(`the PNG needs what is not known here: ${kind}`);
  }
  if (file.type === PALETTE && file.palette === null) throw new PictureError('the PNG has no palette');
  file.clear = clearColour(file);
  return file;
}

function header(body) {
  if (body.length !== 13) throw new PictureError('the PNG is damaged at IHDR');
  const view = new DataView(body.buffer, body.byteOffset, 13);
  const [depth, type, compression, filter, interlace] = body.subarray(8);
  const isKnown = DEPTHS[type]?.includes(depth) && compression === 0 && filter === 0 && interlace < 2;
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  if (!isKnown || width === 0 || height === 0) throw new PictureError('the PNG is damaged at IHDR');
  return { width, height, depth, type, interlaced: interlace === 1 };
}

/** The samples of the one colour that stands for transparent; null where there is none. */
function clearColour({ type, transparent }) {
  const count = CHANNELS[type];
  if (transparent === null || type === PALETTE || count % 2 === 0 || transparent.length < 2 * count) return null;
  return Array.from({ length: count }, (_, each) => transparent[2 * each] * 256 + transparent[2 * each + 1]);
}

/** The rows of all passes, no more than there should be: a small file cannot become a large one. */
function inflated(packed, length) {
  let rows;
  try {
    rows = inflateSync(Buffer.concat(packed), { maxOutputLength: length, finishFlush: constants.Z_SYNC_FLUSH });
  } catch {
    throw new PictureError('the PNG is damaged at its pixels');
  }
  if (rows.length !== length) throw new PictureError('the PNG is cut off');
  return rows;
}

/** Rows as they were before each was written as a difference to its neighbours. */
function unfiltered(rows, stride, height, bits) {
  const step = Math.max(1, bits >> 3);
  const pixels = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const filter = rows[y * (stride + 1)];
    if (filter > 4) throw new PictureError('the PNG is damaged at its pixels');
    const to = y * stride;
    const row = pixels.subarray(to, to + stride);
    row.set(rows.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    const above = y > 0 ? pixels.subarray(to - stride, to) : new Uint8Array(stride);
    if (filter === 1) {
      for (let x = step; x < stride; x += 1) row[x] += row[x - step];
    } else if (filter === 2) {
      for (let x = 0; x < stride; x += 1) row[x] += above[x];
    } else if (filter === 3) {
      for (let x = 0; x < stride; x += 1) row[x] += ((x < step ? 0 : row[x - step]) + above[x]) >> 1;
    } else if (filter === 4) {
      for (let x = 0; x < stride; x += 1) {
        row[x] += x < step ? above[x] : paeth(row[x - step], above[x], above[x - step]);
      }
    }
  }
  return pixels;
}

function paeth(left, up, corner) {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/** Write one pixel of 8 bits a sample, without a palette, as red, green, blue and alpha. */
function putBytes({ type }, pixels, y, x, width, data, place) {
  const channels = CHANNELS[type];
  const from = (y * width + x) * channels;
  const step = channels > 2 ? 1 : 0;
  data[place] = pixels[from];
  data[place + 1] = pixels[from + step];
  data[place + 2] = pixels[from + 2 * step];
  data[place + 3] = channels % 2 === 0 ? pixels[from + channels - 1] : 255;
}

/** Write one pixel of any kind as red, green, blue and alpha. */
function put({ type, depth, palette, transparent, clear }, pixels, y, x, width, data, place) {
  const channels = CHANNELS[type];
  const stride = Math.ceil((width * channels * depth) / 8);
  const samples = [0, 0, 0, 0];
  for (let each = 0; each < channels; each += 1) {
    samples[each] = sample(pixels, y * stride, x * channels + each, depth);
  }
  if (type === PALETTE) {
    const [index] = samples;
    if (3 * index + 2 >= palette.length) throw new PictureError('the PNG uses a colour that its palette lacks');
    for (let each = 0; each < 3; each += 1) data[place + each] = palette[3 * index + each];
    data[place + 3] = transparent?.[index] ?? 255;
    return;
  }
  const isClear = clear !== null && clear.every((value, each) => value === samples[each]);
  const isColour = channels > 2;
  for (let each = 0; each < 3; each += 1) data[place + each] = eight(samples[isColour ? each : 0], depth, channels);
  data[place + 3] = channels % 2 === 0 ? eight(samples[channels - 1], depth, channels) : isClear ? 0 : 255;
}

function sample(pixels, row, number, depth) {
  if (depth === 8) return pixels[row + number];
  if (depth === 16) return pixels[row + 2 * number] * 256 + pixels[row + 2 * number + 1];
  const bit = number * depth;
  return (pixels[row + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

/** A sample in 8 bits. Of 16, grey alone is rounded; others lose their lower half, as in Pillow. */
function eight(value, depth, channels) {
  if (depth === 8) return value;
  if (depth === 16) return channels === 1 ? Math.floor((value * 255 + 32767) / 65535) : value >> 8;
  return (value * 255) / ((1 << depth) - 1);
}

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRCS[(value ^ byte) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}
