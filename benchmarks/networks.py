"""Networks of this package beside the classes whose weights they take: the same weights, outputs, seconds, memory.

    pip install --target PEERS --no-deps audio-separator==0.47.1 demucs==4.1.0 openunmix==1.3.0 asteroid==0.7.0 \\
        msst==0.1.0 asteroid-filterbanks audioread 'beartype<0.19' cloudpickle decorator einops huggingface-hub \\
        joblib julius lazy_loader librosa llvmlite msgpack numba onnxruntime pooch 'rotary-embedding-torch<0.7' six
    python benchmarks/networks.py --peers PEERS [--only NAME ...] [--rounds 3] [--output FILE]

The original class is built with random weights, which `sepkit.importing` puts under this package's names. "forward" is
a chunk in evaluation, waveform to waveform; "step" is forward, loss and backward (mean absolute error of the waveforms,
Open-Unmix: mean squared error of the magnitudes, as it trains). Each is measured in a process of its own with one
thread, in turns: CPU seconds (user and system), median of the rounds; memory is the peak above that after a short
warm-up. "kept" is with freed memory kept, as the commands of this package do; the others have the C library's defaults.
The originals are imported from the folder PEERS alone; what they import besides and is missing is named.
"""

import argparse
import ctypes
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sepkit.losses import MagnitudeL2Loss
from sepkit.processes import retain_freed_memory
from sepkit.separator import Separator

ENGINES = ("original", "sepkit", "kept")
TASKS = ("forward", "step")
RATE = 44100
ROFORMER = {
    "stereo": True,
    "num_stems": 1,
    "time_transformer_depth": 1,
    "freq_transformer_depth": 1,
    "stft_n_fft": 2048,
    "stft_win_length": 2048,
    "stft_hop_length": 441,
    "mask_estimator_depth": 2,
    "zero_dc": False,  # audio-separator takes it, and leaves the bin as it is
    "attn_dropout": 0.0,
    "ff_dropout": 0.0,
}
BANDS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
UVR = "audio_separator.separator.uvr_lib_v5"
STEMS = ["drums", "bass", "other", "vocals"]


class Case(NamedTuple):
    """A network at one size: how the original is built, how its weights are read, and what is measured."""

    importing: str
    original: str
    config: dict[str, Any]
    length: int  # samples of a chunk
    step: tuple[int, int] | None  # items and samples of a training step
    warm_up: int = RATE // 2


def roformer(kind: str, size: int, seconds: int, step: tuple[int, int] | None, n_layers: int = 6) -> Case:
    model = {**ROFORMER, "dim": size, "depth": n_layers}
    model |= {"freqs_per_bands": BANDS} if kind == "BS" else {"num_bands": 60, "sample_rate": RATE}
    audio = {"sample_rate": RATE, "num_channels": 2, "chunk_size": seconds * RATE}
    config = {"audio": audio, "model": model, "training": {"instruments": ["vocals"], "target_instrument": None}}
    name = {"BS": "bs_roformer.BSRoformer", "Mel": "mel_band_roformer.MelBandRoformer"}[kind]
    return Case("band_split_roformer", f"{UVR}.roformer.{name}", config, seconds * RATE, step)


def mdx23c(n_maps: int, step_frames: int) -> Case:
    audio = {"n_fft": 8192, "hop_length": 1024, "dim_f": 4096, "dim_t": 256, "num_channels": 2, "sample_rate": RATE}
    model = {"act": "gelu", "norm": "InstanceNorm", "num_subbands": 4, "num_scales": 5, "scale": [2, 2]}
    model |= {"num_channels": n_maps, "growth": n_maps, "num_blocks_per_scale": 2, "bottleneck_factor": 4}
    training = {"instruments": ["vocals", "other"], "target_instrument": None}
    config = {"audio": audio, "model": model, "training": training}
    original = f"{UVR}.tfc_tdf_v3.TFC_TDF_net"
    return Case("mdx23c", original, config, 1024 * 255, (1, 1024 * (step_frames - 1)), 1024 * 31)


def scnet(dims: list[int], shares: list[float], step: tuple[int, int]) -> Case:
    model = {"sources": STEMS, "audio_channels": 2, "dims": dims, "nfft": 4096, "hop_size": 1024, "win_size": 4096}
    model |= {"normalized": True, "band_SR": shares, "band_stride": [1, 4, 16], "band_kernel": [3, 4, 16]}
    model |= {"conv_depths": [3, 2, 1], "compress": 4, "conv_kernel": 3, "num_dplayer": 6, "expand": 1}
    audio = {"sample_rate": RATE, "num_channels": 2, "chunk_size": 11 * RATE}
    return Case("scnet", "msst.models.scnet.scnet.SCNet", {"audio": audio, "model": model}, 11 * RATE, step)


