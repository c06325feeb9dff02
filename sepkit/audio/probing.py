"""Find out what a file holds: by its content, and by what decodes rather than by what it declares."""

import os
import stat
from pathlib import Path

from sepkit.audio.headers import MpegChain, flac_ends_at, mpeg_frames, ogg_is_cut, pcm_sizes
from sepkit.audio.info import AudioError, AudioInfo
from sepkit.audio.sources import SKIP_BLOCK, AvSource, DecodeError, FormatChangeError, SoundfileSource, path_text

SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".aif", ".aiff", ".au", ".caf", ".rf64", ".w64"
)  # fmt: skip

SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8
}  # fmt: skip


def is_audio_name(path: str | os.PathLike) -> bool:
    """Say whether a name ends like an audio file's; only `probe` knows what the file is."""
    name = Path(path).name
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def probe(path: str | os.PathLike, stream: int = 0) -> AudioInfo:
    """Find out what an audio file holds; some milliseconds for undamaged WAV and FLAC.

    The content decides, not the name. What the header declares is compared with what is there: by arithmetic (WAV,
    AIFF, AU), by the last frame or page (FLAC, Ogg), along the chain of frames (MP3), by the list of packets (MP4),
    and by decoding everything where these disagree.

    Args:
        path: the file.
        stream: which of the file's audio streams.

    Returns:
        What was found; `truncated` says whether audio is missing at the end.

    Raises:
        AudioError: the file is not there, not readable or holds no audio or no such stream.
    """
    name = path_text(path)
    _check_file(name)
    try:
        return _probe_soundfile(name, stream) or _probe_av(name, stream)
    except DecodeError as error:
        raise AudioError(f"Cannot read audio from {name}: {error}; convert it to WAV or FLAC.") from error


def _check_file(path: str) -> None:
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            open(path, "rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"Cannot open {path}: {reason}; check the path and its permissions.") from error
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path} is not a file; name an audio file.")
    if not status.st_size:
        raise AudioError(f"{path} is empty; copy or download it again.")


def _probe_soundfile(path: str, stream: int) -> AudioInfo | None:
    """Describe a file that libsndfile reads without loss; None leaves it to PyAV.

    So is MPEG audio, which libsndfile reads no faster, while it prints complaints and passes over damage.
    """
    if mpeg_frames(path) is not None:
        return None
    try:
        source = SoundfileSource(path)
    except DecodeError:
        return None
    try:
        lengths = _lengths(path, source)
    finally:
        source.close()
    if lengths is None:
        return None
    if stream:
        raise AudioError(f"{path} has 1 audio stream, stream {stream} was wanted; use stream 0.")
    n_frames, n_declared, truncated = lengths
    return AudioInfo(
        path, source.sample_rate, source.n_channels, n_frames, n_declared, source.format, source.subtype, 1,
        "soundfile", truncated,
    )  # fmt: skip


def _lengths(path: str, source: SoundfileSource) -> tuple[int, int | None, bool] | None:
    """Return (samples that decode, samples declared, truncated); None where libsndfile would lose some."""
    n_frames = source.n_declared
    if not n_frames or source.format in ("RAW", "MP3") or not _ends_at(source, n_frames):
        return None
    if source.format == "FLAC":
        return (n_frames, n_frames, False) if flac_ends_at(path, n_frames) else None
    if source.format == "OGG":
        return n_frames, None, ogg_is_cut(path)
    declared, present = pcm_sizes(path)
    if declared is None or declared <= present:
        return n_frames, None if declared is None else n_frames, False
    frame_bytes = SAMPLE_BYTES.get(source.subtype, present / n_frames) * source.n_channels
    return n_frames, round(declared / frame_bytes), True


def _ends_at(source: SoundfileSource | AvSource, n_frames: int) -> bool:
    """Say whether so many samples decode and no more."""
    try:
        source.seek(n_frames - 1)
        return len(source.read(2)) == 1
    except DecodeError:
        return False


def _probe_av(path: str, stream: int) -> AudioInfo:
    chain = mpeg_frames(path)
    source = AvSource(path, stream)
    try:
        n_frames = _undecoded_length(source, chain)
        if n_frames is None:
            source.seek(0)
            n_frames = _count(source)
    finally:
        source.close()
    if not n_frames:
        raise AudioError(f"{path} holds no audio: it declares a format and no samples; export it again.")
    n_declared = _declared_by_container(path, source, chain)
    return AudioInfo(
        path, source.sample_rate, source.n_channels, n_frames, n_declared, source.format, source.subtype,
        source.n_streams, "av", n_declared is not None and n_frames < n_declared,
    )  # fmt: skip


def _undecoded_length(source: AvSource, chain: MpegChain | None) -> int | None:
    """Return the length where it can be known without decoding everything."""
    if source.format == "mov":
        return _packets_end(source)
    if chain is None or not chain.whole:
        return None
    n_frames = chain.counted if chain.declared is None else chain.declared
    return n_frames if n_frames > 0 and _ends_at(source, n_frames) else None


def _packets_end(source: AvSource) -> int | None:
    try:
        end = source.packet_end()
    except DecodeError:
        return None
    return end if end >= (source.n_declared or 1) else None


def _count(source: SoundfileSource | AvSource) -> int:
    """Count the samples that decode before the end or the first fault."""
    count = 0
    try:
        while length := len(source.read(SKIP_BLOCK)):
            count += length
    except FormatChangeError:
        raise
    except DecodeError:
        pass
    return count


def _declared_by_container(path: str, source: AvSource, chain: MpegChain | None) -> int | None:
    """Return the length that is written in the file, where FFmpeg's own may also be an estimate."""
    if source.format == "flac":
        _refuse_other_channels(path, source)
    if source.format in ("flac", "mov"):
        return source.n_declared
    return None if chain is None else chain.declared


def _refuse_other_channels(path: str, source: AvSource) -> None:
    try:
        header = SoundfileSource(path)
    except DecodeError:
        return
    header.close()
    if header.n_channels != source.n_channels:
        raise FormatChangeError(
            f"its header announces {header.n_channels} channels, its audio has {source.n_channels}"
        )
