"""Separate recordings of any length, in bounded memory."""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sepkit import audio
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
    """

    recording: Path
    stems: dict[str, Path]
    duration: float
    gain: float = 1.0
    missing: int | None = 0


def separate(
    model: Separator,
    recording: str | os.PathLike | Tensor,
    output: str | os.PathLike | None = None,
    *,
    sample_rate: int | None = None,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int = 1,
    overlap: float = 0.25,
    format: str = "wav",  # noqa: A002
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Tensor] | dict[str, Path]:
    """Separate a recording into stems of the same length, sample rate and channels.

    All estimates and what is left over add up to the recording. What is left over is "accompaniment" where only
    vocals are estimated, and then always returned, else "residual".

    Args:
        model: the separator, as `load_model` gives it.
        recording: an audio file, or a waveform (C, T).
        output: folder under which `<name>/<stem>.wav` is written; None: the waveforms are returned.
        sample_rate: of a waveform, Hz; None: the model's.
        stems: names of the stems to return; None: all.
        residual: return what is left over, too.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        format: of the files: "wav" (32-bit float), "wav24", "wav16", "flac" (24-bit), "flac16", "ogg" or "mp3".
        overwrite: replace stems that exist.
        progress: called with the seconds of audio that were finished since its last call.

    Returns:
        By name of the stem: waveforms (C, T), or the files written where `output` is given.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read.
        ValueError: an argument is out of range.
        FileExistsError: a stem exists and `overwrite` is not set.
    """
    if output is not None:
        if isinstance(recording, Tensor):
            raise ValueError("output needs a file as recording: write the returned waveforms with sepkit.audio.write")
        return separate_file(
            model,
            recording,
            output,
            stems=stems,
            residual=residual,
            batch_size=batch_size,
            overlap=overlap,
            format=format,
            overwrite=overwrite,
            progress=progress,
        ).stems
    if isinstance(recording, Tensor):
        waveform, rate = recording, sample_rate or model.sample_rate
    else:
        waveform, rate = audio.read(recording)
    names = choose_stems(model.sources, stems, residual)
    blocks = separate_blocks(model, waveform.split(_BLOCK, -1), rate, names, batch_size, overlap, progress)
    found = torch.cat(list(blocks), -1)  # (stems, C, T)
    return dict(zip(names, found, strict=True))


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
        name: of the folder in `output`; None: as `output_name` says.
        stems: names of the stems to write; None: all.
        residual: write what is left over, too.
        batch_size: chunks that the network sees at once.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        format: of the files, see `separate`.
        overwrite: replace stems that exist.
        allow_truncated: take what decodes of a file that breaks off.
        progress: called with the seconds of audio that were finished since its last call.

    Raises:
        sepkit.audio.AudioError: the recording cannot be read, or a stem not be written.
        ValueError: an argument is out of range.
        FileExistsError: a stem exists and `overwrite` is not set.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    recording = Path(recording)
    names = choose_stems(separator.sources, stems, residual)
    folder = Path(output) / (name or output_name(recording))
    suffix, subtype = FORMATS[format]
    targets = {stem: folder / f"{stem}{suffix}" for stem in names}
    existing = [str(path) for path in targets.values() if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{', '.join(existing)} exists: choose another output, or allow to overwrite it")
    with audio.AudioReader(recording, allow_truncated=allow_truncated) as reader:
        info = reader.info
        blocks = separate_blocks(
            separator, reader.blocks(_BLOCK), info.sample_rate, names, batch_size, overlap, progress
        )
        gain = _write_stems(blocks, targets, info, subtype, _HEADROOM.get(format, 1.0))
    missing = 0
    if info.truncated:
        missing = None if info.n_declared is None else info.n_declared - info.n_frames
    return Separated(recording, targets, info.n_frames / info.sample_rate, gain, missing)


def output_name(recording: str | os.PathLike) -> str:
    """Name the folder of a recording's stems: the file without extension, and for `mixture.*` its folder."""
    recording = Path(recording)
    return recording.resolve().parent.name if recording.stem == "mixture" else recording.stem


def rest_name(sources: Sequence[str]) -> str:
    """Name what is left over after all estimates: "accompaniment" of vocals alone, else "residual"."""
    return "accompaniment" if list(sources) == ["vocals"] else "residual"


