"""What a file's own bytes say about its length, read without decoding."""

import mmap
import os
import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from sepkit.audio.views import FileView

MPEG_REACH = 1 << 13  # bytes behind the ID3 tag in which the first MPEG frame must begin
OTHER_MAGICS = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"riff", b"fLaC", b"OggS", b".snd", b"caff")
TAG_MAGICS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # what taggers append without a chunk around it
KNOWN_CHUNKS = (
    b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"JUNK", b"junk", b"PAD ", b"FLLR", b"cue ", b"smpl", b"fact", b"PEAK",
    b"NAME", b"ANNO", b"COMT", b"MARK", b"INST", b"APPL", b"AUTH", b"(c) ",
)  # fmt: skip # of these, what does not fit was cut
MAX_RUBBISH = 1 << 12  # bytes behind the declared audio that are not taken for audio: 23 ms in CD quality
_CHUNK_HEADER = {8: 24, 1: 12}  # bytes, by the unit
STREAMED = ((0x7FFFF000, 0x7FFFFFFF), (0xFFFFF000, 0xFFFFFFFF), (1 << 62, 1 << 64))  # what a writer to a pipe leaves


class Samples(NamedTuple):
    """State where the audio bytes of WAV, AIFF, W64, CAF and AU lie.

    Args:
        offset: first byte.
        declared: their number, as the header has it.
        field: byte at which the header has it.
        code: how it stands there, as `struct` says it.
        added: what the number there counts beside the audio.
        unit: chunks that follow begin at multiples of so many bytes; 1: none follow.
    """

    offset: int
    declared: int
    field: int
    code: str
    added: int = 0
    unit: int = 2


class PcmSizes(NamedTuple):
    """Compare the audio bytes that a header declares with those that are there.

    Args:
        declared: None: the header leaves that open.
        present: from the first audio byte to the end of the file.
        real: how many of these are audio; the header is wrong where that is more than it says.
        rubbish: bytes behind the audio that are neither audio nor chunks.
        second: bytes behind the audio that are another file.
    """

    declared: int | None
    present: int
    real: int
    rubbish: int = 0
    second: int = 0


