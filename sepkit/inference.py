"""Separate recordings of any length, in bounded memory."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.arguments import as_waveform, check_count, check_path, check_range
from sepkit.audio.info import nonfinite
from sepkit.disk import OutputError, explain, not_left_empty, writing
from sepkit.files import is_safe_name, safe_name, same_file_key
from sepkit.locks import work_folder
from sepkit.overlap_add import Queue, overlap_add
from sepkit.separator import Separator

FORMATS = {
    "wav": (".wav", "FLOAT"),
    "wav24": (".wav", "PCM_24"),
    "wav16": (".wav", "PCM_16"),
    "flac": (".flac", "PCM_24"),
    "flac16": (".flac", "PCM_16"),
    "ogg": (".ogg", "VORBIS"),
    "mp3": (".mp3", "MPEG_LAYER_III"),
}
_BLOCK = 1 << 16  # samples that are read from a file at a time
_FLOAT = "float"  # folder of what is not yet scaled
_HEADROOM = {"ogg": 0.9, "mp3": 0.9}  # lossy coding overshoots
Progress = Callable[[float], object]


@dataclass(frozen=True)
class Separated:
    """What came of one recording.

    Attributes:
        recording: the file.
        stems: file by name of the stem.
        duration: seconds.
        gain: factor by which all stems were scaled to fit an integer or lossy format; 1 where they fitted.
        missing: samples that the file declares and that do not decode; None: unknown how many.
        damage: what else of it does not decode, as `AudioInfo.damage`.
        remarks: what is odd about the file, a clause each.
        sample_rate: Hz, of the positions in `damage`.
    """

    recording: Path
    stems: dict[str, Path]
    duration: float
    gain: float = 1.0
    missing: int | None = 0
    damage: tuple[audio.Damage, ...] = ()
    remarks: tuple[str, ...] = ()
    sample_rate: int = 44100


def separate(
    model: Separator,
    recording: str | os.PathLike | Tensor | np.ndarray,
    *,
    sample_rate: int | None = None,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int = 1,
    overlap: float = 0.25,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Separate a recording into stems of the same length, sample rate and channels; `separate_file` writes them.

    All estimates and what is left over add up to the recording. What is left over is "accompaniment" where only
    vocals are estimated, and then always returned, else "residual".

    Args:
        model: the separator, as `load_model` gives it.
        recording: an audio file, or a waveform (C, T) in floating point, as tensor on any device or numpy array, of
            at most 64 channels.
        sample_rate: of a waveform, Hz; None: the model's.
        stems: names of the stems to return; None: all.
        residual: return what is left over, too.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        progress: called with the seconds of audio that were finished since its last call.

    Returns:
        Waveforms (C, T) by name of the stem, float32 on the CPU.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read, or holds NaN or infinity.
        TypeError: the recording is neither a file nor a tensor nor a numpy array.
        ValueError: an argument is out of range, or the waveform is not (C, T) in floating point.
    """
    check_chunks(batch_size, overlap)
    names = choose_stems(_sources(model), stems, residual)
    if isinstance(recording, str | os.PathLike):
        if sample_rate is not None:
            raise ValueError(f"sample_rate is for waveforms, a file says its own: leave it out, got {sample_rate}")
        waveform, rate = audio.read(recording)
    else:
        waveform = _take_waveform(recording)
        rate = model.sample_rate if sample_rate is None else sample_rate
    blocks = separate_blocks(model, waveform.split(_BLOCK, -1), rate, names, batch_size, overlap, progress)
    found = torch.cat(list(blocks), -1)
    return dict(zip(names, found, strict=True))


def _sources(model: Separator) -> list[str]:
    if not hasattr(model, "sources"):
        raise TypeError(f"model must be a Separator, as load_model gives it, got {type(model).__name__}")
    return model.sources


def _take_waveform(recording: Tensor | np.ndarray) -> Tensor:
    """Bring a waveform to the CPU in float32, all samples finite."""
    if not isinstance(recording, Tensor | np.ndarray):
        raise TypeError(
            "recording must be a file's path, or a waveform (C, T) as tensor or numpy array, got "
            f"{type(recording).__name__}: convert it, or write it to a file"
        )
    waveform = as_waveform(recording, "recording").detach().cpu().float()
    if (found := nonfinite(waveform.numpy().T, 0)) is not None:
        raise audio.AudioError(f"recording holds {found}: repair the waveform")
    return waveform


