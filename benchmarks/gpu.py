"""What only a CUDA machine can tell, in a few minutes: a Markdown file for the docs.

    pip install --no-deps auraloss==0.4.0 torch-l1-snr==0.2.1 sot-loss==0.1.5 && pip install librosa
    python benchmarks/gpu.py --device cuda --output docs/tables/gpu.md [--minutes 10] [--sections NAME ...]

The originals of networks are compared where they can be imported: benchmarks/networks.py says what to install.

Each section runs in a process of its own, with a share of the time that is left, and writes a table. A section that
fails, or takes longer than its share, ends in a sentence, and the next one begins; the exit code is 1 in the end. With
`--small --device cpu` all of it runs within seconds, so that it can be tried where there is no such machine: the
numbers then say nothing.
"""

import argparse
import importlib
import io
import itertools
import math
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import losses
import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from sepkit import inference, metrics, models
from sepkit.devices import available_cores
from sepkit.recipe import Recipe, RecipeError, load_recipe, recipe_names
from sepkit.separator import Separator
from sepkit.training.loading import make_loader
from sepkit.training.loop import Trainer
from sepkit.training.memory import estimate_memory
from sepkit.training.train import open_data, start

ROOT = Path(__file__).parents[1]
RATE = 44100
STEMS = ("vocals", "drums", "bass", "other")
SOURCES = STEMS[:2]  # of networks that are not of their published size
# Of networks that are trained; one without entry is as it is by default.
NETWORKS = {
    "BLSTM": {"hidden_size": 288, "bandwidth": 7000, "dropout": 0.2},
    "MDX23C": {"n_maps": 32, "growth": 32, "n_stages": 4},
    "SpectrogramNetSimple": {"hidden_channels": 16, "n_bands": 128, "bandwidth": 11000},
    "SpectrogramNetLSTM": {"hidden_channels": 16, "n_bands": 128, "bandwidth": 11000, "hidden_size": 256},
    "SpectrogramNetVAE": {"hidden_channels": 16, "n_bands": 128, "bandwidth": 11000, "hidden_size": 256},
}
SMALL_NETWORKS = {  # with --small: one of each kind
    "BLSTM": {"hidden_size": 16, "n_layers": 1},
    "BandSplitRoFormer": {"bands": 16, "hidden_size": 8, "n_layers": 1, "n_heads": 2, "head_size": 4},
    "HTDemucs": {"hidden_channels": 4, "growth": 1, "residual_compression": 4, "bottleneck_channels": 8, "n_layers": 2},
    "SpectrogramNetVAE": {"hidden_channels": 1, "n_bands": 32, "hidden_size": 4, "recurrent_depth": 1},
}
STEPS = {  # of networks of their published size: overrides of their recipes
    "bfloat16": (),
    "bfloat16, compiled": ("training.compile=true",),
    "bfloat16, recomputed": ("training.recompute=true",),
}
MODES = {
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
    "float32, compiled": ("float32", True),
}
SYNCHRONISED = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
ASKED = ("aten::_local_scalar_dense", "aten::nonzero")  # of a tensor on the CPU they wait for nothing
LOOKS = {"float16": 1}  # in a step: the scaler wants to know whether the gradient is finite
SCORES_ALIKE = 1e-6  # dB
ESTIMATES_ALIKE = 1e-4  # of their norm, in float32 without TF32


class MissedError(Exception):
    """A measurement that is not what it has to be."""


@dataclass(frozen=True)
class Bench:
    """Where, how large and until when a section measures.

    Attributes:
        device: that is measured.
        small: sizes with which everything is tried within seconds.
        ends: of `time.monotonic`, after which no other row is begun.
        left_out: rows that were not begun.
    """

    device: torch.device
    small: bool
    ends: float
    left_out: list[object] = field(default_factory=list)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def choose(self, full: object, small: object) -> object:
        return small if self.small else full

    def in_time(self, rows: Sequence[object]) -> Iterator[object]:
        """Give rows until the time is up."""
        for number, each in enumerate(rows):
            if time.monotonic() > self.ends:
                self.left_out.extend(rows[number:])
                return
            yield each

    def seconds(self, call: Callable[[], object]) -> float:
        """Time a call, by the device's own events where it has some."""
        if not self.on_cuda:
            started = time.perf_counter()
            call()
            return time.perf_counter() - started
        begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begun.record()
        call()
        done.record()
        done.synchronize()
        return begun.elapsed_time(done) / 1e3

    def memory(self, call: Callable[[], object]) -> float:
        """Measure the MiB that a call needs beyond what is held before it."""
        if self.on_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            torch.cuda.synchronize()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        if not Path("/proc/self/clear_refs").exists():
            call()
            return math.nan
        Path("/proc/self/clear_refs").write_text("5")
        before = losses.resident("VmHWM")
        call()
        return (losses.resident("VmHWM") - before) / 1024


