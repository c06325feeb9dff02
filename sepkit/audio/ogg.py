"""The pages of an Ogg file, followed without decoding."""

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from sepkit.audio.tags import is_padding

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FIRST, _LAST = 2, 4  # flags of a page
_HEADERS, _NO_PACKET = 0, (1 << 64) - 1  # granule positions of pages before the audio, and of those that end none


@dataclass(frozen=True)
class OggPages:
    """State how the pages follow each other.

    Args:
        starts: bytes at which the links of the chain begin, each a file of its own.
        holes: byte and number of bytes of what belongs to no whole page, or 0 where a page is missing.
        cut: whether the last page is incomplete and none before it closed the stream.
        closed: whether the last page is marked as the last.
        n_last: samples that end on the last page.
    """

    starts: tuple[int, ...]
    holes: tuple[tuple[int, int], ...]
    cut: bool
    closed: bool
    n_last: int


def follow_pages(path: str) -> OggPages:
    """Measure how the pages follow each other up to the end of the file (RFC 3533, section 6)."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return _follow(stream)


def _follow(stream: mmap.mmap) -> OggPages:
    starts, holes, following, flags, place, granules = [], [], {}, _FIRST, 0, [0]
    for start, end in _whole_pages(stream):
        if start > place:
            holes.append((place, start - place))
        serial, number, granule = _fields(stream, start)
        first = stream[start + 5] & _FIRST
        if not first and following.get(serial, number) != number and start == place:
            holes.append((start, 0))
        if first and (not flags & _FIRST or not starts):
            starts.append(start)
        following[serial] = number + 1 & 0xFFFFFFFF
        if granule != _NO_PACKET:
            granules = [granules[-1], granule]
        if granule == _HEADERS:  # a stream that was joined while it ran goes on with any number
            del following[serial]
        flags, place = stream[start + 5], end
    n_left = len(stream) - place
    cut = n_left > 0 and not flags & _LAST and b"OggS".startswith(stream[place : place + 4])
    if n_left and not cut and not is_padding(stream, place):
        holes.append((place, n_left))
    return OggPages(tuple(starts) or (0,), tuple(holes), cut, bool(flags & _LAST), granules[-1] - granules[0])


def _fields(stream: mmap.mmap, start: int) -> tuple[int, int, int]:
    """Return serial number, page number and granule position."""
    header = stream[start : start + 27]
    serial, number, granule = (int.from_bytes(header[a:b], "little") for a, b in ((14, 18), (18, 22), (6, 14)))
    return serial, number, granule


def _whole_pages(stream: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of each page whose checksum is right."""
    place = 0
    while place >= 0:
        end = _page_end(stream, place)
        if end and _checksum(stream[place:end]) == int.from_bytes(stream[place + 22 : place + 26], "little"):
            yield place, end
            place = end if stream[end : end + 4] == b"OggS" else stream.find(b"OggS", end)
        else:
            place = stream.find(b"OggS", place + 1)


def _page_end(stream: mmap.mmap, place: int) -> int | None:
    """Return the byte behind the page that begins here; None where the file ends before."""
    n_segments = stream[place + 26] if place + 27 <= len(stream) else 0
    end = place + 27 + n_segments + sum(stream[place + 27 : place + 27 + n_segments])
    return end if end <= len(stream) else None


def _checksum(page: bytes) -> int:
    """Compute Ogg's CRC-32, which is zlib's with all bits in reverse order and without its inversions."""
    zeroed = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
