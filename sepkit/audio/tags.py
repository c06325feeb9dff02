"""What stands around the audio of a file: tags, padding, the first bytes of another file."""

import mmap
import struct
from typing import BinaryIO

OTHER_MAGICS = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"riff", b"fLaC", b"OggS", b".snd", b"caff")
TAG_MAGICS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # what taggers append without a chunk around it
MAX_RUBBISH = 1 << 12  # bytes behind the declared audio that are not taken for audio: 23 ms in CD quality


def skip_id3(file: BinaryIO) -> None:
    """Move to the first byte behind the ID3v2 tags at the start."""
    start = 0
    file.seek(0)
    while len(header := file.read(10)) == 10 and header[:3] == b"ID3":
        start += _id3_size(header)
        file.seek(start)
    file.seek(start)


def _id3_size(header: bytes) -> int:
    size = 0
    for byte in header[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if header[5] & 0x10 else 0)


def skip_tags(stream: bytes, place: int) -> int:
    """Return the byte behind the tags that begin here."""
    while size := _tag_size(stream, place):
        place += size
    return place


def _tag_size(stream: bytes, place: int) -> int:
    """Return the size of an ID3v1, ID3v2, APE or Lyrics3 tag; 0 where none begins."""
    magic = stream[place : place + 8]
    if magic == b"APETAGEX":
        size, flags = struct.unpack("<I4xI", stream[place + 12 : place + 24].ljust(12, b"\0"))
        return size + 32 * bool(flags >> 29 & 1 and flags >> 31)
    if magic.startswith(b"ID3"):
        return _id3_size(stream[place : place + 10].ljust(10, b"\0"))
    if magic.startswith(b"LYRICS"):
        return max(stream.find(mark, place) + 9 - place for mark in (b"LYRICSEND", b"LYRICS200"))
    return 227 if magic.startswith(b"TAG+") else 128 if magic.startswith(b"TAG") else 0


def is_padding(stream: bytes | mmap.mmap, place: int) -> bool:
    """Return whether nothing stands from here to the end, or a few zeros that were not audio: none precede them."""
    zeros, before = stream[place : place + MAX_RUBBISH + 1], stream[max(0, place - 32) : place]
    is_end = any(before[-8:]) or before.startswith(b"APETAGEX")  # a tag ends with zeros of its own
    return not zeros or (len(zeros) <= MAX_RUBBISH and not any(zeros) and is_end)