def table(*columns: str) -> Iterator[str]:
    yield row(*columns)
    yield row(*(["---"] * len(columns)))


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def sentence(error: BaseException) -> str:
    """Put an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].replace("|", "/")


# Losses


def beside_originals(bench: Bench) -> Iterator[str]:
    """Forward and backward on batches of 4 x stereo x 4 s; medians of rounds that alternate between both packages."""
    yield from table(
        "loss", "original, ms", "sepkit, ms", "times faster", "original, MiB", "sepkit, MiB", "share of its memory",
        "value differs by", "gradient differs by",
    )  # fmt: skip
    given = signals(bench)
    for case in bench.in_time(bench.choose([*losses.CASES, *losses.ALONE], small_cases())):
        ours = losses.build(case, True, bench.device)
        inputs = given if case in losses.CASES else [losses.quantities(case, 0, bench.device, shape(bench))]
        if case in losses.ALONE or not losses.is_installed(losses.CASES[case][0]):
            (spent,), (peak,) = compare(bench, [ours], inputs)
            yield row(f"`{case}`", "", 1e3 * spent, "", "", peak, "", "", "")
            continue
        try:
            original = losses.build(case, False, bench.device)
            (theirs, spent), (their_peak, peak) = compare(bench, [original, ours], inputs)
        except Exception as error:  # whatever stops another package
            yield row(f"`{case}`", f"the original fails, {sentence(error)}", *[""] * 7)
            continue
        differences = [relative(*pair) for pair in zip(judge(original, inputs[0]), judge(ours, inputs[0]), strict=True)]
        yield row(f"`{case}`", 1e3 * theirs, 1e3 * spent, theirs / spent, their_peak, peak,
                  peak / max(their_peak, 1e-9), *differences)  # fmt: skip


def beside_compiled(bench: Bench) -> Iterator[str]:
    """The same beside originals under `torch.compile`; sepkit's run as they are."""
    yield from table(
        "loss", "original compiled, ms", "sepkit, ms", "times faster", "original compiled, MiB", "sepkit, MiB",
        "share of its memory", "seconds to compile",
    )  # fmt: skip
    inputs = signals(bench)
    cases = bench.choose([*losses.CASES], [case for case in small_cases() if case in losses.CASES])
    for case in bench.in_time([case for case in cases if losses.is_installed(losses.CASES[case][0])]):
        torch._dynamo.reset()
        ours = losses.build(case, True, bench.device)
        try:
            original = losses.build(case, False, bench.device)
            compiled = torch.compile(original, backend=bench.choose("inductor", "eager"))
            to_compile = bench.seconds(lambda: judge(compiled, inputs[0]))  # noqa: B023
            (theirs, spent), (their_peak, peak) = compare(bench, [compiled, ours], inputs)
        except Exception as error:  # what cannot be compiled
            yield row(f"`{case}`", f"is not compiled, {sentence(error)}", *[""] * 6)
            continue
        yield row(f"`{case}`", 1e3 * theirs, 1e3 * spent, theirs / spent, their_peak, peak,
                  peak / max(their_peak, 1e-9), to_compile)  # fmt: skip


def small_cases() -> list[str]:
    """Name quick losses that have their originals here, and one that has none."""
    return [
        *(case for case in ("ESRLoss()", "SNRLoss()") if losses.is_installed(losses.CASES[case][0])),
        "MagnitudeL1Loss()",
    ]


def shape(bench: Bench) -> tuple[int, int, int]:
    return bench.choose(losses.SHAPE, (1, 2, 8000))


def signals(bench: Bench) -> list[list[Tensor]]:
    """Make what is compared: several pairs of waveforms, so that no cache holds them."""
    return [losses.quantities("ESRLoss()", seed, bench.device, shape(bench)) for seed in range(bench.choose(4, 1))]


