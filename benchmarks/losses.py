"""Speed and memory of the losses beside the packages whose names they carry.

    pip install --no-deps auraloss==0.4.0 torch-l1-snr==0.2.1 sot-loss==0.1.5 && pip install librosa
    python benchmarks/losses.py [--threads 1] [--clock cpu] [--rounds 9] [--only NAME ...] [--device cuda]

Each round calls the original, then ours, on fresh signals of 4 items x stereo x 4 s at 44.1 kHz, forward and backward.
Times are medians of CPU seconds of the process, or, with several threads or on a GPU, of seconds on the wall, which
mean something on an idle machine only; peak memory is what a fresh process needs
beyond its inputs for one call, backward included. Originals that are not installed are left out. Losses without an
original, or whose original does not work, are measured alone; on spectra, these are of 2048 samples every 1024.
"""

import argparse
import functools
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import warnings

import torch

SHAPE = (4, 2, 176400)
README = {
    "fft_sizes": [1024, 2048, 8192],
    "hop_sizes": [256, 512, 2048],
    "win_lengths": [1024, 2048, 8192],
    "scale": "mel",
    "n_bins": 128,
    "sample_rate": 44100,
    "perceptual_weighting": True,
}
# What is measured: module of the original, class, arguments. Classes have one name in both packages.
CASES = {
    "MultiResolutionSTFTLoss()": ("auraloss.freq", "MultiResolutionSTFTLoss", {}),
    "MultiResolutionSTFTLoss(mel, A-weighted)": ("auraloss.freq", "MultiResolutionSTFTLoss", README),
    "SumAndDifferenceSTFTLoss(mel, A-weighted)": ("auraloss.freq", "SumAndDifferenceSTFTLoss", README),
    "STFTLoss()": ("auraloss.freq", "STFTLoss", {}),
    "STFTLoss(w_phs=1)": ("auraloss.freq", "STFTLoss", {"w_phs": 1.0}),
    "STFTLoss(A-weighted)": ("auraloss.freq", "STFTLoss", {"perceptual_weighting": True, "sample_rate": 44100}),
    "MelSTFTLoss(44100)": ("auraloss.freq", "MelSTFTLoss", {"sample_rate": 44100}),
    "STFTL1SNRDBLoss()": ("torch_l1_snr", "STFTL1SNRDBLoss", {"name": "loss"}),
    "STFTL1SNRDBLoss(levels)": ("torch_l1_snr", "STFTL1SNRDBLoss", {"name": "loss", "use_regularization": True}),
    "MultiL1SNRDBLoss()": ("torch_l1_snr", "MultiL1SNRDBLoss", {"name": "loss"}),
    "Wasserstein1DLoss(p=2)": ("sot.losses", "Wasserstein1DLoss", {}),
    "Wasserstein1DLoss(p=1)": ("sot.losses", "Wasserstein1DLoss", {"p": 1}),
    "Wasserstein1DLoss(mel)": ("sot.losses", "Wasserstein1DLoss", {"transform": "mel"}),
    "Wasserstein1DLoss(cqt)": (
        "sot.losses",
        "Wasserstein1DLoss",
        {"transform": "cqt", "sample_rate": 44100, "fmin": 200.0, "bins_per_semitone": 1, "n_bins": 72},
    ),
    "MultiResolutionSOTLoss()": ("sot.losses", "MultiResolutionSOTLoss", {}),
    "ESRLoss()": ("auraloss.time", "ESRLoss", {}),
    "DCLoss()": ("auraloss.time", "DCLoss", {}),
    "LogCoshLoss()": ("auraloss.time", "LogCoshLoss", {}),
    "SNRLoss()": ("auraloss.time", "SNRLoss", {}),
    "SISDRLoss()": ("auraloss.time", "SISDRLoss", {}),
    "SDSDRLoss()": ("auraloss.time", "SDSDRLoss", {}),
    "L1SNRLoss()": ("torch_l1_snr", "L1SNRLoss", {"name": "loss"}),
    "L2SNRLoss()": ("torch_l1_snr", "L2SNRLoss", {"name": "loss"}),
    "L1SNRDBLoss()": ("torch_l1_snr", "L1SNRDBLoss", {"name": "loss"}),
}
# What has no original to be compared with: class, arguments, what it compares.
ALONE = {
    "ChromaSTFTLoss(44100)": ("ChromaSTFTLoss", {"sample_rate": 44100}, "waveforms"),
    "RandomResolutionSTFTLoss()": ("RandomResolutionSTFTLoss", {}, "waveforms"),
    "MultiResolutionComplexSTFTLoss()": ("MultiResolutionComplexSTFTLoss", {}, "waveforms"),
    "WaveformL1Loss()": ("WaveformL1Loss", {}, "waveforms"),
    "WaveformL2Loss()": ("WaveformL2Loss", {}, "waveforms"),
    "RelativeSpectralLoss()": ("RelativeSpectralLoss", {}, "spectra"),
    "SpectralConvergenceLoss()": ("SpectralConvergenceLoss", {}, "magnitudes"),
    "STFTMagnitudeLoss()": ("STFTMagnitudeLoss", {}, "magnitudes"),
    "MagnitudeL1Loss()": ("MagnitudeL1Loss", {}, "magnitudes"),
    "MagnitudeL2Loss()": ("MagnitudeL2Loss", {}, "magnitudes"),
    "MagnitudeRMSELoss()": ("MagnitudeRMSELoss", {}, "magnitudes"),
    "MagnitudeLogL1Loss()": ("MagnitudeLogL1Loss", {}, "magnitudes"),
    "MagnitudeLogL2Loss()": ("MagnitudeLogL2Loss", {}, "magnitudes"),
    "MaskLoss()": ("MaskLoss", {}, "masks"),
    "ComponentLoss(0.1, 0.8)": ("ComponentLoss", {"alpha": 0.1, "beta": 0.8}, "masks"),
}