def choose_stems(sources: Sequence[str], stems: Sequence[str] | None, residual: bool) -> list[str]:
    """List the stems to return.

    Raises:
        ValueError: a name in `stems` is none of the sources' or what is left over.
    """
    rest = rest_name(sources)
    unknown = [name for name in stems or () if name not in (*sources, rest)]
    if unknown:
        raise ValueError(f"stems must be among {', '.join((*sources, rest))}, got {', '.join(unknown)}")
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
        blocks: (C, t) each, any C: fewer channels than the model's are copied and averaged back, more are
            separated in consecutive groups.
        sample_rate: of the blocks, Hz.
        stems: what to return, as `choose_stems` lists it.
        batch_size: chunks that the network sees at once, >= 1.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        progress: called with the seconds of audio that were finished since its last call.

    Yields:
        (stems, C, t) at the same sample rate, in all as many samples as came in.
    """
    if batch_size < 1 or not 0 <= overlap <= 0.9:
        raise ValueError(f"batch_size must be >= 1 and overlap in [0, 0.9], got {batch_size} and {overlap}")
    waiting = _Waiting()
    estimates = _estimate(separator, waiting.passing(blocks), sample_rate, batch_size, overlap)
    chosen = [separator.sources.index(name) for name in stems if name in separator.sources]
    with_rest = len(chosen) < len(stems)
    for estimate in estimates:
        mixture = waiting.take(estimate.shape[-1])
        estimate = estimate[..., : mixture.shape[-1]]  # a resampler may give a sample more
        rest = [mixture - estimate.sum(0)] if with_rest else []
        yield torch.stack([*estimate[chosen], *rest])
        if progress:
            progress(mixture.shape[-1] / sample_rate)
    left = waiting.take(None)
    if left.shape[-1]:  # or a sample less
        silence = [torch.zeros_like(left)] * len(chosen)
        yield torch.stack([*silence, *([left] if with_rest else [])])


class _Waiting:
    """Mixture samples that went into the network and wait for their estimates."""

    def __init__(self) -> None:
        self.blocks: deque[Tensor] = deque()

    def passing(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            self.blocks.append(block)
            yield block

    def take(self, n_frames: int | None) -> Tensor:
        """Take the oldest samples (C, <= n_frames); None: all."""
        taken = []
        while self.blocks and n_frames != 0:
            block = self.blocks.popleft()
            part = block if n_frames is None else block[:, :n_frames]
            taken.append(part)
            if part.shape[-1] < block.shape[-1]:
                self.blocks.appendleft(block[:, part.shape[-1] :])
            n_frames = None if n_frames is None else n_frames - part.shape[-1]
        return torch.cat(taken, -1) if taken else torch.zeros(0, 0)


def _estimate(
    separator: Separator, blocks: Iterable[Tensor], sample_rate: int, batch_size: int, overlap: float
) -> Iterator[Tensor]:
    """Estimate all sources of a stream of any sample rate: (S, C, t) each."""
    if sample_rate == separator.sample_rate:
        yield from _overlap_add(separator, blocks, batch_size, overlap)
        return
    back = None
    for estimate in _overlap_add(
        separator, _resampled(blocks, sample_rate, separator.sample_rate), batch_size, overlap
    ):
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


def _overlap_add(
    separator: Separator, blocks: Iterable[Tensor], batch_size: int, overlap: float
) -> Iterator[Tensor]:
    """Separate chunks of the model's segment and cross-fade them: (S, C, t) each."""
    chunks = _OverlapAdd(separator, batch_size, overlap)
    for block in blocks:
        yield from chunks.push(block)
    yield from chunks.finish()


