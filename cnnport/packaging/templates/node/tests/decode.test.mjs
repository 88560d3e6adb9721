// Whether files become the pixels that they hold: upright, opaque, in the colours that are wanted.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { PictureError, decode } from '../index.mjs';
import { FOLDER, exif, png } from './support.mjs';

const GREY = [10, 20, 30, 40, 50, 60];

test('a PNG becomes its pixels', () => {
  const { width, height, data } = decode(png(3, 2, 1, GREY), { channels: 1 });
  assert.deepEqual([width, height, ...data], [3, 2, ...GREY]);
  assert.deepEqual([...decode(png(1, 1, 3, [1, 2, 3])).data], [1, 2, 3]);
});

test('a picture is turned as its camera says', () => {
  const upright = {
    1: [3, 2, 10, 20, 30, 40, 50, 60],
    2: [3, 2, 30, 20, 10, 60, 50, 40],
    3: [3, 2, 60, 50, 40, 30, 20, 10],
    4: [3, 2, 40, 50, 60, 10, 20, 30],
    5: [2, 3, 10, 40, 20, 50, 30, 60],
    6: [2, 3, 40, 10, 50, 20, 60, 30],
    7: [2, 3, 60, 30, 50, 20, 40, 10],
    8: [2, 3, 30, 60, 20, 50, 10, 40],
  };
  for (const [orientation, expected] of Object.entries(upright)) {
    const file = png(3, 2, 1, GREY, { eXIf: exif(Number(orientation)) });
    const { width, height, data } = decode(file, { channels: 1 });
    assert.deepEqual([width, height, ...data], expected, `orientation ${orientation}`);
  }
});

test('a JPEG is turned as its camera says', () => {
  const { width, height, data } = decode(readFileSync(join(FOLDER, 'tests', 'turned.jpg')));
  assert.deepEqual([width, height], [8, 16]);
  // Red lies above blue.
  assert.ok(data[0] > 200 && data[2] < 50);
  assert.ok(data[data.length - 3] < 50 && data[data.length - 1] > 200);
});

test('the background shows through transparent pixels', () => {
  const file = png(3, 1, 4, [0, 0, 0, 0, 200, 100, 50, 255, 200, 100, 50, 128]);
  assert.deepEqual([...decode(file, { background: 40 }).data], [40, 40, 40, 200, 100, 50, 120, 70, 45]);
});

test('colours become grey as their luminance', () => {
  assert.deepEqual([...decode(png(3, 1, 3, [255, 0, 0, 0, 255, 0, 0, 0, 255]), { channels: 1 }).data], [76, 150, 29]);
});

test('damaged files are refused', () => {
  const good = png(3, 2, 1, GREY);
  const flipped = Buffer.from(good);
  flipped[45] ^= 1;
  const jpeg = readFileSync(join(FOLDER, 'tests', 'turned.jpg'));
  const wrong = [flipped, good.subarray(0, 40), good.subarray(0, good.length - 4), jpeg.subarray(0, 200)];
  for (const bytes of [...wrong, jpeg.subarray(0, jpeg.length - 20), Buffer.from('GIF89a')]) {
    assert.throws(() => decode(bytes), PictureError);
  }
  // A good one still decodes after that.
  assert.equal(decode(jpeg).width, 8);
});

test('a picture of too many pixels is refused', () => {
  assert.throws(() => decode(png(3, 2, 1, GREY), { maxPixels: 5 }), /too large/);
  assert.throws(() => decode(readFileSync(join(FOLDER, 'tests', 'turned.jpg')), { maxPixels: 127 }), /too large/);
});

test('a small file that unpacks to more than its pixels is refused', () => {
  assert.throws(() => decode(png(3, 200, 1, new Uint8Array(600), {}, 2)), /damaged at its pixels/);
  assert.throws(() => decode(png(3, 2, 1, GREY, {}, 3)), /cut off/);
});
