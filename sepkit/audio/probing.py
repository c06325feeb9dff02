"""Find out what a file holds: by its content, and by what decodes rather than by what it declares."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sepkit.audio.av_source import AvSource
from sepkit.audio.containers import container_size, second_copy, second_mp4
from sepkit.audio.flac import flac_ends_at, flac_is_joined
from sepkit.audio.info import (
    SKIP_BLOCK,
    AudioError,
    AudioInfo,
    Damage,
    DecodeError,
    FormatChangeError,
    file_version,
    path_text,
)
from sepkit.audio.mpeg import MpegChain, mpeg_frames
from sepkit.audio.ogg import OggPages, follow_pages
from sepkit.audio.pcm import PcmSizes, pcm_sizes
from sepkit.audio.soundfile_source import SoundfileSource
from sepkit.audio.tags import MAX_RUBBISH

SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf",
    ".flac", ".wv", ".tta", ".ape", ".mp3", ".mp2", ".mpga", ".ogg", ".oga", ".opus", ".spx",
    ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".ac3", ".eac3", ".dts", ".wma", ".webm", ".mka", ".mkv",
)  # fmt: skip

PCM_CONTAINERS = ("wav", "w64", "aiff", "au", "caf")  # by FFmpeg's names
FEW = 8  # bytes behind the audio that are not worth a word
MPEG_FRAME = 2048  # samples of the longest packet of AAC and MP3
ROUNDED = 0.1  # s by which the duration that Matroska and ASF announce may differ from their audio's
_NO_AUDIO = "{} holds no audio: it declares a format and no samples; export it again."

SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8
}  # fmt: skip


def is_audio_name(path: str | os.PathLike) -> bool:
    """Return whether a name ends like an audio file's; only `probe` knows what the file is."""
    name = Path(path).name
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def probe(path: str | os.PathLike, stream: int = 0) -> AudioInfo:
    """Find out what an audio file holds; some milliseconds for undamaged WAV and FLAC.

    The content decides, not the name. What the header declares is compared with what is there: by arithmetic (WAV,
    AIFF, AU), by the last frame (FLAC), along the chain of pages (Ogg) or frames (MP3), by the list of packets (MP4),
    and by decoding everything where these disagree.

    Args:
        path: the file.
        stream: which of the file's audio streams.

    Returns:
        What was found; `truncated`: whether audio is missing at the end; `damage`: where it is elsewhere.

    Raises:
        AudioError: the file is not there, not readable or holds no audio or no such stream.
    """
    name = path_text(path)
    version, is_ogg = _check_file(name)
    try:
        chain, pages = mpeg_frames(name), follow_pages(name) if is_ogg else None
        # libsndfile reads MPEG audio no faster, while it prints complaints and passes over damage.
        info = None if chain else _probe_soundfile(name, stream, version, pages)
        return info or _probe_av(name, stream, version, chain, pages)
    except DecodeError as error:
        raise AudioError(f"Cannot read audio from {name}: {error}; convert it to WAV or FLAC.") from error


def _check_file(path: str) -> tuple[tuple[int, int], bool]:
    """Refuse what cannot be read; return the file's version, and whether it is Ogg."""
    beginning = b""
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb", buffering=0) as file:
                beginning = file.read(4)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"Cannot open {path}: {reason}; check the path and its permissions.") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is not a file; name an audio file.")
    if not status.st_size:
        raise AudioError(f"{path} is empty; copy or download it again.")
    return file_version(status), beginning == b"OggS"


class _Length(NamedTuple):
    n_samples: int
    n_declared: int | None
    truncated: bool = False
    damage: tuple[Damage, ...] = ()
    remarks: tuple[str, ...] = ()


def _probe_soundfile(path: str, stream: int, version: tuple[int, int], pages: OggPages | None) -> AudioInfo | None:
    """Describe a file that libsndfile reads without loss; None leaves it to PyAV."""
    sizes = pcm_sizes(path)
    if sizes and not sizes.real:
        raise AudioError(_NO_AUDIO.format(path))
    source, corrected = _open_soundfile(path, sizes)
    if source is None:
        return None
    try:
        length = _length(path, source, pages, sizes)
    finally:
        source.close()
    if length is None:
        return None
    if stream:
        raise AudioError(f"{path} has 1 audio stream, stream {stream} was wanted; use stream 0.")
    return AudioInfo(
        path, source.sample_rate, source.n_channels, length.n_samples, length.n_declared, source.format, source.subtype,
        1, "soundfile", length.truncated, version, length.damage, length.remarks, corrected=corrected,
        # libsndfile takes the samples on the last page for later ones, where that page is not full
        seekable=max(0, length.n_samples - pages.n_last - 1) if source.subtype == "VORBIS" else None,
    )  # fmt: skip


