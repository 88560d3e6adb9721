// Whether the command line answers.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

import { FOLDER, manifest } from './support.mjs';

function run(...options) {
  return spawnSync(process.execPath, [join(FOLDER, 'cli.mjs'), ...options], { encoding: 'utf8' });
}

test('a picture gets its classes as JSON', () => {
  const { status, stdout, stderr } = run('--json', '--top', '1', join(FOLDER, manifest.example.file));
  assert.equal(status, 0, stderr);
  const [{ top }] = JSON.parse(stdout).results;
  assert.ok(Math.abs(top[0].probability - manifest.example.top[0].probability) <= manifest.example.tolerance);
});

test('what cannot be read is said on standard error', () => {
  const { status, stdout, stderr } = run(join(FOLDER, 'package.json'), join(FOLDER, 'missing.png'));
  assert.deepEqual([status, stdout, stderr.trim().split('\n').length], [2, '', 2]);
  assert.match(stderr, /error: .*neither a JPEG nor a PNG/);
  assert.equal(run('--top', 'x', 'a.png').status, 2);
  assert.equal(run().status, 2);
});
