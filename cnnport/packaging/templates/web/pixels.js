// From a picture file to the pixels that a model takes: upright, opaque, in the colours that it wants.
//
// The browser decodes and turns the picture as its EXIF notes say; embedded colour profiles are not applied, because the
// pipeline that models are trained with does not apply them either.

/** What is wrong with a picture, in words for whoever chose it. */
export class PictureError extends Error {}

/** More pixels than these are refused. */
export const MAX_PIXELS = 100_000_000;

/** More pixels than these are averaged in squares first: a phone has no memory for resizing them all. */
export const MAX_WHOLE_PIXELS = 16_000_000;

// Phones limit the area of a canvas. A power of two, so that no square of averaging crosses its edge.
const TILE = 2048;

/**
 * @typedef {object} Pixels
 * @property {number} width
 * @property {number} height
 * @property {number} channels 1 or 3.
 * @property {Uint8Array} data height x width x channels.
 */

/**
 * Decode a picture.
 *
 * @param {Blob} blob A picture file of any format that the browser knows.
 * @param {{channels: number, background: number}} preprocess Grey (1) or RGB (3), and the grey level that shows through
 *   transparent pixels.
 * @param {number} [limit] Most pixels that are not averaged.
 * @returns {Promise<Pixels & {original: [number, number], averaged: number}>} Width and height of the picture itself,
 *   and the side of the squares that were averaged: 1 for none.
 * @throws {PictureError} If it is no picture, or is too large.
 */
export async function readPixels(blob, preprocess, limit = MAX_WHOLE_PIXELS) {
  const bitmap = await decoded(blob);
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) {
      throw new PictureError(`The picture is too large: ${width} × ${height} pixels.`);
    }
    let averaged = 1;
    while (Math.ceil(width / averaged) * Math.ceil(height / averaged) > limit) {
      averaged *= 2;
    }
    return { ...pixelsOf(bitmap, preprocess, averaged), original: [width, height], averaged };
  } finally {
    bitmap.close();
  }
}

async function decoded(blob) {
  try {
    return await createImageBitmap(blob, {
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
      colorSpaceConversion: "none",
    });
  } catch {
    throw new PictureError(
      "This browser cannot read the file as a picture. JPEG, PNG, WebP and GIF files work everywhere.",
    );
  }
}

function pixelsOf(bitmap, { channels, background }, averaged) {
  const width = Math.ceil(bitmap.width / averaged);
  const height = Math.ceil(bitmap.height / averaged);
  const data = new Uint8Array(width * height * channels);
  const canvas = new OffscreenCanvas(Math.min(bitmap.width, TILE), Math.min(bitmap.height, TILE));
  // Opaque and in memory: it is only drawn once and then read.
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.fillStyle = `rgb(${background}, ${background}, ${background})`;
  for (let top = 0; top < bitmap.height; top += TILE) {
    for (let left = 0; left < bitmap.width; left += TILE) {
      const across = Math.min(TILE, bitmap.width - left);
      const down = Math.min(TILE, bitmap.height - top);
      context.fillRect(0, 0, across, down);
      context.drawImage(bitmap, left, top, across, down, 0, 0, across, down);
      const tile = averagedTile(context.getImageData(0, 0, across, down), averaged);
      put(tile, { data, width, channels }, left / averaged, top / averaged);
    }
  }
  return { width, height, channels, data };
}

/** The means of squares; at the right and lower edge, of what is left of them. */
function averagedTile(image, side) {
  if (side === 1) {
    return image;
  }
  const width = Math.ceil(image.width / side);
  const height = Math.ceil(image.height / side);
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y += 1) {
    const rows = Math.min(side, image.height - y * side);
    for (let x = 0; x < width; x += 1) {
      const columns = Math.min(side, image.width - x * side);
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 0;
        for (let row = 0; row < rows; row += 1) {
          const start = ((y * side + row) * image.width + x * side) * 4 + channel;
          for (let column = 0; column < columns; column += 1) {
            sum += image.data[start + column * 4];
          }
        }
        data[(y * width + x) * 4 + channel] = Math.floor(sum / (rows * columns) + 0.5);
      }
    }
  }
  return { width, height, data };
}

function put(tile, target, left, top) {
  for (let y = 0; y < tile.height; y += 1) {
    let to = ((top + y) * target.width + left) * target.channels;
    let from = y * tile.width * 4;
    for (let x = 0; x < tile.width; x += 1, from += 4) {
      const red = tile.data[from];
      const green = tile.data[from + 1];
      const blue = tile.data[from + 2];
      if (target.channels === 1) {
        // ITU-R BT.601 in whole numbers of 2^-16, rounded.
        target.data[to++] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
      } else {
        target.data[to++] = red;
        target.data[to++] = green;
        target.data[to++] = blue;
      }
    }
  }
}
