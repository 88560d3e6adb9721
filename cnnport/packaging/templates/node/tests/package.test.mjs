// Whether the files are those that were packaged, and a damaged model is refused.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Model } from '../index.mjs';
import { FOLDER, manifest } from './support.mjs';

test('the files are those that were packaged', async () => {
  for (const [name, sha256] of Object.entries(manifest.files)) {
    const found = createHash('sha256').update(await readFile(join(FOLDER, name))).digest('hex');
    assert.equal(found, sha256, `${name} was changed`);
  }
});

test('a damaged model is refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'model-'));
  try {
    await copyFile(join(FOLDER, 'cnnport.json'), join(folder, 'cnnport.json'));
    const bytes = await readFile(join(FOLDER, manifest.model.file));
    bytes[bytes.length >> 1] ^= 1;
    await writeFile(join(folder, manifest.model.file), bytes);
    await assert.rejects(Model.load({ folder }), /SHA-256/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('a folder without a package is refused', async () => {
  await assert.rejects(Model.load({ folder: tmpdir() }), /no package of cnnport/);
});