def _open_soundfile(path: str, sizes: PcmSizes | None) -> tuple[SoundfileSource | None, bool]:
    """Open a file with libsndfile; return also whether its header has to be corrected for that."""
    source = _try_soundfile(path)
    if sizes is None or (source and source.n_declared == _real_length(source, sizes)):
        return source, False
    corrected = _try_soundfile(path, corrected=True)
    if corrected is None or (source and corrected.n_declared == source.n_declared):
        return source, False
    return corrected, True


def _try_soundfile(path: str, corrected: bool = False) -> SoundfileSource | None:
    try:
        return SoundfileSource(path, corrected)
    except DecodeError:
        return None


def _real_length(source: SoundfileSource, sizes: PcmSizes) -> int | None:
    """Return the samples that the audio bytes hold; of block codes, libsndfile's count unless there are more."""
    if source.subtype in SAMPLE_BYTES:
        return sizes.real // (SAMPLE_BYTES[source.subtype] * source.n_channels)
    return None if sizes.real > (sizes.declared or 0) else source.n_declared


def _length(path: str, source: SoundfileSource, pages: OggPages | None, sizes: PcmSizes | None) -> _Length | None:
    """Find the length; None where libsndfile would lose some."""
    n_samples = source.n_declared
    if not n_samples or source.format in ("RAW", "MP3") or not _ends_at(source, n_samples):
        return None
    if sizes and source.subtype not in SAMPLE_BYTES and (sizes.declared or 0) > sizes.present:
        return None  # libsndfile fills the last block of a code with samples of the one before
    if source.format == "FLAC":
        whole = flac_ends_at(path, n_samples) and not flac_is_joined(path)
        return _Length(n_samples, n_samples) if whole else None
    if source.format == "OGG":
        whole = pages and not pages.holes and len(pages.starts) == 1
        remarks = ("its last page is missing, it may break off",) * _is_open(pages)
        return _Length(n_samples, None, pages.cut, (), remarks) if whole else None
    return _pcm_length(source, n_samples, sizes) if sizes else _Length(n_samples, None)


def _pcm_length(source: SoundfileSource, n_samples: int, sizes: PcmSizes) -> _Length:
    damage = (Damage(n_samples, n_bytes=sizes.second),) * bool(sizes.second)
    remarks = (f"{sizes.rubbish} bytes behind its audio are not read",) * (sizes.rubbish >= FEW)
    if sizes.declared in (None, sizes.real):
        return _Length(n_samples, n_samples if sizes.declared else None, False, damage, remarks)
    known = SAMPLE_BYTES.get(source.subtype)
    frame_bytes = known * source.n_channels if known else sizes.real / n_samples
    n_declared = round(sizes.declared / frame_bytes)
    remarks += _more_than_declared(n_samples, n_declared)
    return _Length(n_samples, n_declared, sizes.declared > sizes.present, damage, remarks)


def _more_than_declared(n_samples: int, n_declared: int | None) -> tuple[str, ...]:
    wrong = n_declared is not None and n_samples > n_declared
    return (f"its header declares {n_declared} samples, {n_samples} are there and read",) * wrong


def _is_open(pages: OggPages | None) -> bool:
    return pages is not None and not pages.closed and not pages.cut


def _ends_at(source: SoundfileSource | AvSource, n_samples: int) -> bool:
    """Return whether so many samples decode and no more."""
    try:
        source.seek(n_samples - 1)
        return len(source.read(2)) == 1
    except DecodeError:
        return False


def _probe_av(
    path: str, stream: int, version: tuple[int, int], chain: MpegChain | None, pages: OggPages | None
) -> AudioInfo:
    starts = pages.starts if pages else (0,)
    source = AvSource(path, stream, starts)
    try:
        n_samples, damage, broken_off = _undecoded_length(source, chain), (), False
        if decoded := n_samples is None:
            n_samples, damage, broken_off = _decoded_length(path, stream, starts, pages.holes if pages else ())
    finally:
        source.close()
    if not n_samples:
        raise AudioError(_NO_AUDIO.format(path))
    second = _second_file(path, source)
    n_declared = _declared_by_container(path, source, chain, n_samples, second)
    damage, behind = _split_rubbish(damage, n_samples, n_declared, chain)
    remarks = (
        ("its last page is missing, it may break off",) * _is_open(pages)
        + ("its last frame is incomplete, it may break off",) * (broken_off or bool(chain and chain.incomplete))
        + (f"{behind} bytes behind its audio are not read",) * (behind >= FEW)
        + _more_than_declared(n_samples, n_declared)
    )
    return AudioInfo(
        path, source.sample_rate, source.n_channels, n_samples, n_declared, source.format, source.subtype,
        source.n_streams, "av", _is_cut(path, source, pages, n_samples, n_declared), version,
        damage + (Damage(n_samples, n_bytes=second),) * bool(second), remarks, starts,
        seekable=0 if damage or (decoded and chain) else None,
    )  # fmt: skip