def judge(loss: nn.Module, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Give the value and the gradient of the first of what is compared."""
    estimate, *others = given
    estimate = estimate.detach().requires_grad_()
    value = loss(estimate, *others)
    value.backward()
    return value.detach(), estimate.grad


def compare(
    bench: Bench, several: Sequence[nn.Module], inputs: Sequence[list[Tensor]]
) -> tuple[list[float], list[float]]:
    """Give the median seconds and the MiB of each loss."""
    for loss in several:
        judge(loss, inputs[0])
    peaks = [bench.memory(lambda: judge(loss, inputs[0])) for loss in several]  # noqa: B023
    rounds = [
        [bench.seconds(lambda: judge(loss, given)) for loss in several]  # noqa: B023
        for given in itertools.islice(itertools.cycle(inputs), bench.choose(20, 2))
    ]
    return [statistics.median(times) for times in zip(*rounds, strict=True)], peaks


def relative(wanted: Tensor, found: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))


# Scoring


def scoring(bench: Bench) -> Iterator[str]:
    """Scores of 4 stereo sources in float64, on the device and on the CPU, where they take one thread."""
    yield from table("scores", "seconds of audio", "CPU, s", "device, s", "times faster", "differ by, dB")
    duration, rate = bench.choose((60, RATE), (2, 1000))
    generator = torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(4, 2, duration * rate, generator=generator)
    target[:, :, 1:] += 0.5 * target[:, :, :-1]
    estimate = target + 0.05 * torch.randn(target.shape, generator=generator) + 0.02 * target.flip(0)
    filters = bench.choose(512, 32)
    kinds = {
        "`bss_eval`": lambda *given: torch.stack(metrics.bss_eval(*given, rate, rate, filters)[:4]),
        "`bss_eval`, filters of each frame": lambda *given: torch.stack(
            metrics.bss_eval(*given, rate, rate, filters, framewise_filters=True)[:4]
        ),
        "`bss_eval`, SDR alone": lambda *given: metrics.bss_eval(*given, rate, rate, filters, metrics=["SDR"]).sdr,
        "`framewise_sdr`": lambda *given: metrics.framewise_sdr(*given, rate, rate),
    }
    apart = {}
    for name, score in bench.in_time([*kinds.items()]):
        found = [score(estimate.to(device), target.to(device)).cpu() for device in ("cpu", bench.device)]
        on_cpu = Bench(torch.device("cpu"), bench.small, bench.ends).seconds(lambda: score(estimate, target))  # noqa: B023
        moved = estimate.to(bench.device), target.to(bench.device)
        on_device = statistics.median(bench.seconds(lambda: score(*moved)) for _ in range(3))  # noqa: B023
        apart[name] = float((found[0] - found[1]).abs().max())
        yield row(name, duration, on_cpu, on_device, on_cpu / on_device, apart[name])
    expect(apart, lambda difference: difference <= SCORES_ALIKE, f"differ by at most {SCORES_ALIKE} dB")


def expect(found: dict[str, object], holds: Callable[[object], bool], wanted: str) -> None:
    """Refuse rows that are not what they have to be.

    Raises:
        MissedError: with their names and values.
    """
    wrong = ", ".join(f"{name} ({value})" for name, value in found.items() if not holds(value))
    if wrong:
        raise MissedError(f"must {wanted}: {wrong}")


# Training


def networks(bench: Bench) -> Iterator[str]:
    """Training of each network with AdamW (fused), on batches that lie ready."""
    yield from table(
        "network", "precision", "loss, first", "loss, last", "steps a second", "memory, MiB",
        "host waits a step", "told by `set_sync_debug_mode`", "values asked for a step",
    )  # fmt: skip
    wrong = {}
    with tempfile.TemporaryDirectory() as root:
        write_songs(Path(root), bench)
        for mode, name in bench.in_time(bench.choose([*itertools.product(MODES, models.__all__)], small_runs(MODES))):
            precision, compiled = MODES[mode]
            trainer = make_trainer(bench, name, root, precision, compiled)
            batches = list(make_loader(trainer, 0, len(trainer.sampler)))
            first, last, speed, memory = run_steps(bench, trainer, batches)
            waits, asked = count_waits(bench, trainer, batches)
            told = count_told(bench, trainer, batches)
            yield row(f"`{name}`", mode, first, last, speed, round(memory), waits, told, asked)
            if not (math.isfinite(last) and last < first) or (bench.on_cuda and waits > LOOKS.get(precision, 0)):
                wrong[f"{name} in {mode}"] = f"loss {first:.3g} to {last:.3g}, {waits:g} waits"
            del trainer
            torch._dynamo.reset()
    expect(wrong, lambda _: False, "fall, and wait for the device in no step")


def small_runs(modes: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each mode with the first network, and the first mode with each network."""
    first, *others = modes
    return [*((first, name) for name in SMALL_NETWORKS), *((mode, next(iter(SMALL_NETWORKS))) for mode in others)]


def write_songs(root: Path, bench: Bench) -> None:
    """Write songs of a vibrato and bursts of noise."""
    times = np.arange(bench.choose(20, 3) * RATE) / RATE
    for number, name in enumerate(("train/one", "train/two", "valid/three")):
        voice = 0.2 * np.sin(2 * np.pi * (440 + 110 * number) * times + 5 * np.sin(6 * times))
        noise = np.random.default_rng(number).normal(0, 0.1, len(times))
        bursts = noise * np.exp(-8 * (times * 3 % 1))
        low, chord = (0.1 * np.sin(2 * np.pi * pitch * times) for pitch in (80 + number, 330 + number))
        stems = voice, bursts, low, chord
        (root / name).mkdir(parents=True)
        for stem, waveform in zip(STEMS, stems, strict=True):
            soundfile.write(root / name / f"{stem}.wav", np.stack([waveform, 0.7 * waveform], 1), RATE, "PCM_16")


DEMUCS_STFT = {"class": "STFT", "n_fft": 4096, "hop_length": 1024, "normalized": True, "framing": "hops"}


def describe_separator(bench: Bench, name: str) -> dict:
    arguments = bench.choose(NETWORKS, SMALL_NETWORKS).get(name, {})
    return {
        "sources": list(SOURCES),
        "sample_rate": RATE,
        "segment": bench.choose(3.0, 0.2),
        "transform": {"class": "STFT", "n_fft": 2048, "hop_length": 1024} if "Demucs" not in name else DEMUCS_STFT,
        "network": {"class": name, **arguments},
    }


def make_trainer(bench: Bench, name: str, root: str, precision: str, compiled: bool = False) -> Trainer:
    """Set a training up, to its first step."""
    latent = "mu" in getattr(getattr(models, name), "outputs", ())
    recipe = {
        "separator": describe_separator(bench, name),
        "data": {
            "items_per_epoch": bench.choose(64, 4),
            "augment": [{"class": "Gain"}, {"class": "Sign"}, {"class": "SwapChannels"}],
            "workers": 0,
        },
        "losses": [{"class": "RelativeSpectralLoss"}, {"class": "L1SNRLoss", "weight": 0.1}]
        + [{"class": "KLDivergenceLoss", "weight": 1e-3}] * latent,
        "training": {
            "batch_size": bench.choose(16, 2),
            "optimizer": {"class": "AdamW", "lr": bench.choose(1e-3, 1e-2), "fused": True},
            "schedule": {"class": "Constant"},
            "clip": 1.0,
            "ema": 0.99,
            "precision": precision,
            "compile": compiled,
        },
        "observers": [],
    }
    checked = load_recipe(recipe, data=root)
    trainer = Trainer(checked, open_data(checked), bench.device)
    start(trainer)
    if compiled and bench.small:  # without waiting for a compiler
        trainer.separator.facts.core.compile(backend="eager")
    return trainer


def take_steps(trainer: Trainer, batches: Sequence, n_steps: int, done: int = 0) -> Tensor:
    """Do steps on batches that lie ready, over and over, and give their mean loss."""
    trainer.totals.clear()
    for position in range(done, done + n_steps):
        trainer.take_step(iter([batches[position % len(batches)]]), position % len(batches))
    return trainer.totals.sums["loss"] / trainer.totals.counts["loss"]


def run_steps(bench: Bench, trainer: Trainer, batches: Sequence) -> tuple[float, float, float, float]:
    """Give the first and the last mean loss, the steps a second, and the MiB of the training as a whole."""
    n_steps = len(batches)
    if bench.on_cuda:
        torch.cuda.reset_peak_memory_stats()
    first = float(take_steps(trainer, batches, n_steps))
    n_timed = bench.choose(5, 1) * n_steps
    spent = bench.seconds(lambda: take_steps(trainer, batches, n_timed))
    last = float(take_steps(trainer, batches, n_steps))
    memory = torch.cuda.max_memory_allocated() if bench.on_cuda else 1024 * losses.resident("VmHWM")
    return first, last, n_timed / spent, memory / 2**20


def count_waits(bench: Bench, trainer: Trainer, batches: Sequence) -> tuple[float, float]:
    """Count, a step, how often the host waits for the device, and how often it asks for a value of any tensor."""
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_cuda else [])]
    with profile(activities=activities) as profiler, record_function("steps"):
        take_steps(trainer, batches, len(batches))
    host = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CPU]
    (steps,) = (event.time_range for event in host if event.name == "steps")
    counted = Counter(event.name for event in host if steps.start <= event.time_range.start <= steps.end)
    return tuple(sum(counted[name] for name in names) / len(batches) for names in (SYNCHRONISED, ASKED))


