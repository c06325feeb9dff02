"""A training step of Open-Unmix's network in its published loop, beside the same network in sepkit's.

    python benchmarks/training.py [--rounds 3] [--steps 20] [--folder DIR] [--keep] [--output FILE]

In one run it cuts batches out of the built-in songs, makes an environment with openunmix from the registry, which
shares torch with this one, and trains in turns, in fresh processes of one thread: stereo of 6 s at 44.1 kHz in batches
of 4, 512 features, bins up to 16 kHz, Adam, mean squared error of magnitudes. The loop of openunmix is that of its
scripts/train.py: encoder, network, loss, `backward`, `step`, `loss.item()`; frames are centred in both. sepkit's is
`Trainer.take_step`, which also looks whether loss and gradient are finite, counts terms and moves the rate. Both begin
with the same weights, and read the same batches from a file into the same place before each step, outside the time
that is measured. "kept" is with freed memory kept, as `sepkit-train` does; the others have the C library's defaults.
"recomputed" is with `training.recompute: true`, which computes the recurrence twice and does not keep its inside.

CPU seconds are user and system, medians of the steps of all rounds. Memory is the largest of the process, and above
what it had after its imports. Losses are compared without dropout, both
with the same window, as openunmix computes its own in float32: 100 steps in float64 on 2 s, and 10 in float32. There
Adam's published eps, 1e-8, is below the rounding of gradients: the first step moves a weight whose gradient is nearly 0
by the whole rate, up or down as rounding falls, and the losses run apart from there. So float32 is compared with 1e-5
in both, and shown with 1e-8.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from unmix import ADAM, PACKAGE, PUBLISHED, make_encoder, make_network, take_step

RATE, N_FFT, HOP, HIDDEN, BANDWIDTH = PUBLISHED[:5]
BATCH, SECONDS, SHORT = 4, 6, 2  # SECONDS: of an example whose cost is measured; SHORT: of those in float64
N_BATCHES = 10
WARM_UP = 3  # steps
PACKAGES = [PACKAGE]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MKL_NUM_THREADS": "1"}
ENGINES = ("openunmix", "sepkit", "kept", "recomputed")
EPS = 1e-8  # of Adam, as published


class Compared(NamedTuple):
    """How losses are compared: in how many steps on how many seconds, with which eps, and what may differ."""

    n_steps: int
    seconds: int
    eps: float
    allowed: float  # relative difference


LOSSES = {
    "float32": Compared(10, SECONDS, 1e-5, 1e-4),
    "published": Compared(10, SECONDS, EPS, math.inf),
    "float64": Compared(100, SHORT, EPS, 1e-9),
}
FASTER, SMALLER = 1.2, 0.8  # what is wanted
RECIPE = {
    "separator": {
        "sources": ["vocals"],
        "segment": float(SECONDS),
        "transform": {"class": "STFT", "n_fft": N_FFT, "hop_length": HOP, "whole_hops": False},
        "network": {"class": "OpenUnmix", "hidden_size": HIDDEN, "bandwidth": float(BANDWIDTH), "dropout": 0.4},
    },
    "data": {"root": "demo", "items_per_epoch": N_BATCHES * BATCH, "workers": 0, "remix": 0.5},
    "losses": [{"class": "MagnitudeL2Loss"}],
    "training": {
        "batch_size": BATCH,
        "epochs": 10**4,
        "optimizer": {"class": "Adam", "fused": True, **ADAM},
        "schedule": {"class": "Constant"},
        "precision": "float32",
    },
    "observers": [],
}


class Batches:
    """Batches of a file, mixture and target (2, B, C, T) each, read into one place after another, endlessly."""

    def __init__(self, folder: Path, seconds: int, dtype: torch.dtype) -> None:
        self.file = folder / f"batches_{seconds}.f32"
        self.read = torch.empty(2, BATCH, 2, seconds * RATE)
        self.given = self.read if dtype == torch.float32 else self.read.to(dtype)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with self.file.open("rb", buffering=0) as file:
            while True:
                if file.readinto(memoryview(self.read.numpy()).cast("B")) == 0:
                    file.seek(0)
                    continue
                if self.given is not self.read:
                    self.given.copy_(self.read)
                yield self.given[0], self.given[1]


def openunmix_steps(
    folder: Path, seconds: int, dtype: torch.dtype, dropout: bool, eps: float = EPS
) -> Iterator[Callable[[], float]]:
    """Yield a step of the published loop for each batch."""
    torch.manual_seed(0)
    unmix = make_network()
    if not (folder / "weights.pt").exists():
        torch.save(unmix.state_dict(), folder / "weights.pt")
    if not dropout:
        unmix.lstm.dropout = 0.0
    encoder = make_encoder()
    encoder[0].window.data = torch.hann_window(N_FFT, dtype=torch.float64).float()  # its own is computed in float32
    encoder = encoder.to(dtype)
    unmix = unmix.to(dtype).train()
    optimizer = torch.optim.Adam(unmix.parameters(), eps=eps, **ADAM)
    for x, y in Batches(folder, seconds, dtype):
        yield partial(take_step, unmix, encoder, optimizer, x, y)


class Given:
    """A batch as the loader hands it out."""

    failures, waited, held = (), 0.0, 0.0
    present = torch.ones(BATCH, 1, dtype=torch.bool)

    def __init__(self, mixture: Tensor, target: Tensor) -> None:
        self.pair = mixture, target[:, None]

    def __len__(self) -> int:
        return BATCH

    def mix(self) -> tuple[Tensor, Tensor]:
        return self.pair


def sepkit_steps(
    folder: Path, seconds: int, dtype: torch.dtype, dropout: bool, eps: float = EPS, recompute: bool = False
) -> Iterator[Callable[[], float]]:
    """Yield a step of this package's loop for each batch."""
    from sepkit.importing.open_unmix import convert

    optimizer = {**RECIPE["training"]["optimizer"], "eps": eps}
    precision = str(dtype).removeprefix("torch.")
    trainer = make_trainer(seconds, dropout, recompute=recompute, precision=precision, optimizer=optimizer)
    trainer.separator.load_state_dict(convert(torch.load(folder / "weights.pt"), trainer.separator.settings))
    trainer.separator.train()
    for position, (mixture, target) in enumerate(Batches(folder, seconds, dtype)):
        given = Given(mixture, target)

        def step(batch: Given = given, position: int = position % N_BATCHES) -> float:
            trainer.totals.clear()
            trainer.take_step(iter([batch]), position)
            return float(trainer.totals.means()["loss"])

        yield step


