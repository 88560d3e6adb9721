// Whether the model answers as it did when it was packaged.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Model, PictureError, decode } from '../index.mjs';
import { example, manifest } from './support.mjs';

const model = await Model.load({ threads: 1 });
const pixels = decode(example, { channels: model.channels, background: model.background });
const slack = manifest.example.tolerance;

after(() => model.dispose());

test('the example gets the expected answer', async () => {
  const [row] = await model.probabilities([example]);
  assert.equal(row.length, model.classes);
  assert.ok(Math.abs(row.reduce((sum, value) => sum + value, 0) - 1) < 1e-2);
  const expected = manifest.example.top;
  for (const { index, probability } of expected) {
    assert.ok(
      Math.abs(row[index] - probability) <= slack,
      `class ${index}: ${row[index]}, expected ${probability} within ${slack}`,
    );
  }
  // Where the two best are nearer to each other than the tolerance, either may win.
  if (expected[0].probability - (expected[1]?.probability ?? 0) > 2 * slack) {
    const [best] = await model.classify(example, { top: 1 });
    assert.equal(best.index, expected[0].index);
    assert.equal(best.label, manifest.labels === null ? null : manifest.labels[best.index]);
  }
});

test('several pictures of several sizes get the answers of each alone', async () => {
  const { width, height, channels, data } = pixels;
  const mirrored = { ...pixels, data: data.slice().reverse() };
  const lower = { width, height: height - 1, channels, data: data.subarray(0, width * (height - 1) * channels) };
  const pictures = model.size === null ? [pixels, lower, mirrored, pixels] : [pixels, mirrored, pixels];
  const together = await model.probabilities(pictures);
  for (const [place, picture] of pictures.entries()) {
    const [alone] = await model.probabilities([picture]);
    alone.forEach((value, index) => assert.ok(Math.abs(value - together[place][index]) <= slack));
  }
});

test('guesses come best first, as many as are wanted', async () => {
  const guesses = await model.classify(example, { top: 3 });
  assert.equal(guesses.length, Math.min(3, model.classes));
  guesses.slice(1).forEach(({ probability }, place) => assert.ok(probability <= guesses[place].probability));
  await assert.rejects(model.classify(example, { top: 0 }), RangeError);
});

test('what is no picture is refused', async () => {
  const wrong = [
    Buffer.from('no picture'),
    new Uint8Array(0),
    example.subarray(0, example.length >> 1),
    { width: 2, height: 2, data: new Uint8Array(5) },
    { width: 0, height: 2, data: new Uint8Array(0) },
    { width: 2, height: 2, data: [1, 2, 3, 4] },
    null,
  ];
  for (const image of wrong) {
    await assert.rejects(model.classify(image), (error) => error instanceof PictureError);
  }
});

if (model.size !== null) {
  test('a picture of another size is refused', async () => {
    const image = { width: 3, height: 3, channels: 1, data: new Uint8Array(9) };
    await assert.rejects(model.classify(image), /resize and crop it first/);
  });
}
