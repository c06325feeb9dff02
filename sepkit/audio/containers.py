"""What MP4, Matroska and ASF files declare of their size, and which files stand behind another one."""

import mmap
import os

_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_COPY_MAGICS = {
    b"TTA1": 8,
    b"MAC ": 6,
    b"\x30\x26\xb2\x75": 16,
}  # TTA, Monkey's Audio, ASF: length of the mark


def container_size(path: str) -> int:
    """Return the bytes that a Matroska or ASF file declares; 0 where it leaves that open."""
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


def second_copy(path: str) -> int:
    """Return the bytes of a file that stands behind one of the same format that FFmpeg reads to its own end."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        n_magic = _COPY_MAGICS.get(stream[:4], 0)
        place = stream.find(stream[:n_magic], n_magic) if n_magic else -1
        return len(stream) - place if place > 0 else 0
