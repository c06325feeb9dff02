"""What a file's own bytes say about its length, read without decoding."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

MPEG_REACH = 1 << 13  # bytes behind the ID3 tag in which the first MPEG frame must begin
OTHER_MAGICS = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"riff", b"fLaC", b"OggS", b".snd", b"caff")
STREAMED = ((0x7FFFF000, 0x7FFFFFFF), (0xFFFFF000, 0xFFFFFFFF))  # sizes that a writer to a pipe leaves


def pcm_sizes(path: str) -> tuple[int | None, int]:
    """Return the declared bytes of audio (None: not declared) and those present, of WAV, AIFF, W64 and AU."""
    with open(path, "rb") as file:
        try:
            located = locate_samples(file)
        except (struct.error, OSError, OverflowError):  # a header too damaged to declare anything
            located = None
        present = os.fstat(file.fileno()).st_size - (located[0] if located else 0)
    if located is None or any(low <= located[1] <= high for low, high in STREAMED):
        return None, present
    return located[1], present


def locate_samples(file: BinaryIO) -> tuple[int, int] | None:
    """Return offset and declared size of the audio bytes."""
    skip_id3(file)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _walk_riff(file, "<")
    if magic[:4] in (b"RIFX", b"FORM"):
        return _walk_riff(file, ">")
    if magic[:4] == b"riff":
        return _walk_w64(file)
    if magic[:4] == b".snd":
        return struct.unpack(">II", magic[4:12])
    return None


def _walk_riff(file: BinaryIO, order: str) -> tuple[int, int] | None:
    long_size = None
    while len(header := file.read(8)) == 8:
        name, size = header[:4], struct.unpack(order + "I", header[4:])[0]
        here = file.tell()
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16))[0]
        if name == b"data":
            return here, long_size if size == 0xFFFFFFFF and long_size else size
        if name == b"SSND":
            return here + 8, size - 8
        file.seek(here + size)
        if size % 2 and file.read(1)[:1].strip(b"\0"):  # some writers leave the padding byte out
            file.seek(here + size)
    return None


def _walk_w64(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(40)
    while len(header := file.read(24)) == 24:
        size = struct.unpack("<Q", header[16:])[0]
        if header[:4] == b"data":
            return file.tell(), size - 24
        if size < 24:
            return None
        file.seek(file.tell() - 24 + (size + 7) // 8 * 8)
    return None


def skip_id3(file: BinaryIO) -> None:
    """Go to the first byte behind the ID3v2 tags at the start."""
    start = 0
    file.seek(0)
    while len(header := file.read(10)) == 10 and header[:3] == b"ID3":
        size = 0
        for byte in header[6:]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if header[5] & 0x10 else 0)
        file.seek(start)
    file.seek(start)


def flac_ends_at(path: str, n_frames: int) -> bool:
    """Say whether a FLAC frame that ends at this sample stands near the end of the file."""
    with open(path, "rb") as file:
        skip_id3(file)
        info = file.read(26)
        block = int.from_bytes(info[8:10], "big")
        reach = 2 * int.from_bytes(info[15:18], "big") + 4096  # two of the largest frames, and tags behind them
        file.seek(max(0, os.fstat(file.fileno()).st_size - max(reach, 1 << 16)))
        tail = file.read() + bytes(16)  # the last frame may be shorter than the longest header
    place = tail.rfind(b"\xff")
    while place >= 0:
        if _flac_frame_end(tail[place : place + 17], block) == n_frames:
            return True
        place = tail.rfind(b"\xff", 0, place)
    return False


_FLAC_BLOCKS = {1: 192, **{k: 144 << k for k in range(2, 6)}, **{k: 1 << k for k in range(8, 16)}}


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


def ogg_is_cut(path: str) -> bool:
    """Say whether the last Ogg page is incomplete and none before it closed the stream."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - (1 << 17)))  # a page is at most 65307 bytes
        tail = file.read()
    place = tail.rfind(b"OggS")
    header = tail[place : place + 27]
    if place < 0 or (len(header) == 27 and header[5] & 4):
        return False
    segments = tail[place + 27 : place + 27 + header[26]] if len(header) == 27 else b""
    return len(header) < 27 or len(segments) < header[26] or place + 27 + len(segments) + sum(segments) > len(tail)