DEMUCS = {"sources": STEMS, "audio_channels": 2, "channels": 48, "samplerate": RATE}
HTDEMUCS = {**DEMUCS, "dconv_mode": 3, "bottom_channels": 512, "segment": Fraction(39, 5)}
TASNET = {"n_src": 2, "n_blocks": 8, "n_repeats": 3, "bn_chan": 128, "hid_chan": 512, "skip_chan": 128}
TASNET |= {"conv_kernel_size": 3, "norm_type": "gLN", "mask_act": "relu", "n_filters": 512, "kernel_size": 16}
TASNET |= {"stride": 8, "sample_rate": 16000}
UNMIX = {"n_fft": 4096, "n_hop": 1024, "nb_channels": 2, "hidden_size": 512, "sample_rate": RATE, "segment": 6}

CASES = {
    "BS-RoFormer 128, 6 blocks": roformer("BS", 128, 4, (1, RATE)),
    "Mel-Band RoFormer 128, 6 blocks": roformer("Mel", 128, 4, (1, RATE)),
    "BS-RoFormer 128, 2 blocks": roformer("BS", 128, 4, (1, 2 * RATE), 2),
    "Mel-Band RoFormer 384, 6 blocks": roformer("Mel", 384, 8, None),
    "MDX23C 128 maps": mdx23c(128, 64),
    "HTDemucs": Case("demucs", "demucs.htdemucs.HTDemucs", HTDEMUCS, 343980, (1, 343980)),
    "HDemucs": Case("demucs", "demucs.hdemucs.HDemucs", {**DEMUCS, "segment": 44}, 8 * RATE, (1, 4 * RATE)),
    "SCNet small": scnet([4, 32, 64, 128], [0.175, 0.392, 0.433], (1, 4 * RATE)),
    "Open-Unmix, 4 sources": Case("open_unmix", "openunmix.model.Separator", UNMIX, 6 * RATE, None),
    "Open-Unmix, 1 source": Case("open_unmix", "openunmix.model.OpenUnmix", UNMIX, 6 * RATE, (4, 6 * RATE)),
    "Conv-TasNet": Case("conv_tasnet", "asteroid.models.ConvTasNet", TASNET, 3 * 16000, (1, 3 * 16000), 8000),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="folder of the packages that are compared")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="file that the table is written to as well")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        sys.path.append(str(options.peers))
        print(json.dumps(run(*options.run)))
        return 0
    missing = {name: problem for name in options.only if (problem := lacking(CASES[name].original, options.peers))}
    for name, problem in missing.items():
        print(f"{name} is left out: {problem}", file=sys.stderr)
    if missing:
        remedy = __doc__.split("\n\n")[1].partition("    python ")[0]
        print(f"PEERS is {options.peers}; to install what is missing:\n{remedy}", file=sys.stderr)
    lines = list(HEAD)
    print("\n".join(lines), flush=True)
    for name in options.only:
        if name not in missing:
            for line in compare(name, options):
                lines.append(line)
                print(line, flush=True)
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")
    return len(missing) == len(options.only)