def make_trainer(seconds: int, dropout: bool = True, **training: object):
    """Build the training of the recipe, with these settings of `training`."""
    from sepkit.recipe import load_recipe
    from sepkit.training.loop import Trainer
    from sepkit.training.opening import open_data

    network = {**RECIPE["separator"]["network"], **({} if dropout else {"dropout": 0.0})}
    separator = {**RECIPE["separator"], "segment": float(seconds), "network": network}
    recipe = load_recipe({**RECIPE, "separator": separator, "training": {**RECIPE["training"], **training}})
    return Trainer(recipe, open_data(recipe), torch.device("cpu"))


def write_batches(folder: Path) -> None:
    """Cut the batches, mixture and target each, out of the built-in songs."""
    if (folder / f"batches_{SHORT}.f32").exists():
        return
    from sepkit.training.loading import make_loader

    with (folder / f"batches_{SECONDS}.f32").open("wb") as long, (folder / f"batches_{SHORT}.f32").open("wb") as short:
        for batch in make_loader(make_trainer(SECONDS)).batches(0):
            mixture, targets = batch.mix()
            pair = torch.stack([mixture, targets[:, 0]])
            long.write(pair.numpy().tobytes())
            short.write(pair[..., : SHORT * RATE].numpy().tobytes())


# One measurement, in a process of its own


