"""Separate a waveform or a file; files come out complete or not at all."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.arguments import as_waveform, check_path
from sepkit.audio.info import nonfinite
from sepkit.disk import OutputError, explain, not_left_empty, writing
from sepkit.files import is_safe_name, safe_name
from sepkit.inference.stems import choose_stems
from sepkit.inference.streaming import (
    BLOCK,
    Progress,
    StreamSeparator,
    check_channels,
    choose_chunking,
    measure_statistics,
)
from sepkit.locks import work_folder
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
EXISTING = ("error", "skip", "overwrite")
_FLOAT = "float"  # folder of what is not yet scaled
_CEILINGS = {"ogg": 0.9, "mp3": 0.9}  # highest peaks; lossy coding overshoots


@dataclass(frozen=True)
class Separated:
    """The stems of one recording.

    Attributes:
        recording: the file.
        stems: file by name of the stem.
        duration: seconds that were separated; 0 where it was skipped.
        gain: factor by which all stems were scaled to fit an integer or lossy format; 1 where they fitted.
        missing: samples that the file declares and that do not decode; None: unknown how many.
        damage: what else of it does not decode, as `AudioInfo.damage`.
        remarks: what is odd about the file, a clause each.
        sample_rate: Hz, of the positions in `damage`.
        skipped: whether all stems were there already, and stay.
    """

    recording: Path
    stems: dict[str, Path]
    duration: float = 0.0
    gain: float = 1.0
    missing: int | None = 0
    damage: tuple[audio.Damage, ...] = ()
    remarks: tuple[str, ...] = ()
    sample_rate: int = 44100
    skipped: bool = False


def separate(
    model: Separator,
    recording: str | os.PathLike | Tensor | np.ndarray,
    *,
    sample_rate: int | None = None,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int | None = None,
    overlap: float | None = None,
    shifts: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Separate a recording into stems of the same length, sample rate and channels; `separate_file` writes them.

    The residual is the recording minus all estimates. It has the name that the model's `residual` gives it, or is
    named "accompaniment" where vocals alone are estimated, and then always returned, else "residual".

    Args:
        model: the separator, as `load_model` gives it.
        recording: an audio file, or a waveform (C, T) in floating point, as tensor on any device or numpy array, of
            at most 64 channels.
        sample_rate: of a waveform, Hz; None: the model's.
        stems: names of the stems to return; None: all.
        residual: return the residual, too.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it; None: the model's.
        overlap: share of a chunk that the next one covers again, in [0, 0.9]; None: the model's.
        shifts: separations, each delayed at random by up to half a second, whose mean is returned; 0: one without
            delay; None: the model's.
        seed: of these delays; None: the model's.
        progress: called with the seconds of audio that were finished since its last call.

    Returns:
        Waveforms (C, T) by name of the stem, float32 on the CPU.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read, or holds NaN or infinity.
        TypeError: the recording is neither a file nor a tensor nor a numpy array.
        ValueError: an argument is out of range, or the waveform is not (C, T) in floating point.
    """
    names = choose_stems(_sources(model), stems, residual, getattr(model, "residual", None))
    chunking = choose_chunking(model, batch_size=batch_size, overlap=overlap, shifts=shifts, seed=seed)
    if isinstance(recording, str | os.PathLike):
        if sample_rate is not None:
            raise ValueError(f"sample_rate is for waveforms, a file says its own: leave it out, got {sample_rate}")
        waveform, rate = audio.read(recording)
    else:
        waveform = _check_waveform(recording)
        rate = model.sample_rate if sample_rate is None else sample_rate
    check_channels("the recording", len(waveform), model)
    blocks = waveform.split(BLOCK, -1)
    statistics = measure_statistics(model, blocks, rate, len(waveform))
    stream = StreamSeparator(model, rate, len(waveform), names, chunking, statistics)
    waveforms = torch.cat(list(stream.run(blocks, progress)), -1)
    return dict(zip(names, waveforms, strict=True))


def _sources(model: Separator) -> list[str]:
    if not hasattr(model, "sources"):
        raise TypeError(f"model must be a Separator, as load_model gives it, got {type(model).__name__}")
    return model.sources


def _check_waveform(recording: Tensor | np.ndarray) -> Tensor:
    """Return a waveform on the CPU in float32, all samples finite."""
    if not isinstance(recording, Tensor | np.ndarray):
        raise TypeError(
            "recording must be a file's path, or a waveform (C, T) as tensor or numpy array, got "
            f"{type(recording).__name__}: convert it, or write it to a file"
        )
    waveform = as_waveform(recording, "recording").detach().cpu().float()
    if (fault := nonfinite(waveform.numpy().T, 0)) is not None:
        raise audio.AudioError(f"recording holds {fault}: repair the waveform")
    return waveform