def build(case: str, ours: bool, device: str) -> torch.nn.Module:
    module, name, arguments = CASES.get(case) or ("sepkit.losses", *ALONE[case][:2])
    return getattr(importlib.import_module("sepkit.losses" if ours else module), name)(**arguments).to(device)


def quantities(case: str, seed: int, device: str, shape: tuple[int, ...] = SHAPE) -> list[torch.Tensor]:
    """Make what a loss compares; the first one asks for a gradient."""
    generator = torch.Generator().manual_seed(seed)
    target = 0.1 * torch.randn(shape, generator=generator)
    noise = 0.05 * torch.randn(shape, generator=generator)
    found = [0.7 * target + noise, target, target + noise]
    kind = ALONE[case][2] if case in ALONE else "waveforms"
    if kind != "waveforms":
        window = torch.hann_window(2048)
        spectra = (torch.stft(it.flatten(0, 1), 2048, 1024, window=window, return_complex=True) for it in found)
        found = [spectrum.unflatten(0, shape[:2]) for spectrum in spectra]
    if kind in ("magnitudes", "masks"):
        found = [spectrum.abs() for spectrum in found]
    if kind == "masks":
        estimate, target, mixture = found
        mask = estimate / mixture.clamp(min=1e-3)
        found = [mask, mixture, target] if case.startswith("Mask") else [mask, target, mixture - target]
    elif kind != "spectra":
        found = found[:2]
    first, *others = (it.to(device) for it in found)
    return [first.requires_grad_(), *others]


def call(case: str, loss: torch.nn.Module, seed: int, device: str, wall: bool) -> tuple[float, float, torch.Tensor]:
    """Give the seconds of one call, the value and the gradient."""
    compared = quantities(case, seed, device)
    clock = time.perf_counter if wall else time.process_time
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    value = loss(*compared)
    value.backward()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, value.item(), compared[0].grad


def peak(case: str, ours: bool, device: str) -> float:
    """Measure, in a fresh process, the MiB that one call needs beyond its inputs."""
    loss = build(case, ours, device)
    if device != "cpu":
        compared = quantities(case, 0, device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(*compared).backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    loss(*quantities(case, 0, device, (1, 2, 40000))).backward()  # libraries and tables are loaded
    compared = quantities(case, 0, device)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmHWM")
    loss(*compared).backward()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def measure(case: str, rounds: int, device: str, wall: bool) -> dict[str, float]:
    both = {ours: build(case, ours, device) for ours in ((True,) if case in ALONE else (False, True))}
    first = {ours: call(case, loss, 0, device, wall) for ours, loss in both.items()}
    seconds = {False: [], True: []}
    for seed in range(1, rounds + 1):
        for ours, loss in both.items():
            seconds[ours].append(call(case, loss, seed, device, wall)[0])
    found = {"first": first[True][0] * 1e3, "sepkit": statistics.median(seconds[True]) * 1e3}
    if case in ALONE:
        return found
    gradients = first[False][2], first[True][2]
    return {
        **found,
        "original": statistics.median(seconds[False]) * 1e3,
        "speed": statistics.median(a / b for a, b in zip(seconds[False], seconds[True], strict=True)),
        "value": abs(first[True][1] - first[False][1]) / max(abs(first[False][1]), 1e-12),
        "gradient": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
    }


def in_fresh_process(*arguments: str, wall: bool) -> dict:
    command = [sys.executable, __file__, *arguments, "--clock", "wall" if wall else "cpu"]
    # Threads that spin while they wait would count as work, the more the busier the machine.
    passive = {} if wall else {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **passive})
    return json.loads(done.stdout.splitlines()[-1])


def row(case: str, options: argparse.Namespace) -> str:
    shared = ["--threads", str(options.threads), "--rounds", str(options.rounds), "--device", options.device]
    run = functools.partial(in_fresh_process, wall=options.clock == "wall")
    times = run("--measure", case, *shared)
    ours = f"{times['sepkit']:.0f}", f"{times['first']:.0f}"
    new = run("--peak", case, "sepkit", *shared)["peak"]
    if case in ALONE:
        return f"| `{case}` | | {ours[0]} | | {ours[1]} | | {new:.0f} | | |"
    old = run("--peak", case, "original", *shared)["peak"]
    return (
        f"| `{case}` | {times['original']:.0f} | {ours[0]} | {times['speed']:.1f} | {ours[1]} "
        f"| {old:.0f} | {new:.0f} | {times['value']:.0e} | {times['gradient']:.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], help="default: cpu for one thread of a CPU, else wall")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=[*CASES, *ALONE], help="substrings of names")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WHICH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.clock = options.clock or ("cpu" if options.threads == 1 and options.device == "cpu" else "wall")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.measure:
        print(json.dumps(measure(options.measure, options.rounds, options.device, options.clock == "wall")))
        return
    if options.peak:
        print(json.dumps({"peak": peak(options.peak[0], options.peak[1] == "sepkit", options.device)}))
        return
    print("| loss | original, ms | sepkit, ms | times faster | first call, ms | original, MiB | sepkit, MiB "
          "| value differs by | gradient differs by |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for case in [*CASES, *ALONE]:
        if any(part in case for part in options.only) and (case in ALONE or is_installed(CASES[case][0])):
            print(row(case, options), flush=True)


def is_installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main()
