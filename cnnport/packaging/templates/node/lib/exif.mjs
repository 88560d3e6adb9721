// Which way up a picture is, as cameras note it (EXIF 2.32). Damaged notes are as good as none.

const ORIENTATION = 0x0112;
const SHORT = 3;

/**
 * The EXIF block of a JPEG file.
 *
 * @param {Uint8Array} bytes the file
 * @returns {Uint8Array | null} the block, or null where there is none
 */
export function exifOfJpeg(bytes) {
  let place = 2;
  while (place + 4 <= bytes.length && bytes[place] === 0xff) {
    const marker = bytes[place + 1];
    // Markers may be padded, and behind the start of the scan lie pixels.
    if (marker === 0xff) {
      place += 1;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return null;
    const length = bytes[place + 2] * 256 + bytes[place + 3];
    const body = bytes.subarray(place + 4, place + 2 + length);
    if (marker === 0xe1 && String.fromCharCode(...body.subarray(0, 6)) === 'Exif\0\0') return body.subarray(6);
    place += 2 + Math.max(2, length);
  }
  return null;
}

/**
 * The orientation that an EXIF block states.
 *
 * @param {Uint8Array | null} exif the block, which is in the form of a TIFF file
 * @returns {number} 1, upright, to 8
 */
export function orientationOf(exif) {
  if (exif === null || exif.length < 8) return 1;
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const order = String.fromCharCode(exif[0], exif[1]);
  if (order !== 'II' && order !== 'MM') return 1;
  const little = order === 'II';
  try {
    const folder = view.getUint32(4, little);
    const count = view.getUint16(folder, little);
    for (let entry = 0; entry < count; entry += 1) {
      const place = folder + 2 + 12 * entry;
      if (view.getUint16(place, little) !== ORIENTATION) continue;
      const value = view.getUint16(place + 2, little) === SHORT ? view.getUint16(place + 8, little) : 1;
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}