def separate_file(
    model: Separator,
    recording: str | os.PathLike,
    output: str | os.PathLike,
    *,
    name: str | None = None,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int | None = None,
    overlap: float | None = None,
    shifts: int | None = None,
    seed: int | None = None,
    format: str = "wav",  # noqa: A002
    existing: str = "error",
    allow_truncated: bool = False,
    progress: Progress | None = None,
) -> Separated:
    """Separate a file into `output/<name>/<stem>.<suffix>`, block by block; a failure leaves no stem behind.

    Args:
        model: the separator, as `load_model` gives it.
        recording: an audio file.
        output: folder, created if need be.
        name: of the folder in `output`, one that every system takes, "/" between folders; None: as `output_name` says.
        stems: names of the stems to write; None: all.
        residual: write the residual, too.
        batch_size: chunks that the network sees at once; None: the model's.
        overlap: share of a chunk that the next one covers again, in [0, 0.9]; None: the model's.
        shifts: delayed separations whose mean is written, as in `separate`; None: the model's.
        seed: of the delays; None: the model's.
        format: of the files: "wav" (32-bit float), "wav24", "wav16", "flac" (24-bit), "flac16", "ogg" or "mp3".
        existing: of stems that are there: "error"; "skip", pass over a recording all of whose stems are there, and
            refuse to replace one of them; or "overwrite".
        allow_truncated: take what decodes of a file that breaks off or is damaged, as players do.
        progress: called with the seconds of audio that were finished since its last call.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read, or a stem not be written.
        ValueError: an argument is out of range, or another process writes the same stems.
        FileExistsError: a stem exists that may not be replaced.
        sepkit.disk.OutputError: the folder cannot be written to.
    """
    check_path(recording, "recording")
    recording, destination = Path(recording), Destination(output, format, existing)
    stems = choose_stems(_sources(model), stems, residual, getattr(model, "residual", None))
    chunking = choose_chunking(model, batch_size=batch_size, overlap=overlap, shifts=shifts, seed=seed)
    paths = destination.paths(output_name(recording) if name is None else name, stems, recording)
    by_stem = dict(zip(stems, paths, strict=True))
    if destination.may_skip(paths):
        return Separated(recording, by_stem, skipped=True)
    with audio.AudioReader(recording, allow_truncated=allow_truncated) as reader:
        info = reader.info
        check_channels(str(recording), info.n_channels, model)
        with _work_folder(paths[0].parent) as work:
            if destination.may_skip(paths):  # another process may just have written them
                return Separated(recording, by_stem, skipped=True)
            statistics = _measure_file(model, recording, allow_truncated)
            stream = StreamSeparator(model, info.sample_rate, info.n_channels, stems, chunking, statistics)
            gain = _write_stems(stream.run(reader.blocks(BLOCK), progress), paths, work, info, format)
        damage = reader.damage
    missing = 0
    if info.truncated:
        missing = None if info.n_declared is None else info.n_declared - info.n_samples
    return Separated(recording, by_stem, info.duration, gain, missing, damage, info.remarks, info.sample_rate)


def _measure_file(model: Separator, recording: Path, allow_truncated: bool) -> Tensor | None:
    """Read a file for the statistics that a model wants, if it wants any."""
    if model.normalize is None:
        return None
    with audio.AudioReader(recording, allow_truncated=allow_truncated) as reader:
        info = reader.info
        return measure_statistics(model, reader.blocks(BLOCK), info.sample_rate, info.n_channels)