_MP3_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class MpegChain:
    """Count samples per channel along a chain of MPEG frames.

    Args:
        counted: in the whole frames, without the Xing header's.
        announced: in the frames that the Xing header counts; None without one.
        trimmed: of these, the encoder's delay and padding, which decoding takes off.
        broken: whether something else than a frame stands between them.
    """

    counted: int
    announced: int | None
    trimmed: int
    broken: bool

    @property
    def declared(self) -> int | None:
        """The length by the Xing header."""
        return None if self.announced is None else self.announced - self.trimmed

    @property
    def whole(self) -> bool:
        """Whether nothing contradicts that all frames are there."""
        return not self.broken and self.announced in (None, self.counted)


def mpeg_frames(path: str) -> MpegChain | None:
    """Follow the chain of MPEG audio frames to the end of the file; None where none begins near the start."""
    with open(path, "rb") as file:
        skip_id3(file)
        head = file.read(MPEG_REACH)
        start = None if head.startswith(OTHER_MAGICS) or head[4:8] == b"ftyp" else _first_mpeg_frame(head)
        if start is None:
            return None
        stream = head[start:] + file.read()
    size, samples = _mpeg_frame(stream[:4])
    n_announced, trimmed = _xing(stream[:size])
    announced = None if n_announced is None else n_announced * samples
    place, counted, end = 0 if announced is None else size, 0, len(stream)
    while place + 4 <= end and stream[place : place + 3] not in (b"TAG", b"APE"):
        size, samples = _mpeg_frame(stream[place : place + 4])
        if not size:
            return MpegChain(counted, announced, trimmed, broken=True)
        counted += samples if place + size <= end else 0
        place += size
    return MpegChain(counted, announced, trimmed, broken=False)


def _first_mpeg_frame(head: bytes) -> int | None:
    place = head.find(b"\xff")
    while 0 <= place < len(head) - 4:
        size, _ = _mpeg_frame(head[place : place + 4])
        following = head[place + size : place + size + 4]
        if size and (len(following) < 4 or _mpeg_frame(following)[0]):
            return place
        place = head.find(b"\xff", place + 1)
    return None


def _xing(frame: bytes) -> tuple[int | None, int]:
    """Return the frames that a Xing header counts (None: not one), and the samples of delay and padding."""
    place = max(frame.find(b"Xing", 0, 48), frame.find(b"Info", 0, 48))
    flags = int.from_bytes(frame[place + 4 : place + 8], "big")
    if place < 0 or not flags & 1:
        return None, 0
    n_frames = int.from_bytes(frame[place + 8 : place + 12], "big")
    place += 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    delays = int.from_bytes(frame[place + 21 : place + 24], "big")
    return n_frames, (delays >> 12) + (delays & 0xFFF)


def _mpeg_frame(header: bytes) -> tuple[int, int]:
    """Return bytes and samples of the frame with this header; (0, 0) if it is not one."""
    first, second, third = header[0], header[1], header[2]
    version = {3: 1, 2: 2, 0: 4}.get(second >> 3 & 3)  # MPEG 1, 2, 2.5: divisors of the rate
    layer = 4 - (second >> 1 & 3)
    if first != 0xFF or second < 0xE0 or version is None or layer == 4 or third >> 2 & 3 == 3:
        return 0, 0
    kbits = (*_MP3_KBITS[min(version, 2), layer], 0)[third >> 4]
    if not kbits:
        return 0, 0
    rate = (44100, 48000, 32000)[third >> 2 & 3] // version
    padding = third >> 1 & 1
    if layer == 1:
        return (12000 * kbits // rate + padding) * 4, 384
    samples = 576 if layer == 3 and version > 1 else 1152
    return samples * 125 * kbits // rate + padding, samples
