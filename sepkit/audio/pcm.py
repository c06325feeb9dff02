"""Where the audio of WAV, AIFF, W64, CAF and AU lies, and whether it has the size that the header declares."""

import os
import struct
from typing import BinaryIO, NamedTuple

from sepkit.audio.tags import MAX_RUBBISH, OTHER_MAGICS, TAG_MAGICS, skip_id3
from sepkit.audio.views import FileView

KNOWN_CHUNKS = (
    b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"JUNK", b"junk", b"PAD ", b"FLLR", b"cue ", b"smpl", b"fact", b"PEAK",
    b"NAME", b"ANNO", b"COMT", b"MARK", b"INST", b"APPL", b"AUTH", b"(c) ",
)  # fmt: skip # of these, what does not fit was cut
STREAMED = ((0x7FFFF000, 0x7FFFFFFF), (0xFFFFF000, 0xFFFFFFFF), (1 << 62, 1 << 64))  # what a writer to a pipe leaves
_CHUNK_HEADER = {8: 24, 1: 12}  # bytes, by the unit


class Samples(NamedTuple):
    """State where the audio bytes of WAV, AIFF, W64, CAF and AU lie.

    Args:
        offset: first byte.
        declared: their number, as the header has it.
        field: byte at which the header has it.
        code: how it stands there, in the letters of `struct`.
        added: bytes other than audio that the number there counts.
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
        real: how many of these are audio; the header is wrong where that is more than it declares.
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
        behind = file.read(MAX_RUBBISH + 1)
        return sizes._replace(rubbish=present - declared if len(behind) > MAX_RUBBISH or any(behind) else 0)
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
    """Return the size of a second file behind the chunks that follow here; None where a chunk does not fit."""
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