class Destination:
    """Where the stems of recordings are written.

    Raises:
        ValueError: an argument is none of these, or the output is a file.
    """

    def __init__(self, output: str | os.PathLike, format: str = "wav", existing: str = "error") -> None:  # noqa: A002
        for option, value, choices in (("format", format, FORMATS), ("existing", existing, EXISTING)):
            if value not in choices:
                raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
        check_path(output, "output")
        if not os.fspath(output):
            raise ValueError("output has no name, it is empty: name a folder")  # Path would make it the current one
        self.output, self._suffix, self._existing = Path(output), FORMATS[format][0], existing
        _check_folder(self.output)

    def paths(self, name: str, stems: Sequence[str], recording: Path) -> list[Path]:
        """List the files of a recording's stems.

        Raises:
            ValueError: some system does not take the name, a file is in the place of the folder, or the recording in
                that of a stem.
        """
        if not all(map(is_safe_name, name.split("/"))):
            raise ValueError(f"name must be one that a folder can have on every system, got {name!r}: use output_name")
        folder = self.output / name
        for place in (folder, *folder.parents[: name.count("/")]):
            _check_folder(place)
        paths = [folder / f"{stem}{self._suffix}" for stem in stems]
        if recording.exists() and any(path.exists() and path.samefile(recording) for path in paths):
            raise ValueError(f"a stem would be written in the place of {recording} itself: choose another output")
        return paths

    def may_skip(self, paths: Sequence[Path]) -> bool:
        """Return whether all stems of a recording are there and stay.

        Raises:
            FileExistsError: a file is there and may not be replaced, or a folder is.
        """
        if self._existing == "skip" and all(path.is_file() for path in paths):
            return True
        present = [str(path) for path in paths if path.exists()]
        if present and self._existing != "overwrite":
            raise FileExistsError(
                f"{', '.join(present)} {'are' if len(present) > 1 else 'is'} there already: choose another output, or "
                "pass --overwrite (existing='overwrite')"
            )
        _refuse_folders(paths)
        return False


def _check_folder(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise ValueError(f"the output must be a folder, {place} is a file: choose another")


def _refuse_folders(paths: Sequence[Path]) -> None:
    folders = [str(path) for path in paths if path.is_dir()]
    if folders:
        raise FileExistsError(f"{', '.join(folders)} would be replaced and is a folder: choose another output")


def output_name(recording: str | os.PathLike) -> str:
    """Name the folder of a recording's stems: the file without extension, and for `mixture.*` its folder.

    What some system forbids in a name becomes "_", see `sepkit.files.safe_name`.
    """
    recording = Path(recording)
    return safe_name((recording.stem == "mixture" and recording.parent.resolve().name) or recording.stem)


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Open a folder to work in beside that of the stems, which no other process is writing meanwhile."""
    mark = hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:12]
    with ExitStack() as stack:
        with writing(folder.parent, "choose another output"):
            stack.enter_context(not_left_empty(folder.parent))
            place = folder.parent / f".sepkit-stems-{mark}"
            work = stack.enter_context(work_folder(place, "wait for it, or choose another output", str(folder)))
        yield work


def _write_stems(
    blocks: Iterable[Tensor],
    paths: Sequence[Path],
    work: Path,
    info: audio.AudioInfo,
    format: str,  # noqa: A002
) -> float:
    """Write the stems, all or none, and return the gain that made them fit."""
    folder = paths[0].parent
    written = [work / path.name for path in paths]
    try:
        gain = _write_scaled(blocks, written, info, FORMATS[format][1], _CEILINGS.get(format, 1.0))
    except audio.AudioError as error:  # the user knows the folder that was asked for
        reason = explain(error, work) if str(error).startswith("Cannot write") else None
        if reason:
            raise OutputError(
                f"{folder} cannot be written to: {reason}; nothing of it is kept: make room, or choose another output"
            ) from error
        message = str(error).replace(str(work / _FLOAT), str(folder)).replace(str(work), str(folder))
        raise audio.AudioError(message) from error
    _refuse_folders(paths)  # others may have put some in their place
    with writing(folder, "choose another output"), not_left_empty(folder):
        _move(written, paths)
    return gain


def _move(written: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move complete files to their places; where one cannot go there, those that were not there before go too."""
    new: list[Path] = []
    try:
        for complete, path in zip(written, paths, strict=True):
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
    peak = _write_blocks(blocks, parts, info, "FLOAT")
    gain = min(1.0, ceiling / peak) if peak > 0 else 1.0
    for part, path in zip(parts, paths, strict=True):
        _write_blocks((gain * block[None] for block in audio.stream_blocks(part)), [path], info, subtype)
    return gain


def _write_blocks(blocks: Iterable[Tensor], paths: Sequence[Path], info: audio.AudioInfo, subtype: str) -> float:
    """Write blocks (stems, C, t) to one file a stem, and return the highest magnitude."""
    peak = 0.0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(audio.AudioWriter(path, info.sample_rate, info.n_channels, subtype)) for path in paths
        ]
        for block in blocks:
            peak = max(peak, *map(abs, map(float, block.aminmax())))
            for writer, stem in zip(writers, block, strict=True):
                writer.write(stem)
    return peak