def separate_file(
    separator: Separator,
    recording: str | os.PathLike,
    output: str | os.PathLike,
    *,
    name: str | None = None,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int = 1,
    overlap: float = 0.25,
    format: str = "wav",  # noqa: A002
    overwrite: bool = False,
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Separated:
    """Separate a file into `output/<name>/<stem>.<suffix>`, block by block; a failure leaves no stem behind.

    Args:
        separator: the model.
        recording: an audio file.
        output: folder, created if need be.
        name: of the folder in `output`, one that every system takes; None: as `output_name` says.
        stems: names of the stems to write; None: all.
        residual: write what is left over, too.
        batch_size: chunks that the network sees at once.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        format: of the files: "wav" (32-bit float), "wav24", "wav16", "flac" (24-bit), "flac16", "ogg" or "mp3".
        overwrite: replace stems that exist.
        allow_truncated: take what decodes of a file that breaks off or is damaged, as players do.
        progress: called with the seconds of audio that were finished since its last call.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read, or a stem not be written.
        ValueError: an argument is out of range, or another process writes the same stems.
        FileExistsError: a stem exists and `overwrite` is not set.
        sepkit.disk.OutputError: the folder cannot be written to.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    check_chunks(batch_size, overlap)
    check_path(recording, "recording")
    check_path(output, "output")
    recording = Path(recording)
    names = choose_stems(_sources(separator), stems, residual)
    suffix, subtype = FORMATS[format]
    targets = _choose_files(Path(output), name or output_name(recording), [f"{stem}{suffix}" for stem in names])
    _check_targets(targets, overwrite)
    with audio.AudioReader(recording, allow_truncated=allow_truncated) as reader:
        info = reader.info
        _check_channels(str(recording), info.n_channels, separator.n_channels)
        blocks = separate_blocks(
            separator, reader.blocks(_BLOCK), info.sample_rate, names, batch_size, overlap, progress
        )
        with _working_for(targets, overwrite) as work:
            gain = _write_stems(blocks, targets, work, info, subtype, _HEADROOM.get(format, 1.0))
        damage = reader.damage
    missing = 0
    if info.truncated:
        missing = None if info.n_declared is None else info.n_declared - info.n_samples
    return Separated(
        recording, dict(zip(names, targets, strict=True)), info.duration, gain, missing, damage, info.remarks,
        info.sample_rate,
    )  # fmt: skip


def _choose_files(output: Path, name: str, files: Sequence[str]) -> list[Path]:
    if not is_safe_name(name):
        raise ValueError(f"name must be one that a folder can have on every system, got {name!r}: use output_name")
    for place in (output, output / name):
        if place.exists() and not place.is_dir():
            raise ValueError(f"the output must be a folder, {place} is a file: choose another")
    return [output / name / file for file in files]


def _check_targets(targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace stems, unless told to, and folders."""
    existing = [str(path) for path in targets if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{', '.join(existing)} {'are' if len(existing) > 1 else 'is'} there already: choose another output, or "
            "pass --overwrite (overwrite=True)"
        )
    folders = [str(path) for path in targets if path.is_dir()]
    if folders:
        raise FileExistsError(f"{', '.join(folders)} would be replaced and is a folder: choose another output")


def output_name(recording: str | os.PathLike) -> str:
    """Name the folder of a recording's stems: the file without extension, and for `mixture.*` its folder.

    What some system forbids in a name becomes "_", see `sepkit.files.safe_name`.
    """
    recording = Path(recording)
    return safe_name((recording.stem == "mixture" and recording.parent.resolve().name) or recording.stem)


def residual_name(sources: Sequence[str]) -> str:
    """Name what is left over: "accompaniment" of vocals alone, "residual", or "rest" beside one of that name."""
    if list(sources) == ["vocals"]:
        return "accompaniment"
    taken = set(map(same_file_key, sources))
    return next(name for name in ("residual", *(f"rest{n * '_'}" for n in range(len(taken) + 1))) if name not in taken)


def choose_stems(sources: Sequence[str], stems: Sequence[str] | None, residual: bool) -> list[str]:
    """List the stems to return.

    Raises:
        ValueError: `stems` is no list, a name in it is none of the sources' or what is left over, or there is no name.
    """
    if isinstance(stems, str) or not isinstance(stems, Iterable | None):
        raise ValueError(f"stems must be a list of names, got {stems!r}")
    stems = None if stems is None else list(map(str, stems))
    if isinstance(residual, str):
        raise ValueError(f"residual must be true or false, got {residual!r}")
    rest = residual_name(sources)
    unknown = [name for name in stems or () if name not in (*sources, rest)]
    if unknown or (stems is not None and not stems):
        raise ValueError(f"stems must be among {', '.join((*sources, rest))}, got {', '.join(unknown) or 'none'}")
    chosen = [name for name in sources if stems is None or name in stems]
    if residual or rest in (stems or ()) or (stems is None and rest == "accompaniment"):
        chosen.append(rest)
    return chosen


def separate_blocks(
    separator: Separator,
    blocks: Iterable[Tensor],
    sample_rate: int,
    stems: Sequence[str],
    batch_size: int = 1,
    overlap: float = 0.25,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Separate a stream of blocks, holding no more of it than a batch of chunks.

    Args:
        separator: the model.
        blocks: (C, t) each; one channel is copied to the model's and averaged back, more are separated in
            consecutive groups.
        sample_rate: of the blocks, Hz.
        stems: what to return, as `choose_stems` lists it.
        batch_size: chunks that the network sees at once, >= 1.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        progress: called with the seconds of audio that were finished since its last call.

    Returns:
        An iterator over (stems, C, t) at the same sample rate, in all as many samples as came in.

    Raises:
        ValueError: batch_size or overlap is out of range.
        sepkit.audio.AudioError: the channels do not fit the model's.
    """
    check_chunks(batch_size, overlap)
    batch_size = int(batch_size)
    waiting = _Waiting(separator.n_channels)
    estimates = _estimate(separator, waiting.passing(blocks), sample_rate, batch_size, overlap)
    chosen = [separator.sources.index(name) for name in stems if name in separator.sources]
    return _choose(estimates, waiting, chosen, len(stems) > len(chosen), progress, sample_rate)


def check_chunks(batch_size: int, overlap: float) -> None:
    """Refuse what recordings cannot be cut by.

    Raises:
        ValueError: batch_size or overlap is out of range.
    """
    check_count("batch_size", batch_size)
    check_range("overlap", overlap, 0, 0.9)


def _choose(
    estimates: Iterator[Tensor],
    waiting: "_Waiting",
    chosen: Sequence[int],
    with_rest: bool,
    progress: Progress | None,
    sample_rate: int,
) -> Iterator[Tensor]:
    """Pick stems (stems, C, t) from estimates (S, C, t), and work out what is left over of the mixture."""
    for estimate in chain(estimates, [None]):
        mixture = waiting.take(None if estimate is None else estimate.shape[-1])
        if not mixture.shape[-1]:
            continue
        if estimate is None:  # a resampler may give some samples less, or one more
            estimate = mixture.new_zeros(max([0, *chosen]) + 1, *mixture.shape)
        estimate = estimate[..., : mixture.shape[-1]]
        if chosen == list(range(len(estimate))) and not with_rest:
            yield estimate
        else:
            rest = [mixture - estimate.sum(0)] if with_rest else []
            yield torch.stack([*(estimate[i] for i in chosen), *rest])
        if progress:
            progress(mixture.shape[-1] / sample_rate)


def _check_channels(recording: str, n_channels: int, wanted: int) -> None:
    if n_channels % wanted > 1:
        raise audio.AudioError(
            f"{recording} has {n_channels} channels, a model of {wanted} takes 1, a multiple of {wanted}, or one more "
            "than that: mix the recording down first"
        )


class _Waiting:
    """Mixture samples that went into the network and wait for their estimates."""

    def __init__(self, n_channels: int) -> None:
        self.queue, self.n_channels = Queue(), n_channels

    def passing(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            _check_channels("the recording", len(block), self.n_channels)
            self.queue.push(block)
            yield block

    def take(self, n_samples: int | None) -> Tensor:
        """Take the oldest samples (C, <= n_samples); None: all."""
        taken = self.queue.first(self.queue.n_samples if n_samples is None else n_samples).clone()
        self.queue.drop(taken.shape[-1])
        return taken


def _estimate(
    separator: Separator, blocks: Iterable[Tensor], sample_rate: int, batch_size: int, overlap: float
) -> Iterator[Tensor]:
    """Estimate all sources of a stream of any sample rate: (S, C, t) each."""
    if sample_rate == separator.sample_rate:
        yield from overlap_add(separator, blocks, batch_size, overlap)
        return
    back = None
    for estimate in overlap_add(separator, _resampled(blocks, sample_rate, separator.sample_rate), batch_size, overlap):
        shape = estimate.shape[:2]
        if back is None:
            back = audio.Resampler(separator.sample_rate, sample_rate, shape.numel())
        yield back.push(estimate.flatten(0, 1)).unflatten(0, shape)
    if back is not None:
        yield back.flush().unflatten(0, shape)


def _resampled(blocks: Iterable[Tensor], rate_from: int, rate_to: int) -> Iterator[Tensor]:
    resampler = None
    for block in blocks:
        resampler = resampler or audio.Resampler(rate_from, rate_to, len(block))
        yield resampler.push(block)
    if resampler:
        yield resampler.flush()


@contextmanager
def _working_for(targets: Sequence[Path], overwrite: bool) -> Iterator[Path]:
    """Make a folder to work in beside that of the stems, which no other process is writing meanwhile."""
    folder = targets[0].parent
    mark = hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:12]
    with ExitStack() as stack:
        with writing(folder.parent, "choose another output"):
            stack.enter_context(not_left_empty(folder.parent))
            place = folder.parent / f".sepkit-stems-{mark}"
            work = stack.enter_context(work_folder(place, "wait for it, or choose another output", str(folder)))
        _check_targets(targets, overwrite)  # another process may just have written them
        yield work


def _write_stems(
    blocks: Iterable[Tensor],
    targets: Sequence[Path],
    work: Path,
    info: audio.AudioInfo,
    subtype: str,
    ceiling: float,
) -> float:
    """Write the stems, all or none, and give the gain that made them fit."""
    folder = targets[0].parent
    written = [work / path.name for path in targets]
    try:
        gain = _write_scaled(blocks, written, info, subtype, ceiling)
    except audio.AudioError as error:  # the user knows the folder that was asked for
        reason = explain(error, work) if str(error).startswith("Cannot write") else None
        if reason:
            raise OutputError(
                f"{folder} cannot be written to: {reason}; nothing of it is kept: make room, or choose another output"
            ) from error
        told = str(error).replace(str(work / _FLOAT), str(folder)).replace(str(work), str(folder))
        raise audio.AudioError(told) from error
    _check_targets(targets, overwrite=True)  # others may have put something in their place
    with writing(folder, "choose another output"), not_left_empty(folder):
        _put_in_place(written, targets)
    return gain


def _put_in_place(written: Sequence[Path], targets: Sequence[Path]) -> None:
    """Move complete files to their places; where one cannot go there, those that were not there before go too."""
    new: list[Path] = []
    try:
        for complete, path in zip(written, targets, strict=True):
            new += [] if path.exists() else [path]
            os.replace(complete, path)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _write_scaled(
    blocks: Iterable[Tensor], paths: Sequence[Path], info: audio.AudioInfo, subtype: str, ceiling: float
) -> float:
    """Write each stem (C, t) of blocks to its file, scaled by one gain, <= 1, where the format asks for it."""
    if subtype == "FLOAT":
        _write_blocks(blocks, paths, info, subtype)
        return 1.0
    silence = torch.zeros(len(paths), info.n_channels, 1)
    _write_blocks([silence], paths, info, subtype)  # a format that refuses the recording does so before the work
    parts = [path.parent / _FLOAT / f"{path.stem}.wav" for path in paths]
    parts[0].parent.mkdir()
    peaks = [0.0]
    _write_blocks(_noting_peaks(blocks, peaks), parts, info, "FLOAT")
    gain = min(1.0, ceiling / max(peaks)) if max(peaks) > 0 else 1.0
    for part, path in zip(parts, paths, strict=True):
        _write_blocks((gain * block[None] for block in audio.stream_blocks(part)), [path], info, subtype)
    return gain


def _noting_peaks(blocks: Iterable[Tensor], peaks: list[float]) -> Iterator[Tensor]:
    """Hand blocks on, and append the highest magnitude of each."""
    for block in blocks:
        peaks.append(max(map(abs, map(float, block.aminmax()))))
        yield block


def _write_blocks(blocks: Iterable[Tensor], paths: Sequence[Path], info: audio.AudioInfo, subtype: str) -> None:
    """Write blocks (stems, C, t) to one file a stem."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(audio.AudioWriter(path, info.sample_rate, info.n_channels, subtype)) for path in paths
        ]
        for block in blocks:
            for writer, stem in zip(writers, block, strict=True):
                writer.write(stem)
