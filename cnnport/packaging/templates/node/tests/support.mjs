// What the tests share.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateSync } from 'node:zlib';

export const FOLDER = dirname(dirname(fileURLToPath(import.meta.url)));
export const manifest = JSON.parse(readFileSync(join(FOLDER, 'cnnport.json'), 'utf8'));
export const example = readFileSync(join(FOLDER, manifest.example.file));

/** A PNG file of 8 bits a sample: rows of bytes, of 1 to 4 channels; it may state another height than it has. */
export function png(width, height, channels, data, chunks = {}, stated = height) {
  const type = { 1: 0, 2: 4, 3: 2, 4: 6 }[channels];
  const rows = Buffer.alloc(height * (width * channels + 1));
  for (let y = 0; y < height; y += 1) {
    Buffer.from(data).copy(rows, y * (width * channels + 1) + 1, y * width * channels, (y + 1) * width * channels);
  }
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, type, 0, 0, 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(stated, 4);
  const extra = Object.entries(chunks).map(([kind, body]) => chunk(kind, body));
  const magic = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const parts = [chunk('IHDR', header), ...extra, chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))];
  return Buffer.concat([magic, ...parts]);
}

/** An EXIF block that states an orientation and nothing else. */
export function exif(orientation) {
  const block = Buffer.alloc(26);
  block.write('MM\0*', 'latin1');
  block.writeUInt32BE(8, 4);
  block.writeUInt16BE(1, 8);
  block.writeUInt16BE(0x0112, 10);
  block.writeUInt16BE(3, 12);
  block.writeUInt32BE(1, 14);
  block.writeUInt16BE(orientation, 18);
  return block;
}

function chunk(kind, body) {
  const inner = Buffer.concat([Buffer.from(kind, 'latin1'), body]);
  const outer = Buffer.alloc(inner.length + 8);
  outer.writeUInt32BE(body.length, 0);
  inner.copy(outer, 4);
  outer.writeUInt32BE(crc(inner), inner.length + 4);
  return outer;
}

function crc(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  }
  return ~value >>> 0;
}