def memory(key: str) -> float:
    """Return a line of this process' memory, MB; Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) / 1024


def run(engine: str, task: str, folder: Path, n_steps: int) -> dict:
    """Train for some steps, and say what they cost and which losses they had."""
    torch.set_num_threads(1)
    if engine == "kept":
        from sepkit.processes import retain_freed_memory

        retain_freed_memory()
    begin = openunmix_steps if engine == "openunmix" else partial(sepkit_steps, recompute=engine == "recomputed")
    how = LOSSES.get(task, Compared(n_steps + WARM_UP, SECONDS, EPS, math.inf))
    dtype = torch.float64 if task == "float64" else torch.float32
    steps = begin(folder, how.seconds, dtype, dropout=task == "cost", eps=how.eps)
    costs, losses = [], []
    imported = None
    for step, _ in zip(steps, range(how.n_steps), strict=False):
        imported = memory("VmRSS") if imported is None else imported  # with the network, and a batch
        started = time.process_time()
        losses.append(step())
        costs.append(time.process_time() - started)
    peak = memory("VmHWM")
    return {"costs": costs[WARM_UP:], "losses": losses, "peak": peak, "above": peak - imported}


def measure(engine: str, task: str, python: Path, folder: Path, n_steps: int) -> dict:
    """Measure in a fresh process."""
    call = [python, "-W", "ignore", __file__, "--run", engine, task, "--folder", folder, "--steps", str(n_steps)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(f"{engine}, {task} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


# What is measured with


def make_environment(folder: Path) -> Path:
    """Make an environment with the other package, which takes torch and what else is there from this one."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print("making an environment with", ", ".join(PACKAGES), flush=True)
        venv.create(folder, with_pip=True, clear=True)
        site = next((folder / "lib").glob("python*/site-packages"))
        here = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (site / "shared.pth").write_text("\n".join(here) + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def compare_losses(found: dict[str, dict[str, dict]]) -> tuple[list[str], bool]:
    """Make a row for each precision, and say whether all are near enough."""
    lines = ["| losses | eps of Adam | steps | largest relative difference | allowed |", "|---|---|---|---|---|"]
    reached = True
    for task in found:
        how = LOSSES[task]
        theirs, ours = (np.array(found[task][engine]["losses"]) for engine in ("openunmix", "sepkit"))
        difference = float(np.max(np.abs(ours / theirs - 1)))
        reached &= difference <= how.allowed
        dtype = "float64" if task == "float64" else "float32"
        allowed = f"{how.allowed:.0e}" if math.isfinite(how.allowed) else "any"
        lines.append(f"| {dtype} | {how.eps:.0e} | {how.n_steps} | {difference:.1e} | {allowed} |")
    return lines, reached


def compare_costs(found: dict[str, list[dict]]) -> tuple[list[str], bool]:
    """Make a row for each engine, and say whether one of sepkit's is as fast and as small as is wanted."""
    costs = {engine: statistics.median(c for row in rows for c in row["costs"]) for engine, rows in found.items()}
    least = {engine: min(c for row in rows for c in row["costs"]) for engine, rows in found.items()}
    peaks, above = (
        {engine: statistics.median(row[key] for row in rows) for engine, rows in found.items()}
        for key in ("peak", "above")
    )
    lines = [
        "| loop | CPU s a step | least | examples per CPU s | times as fast | MB | share | above imports | share |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = ENGINES[0]
    for engine in found:
        lines.append(
            f"| {engine} | {costs[engine]:.3f} | {least[engine]:.3f} | {BATCH / costs[engine]:.2f} "
            f"| {costs[first] / costs[engine]:.2f} | {peaks[engine]:.0f} | {peaks[engine] / peaks[first]:.2f} "
            f"| {above[engine]:.0f} | {above[engine] / above[first]:.2f} |"
        )
    reached = any(
        costs[first] / costs[engine] >= FASTER and peaks[engine] / peaks[first] <= SMALLER for engine in ENGINES[1:]
    )
    return lines, reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where batches and environment are made")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of each, default 3")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of one measurement, default 20")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and use what is in it")
    parser.add_argument("--only", nargs="+", choices=("cost", *LOSSES), default=["cost", *LOSSES], metavar="TASK")
    parser.add_argument("--output", type=Path, help="file that the tables are written to as well")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(*options.run, options.folder, options.steps)))
        return 0
    folder = (options.folder or Path(tempfile.gettempdir()) / "sepkit-training").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_batches(folder)
        pythons = {engine: Path(sys.executable) for engine in ENGINES}
        pythons["openunmix"] = make_environment(folder / "environment")
        lines, reached = [], True
        if "cost" in options.only:
            costs: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
            for i in range(options.rounds):
                for engine in ENGINES:
                    costs[engine].append(measure(engine, "cost", pythons[engine], folder, options.steps))
                    print(f"round {i + 1}: {engine}: {statistics.median(costs[engine][-1]['costs']):.3f} s", flush=True)
            lines, reached = compare_costs(costs)
        losses = {task: {} for task in LOSSES if task in options.only}
        for task in losses:
            for engine in ENGINES[:2]:
                losses[task][engine] = measure(engine, task, pythons[engine], folder, 0)
        if losses:
            table, near = compare_losses(losses)
            lines, reached = [*lines, "", *table], reached and near
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(["", f"torch {torch.__version__}, {', '.join(PACKAGES)}", "", *lines]))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
