"""Ways to damage bytes, lines and archives, each a function of a random generator and nothing else."""

from __future__ import annotations

import random
import struct
import zlib

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
TOKENS = (
    b"-1",
    b"-0",
    b"1e400",
    b"NaN",
    b"Infinity",
    b"18446744073709551617",
    b"1_0",
    "\u0661".encode(),
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b":",
    b",",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"\\ud83d",
    b"1.5",
    b"+3",
    b"0x10",
    b"1e3",
    b'"1"',
    b"9" * 30,
    b"[" * 300,
    b"\xed\xa0\xbd",
    "\u200b".encode(),
    "\u2028".encode(),
)


def damaged(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """The bytes after one to four changes: bits, numbers, ranges moved, doubled, dropped, or taken from another input."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not out:
            return bytes(rng.randrange(256) for _ in range(rng.randrange(16)))
        place, end = sorted((rng.randrange(len(out)), rng.randrange(len(out))))
        end = min(end, place + rng.choice((1, 4, 16, 256, 1 << 20)))
        change = rng.randrange(9)
        if change == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif change == 1:
            out[place] = rng.randrange(256)
        elif change == 2:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
            out[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif change == 3:
            del out[place:end]
        elif change == 4:
            out[place:place] = out[place:end]
        elif change == 5:
            del out[place:]
        elif change == 6:
            out[place:end] = bytes(end - place)
        elif change == 7:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            out[place:end] = other[begin : begin + end - place]
        else:
            out[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 8, 100))))
    return bytes(out)


def damaged_text(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """As damaged(), of lines: tokens put in or exchanged, lines doubled, dropped, joined."""
    if rng.random() < 0.2:
        return damaged(data, rng, others)
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines))
        line = lines[place]
        change = rng.randrange(6)
        if change == 0:
            lines.insert(place, line)
        elif change == 1 and len(lines) > 1:
            del lines[place]
        elif change == 2:
            at = rng.randrange(len(line) + 1)
            lines[place] = line[:at] + rng.choice(TOKENS) + line[at:]
        elif change == 3:
            words = line.split(b" ")
            words[rng.randrange(len(words))] = rng.choice(TOKENS)
            lines[place] = b" ".join(words)
        elif change == 4:
            at, length = rng.randrange(len(line) + 1), rng.randrange(1, 6)
            lines[place] = line[:at] + rng.choice(TOKENS) + line[at + length :]
        else:
            lines[place] = b""
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r")).join(lines)


def with_png_sums(data: bytes) -> bytes:
    """A PNG with its chunks' checksums made right, so that damage reaches what is behind them."""
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        length = struct.unpack_from(">I", out, place)[0]
        if place + 12 + length > len(out):
            break
        struct.pack_into(">I", out, place + 8 + length, zlib.crc32(out[place + 4 : place + 8 + length]))
        place += 12 + length
    return bytes(out)


def with_tar_sums(data: bytes) -> bytes:
    """A tar of which every block that looks like a header has a right checksum."""
    out = bytearray(data)
    for place in range(0, len(out) - 511, 512):
        if out[place + 257 : place + 262] == b"ustar":
            out[place + 148 : place + 156] = b" " * 8
            out[place + 148 : place + 156] = b"%06o\0 " % sum(out[place : place + 512])
    return bytes(out)
