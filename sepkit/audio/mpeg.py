"""The frames of MPEG audio, followed without decoding, and the size of those of AC-3."""

from dataclasses import dataclass

from sepkit.audio.tags import OTHER_MAGICS, is_padding, skip_id3, skip_tags

MPEG_REACH = 1 << 13  # bytes behind the ID3 tag in which the first MPEG frame must begin
_MP3_KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


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
        """Return the length by the Xing header."""
        return None if self.announced is None else self.announced - self.trimmed

    @property
    def whole(self) -> bool:
        """Return whether nothing contradicts that all frames are there."""
        return not self.broken and self.announced in (None, self.counted)


def mpeg_frames(path: str) -> MpegChain | None:
    """Measure the chain of MPEG audio frames up to the end of the file; None where none begins near the start."""
    with open(path, "rb") as file:
        skip_id3(file)
        head = file.read(MPEG_REACH)
        start = None if head.startswith(OTHER_MAGICS) or head[4:8] == b"ftyp" else _first_mpeg_frame(head)
        if start is None:
            return None
        stream = head[start:] + file.read()
    size, samples = _mpeg_frame(stream[:4])
    n_announced, trimmed = _xing(stream[:size])
    if start:  # FFmpeg reads a Xing header at the first byte alone
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