def pcm_sizes(path: str) -> PcmSizes | None:
    """Compare the size of the audio that the header of WAV, AIFF, W64, CAF or AU declares with what is there.

    Args:
        path: of any file.

    Returns:
        The sizes; None for other formats.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            samples = locate_samples(file)
        except (struct.error, OSError, OverflowError):  # a header too damaged to declare anything
            return None
        if samples is None:
            return None
        if any(low <= samples.declared <= high for low, high in STREAMED):
            return PcmSizes(None, size - samples.offset, size - samples.offset)
        return _compare(file, samples, size)


def _compare(file: BinaryIO, samples: Samples, size: int) -> PcmSizes:
    declared, present = max(0, samples.declared), size - samples.offset
    sizes = PcmSizes(declared or None, present, min(declared, present))
    if present <= declared:
        return sizes
    second = _second_file(file, samples, declared, size)
    if second is not None:
        return sizes._replace(second=second)
    if samples.code[1] == "I":  # beyond 4 GiB, recorders leave the lower 32 bits of the size
        for real in range(declared + (1 << 32), present + 1, 1 << 32):
            if (second := _second_file(file, samples, real, size)) is not None:
                return sizes._replace(real=real, second=second)
    if declared and (present - declared <= MAX_RUBBISH or _only_zeros(file, samples.offset + declared)):
        file.seek(samples.offset + declared)
        rest = file.read(MAX_RUBBISH + 1)
        return sizes._replace(rubbish=present - declared if len(rest) > MAX_RUBBISH or any(rest) else 0)
    return sizes._replace(real=present)


def _second_file(file: BinaryIO, samples: Samples, n_bytes: int, end: int) -> int | None:
    """Return the size of a second file among the chunks behind so many audio bytes; None where these are no chunks."""
    padded = -(-n_bytes // samples.unit) * samples.unit
    for start in (samples.offset + n_bytes, samples.offset + padded):  # some writers leave the padding out
        second = _walk_chunks(file, samples, start, end)
        if second is not None:
            return second
    return None


def _walk_chunks(file: BinaryIO, samples: Samples, place: int, end: int) -> int | None:
    """Follow chunks to the end of the file; return the size of a second file, None where a chunk does not fit."""
    while place < end:
        file.seek(place)
        header = file.read(_CHUNK_HEADER.get(samples.unit, 8))
        if header.startswith(OTHER_MAGICS):
            return end - place
        if header.startswith(TAG_MAGICS) or (end - place < len(header) and not any(header)):
            return 0
        size = _chunk_size(header, samples)
        if not size or place + size > end:
            return 0 if size and header[:4] in KNOWN_CHUNKS else None
        place += -(-size // samples.unit) * samples.unit
    return 0


def _chunk_size(header: bytes, samples: Samples) -> int | None:
    """Return the size of a chunk, its header included; None where it has no name."""
    order, is_name = samples.code[0], all(32 <= byte < 127 for byte in header[:4])
    if samples.unit == 8 and len(header) == 24 and is_name:
        return struct.unpack(order + "Q", header[16:])[0]
    if samples.unit == 1 and samples.code == ">Q" and len(header) == 12 and is_name:
        return 12 + struct.unpack(">Q", header[4:])[0]
    if samples.unit == 2 and len(header) == 8 and is_name:
        return 8 + struct.unpack(order + "I", header[4:])[0]
    return None


def _only_zeros(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    while block := file.read(1 << 20):
        if block.count(0) < len(block):
            return False
    return True


def corrected_view(path: str) -> FileView:
    """Open a file whose header declares too little, as if it declared what `pcm_sizes` found to be real."""
    real, samples = pcm_sizes(path).real, _samples_of(path)
    size = min(real + samples.added, (1 << 8 * struct.calcsize(samples.code)) - 1)
    return FileView(path, 0, samples.offset + real, samples.field, struct.pack(samples.code, size))


def bare_view(path: str) -> tuple[FileView, str] | None:
    """Open the audio bytes alone, and give their order, where they are more than the header can declare; else None."""
    real, samples = pcm_sizes(path).real, _samples_of(path)
    if real + samples.added < 1 << 8 * struct.calcsize(samples.code):
        return None
    return FileView(path, samples.offset, samples.offset + real), "BIG" if samples.code[0] == ">" else "LITTLE"


def _samples_of(path: str) -> Samples:
    with open(path, "rb") as file:
        return locate_samples(file)


def locate_samples(file: BinaryIO) -> Samples | None:
    """Find the audio bytes and their declared number."""
    skip_id3(file)
    start, magic = file.tell(), file.read(12)
    if magic[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _walk_riff(file, "<")
    if magic[:4] in (b"RIFX", b"FORM"):
        return _walk_riff(file, ">")
    if magic[:4] == b"riff":
        return _walk_w64(file)
    if magic[:4] == b"caff":
        return _walk_caf(file, start + 8)
    if magic[:4] == b".snd":
        offset, declared = struct.unpack(">II", magic[4:12])
        return Samples(start + offset, declared, start + 8, ">I", unit=1)
    return None


def _walk_riff(file: BinaryIO, order: str) -> Samples | None:
    ds64 = None
    while len(header := file.read(8)) == 8:
        name, size = header[:4], struct.unpack(order + "I", header[4:])[0]
        here = file.tell()
        if name == b"ds64":
            ds64 = here + 8, struct.unpack("<8xQ", file.read(16))[0]
        if name == b"data" and size == 0xFFFFFFFF and ds64:
            return Samples(here, ds64[1], ds64[0], "<Q")
        if name == b"data":
            return Samples(here, size, here - 4, order + "I")
        if name == b"SSND":
            return Samples(here + 8, size - 8, here - 4, order + "I", added=8)
        file.seek(here + size)
        if size % 2 and file.read(1)[:1].strip(b"\0"):  # some writers leave the padding byte out
            file.seek(here + size)
    return None


def _walk_w64(file: BinaryIO) -> Samples | None:
    file.seek(40)
    while len(header := file.read(24)) == 24:
        size = struct.unpack("<Q", header[16:])[0]
        if header[:4] == b"data":
            return Samples(file.tell(), size - 24, file.tell() - 8, "<Q", added=24, unit=8)
        if size < 24:
            return None
        file.seek(file.tell() - 24 + (size + 7) // 8 * 8)
    return None


def _walk_caf(file: BinaryIO, place: int) -> Samples | None:
    file.seek(place)
    while len(header := file.read(12)) == 12:
        name, size = struct.unpack(">4sQ", header)
        here = file.tell()
        if name == b"data":  # which a count of edits precedes
            return Samples(here + 4, size - 4, here - 8, ">Q", added=4, unit=1)
        file.seek(here + size)
    return None


def skip_id3(file: BinaryIO) -> None:
    """Go to the first byte behind the ID3v2 tags at the start."""
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


def flac_block(path: str) -> int:
    """Return the largest number of samples that a FLAC frame holds, by its header."""
    with open(path, "rb") as file:
        skip_id3(file)
        return int.from_bytes(file.read(12)[10:12], "big")


def flac_ends_at(path: str, n_samples: int) -> bool:
    """Say whether a FLAC frame that ends at this sample stands near the end of the file."""
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
    """Say whether the frames within a FLAC file are not in the order of their samples: it holds a second file."""
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


_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
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
        incomplete: whether the file ends within the last frame.
    """

    counted: int
    announced: int | None
    trimmed: int
    broken: bool
    incomplete: bool = False

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
    if start:  # FFmpeg looks for the Xing header at the first byte alone
        n_announced = None
    announced = None if n_announced is None else n_announced * samples
    place, counted, end, broken = 0 if announced is None else size, 0, len(stream), any(head[:start])
    while place + 4 <= end and not broken:
        size, samples = _mpeg_frame(stream[place : place + 4])
        if not size:
            broken = not is_padding(stream, skip_tags(stream, place))
            break
        counted += samples if place + size <= end else 0
        place += size
    return MpegChain(counted, announced, trimmed, broken, place > end)