def count_told(bench: Bench, trainer: Trainer, batches: Sequence) -> float | str:
    """Count, a step, the waits of which torch itself warns."""
    if not bench.on_cuda:
        return ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        take_steps(trainer, batches, len(batches))
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in caught) / len(batches)


def published(bench: Bench) -> Iterator[str]:
    """A step of each network of its published size: as many examples as its recipe computes at a time, of all parts of
    a batch the first. Beside the memory stands what a dry run tells.
    """
    yield from table(
        "recipe", "mode", "examples", "a step, s", "examples a second", "memory, MiB", "told before, MiB", "loss"
    )
    wrong = {}
    with tempfile.TemporaryDirectory() as root:
        write_songs(Path(root), bench)
        for mode, name in bench.in_time(bench.choose([*itertools.product(STEPS, published_names())], small_steps())):
            try:
                recipe = published_recipe(bench, name, root, "training.precision=bfloat16", *STEPS[mode])
            except RecipeError:  # its network has no blocks
                continue
            n_items, (low, high) = recipe.training.batch_size, estimate_memory(recipe)
            spent, memory, loss = time_step(bench, recipe)
            yield row(f"`{name}`", mode, n_items, spent, n_items / spent, round(memory),
                      f"{low / 2**20:.0f} to {high / 2**20:.0f}", loss)  # fmt: skip
            if not math.isfinite(loss) or (bench.on_cuda and memory > high / 2**20):
                wrong[f"{name} in {mode}"] = f"loss {loss:.3g}, {memory:.0f} MiB"
            torch._dynamo.reset()
    expect(wrong, lambda _: False, "have a loss, and need no more memory than was told")