HEAD = (
    "| network | task | CPU s: original | sepkit | kept | times as fast | kept | MB: original | sepkit | kept | share "
    "| outputs, loss |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def lacking(original: str, peers: Path) -> str | None:
    """Say what is missing to import a class."""
    command = [sys.executable, "-W", "ignore", "-c", f"import sys, importlib; sys.path.append({str(peers)!r}); "]
    command[-1] += f"importlib.import_module({original.rpartition('.')[0]!r})"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()[-1] if done.returncode else None


def compare(name: str, options: argparse.Namespace) -> list[str]:
    """Measure all engines in turns, and make a row of the table for each task."""
    tasks = [task for task in options.tasks if task == "forward" or CASES[name].step]
    found = {(task, engine): [] for task in tasks for engine in options.engines}
    with tempfile.TemporaryDirectory() as folder:
        measure(name, "weights", "original", folder, options)
        for _ in range(options.rounds):
            for task, engine in found:
                found[task, engine].append(measure(name, task, engine, folder, options))
        return [row(name, task, {engine: found[task, engine] for engine in options.engines}) for task in tasks]


def row(name: str, task: str, found: dict[str, list[dict]]) -> str:
    def median(key: str) -> dict[str, float]:
        return {engine: statistics.median(one[key] for one in results) for engine, results in found.items()}

    seconds, memory = median("seconds"), median("megabytes")
    theirs, *ours = seconds
    faster = [f"{seconds[theirs] / seconds[one]:.2f}" for one in ours]
    share = f"{memory[ours[0]] / memory[theirs]:.2f}" if ours and memory[theirs] else ""  # tiny ones fit what is held
    cells = [f"{value:.2f}" for value in seconds.values()] + faster
    cells += [f"{value:.0f}" for value in memory.values()] + [share, found[ours[0]][0]["agreement"] if ours else ""]
    return f"| {name} | {task} | {' | '.join(cells)} |"


def measure(name: str, task: str, engine: str, folder: str, options: argparse.Namespace) -> dict:
    """Measure in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--peers", str(options.peers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--run", name, task, engine, folder], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        sys.exit(f"{name}, {task}, {engine} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run(name: str, task: str, engine: str, folder: str) -> dict:
    """Do one task, and say what it cost."""
    case, place = CASES[name], Path(folder)
    torch.manual_seed(0)
    if task == "weights":
        torch.save(build_original(case).state_dict(), place / "weights.pt")
        return {}
    if engine == "kept":
        retain_freed_memory()
    network = build_original(case) if engine == "original" else build_own(case, place / "weights.pt")
    if engine == "original":
        network.load_state_dict(torch.load(place / "weights.pt"))
    call = {"forward": forward, "step": step}[task]
    call(case, network, 1, case.warm_up)
    trim()
    before, started = peak(reset=True), time.process_time()
    items, length = (1, case.length) if task == "forward" else case.step
    result = call(case, network, items, length)
    cost = {"seconds": time.process_time() - started, "megabytes": peak() - before}
    return {**cost, "agreement": agreement(result, place / f"{task}.pt", engine == "original")}


def build_original(case: Case) -> nn.Module:
    module, _, name = case.original.rpartition(".")
    original = getattr(importlib.import_module(module), name)
    if name == "TFC_TDF_net":
        return original(nested(case.config), torch.device("cpu"))
    if name in ("OpenUnmix", "Separator"):
        return build_unmix(case, original)
    return original(**case.config.get("model", case.config))


def build_unmix(case: Case, original: Callable[..., nn.Module]) -> nn.Module:
    """Build the network of a target, or those of four."""
    size = {"nb_bins": 2049, "nb_channels": 2, "hidden_size": case.config["hidden_size"], "max_bin": 1487}
    if original.__name__ == "OpenUnmix":
        return original(**size)
    target = importlib.import_module("openunmix.model").OpenUnmix
    return original({stem: target(**size) for stem in STEMS}, niter=0)


def nested(config: Any) -> Any:
    """Let keys be read as attributes too."""
    return SimpleNamespace(**{k: nested(v) for k, v in config.items()}) if isinstance(config, Mapping) else config


def build_own(case: Case, weights: Path) -> Separator:
    family = importlib.import_module(f"sepkit.importing.{case.importing}")
    tensors, config = torch.load(weights), dict(case.config)
    if case.importing == "conv_tasnet":
        config |= {"sources": ["one", "two"], "segment": case.length / config["sample_rate"]}
    if case.original.endswith("OpenUnmix"):
        config["sources"] = ["vocals"]
    settings = {**family.settings(tensors, config), "normalize": None}  # demucs' classes leave it to their caller
    separator = Separator(**settings)
    separator.load_state_dict(family.convert(tensors, settings))
    return separator


def mixture_of(case: Case, n_items: int, length: int) -> Tensor:
    n_channels = 1 if case.importing == "conv_tasnet" else 2
    return 0.1 * torch.randn(n_items, n_channels, length, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def forward(case: Case, network: nn.Module, n_items: int, length: int) -> Tensor:
    """Give the estimates, or the magnitude that a network of one target gives."""
    network.eval()
    mixture = mixture_of(case, n_items, length)
    if not case.original.endswith("OpenUnmix"):
        return network(mixture)
    return magnitudes(network, mixture)[0]


def step(case: Case, network: nn.Module, n_items: int, length: int) -> Tensor:
    """Give the loss."""
    network.train().zero_grad(set_to_none=True)
    mixture = mixture_of(case, n_items, length)
    if case.original.endswith("OpenUnmix"):
        compare = MagnitudeL2Loss() if isinstance(network, Separator) else nn.MSELoss()
        loss = compare(*magnitudes(network, mixture, 0.5 * mixture.roll(100, -1)))
    else:
        estimate = network(mixture)
        loss = (estimate.flatten(1, -2) - 0.5 * mixture.mean(1, True)[..., : estimate.shape[-1]]).abs().mean()
    loss.backward()
    return loss.detach()


def magnitudes(network: nn.Module, mixture: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Give the estimated magnitude of one source, and the target's."""
    if isinstance(network, Separator):
        wanted = ("estimate_magnitude", "target_magnitude")  # as a training with this loss says
        separation = network.analyze(mixture, None if target is None else target[:, None], wanted=wanted)
        return separation.estimate_magnitude[:, 0], None if target is None else separation.target_magnitude[:, 0]
    filterbank = importlib.import_module("openunmix.transforms")
    encode = nn.Sequential(filterbank.make_filterbanks(4096, 1024, center=True)[0], filterbank.ComplexNorm())
    return network(encode(mixture)), None if target is None else encode(target)


def agreement(result: Tensor, place: Path, original: bool) -> str:
    """Keep what the original gave; compare with it what this package gives: losses, or outputs in dB."""
    if original:
        torch.save(result, place)
    if original or not place.exists():
        return ""
    expected = torch.load(place)
    if not result.dim():
        return f"{abs(float(result / expected) - 1):.0e}"
    n_samples = min(result.shape[-1], expected.shape[-1])
    result, expected = (one[..., :n_samples].double() for one in (result, expected))
    error = result.reshape(expected.shape) - expected
    return f"{10 * torch.log10(expected.square().sum() / error.square().sum()):.0f} dB"


def trim() -> None:
    """Give freed memory back, so that what follows is seen to need its own; glibc."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def peak(reset: bool = False) -> float:
    """Largest memory of this process since the last reset, or now, MB; Linux."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


if __name__ == "__main__":
    sys.exit(main())