def is_padding(stream: bytes | mmap.mmap, place: int) -> bool:
    """Say whether nothing stands from here to the end, or a few zeros that were not audio: none precede them."""
    zeros, before = stream[place : place + MAX_RUBBISH + 1], stream[max(0, place - 32) : place]
    is_end = any(before[-8:]) or before.startswith(b"APETAGEX")  # a tag ends with zeros of its own
    return not zeros or (len(zeros) <= MAX_RUBBISH and not any(zeros) and is_end)


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


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def ac3_frame(header: bytes) -> int:
    """Return the bytes of the AC-3 or E-AC-3 frame with this header; 0 where it is none (ATSC A/52, 5.3 and E.1.2)."""
    if len(header) < 6 or header[:2] != b"\x0b\x77":
        return 0
    if header[5] >> 3 > 10:  # E-AC-3
        return 2 * ((header[2] & 7) << 8 | header[3]) + 2
    rate, code = header[4] >> 6, header[4] & 63
    if rate == 3 or code // 2 >= len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[code // 2]
    return (4 * kbits, 2 * (kbits * 96000 // 44100 + code % 2), 6 * kbits)[rate]


def second_mp4(path: str) -> int:
    """Return the bytes of an MP4 file that stands behind the first one."""
    with open(path, "rb") as file:
        end, place, n_types = os.fstat(file.fileno()).st_size, 0, 0
        while place < end:
            file.seek(place)
            header = file.read(16).ljust(16, b"\0")
            size = int.from_bytes(header[:4], "big")
            size = int.from_bytes(header[8:], "big") if size == 1 else size
            n_types += header[4:8] == b"ftyp"
            if n_types > 1:
                return end - place
            if size < 8:
                return 0
            place += size
    return 0


_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def container_size(path: str) -> int:
    """Return the bytes that a Matroska or ASF file says it has; 0 where it leaves that open."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        place, size = _ebml_size(head, 4)
        segment = place + (size or 0)
        place, size = _ebml_size(head, segment + 4)
        return place + size if size and head[segment : segment + 4] == b"\x18\x53\x80\x67" else 0
    found = head.find(_ASF_PROPERTIES)
    is_live = found < 0 or head[found + 88 : found + 89] in (b"", b"\1", b"\3")  # flag of a broadcast
    return 0 if is_live else int.from_bytes(head[found + 40 : found + 48], "little")


def _ebml_size(head: bytes, place: int) -> tuple[int, int | None]:
    """Read the size of an element (RFC 8794, section 4): the byte behind it, and the number; None: it is unknown."""
    first = head[place] if place < len(head) else 0
    length = 9 - first.bit_length()
    size, unknown = int.from_bytes(head[place : place + length], "big"), (1 << 7 * length) - 1
    return place + length, None if not first or size & unknown == unknown else size & unknown


_COPY_MAGICS = {b"TTA1": 8, b"MAC ": 6, b"\x30\x26\xb2\x75": 16}  # TTA, Monkey's Audio, ASF: bytes that tell them


def second_copy(path: str) -> int:
    """Return the bytes of a file that stands behind one of the same format that FFmpeg reads to its own end."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        n_magic = _COPY_MAGICS.get(stream[:4], 0)
        place = stream.find(stream[:n_magic], n_magic) if n_magic else -1
        return len(stream) - place if place > 0 else 0


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
    n_samples = int.from_bytes(frame[place + 8 : place + 12], "big")
    place += 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    delays = int.from_bytes(frame[place + 21 : place + 24], "big")
    return n_samples, (delays >> 12) + (delays & 0xFFF)


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
