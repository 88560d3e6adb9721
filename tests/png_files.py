"""PNG files of every kind that the format knows, many of which Pillow reads but does not write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    COLOUR: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_file(
    samples: NDArray[np.integer],
    kind: int,
    depth: int,
    *,
    interlaced: bool = False,
    chunks: tuple[tuple[bytes, bytes], ...] = (),
    seed: int = 0,
) -> bytes:
    """A file of height x width x channels samples; each row gets a filter by chance."""
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    random = np.random.default_rng(seed)
    packed = b""
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[top::down, left::across]
        if part.size:
            packed += _rows(part, depth, random)
    body = zlib.compress(packed)
    half = len(body) // 2
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body[:half]), (b"IDAT", body[half:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _rows(part: NDArray[np.integer], depth: int, random: np.random.Generator) -> bytes:
    step = max(1, part.shape[2] * depth // 8)
    above: NDArray[np.int64] | None = None
    written = b""
    for row in part:
        line = _bytes(row.reshape(-1), depth).astype(np.int64)
        zeros = np.zeros_like(line)
        up = zeros if above is None else above
        left, corner = (
            np.concatenate([zeros[:step], each[:-step]]) if len(each) > step else zeros for each in (line, up)
        )
        kind = int(random.integers(5))
        guess = (zeros, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
        written += bytes([kind]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        above = line
    return written


def _bytes(row: NDArray[np.integer], depth: int) -> NDArray[np.uint8]:
    if depth == 16:
        return np.frombuffer(row.astype(">u2").tobytes(), np.uint8)
    if depth == 8:
        return row.astype(np.uint8)
    bits = (row[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(-1).astype(np.uint8))


def _paeth(left: NDArray[np.int64], up: NDArray[np.int64], corner: NDArray[np.int64]) -> NDArray[np.int64]:
    off = [abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)]
    by_up = np.where(off[1] <= off[2], up, corner)
    return np.where((off[0] <= off[1]) & (off[0] <= off[2]), left, by_up)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
