// Whether the HTTP example answers, and refuses what it should.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get } from 'node:http';
import { after, test } from 'node:test';

import { Model } from '../index.mjs';
import { serve } from '../server.mjs';
import { example, manifest, png } from './support.mjs';

const model = await Model.load({ threads: 1 });
const server = serve(model, { maxBytes: 300_000, maxPixels: 100_000 });
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const address = `http://127.0.0.1:${server.address().port}`;

after(async () => {
  server.closeAllConnections?.();
  server.close();
  await model.dispose();
});

async function post(body, path = '/classify', headers = {}) {
  const response = await fetch(`${address}${path}`, { method: 'POST', body, headers });
  return { status: response.status, document: await response.json() };
}

test('a picture gets its classes', async () => {
  const { status, document } = await post(example, '/classify?top=2');
  assert.equal(status, 200);
  assert.equal(document.top.length, Math.min(2, model.classes));
  const [best] = manifest.example.top;
  const [row] = await model.probabilities([example]);
  assert.equal(document.top[0].probability, Math.max(...row));
  assert.ok(Math.abs(document.top[0].probability - best.probability) <= manifest.example.tolerance);
});

test('what is no picture is a bad request', async () => {
  for (const body of ['no picture', new Uint8Array(0), example.subarray(0, 60)]) {
    const { status, document } = await post(body);
    assert.equal(status, 400);
    assert.equal(typeof document.error, 'string');
  }
  assert.equal((await post(example, '/classify?top=0')).status, 400);
});

test('what is too large is refused', async () => {
  assert.equal((await post(new Uint8Array(300_001))).status, 413);
  assert.equal((await post(png(400, 400, 1, new Uint8Array(160_000)))).status, 400);
});

test('a form, another path and another method are refused', async () => {
  assert.equal((await post(example, '/classify', { 'content-type': 'multipart/form-data; boundary=x' })).status, 415);
  assert.equal((await post(example, '/elsewhere')).status, 404);
  const [answer] = await once(get({ port: server.address().port, path: '//' }), 'response');
  assert.equal(answer.resume().statusCode, 400);
  const wrong = await fetch(`${address}/classify`);
  assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'POST']);
});

test('it says what it is, and that it is well', async () => {
  assert.equal((await (await fetch(address)).json()).model, model.name);
  assert.deepEqual(await (await fetch(`${address}/health`)).json(), { status: 'ok' });
});