def _split_rubbish(
    damage: tuple[Damage, ...], n_samples: int, n_declared: int | None, chain: MpegChain | None
) -> tuple[tuple[Damage, ...], int]:
    """Return the damage within the audio, and the bytes of what stands behind it where nothing is missing."""
    if n_declared is None or n_samples < n_declared:
        return damage, 0
    behind = sum(one.n_bytes for one in damage if one.position >= n_samples)
    if behind > MAX_RUBBISH and not (chain and chain.announced == chain.counted):
        return damage, 0
    return tuple(one for one in damage if one.position < n_samples), behind


def _undecoded_length(source: AvSource, chain: MpegChain | None) -> int | None:
    """Return the length where it can be known without decoding everything."""
    if source.format == "mov":
        try:
            end = source.packet_end()
        except DecodeError:
            return None
        return end if end >= (source.n_declared or 1) else None
    if chain is None or not chain.whole:
        return None
    n_samples = chain.counted if chain.declared is None else chain.declared
    return n_samples if n_samples > 0 and _ends_at(source, n_samples) else None


def _decoded_length(
    path: str, stream: int, starts: Sequence[int], holes: Sequence[tuple[int, int]]
) -> tuple[int, tuple[Damage, ...], bool]:
    """Count the samples that players would play, list what they would pass over, and return whether a frame is cut."""
    source = AvSource(path, stream, starts, sequential=True, tolerant=True, marks=holes)
    n_samples = 0
    try:
        while length := len(source.read(SKIP_BLOCK)):
            n_samples += length
    finally:
        source.close()
    return n_samples, tuple(source.damage.values()), source.ends_within_frame()


def _declared_by_container(
    path: str, source: AvSource, chain: MpegChain | None, n_samples: int, second: int
) -> int | None:
    """Return the length that is written in the file, where FFmpeg's own may also be an estimate."""
    if source.format == "flac":
        _refuse_other_channels(path, source)
    if source.format == "mov" and 0 < n_samples - (source.n_declared or n_samples) < MPEG_FRAME:
        return None  # the edit list ends within a packet that players play to its end
    if source.format in ("flac", "mov", "wv", "tta", "ape"):
        return source.n_declared
    if source.format == "asf" and second:  # FFmpeg stretches the duration to the size of the file
        return None
    if source.format in ("matroska", "asf") and source.n_declared is not None:
        return None if abs(source.n_declared - n_samples) < ROUNDED * source.sample_rate else source.n_declared
    return None if chain is None else chain.declared


def _refuse_other_channels(path: str, source: AvSource) -> None:
    try:
        header = SoundfileSource(path)
    except DecodeError:
        return
    header.close()
    if header.n_channels != source.n_channels:
        raise FormatChangeError(f"its header announces {header.n_channels} channels, its audio has {source.n_channels}")


def _is_cut(path: str, source: AvSource, pages: OggPages | None, n_samples: int, n_declared: int | None) -> bool:
    """Return whether audio is missing at the end, by the length or the size that the file declares."""
    if source.format in PCM_CONTAINERS:
        sizes = pcm_sizes(path)
        return sizes is not None and (sizes.declared or 0) > sizes.present
    if source.format in ("matroska", "asf") and container_size(path) > os.path.getsize(path):
        return True
    return (n_declared is not None and n_samples < n_declared) or (pages is not None and pages.cut)


def _second_file(path: str, source: AvSource) -> int:
    """Return the bytes of a file that stands behind this one and that FFmpeg does not read."""
    if source.format in PCM_CONTAINERS:
        sizes = pcm_sizes(path)
        return sizes.second if sizes else 0
    if source.format == "mov":
        return second_mp4(path)
    return second_copy(path) if source.format in ("tta", "asf", "wv", "ape") else 0
