"""Speed and memory of the losses beside the packages whose names they carry.

    pip install --no-deps auraloss==0.4.0 torch-l1-snr==0.2.1 sot-loss==0.1.5 && pip install librosa
    python benchmarks/losses.py [--threads 1] [--rounds 9] [--only NAME ...] [--device cuda]

Each round calls the original, then ours, on fresh signals of 4 items x stereo x 4 s at 44.1 kHz, forward and backward.
Times are medians of CPU seconds of the process (of wall seconds on a GPU); peak memory is what a fresh process needs
beyond its inputs for one call, backward included. Originals that are not installed are left out.
"""

import argparse
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


def build(case: str, ours: bool, device: str) -> torch.nn.Module:
    module, name, arguments = CASES[case]
    return getattr(importlib.import_module("sepkit.losses" if ours else module), name)(**arguments).to(device)


def signals(seed: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = 0.1 * torch.randn(SHAPE, generator=generator)
    estimate = 0.7 * target + 0.05 * torch.randn(SHAPE, generator=generator)
    return estimate.to(device).requires_grad_(), target.to(device)


def call(loss: torch.nn.Module, seed: int, device: str) -> tuple[float, float, torch.Tensor]:
    """Give the seconds of one call, the value and the gradient."""
    estimate, target = signals(seed, device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    value = loss(estimate, target)
    value.backward()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, value.item(), estimate.grad


def peak(case: str, ours: bool, device: str) -> float:
    """Measure, in a fresh process, the MiB that one call needs beyond its inputs."""
    loss = build(case, ours, device)
    if device != "cpu":
        estimate, target = signals(0, device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(estimate, target).backward()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    small = [0.1 * torch.randn(1, 2, 40000, requires_grad=True) for _ in range(2)]
    loss(*small).backward()  # libraries and tables are loaded
    estimate, target = signals(0, device)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = resident("VmHWM")
    loss(estimate, target).backward()
    return (resident("VmHWM") - before) / 1024


def resident(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


def measure(case: str, rounds: int, device: str) -> dict[str, float]:
    both = {ours: build(case, ours, device) for ours in (False, True)}
    first = {ours: call(loss, 0, device) for ours, loss in both.items()}
    seconds = {False: [], True: []}
    for seed in range(1, rounds + 1):
        for ours, loss in both.items():
            seconds[ours].append(call(loss, seed, device)[0])
    old, new = (statistics.median(seconds[ours]) for ours in (False, True))
    gradients = first[False][2], first[True][2]
    return {
        "first": first[True][0] * 1e3,
        "original": old * 1e3,
        "sepkit": new * 1e3,
        "speed": statistics.median(a / b for a, b in zip(seconds[False], seconds[True], strict=True)),
        "value": abs(first[True][1] - first[False][1]) / max(abs(first[False][1]), 1e-12),
        "gradient": float((gradients[1] - gradients[0]).norm() / gradients[0].norm()),
    }


def in_fresh_process(*arguments: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    # Threads that spin while they wait would count as work, the more the busier the machine.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def row(case: str, options: argparse.Namespace) -> str:
    shared = ["--threads", str(options.threads), "--rounds", str(options.rounds), "--device", options.device]
    times = in_fresh_process("--measure", case, *shared)
    old, new = (in_fresh_process("--peak", case, which, *shared)["peak"] for which in ("original", "sepkit"))
    return (
        f"| `{case}` | {times['original']:.0f} | {times['sepkit']:.0f} | {times['speed']:.1f} | {times['first']:.0f} "
        f"| {old:.0f} | {new:.0f} | {times['value']:.0e} | {times['gradient']:.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=list(CASES), help="substrings of names")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WHICH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.measure:
        print(json.dumps(measure(options.measure, options.rounds, options.device)))
        return
    if options.peak:
        print(json.dumps({"peak": peak(options.peak[0], options.peak[1] == "sepkit", options.device)}))
        return
    print("| loss | original, ms | sepkit, ms | times faster | first call, ms | original, MiB | sepkit, MiB "
          "| value differs by | gradient differs by |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        if any(part in case for part in options.only):
            try:
                importlib.import_module(CASES[case][0])
            except ImportError:
                continue
            print(row(case, options), flush=True)


if __name__ == "__main__":
    main()
