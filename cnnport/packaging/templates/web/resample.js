// Resize and crop for models that leave both to the caller: with antialias and in 8 bits, as Pillow does it, to the bit.
//
// Models that take pictures of any size do not need this: their graph resizes.

// Weights are whole numbers of 2^-22, so that the sums of any row fit into 32 bits.
const ONE = 2 ** 22;

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: cubic },
};

/** Keys' cubic with a = -1/2. */
function cubic(x) {
  const far = Math.abs(x);
  if (far < 1) {
    return (1.5 * far - 2.5) * far * far + 1;
  }
  return far < 2 ? (((far - 5) * far + 8) * far - 4) * -0.5 : 0;
}

/**
 * The part of a picture that a model looks at, in the size that it takes.
 *
 * @param {import("./pixels.js").Pixels} picture
 * @param {import("./manifest.js").Manifest["preprocess"]} preprocess Size of the input; length that the shorter side is
 *   scaled to before the centre crop, or null for no crop; the filter.
 * @returns {import("./pixels.js").Pixels} What lies outside the picture is 0.
 */
export function resizeAndCrop(picture, preprocess) {
  const [height, width] = preprocess.size;
  const filter = FILTERS[preprocess.interpolation];
  const size = resizedSize(picture, preprocess);
  return cropped(resized(picture, size, filter), width, height);
}

/**
 * Width and height after the resize; the longer side is rounded down.
 *
 * @param {{width: number, height: number}} picture
 * @param {{size: [number, number], resize: number|null}} preprocess
 * @returns {[number, number]}
 */
export function resizedSize({ width, height }, { size, resize }) {
  if (resize === null) {
    return [size[1], size[0]];
  }
  const short = Math.min(width, height);
  return [Math.trunc((resize * width) / short), Math.trunc((resize * height) / short)];
}

function resized(picture, [width, height], filter) {
  const across = (image) => (width === image.width ? image : wider(image, width, filter));
  // Rows and columns change places, so that one function does for both.
  const down = (image) => (height === image.height ? image : turned(wider(turned(image), height, filter)));
  // Values are rounded in between, so the order shows: since version 13 Pillow begins with what shrinks much more.
  const shrinks = picture.height - height;
  const isSteep = shrinks > 0 && shrinks > 2 * (picture.width - width);
  return isSteep ? across(down(picture)) : down(across(picture));
}

function turned({ width, height, channels, data }) {
  const result = new Uint8Array(data.length);
  let from = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let channel = 0; channel < channels; channel += 1) {
        result[(x * height + y) * channels + channel] = data[from++];
      }
    }
  }
  return { width: height, height: width, channels, data: result };
}

/** The picture with rows of another length. */
function wider({ width, height, channels, data }, wanted, filter) {
  const windows = weights(width, wanted, filter);
  const result = new Uint8Array(wanted * height * channels);
  let to = 0;
  for (let y = 0; y < height; y += 1) {
    const row = y * width * channels;
    for (const { start, parts } of windows) {
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = ONE / 2;
        let from = row + start * channels + channel;
        for (let index = 0; index < parts.length; index += 1, from += channels) {
          sum += data[from] * parts[index];
        }
        result[to++] = Math.min(255, Math.max(0, Math.floor(sum / ONE)));
      }
    }
  }
  return { width: wanted, height, channels, data: result };
}

/** For each pixel of the result: where its window begins, and how much each pixel of the window counts. */
function weights(size, wanted, { reach, weight }) {
  const scale = size / wanted;
  // Enlarging blurs nothing; making smaller widens the window, which is the antialias.
  const stretch = Math.max(1, scale);
  return Array.from({ length: wanted }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach * stretch + 0.5));
    const end = Math.min(size, Math.trunc(centre + reach * stretch + 0.5));
    const raw = Array.from({ length: end - start }, (__, index) => weight((start + index - centre + 0.5) / stretch));
    const sum = raw.reduce((one, other) => one + other, 0);
    return { start, parts: Float64Array.from(raw, (part) => toWhole(part / sum)) };
  });
}

/** Rounded, halves away from zero. */
function toWhole(part) {
  return Math.sign(part) * Math.trunc(Math.abs(part) * ONE + 0.5);
}

function cropped({ width, height, channels, data }, wide, high) {
  const left = cropStart(width, wide);
  const top = cropStart(height, high);
  const result = new Uint8Array(wide * high * channels);
  const first = Math.max(0, left);
  const last = Math.min(width, left + wide);
  for (let y = Math.max(0, top); y < Math.min(height, top + high); y += 1) {
    const part = data.subarray((y * width + first) * channels, (y * width + last) * channels);
    result.set(part, ((y - top) * wide + (first - left)) * channels);
  }
  return { width: wide, height: high, channels, data: result };
}

/** Where a centre crop begins: halves go to the even number; below zero where it is padded. */
function cropStart(side, crop) {
  if (crop > side) {
    return -Math.floor((crop - side) / 2);
  }
  const half = Math.floor((side - crop) / 2);
  return (side - crop) % 2 === 1 && half % 2 === 1 ? half + 1 : half;
}