def published_names() -> list[str]:
    """Name the recipes of published networks: those that have a small one beside them."""
    names = recipe_names()
    return [name for name in names if f"{name}_small" in names]


def small_steps() -> list[tuple[str, str]]:
    return [(mode, "band_split_roformer") for mode in STEPS]


def published_recipe(bench: Bench, name: str, root: str, *overrides: str) -> Recipe:
    """Read a recipe, of which a batch is what it computes at a time."""
    plain = load_recipe(name, data=root)
    n_items = bench.choose(plain.training.batch_size // plain.training.accumulate, 2)
    changes = [f"training.batch_size={n_items}", "training.accumulate=1", f"data.items_per_epoch={2 * n_items}"]
    changes += ["data.workers=0", "observers=[]"]
    if bench.small:
        kind = plain.separator.network["class"]
        changes += [f"separator.network={ {'class': kind, **SMALL_NETWORKS[kind]} }", "separator.segment=0.2"]
        changes += ["separator.transform.n_fft=4096", "separator.transform.hop_length=1024"]
    return load_recipe(name, [*changes, *overrides], root)


def time_step(bench: Bench, recipe: Recipe) -> tuple[float, float, float]:
    """Give the median seconds of a step, the MiB of the training, and the last loss."""
    if bench.on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(recipe, open_data(recipe), bench.device)
    start(trainer)
    if recipe.training.compile and bench.small:
        trainer.separator.facts.core.compile(backend="eager")
    batches = list(make_loader(trainer, 0, len(trainer.sampler)))
    loss = float(take_steps(trainer, batches, 2))  # where it is compiled
    spent = statistics.median(bench.seconds(lambda: take_steps(trainer, batches, 1)) for _ in range(bench.choose(5, 1)))
    loss = float(take_steps(trainer, batches, 1))
    memory = torch.cuda.max_memory_reserved() / 2**20 if bench.on_cuda else losses.resident("VmHWM") / 1024
    return spent, memory, loss


def beside_original_networks(bench: Bench) -> Iterator[str]:
    """Networks beside the classes whose weights they take, with the same weights: a chunk in evaluation, and a step
    (forward, loss and backward of the estimates' mean magnitude) in bfloat16.
    """
    yield from table(
        "network", "chunk: original, ms", "sepkit, ms", "times faster", "step: original, ms", "sepkit, ms",
        "times faster", "original, MiB", "sepkit, MiB", "share of its memory", "outputs differ by",
    )  # fmt: skip
    peers = importlib.import_module("networks")
    cases = [
        (name, case) for name, case in peers.CASES.items() if not case.original.endswith("OpenUnmix")
    ]  # magnitudes
    for name, case in bench.in_time(bench.choose(cases, cases[:1])):
        try:
            yield row(name, *compare_networks(bench, build_pair(bench, peers, case), case.length))
        except Exception as error:  # whatever stops another package
            yield row(name, f"is not compared, {sentence(error)}", *[""] * 9)


def compare_networks(bench: Bench, pair: Sequence[nn.Module], length: int) -> list[float]:
    """Give the cells of a row: milliseconds of both, memory of both, and how much their outputs differ."""
    mixture = 0.1 * torch.randn(1, pair[1].n_channels, bench.choose(length, 20_000), device=bench.device)
    outputs = [evaluate(network, mixture) for network in pair]
    n_samples = min(each.shape[-1] for each in outputs)
    differs = relative(*(each.flatten(0, -2)[:, :n_samples] for each in outputs))
    chunks = [1e3 * repeat(bench, lambda: evaluate(network, mixture)) for network in pair]  # noqa: B023
    steps = [1e3 * repeat(bench, lambda: learn(bench, network, mixture)) for network in pair]  # noqa: B023
    peaks = [bench.memory(lambda: learn(bench, network, mixture)) for network in pair]  # noqa: B023
    shares = peaks[1] / max(peaks[0], 1e-9), differs
    return [*chunks, chunks[0] / chunks[1], *steps, steps[0] / steps[1], *peaks, *shares]


def build_pair(bench: Bench, peers: ModuleType, case: NamedTuple) -> tuple[nn.Module, nn.Module]:
    """Build the original and this package's network with its weights."""
    torch.manual_seed(0)
    original = peers.build_original(case)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(original.state_dict(), Path(folder) / "weights.pt")
        own = peers.build_own(case, Path(folder) / "weights.pt")
    return original.to(bench.device), own.to(bench.device)


def autocast(bench: Bench) -> torch.autocast:
    return torch.autocast(bench.device.type, torch.bfloat16)


def evaluate(network: nn.Module, mixture: Tensor) -> Tensor:
    """Give the estimates in float32."""
    with torch.inference_mode():
        return network.eval()(mixture)


def learn(bench: Bench, network: nn.Module, mixture: Tensor) -> None:
    """Do forward, loss and backward in bfloat16."""
    network.train().zero_grad(set_to_none=True)
    with autocast(bench):
        estimate = network(mixture)
    estimate.float().abs().mean().backward()


def repeat(bench: Bench, call: Callable[[], object]) -> float:
    """Give the median seconds of a call, after one that is not counted."""
    call()
    return statistics.median(bench.seconds(call) for _ in range(bench.choose(10, 1)))


# Going on


def resume(bench: Bench) -> Iterator[str]:
    """A training that was stopped between two steps and went on, beside one that was not, with torch's switches for
    determinism (`torch.use_deterministic_algorithms`, `CUBLAS_WORKSPACE_CONFIG`).
    """
    yield from table("network", "precision", "weights, averages and moments", "operations without a deterministic form")
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before the first use of the device
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    found, precisions = {}, ("float32", "float16")
    runs = [*itertools.product(precisions, models.__all__)]
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_songs(Path(root), bench)
        for precision, name in bench.in_time(bench.choose(runs, small_runs(precisions))):
            del caught[:]
            found[f"{name} in {precision}"] = equal = go_on(bench, name, root, precision)
            named = (re.match(r"(\S+) does not have a deterministic", str(each.message)) for each in caught)
            operations = sorted({match[1] for match in named if match})
            yield row(f"`{name}`", precision, "equal" if equal else "differ", ", ".join(operations) or "none")
    expect(found, bool, "end at equal weights")


def go_on(bench: Bench, name: str, root: str, precision: str) -> bool:
    """Return whether a training that was stopped ends where one ends that was not."""
    whole, stopped = (make_trainer(bench, name, root, precision) for _ in range(2))
    batches = list(make_loader(whole, 0, len(whole.sampler)))
    n_before = len(batches) // 2
    torch.manual_seed(0)
    take_steps(whole, batches, len(batches))
    torch.manual_seed(0)
    take_steps(stopped, batches, n_before)
    written = io.BytesIO()
    torch.save(stopped.checkpointer.state(), written)
    torch.manual_seed(1)
    other = make_trainer(bench, name, root, precision)
    other.checkpointer.load_state(torch.load(io.BytesIO(written.getvalue()), weights_only=True))
    take_steps(other, batches, len(batches) - n_before, n_before)
    states = (trainer.checkpointer.state() for trainer in (whole, other))
    return same(*({key: state.get(key) for key in ("separator", "ema", "optimizer")} for state in states))


def same(some: object, others: object) -> bool:
    """Compare nested states bit for bit."""
    if isinstance(some, Tensor):
        return torch.equal(some, others)
    if isinstance(some, dict):
        return some.keys() == others.keys() and all(same(some[key], others[key]) for key in some)
    if isinstance(some, list | tuple):
        return len(some) == len(others) and all(map(same, some, others))
    return some == others


# Separating


def separation(bench: Bench) -> Iterator[str]:
    """Four minutes of stereo at 44.1 kHz, 8 chunks at a time, of published networks at their size; their beginning is
    compared with the CPU's, and bfloat16 with float32.
    """
    yield from table(
        "network", "seconds of audio", "separated in, s", "times real time", "memory, MiB", "differs from the CPU by",
        "without TF32 by", "in bfloat16, s", "memory, MiB", "differs from float32 by",
    )  # fmt: skip
    duration, compared = bench.choose((240, 10), (2, 1))
    mixture = 0.1 * torch.randn(2, duration * RATE, generator=torch.Generator().manual_seed(0))
    apart = {}
    for name in bench.in_time(bench.choose([*models.__all__], list(SMALL_NETWORKS))):
        torch.manual_seed(0)
        separator = Separator(**separating_settings(bench, name)).eval()
        part = mixture[:, : compared * RATE]
        wanted = estimates(separator, part)
        separator.to(bench.device)
        differs = relative(wanted, found := estimates(separator, part))
        torch.backends.cudnn.allow_tf32 = False
        apart[name] = relative(wanted, estimates(separator, part))
        torch.backends.cudnn.allow_tf32 = True
        cells = [duration, *time_and_memory(bench, separator, mixture), differs, apart[name]]
        cells[2:2] = [duration / cells[1]]
        with autocast(bench):
            in_half = relative(found, estimates(separator, part))
            yield row(f"`{name}`", *cells, *time_and_memory(bench, separator, mixture), in_half)
    expect(apart, lambda difference: difference <= ESTIMATES_ALIKE, f"differ by at most {ESTIMATES_ALIKE}")


def separating_settings(bench: Bench, name: str) -> dict:
    """Give the settings of a published network's recipe, or of another network."""
    if bench.small:
        return {**describe_separator(bench, name), "segment": 0.5}
    recipes = {recipe.separator.network["class"]: recipe for recipe in map(load_recipe, published_names())}
    if name in recipes:
        return recipes[name].separator_settings()
    return {**describe_separator(bench, name), "segment": 10.0}


def time_and_memory(bench: Bench, separator: Separator, mixture: Tensor) -> tuple[float, int]:
    memory = bench.memory(lambda: estimates(separator, mixture))
    return bench.seconds(lambda: estimates(separator, mixture)), round(memory)


def estimates(separator: Separator, mixture: Tensor) -> Tensor:
    return torch.stack(list(inference.separate(separator, mixture, batch_size=8).values()))


# Tests


def tests(bench: Bench) -> Iterator[str]:
    """The quick tests among those that need CUDA, `python -m pytest -m "cuda and not slow"`."""
    files = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if "pytest.mark.cuda" in path.read_text()]
    chosen = bench.choose(files, [path for path in files if path.name == "test_cuda.py"])
    command = [sys.executable, "-m", "pytest", "-m", "cuda and not slow", "-p", "no:cacheprovider", "-rf"]
    left = max(1.0, bench.ends - time.monotonic())
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
    lines = done.stdout.strip().splitlines() or ["pytest told nothing"]
    yield f"pytest: {lines[-1].strip('= ')}."
    if done.returncode:
        sys.stderr.write(done.stdout[-6000:] + done.stderr[-2000:])
        raise MissedError("; ".join(line[:200] for line in lines if line.startswith(("FAILED", "ERROR"))) or lines[-1])


