// The model over HTTP: POST a picture to /classify, get JSON.
//
//     PORT=8080 node server.mjs
//     curl --data-binary @picture.jpg http://localhost:8080/classify?top=3
//
// An example to begin with. One picture runs at a time, and decoding and running occupy the process: for more, start
// several behind a load balancer, or put the model into worker threads.

import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

import { Model, PictureError, decode } from './index.mjs';

const MEBIBYTE = 2 ** 20;

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * A server that is not listening yet.
 *
 * @param {Model} model
 * @param {{maxBytes?: number, maxPixels?: number}} [limits] of one picture: the bytes of its file, and its pixels
 */
export function serve(model, { maxBytes = 16 * MEBIBYTE, maxPixels = 50_000_000 } = {}) {
  let busy = Promise.resolve();

  /** Pictures run one after the other, so that memory is bounded by one of them. */
  const inTurn = (work) => {
    const done = busy.then(work);
    busy = done.catch(() => {});
    return done;
  };

  const classify = async (request, url) => {
    const top = wantedTop(url.searchParams.get('top'), model.classes);
    const bytes = await body(request, maxBytes);
    return inTurn(async () => {
      const began = performance.now();
      const picture = decode(bytes, { channels: model.channels, background: model.background, maxPixels });
      const guesses = await model.classify(picture, { top });
      return { model: model.name, top: guesses, milliseconds: performance.now() - began };
    });
  };

  const answer = async (request) => {
    const url = addressOf(request);
    if (url.pathname === '/classify') {
      if (request.method !== 'POST') throw new HttpError(405, 'POST a picture here');
      return classify(request, url);
    }
    if (url.pathname !== '/' && url.pathname !== '/health') throw new HttpError(404, 'there is only /classify');
    if (request.method !== 'GET' && request.method !== 'HEAD') throw new HttpError(405, 'only GET is answered here');
    if (url.pathname === '/health') return { status: 'ok' };
    return { model: model.name, classes: model.classes, use: 'POST a JPEG or PNG file to /classify?top=5' };
  };

  return createServer(async (request, response) => {
    let status = 200;
    let document;
    try {
      document = await answer(request);
    } catch (error) {
      status = error.status ?? (error instanceof PictureError ? 400 : 500);
      // What went wrong within is for the log, not for whoever asked.
      if (status === 500) console.error(error);
      document = { error: status === 500 ? 'the picture could not be classified' : error.message };
    }
    if (response.destroyed) return;
    const text = `${JSON.stringify(document)}\n`;
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      'x-content-type-options': 'nosniff',
      ...(status === 405 ? { allow: request.url.startsWith('/classify') ? 'POST' : 'GET, HEAD' } : {}),
      // What is left of a body that was refused is not read.
      ...(request.complete ? {} : { connection: 'close' }),
    };
    response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : text);
  });
}

function addressOf(request) {
  try {
    return new URL(request.url, 'http://localhost');
  } catch {
    throw new HttpError(400, 'this is no address');
  }
}

function wantedTop(text, classes) {
  if (text === null) return Math.min(5, classes);
  if (!/^[0-9]{1,6}$/.test(text) || Number(text) < 1) throw new HttpError(400, `top is from 1 to ${classes}`);
  return Math.min(Number(text), classes);
}

async function body(request, maxBytes) {
  const tooLarge = new HttpError(413, `a picture may have ${maxBytes} bytes`);
  if (/^multipart\//i.test(request.headers['content-type'] ?? '')) {
    throw new HttpError(415, 'send the picture itself as the body, not a form');
  }
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) {
    request.resume();
    throw tooLarge;
  }
  const pieces = [];
  let length = 0;
  // Leaving the loop must not close the connection, over which the answer goes.
  for await (const piece of request.iterator({ destroyOnReturn: false })) {
    length += piece.length;
    if (length > maxBytes) {
      request.resume();
      throw tooLarge;
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

async function main() {
  const model = await Model.load();
  const server = serve(model);
  const port = Number(process.env.PORT ?? 8080);
  const host = process.env.HOST ?? '127.0.0.1';
  server.listen(port, host, () => console.log(`${model.name} at http://${host}:${server.address().port}/classify`));
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => server.close(() => process.exit(0)));
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