class _OverlapAdd:
    """Chunk k covers the samples from k * hop to k * hop + length, whatever the batch size."""

    def __init__(self, separator: Separator, batch_size: int, overlap: float) -> None:
        self.separator, self.batch_size = separator, batch_size
        self.length = max(1, round(separator.segment * separator.sample_rate))
        self.hop = max(1, round(self.length * (1 - overlap)))
        self.fade = _fade(self.length, self.length - self.hop)
        self.held: list[Tensor] = []  # samples from the next chunk's first on
        self.n_held = 0
        self.tail: Tensor | None = None  # weighted sum of earlier chunks that reach into the next one
        self.tail_weight: Tensor | None = None

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Take samples (C, t) and give those that are finished."""
        self.held.append(block)
        self.n_held += block.shape[-1]
        while self.n_held >= (self.batch_size - 1) * self.hop + self.length:
            yield self._run(self.batch_size)

    def finish(self) -> Iterator[Tensor]:
        """Give all samples that are left; the last chunk is filled with zeros."""
        left = self.n_held
        covered = 0 if self.tail is None else self.length - self.hop
        n_chunks = math.ceil(max(0, left - covered) / self.hop)
        if self.tail is None and left:
            n_chunks = max(1, math.ceil((left - self.length) / self.hop) + 1)
        while n_chunks > 0:
            finished = self._run(min(n_chunks, self.batch_size))[..., :left]
            n_chunks -= self.batch_size
            left -= finished.shape[-1]
            yield finished
        if left:
            yield self.tail[..., :left] / self.tail_weight[:left]

    def _run(self, n_chunks: int) -> Tensor:
        """Separate the next chunks, give what no later chunk reaches and keep the rest."""
        length, hop = self.length, self.hop
        span = (n_chunks - 1) * hop + length
        mixture = torch.cat(self.held, -1)
        chunks = torch.nn.functional.pad(mixture[:, :span], (0, max(0, span - mixture.shape[-1])))
        chunks = chunks.unfold(-1, length, hop).transpose(0, 1)  # (n, C, L)
        estimates = _run_network(self.separator, chunks) * self.fade  # (n, S, C, L)
        summed, weight = estimates.new_zeros(*estimates.shape[1:3], span), self.fade.new_zeros(span)
        if self.tail is not None:
            summed[..., : length - hop] = self.tail
            weight[: length - hop] = self.tail_weight
        for i, estimate in enumerate(estimates):
            summed[..., i * hop : i * hop + length] += estimate
            weight[i * hop : i * hop + length] += self.fade
        done = n_chunks * hop
        self.tail, self.tail_weight = summed[..., done:].clone(), weight[done:].clone()
        self.held, self.n_held = [mixture[:, done:].clone()], max(0, self.n_held - done)
        return summed[..., :done] / weight[:done]


def _fade(length: int, overlap: int) -> Tensor:
    """Weigh the samples of a chunk: straight ramps where chunks overlap."""
    ramp = torch.arange(1, length + 1) / (min(overlap, length // 2) + 1)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1.0)


@torch.inference_mode()
def _run_network(separator: Separator, chunks: Tensor) -> Tensor:
    """Separate chunks (n, C, L) of any number of channels: (n, S, C, L) in float32 on the CPU."""
    device = next(separator.buffers()).device
    was_training = separator.training
    separator.eval()
    found = []
    for group in chunks.split(separator.n_channels, 1):
        given = group.shape[1]
        if given < separator.n_channels:
            group = _copy_channels(group, separator.n_channels)
        estimate = separator(group.to(device)).float().cpu()
        found.append(estimate if given == group.shape[1] else estimate.mean(2, keepdim=True))
    separator.train(was_training)
    return torch.cat(found, 2)


def _copy_channels(group: Tensor, n_channels: int) -> Tensor:
    if group.shape[1] != 1:
        raise audio.AudioError(
            f"a model of {n_channels} channels takes recordings of 1 or a multiple of {n_channels} channels: "
            "mix the recording down first"
        )
    return group.expand(-1, n_channels, -1)


def _write_stems(
    blocks: Iterable[Tensor], targets: dict[str, Path], info: audio.AudioInfo, subtype: str, ceiling: float
) -> float:
    """Write the stems, all or none, and give the gain that made them fit."""
    folder = next(iter(targets.values())).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sepkit-", dir=folder.parent) as temporary:
        parts = {name: Path(temporary) / f"{name}.wav" for name in targets}
        peak = _write_blocks(blocks, list(parts.values()), info, "FLOAT")
        gain = 1.0
        if subtype != "FLOAT":
            gain = min(1.0, ceiling / peak) if peak > 0 else 1.0
            finals = {name: Path(temporary) / f"final-{path.name}" for name, path in targets.items()}
            for name, part in parts.items():
                scaled = (gain * block[None] for block in audio.stream_blocks(part))
                _write_blocks(scaled, [finals[name]], info, subtype)
            parts = finals
        folder.mkdir(exist_ok=True)
        for name, path in targets.items():
            os.replace(parts[name], path)
    return gain


def _write_blocks(blocks: Iterable[Tensor], paths: Sequence[Path], info: audio.AudioInfo, subtype: str) -> float:
    """Write blocks (stems, C, t) to one file a stem and give their peak."""
    peak = 0.0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(audio.AudioWriter(path, info.sample_rate, info.n_channels, subtype)) for path in paths
        ]
        for block in blocks:
            peak = max(peak, float(block.abs().max())) if block.numel() else peak
            for writer, stem in zip(writers, block, strict=True):
                writer.write(stem)
    return peak
