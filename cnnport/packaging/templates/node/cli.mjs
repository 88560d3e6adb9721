#!/usr/bin/env node
// Classify picture files: node cli.mjs [--top N] [--threads N] [--json] PICTURE...

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';

import { Model, PictureError } from './index.mjs';

const USAGE = 'usage: node cli.mjs [--top N] [--threads N] [--json] PICTURE...   (JPEG or PNG)';

function number(name, text) {
  if (text === undefined) return undefined;
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw new RangeError(`--${name} is a whole number of at least 1, not ${text}`);
  return Number(text);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      top: { type: 'string' },
      threads: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help || positionals.length === 0) {
    console.log(USAGE);
    return values.help ? 0 : 2;
  }
  const top = number('top', values.top) ?? 5;
  const model = await Model.load({ threads: number('threads', values.threads) });
  const results = [];
  let failed = false;
  for (const image of positionals) {
    try {
      results.push({ image, top: await model.classify(await readFile(image), { top }) });
    } catch (error) {
      if (!(error instanceof PictureError || error.syscall)) throw error;
      console.error(`error: ${image}: ${error.message}`);
      failed = true;
      continue;
    }
    if (!values.json) show(results[results.length - 1]);
  }
  if (values.json) console.log(JSON.stringify({ model: model.name, results }, null, 2));
  return failed ? 2 : 0;
}

function show({ image, top }) {
  console.log(image);
  for (const { index, label, probability } of top) {
    console.log(`  ${(100 * probability).toFixed(2).padStart(6)} %  ${String(index).padStart(5)}  ${label ?? ''}`.trimEnd());
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 2;
}