def machine(bench: Bench) -> Iterator[str]:
    """Where and with what was measured."""
    name = platform.processor() or platform.machine()
    if bench.on_cuda:
        facts = torch.cuda.get_device_properties(bench.device)
        name = f"{facts.name} ({facts.total_memory / 2**30:.0f} GiB)"
    yield (
        f"Measured on {name} beside {available_cores()} processor cores, with torch {torch.__version__}, "
        f"CUDA {torch.version.cuda if bench.on_cuda else 'not used'}, Python {platform.python_version()}"
        f"{', small sizes: the numbers say nothing' if bench.small else ''}."
    )


@dataclass(frozen=True)
class Section:
    """A part of the file: its heading, what fills it, and its share of the time."""

    heading: str
    fill: Callable[[Bench], Iterator[str]]
    share: float


SECTIONS = {
    "machine": Section("", machine, 0.2),
    "tests": Section("Tests", tests, 1.6),
    "losses": Section("Losses beside the originals", beside_originals, 1.4),
    "scoring": Section("Scoring", scoring, 0.8),
    "networks": Section("Training", networks, 5.0),
    "published": Section("Steps of published sizes", published, 4.0),
    "resume": Section("Going on after a stop", resume, 1.0),
    "separation": Section("Separating", separation, 2.0),
    "originals": Section("Networks beside the originals", beside_original_networks, 1.5),
    "compiled": Section("Losses beside compiled originals", beside_compiled, 3.0),
}
ALWAYS = "machine"


