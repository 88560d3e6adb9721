// Turning, flattening and recolouring of pixels, in the whole numbers that Pillow computes with.

// ITU-R BT.601 in 1/65536.
const RED = 19595;
const GREEN = 38470;
const BLUE = 7471;

/**
 * The same picture upright.
 *
 * @param {{width: number, height: number, data: Uint8Array}} picture of 4 bytes a pixel
 * @param {number} orientation as EXIF states it
 * @returns {{width: number, height: number, data: Uint8Array}} the picture itself where nothing has to be turned
 */
export function upright(picture, orientation) {
  if (orientation === 1) return picture;
  const isTurned = orientation > 4;
  const width = isTurned ? picture.height : picture.width;
  const height = isTurned ? picture.width : picture.height;
  const from = new Uint32Array(picture.data.buffer, picture.data.byteOffset, picture.width * picture.height);
  const to = new Uint32Array(width * height);
  // Whether the first row is to the right or at the bottom of what is upright.
  const mirrored = [2, 3, 6, 7].includes(orientation);
  const upended = [3, 4, 7, 8].includes(orientation);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const right = mirrored ? width - 1 - x : x;
      const down = upended ? height - 1 - y : y;
      to[y * width + x] = isTurned ? from[right * picture.width + down] : from[down * picture.width + right];
    }
  }
  return { width, height, data: new Uint8Array(to.buffer) };
}

/**
 * The picture without alpha, in the colours that a network takes.
 *
 * @param {Uint8Array} data of each pixel grey, grey and alpha, red, green and blue, or those and alpha
 * @param {number} channels how many of them a pixel has: 1 to 4
 * @param {number} wanted 3 for colours, 1 for grey
 * @param {number} background grey level that shows through transparent pixels
 * @returns {Uint8Array} of `wanted` bytes a pixel
 */
export function recoloured(data, channels, wanted, background) {
  if (channels === wanted) return data;
  const count = data.length / channels;
  const result = new Uint8Array(count * wanted);
  const hasAlpha = channels % 2 === 0;
  const isColour = channels > 2;
  for (let pixel = 0; pixel < count; pixel += 1) {
    const place = pixel * channels;
    const alpha = hasAlpha ? data[place + channels - 1] : 255;
    const red = mixed(data[place], alpha, background);
    const green = isColour ? mixed(data[place + 1], alpha, background) : red;
    const blue = isColour ? mixed(data[place + 2], alpha, background) : red;
    if (wanted === 1) {
      result[pixel] = (red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16;
    } else {
      result[3 * pixel] = red;
      result[3 * pixel + 1] = green;
      result[3 * pixel + 2] = blue;
    }
  }
  return result;
}

function mixed(level, alpha, background) {
  const sum = level * alpha + background * (255 - alpha) + 128;
  return ((sum >> 8) + sum) >> 8;
}
