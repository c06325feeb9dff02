"""The frames of a FLAC file, by their headers: where they end, and in which order they are."""

import os
import re
from itertools import pairwise

from sepkit.audio.tags import skip_id3

_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_BLOCKS = {1: 192, **{k: 144 << k for k in range(2, 6)}, **{k: 1 << k for k in range(8, 16)}}


def flac_block(path: str) -> int:
    """Return the largest number of samples that a FLAC frame holds, by its header."""
    with open(path, "rb") as file:
        skip_id3(file)
        return int.from_bytes(file.read(12)[10:12], "big")


def flac_ends_at(path: str, n_samples: int) -> bool:
    """Return whether a FLAC frame that ends at this sample stands near the end of the file."""
    with open(path, "rb") as file:
        skip_id3(file)
        info = file.read(26)
        block = int.from_bytes(info[8:10], "big")
        reach = 2 * int.from_bytes(info[15:18], "big") + 4096  # two of the largest frames, and tags behind them
        file.seek(max(0, os.fstat(file.fileno()).st_size - max(reach, 1 << 16)))
        tail = file.read() + bytes(16)  # the last frame may be shorter than the longest header
    places = [found.start() for found in _FLAC_SYNC.finditer(tail)]
    return any(_flac_frame_end(tail[place : place + 17], block) == n_samples for place in reversed(places))


def flac_is_joined(path: str) -> bool:
    """Return whether the frames within a FLAC file are not in the order of their samples: it holds a second file."""
    with open(path, "rb") as file:
        skip_id3(file)
        info = file.read(26)
        block, reach = int.from_bytes(info[8:10], "big"), int.from_bytes(info[15:18], "big") or 1 << 15
        size, ends = os.fstat(file.fileno()).st_size, []
        for quarter in (1, 2, 3):
            file.seek(quarter * size // 4)
            ends.append(_first_flac_end(file.read(reach + 17), block))
    found = [end for end in ends if end is not None]
    return any(later < earlier for earlier, later in pairwise(found))


def _first_flac_end(stream: bytes, block: int) -> int | None:
    ends = (_flac_frame_end(stream[found.start() : found.start() + 17], block) for found in _FLAC_SYNC.finditer(stream))
    return next((end for end in ends if end is not None), None)


def _flac_frame_end(header: bytes, stream_block: int) -> int | None:
    """Return the sample at which the FLAC frame with this header ends; None if it is not a header."""
    if len(header) < 17 or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return None
    place = 4 + max(1, 8 - (header[4] ^ 0xFF).bit_length())  # leading ones of the UTF-8 like number
    number = header[4] & 0xFF >> place - 3 if place > 5 else header[4]
    for byte in header[5:place]:
        number = number << 6 | byte & 0x3F
    block = _FLAC_BLOCKS.get(header[2] >> 4)
    if block is None:
        width = (header[2] >> 4) - 5
        block = int.from_bytes(header[place : place + width], "big") + 1
        place += width
    place += {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if _crc8(header[:place]) != header[place]:
        return None
    return block + (number if header[1] & 1 else number * stream_block)


def _crc8(message: bytes) -> int:
    remainder = 0
    for byte in message:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x107 if remainder & 0x80 else 0)
    return remainder