def main() -> int:
    options = parse()
    ends = time.monotonic() + 60 * options.minutes
    names = [name for name in SECTIONS if name in (ALWAYS, *options.sections)]
    written, failed = [], False
    for position, name in enumerate(names):
        shares = [SECTIONS[each].share for each in names[position:]]
        seconds = max(0.0, ends - time.monotonic()) * shares[0] / sum(shares)
        lines, finished = run_apart(name, options, seconds)
        failed |= not finished
        heading = SECTIONS[name].heading
        written += [f"## {heading}", "", " ".join(SECTIONS[name].fill.__doc__.split()), ""] if heading else []
        written += [*lines, ""]
        print("\n".join(written[-len(lines) - 5 :]), flush=True)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text("\n".join(written), encoding="utf-8")
    return int(failed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [name for name in SECTIONS if name != ALWAYS]
    parser.add_argument("--device", default="cuda" if torch.cuda.device_count() else "cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="that all sections may take together")
    parser.add_argument("--sections", nargs="+", choices=choices, default=choices, metavar="NAME", help=str(choices))
    parser.add_argument("--output", type=Path, help="file that is written; default: the screen alone")
    parser.add_argument("--small", action="store_true", help="sizes with which everything is tried within seconds")
    return parser.parse_args()


def run_apart(name: str, options: argparse.Namespace, seconds: float) -> tuple[list[str], bool]:
    """Fill a section in a process of its own, which is ended when its time is up; tell whether all is well."""
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
    context = multiprocessing.get_context("fork" if forks else "spawn")  # quicker, and nothing has used the device yet
    receiver, sender = context.Pipe(duplex=False)
    started = time.monotonic()
    bench = Bench(torch.device(options.device), options.small, started + 0.85 * seconds)
    process = context.Process(target=fill, args=(name, bench, sender))
    process.start()
    sender.close()
    lines, late = [], True
    try:
        while receiver.poll(max(0.0, started + seconds - time.monotonic())):
            lines.append(receiver.recv())
        process.kill()
    except EOFError:
        late = False
    process.join()
    if late:
        lines += ["", f"**Failed**: it was not finished within {seconds:.0f} s."]
    elif process.exitcode < 0:
        lines += ["", f"**Failed**: signal {-process.exitcode} ended it."]
    return lines, process.exitcode == 0


def fill(name: str, bench: Bench, sender: Connection) -> None:
    """Send the lines of a section, and the sentence of what ended it."""
    warnings.simplefilter("ignore")
    if bench.small:
        torch.set_num_threads(1)
    try:
        for line in SECTIONS[name].fill(bench):
            sender.send(line)
        if bench.left_out:
            sender.send("")
            sender.send(f"For want of time {len(bench.left_out)} rows were left out.")
    except Exception as error:
        traceback.print_exc()
        sender.send("")
        sender.send(f"**Failed**: {sentence(error)}")
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
