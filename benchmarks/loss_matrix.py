"""The same small separator trained with each loss, and measured by every loss, by SDR and by SI-SDR.

    python benchmarks/loss_matrix.py [--real ROOT] [--only NAME ...] [--report] [--run runs/loss_matrix] [--docs docs]

One set of songs, steps and random numbers for all; only the loss differs. AdamW's eps is so small that the scale of a
loss does not matter, and gradients are not clipped. Measured are the six seconds of each test song in which the vocals
are loudest: the built-in songs, and those below ROOT/test/<song>/ where it is given. The losses that reach the best SDR
on the built-in songs are trained from three seeds. Half an hour of CPU time of one thread; every result is kept in
RUN/results.json, and what is there is not made again. Written are DOCS/loss_matrix.csv, with all values, a picture for
each set of songs, DOCS/images/loss_matrix*.png, and the table in DOCS/loss_matrix.md.

After A. Steinmetz, J. Reiss, auraloss: audio focused loss functions in PyTorch, 2020, table 1.
"""

import argparse
import csv
import json
import statistics
import warnings
from pathlib import Path

import torch
from torch import Tensor

from sepkit import metrics
from sepkit.datasets import Song, open_songs
from sepkit.model_folder import load_model
from sepkit.objective import Objective
from sepkit.separator import Separator
from sepkit.training import train

SIZES = {"fft_sizes": [1024, 2048, 512], "hop_sizes": [120, 240, 50], "win_lengths": [600, 1200, 240]}
WAVEFORM_L1 = {"class": "torch.nn.L1Loss", "inputs": {"input": "estimate"}}
# Each at its defaults. A constant-Q transport takes 13 s a step at its own, so it is left out.
TRAINED = {
    name.removesuffix("Loss"): [{"class": name}]
    for name in (
        "ESRLoss", "LogCoshLoss", "SNRLoss", "SISDRLoss", "SDSDRLoss", "L1SNRLoss", "L2SNRLoss", "L1SNRDBLoss",
        "STFTL1SNRDBLoss", "MultiL1SNRDBLoss", "STFTLoss", "MelSTFTLoss", "ChromaSTFTLoss", "MultiResolutionSTFTLoss",
        "RandomResolutionSTFTLoss", "MultiResolutionComplexSTFTLoss", "Wasserstein1DLoss", "MultiResolutionSOTLoss",
        "L1Loss", "L2Loss", "RMSELoss", "LogL1Loss", "LogL2Loss", "SpectralConvergenceLoss", "STFTMagnitudeLoss",
        "RelativeSpectralLoss", "MaskLoss",
    )
}  # fmt: skip
TRAINED |= {
    "SumAndDifferenceSTFT": [{"class": "SumAndDifferenceSTFTLoss", **SIZES}],
    "Wasserstein1D mel": [{"class": "Wasserstein1DLoss", "transform": "mel"}],
    "Component 0.1 0.8": [{"class": "ComponentLoss", "alpha": 0.1, "beta": 0.8}],
    "waveform L1": [WAVEFORM_L1],
    "RoFormer": [{"class": "MultiResolutionComplexSTFTLoss"}, {**WAVEFORM_L1, "name": "waveform"}],
}
HEARD_ONLY = {"DC": [{"class": "DCLoss"}]}  # the means alone: nothing to train a separator with
RATIOS = {"SDR": metrics.sdr, "SI-SDR": metrics.si_sdr}
EXCERPT = 6 * 44100  # samples
BATCH = 4
BEST, SEEDS = 6, (0, 1, 2)
MARKS = "<!-- written by benchmarks/loss_matrix.py -->", "<!-- end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", metavar="ROOT", help="folder of other songs to measure with")
    parser.add_argument("--only", nargs="*", default=list(TRAINED), choices=TRAINED, metavar="NAME")
    parser.add_argument("--report", action="store_true", help="train nothing, show what there is")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--run", type=Path, default=Path("runs/loss_matrix"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = Results(options.run / "results.json")
    if options.report:
        names = [name for name in TRAINED if results.kinds(name)]
    else:
        names = options.only
        train_all(results, names, options)
    ranked = results.ranked(names, "built-in", "SDR")
    kinds = [kind for kind in results.kinds(ranked[0]) if all(kind in results.kinds(name) for name in names)]
    columns = list(RATIOS) + [name for name in TRAINED | HEARD_ONLY if name != "RoFormer"]
    (options.docs / "images").mkdir(parents=True, exist_ok=True)
    write_csv(options.docs / "loss_matrix.csv", results, ranked, kinds, columns)
    for kind in kinds:
        ending = "" if kind == "built-in" else f"_{kind}"
        draw(options.docs / "images" / f"loss_matrix{ending}.png", results, ranked, kind, columns)
    insert(options.docs / "loss_matrix.md", table(results, ranked, kinds, columns))


def train_all(results: "Results", names: list[str], options: argparse.Namespace) -> None:
    """Train with every loss from one seed, and with the best from all."""
    songs = {"built-in": excerpts("demo")} | ({"real": excerpts(options.real)} if options.real else {})
    for name in names:
        results.add(name, SEEDS[0], options, songs)
    for name in results.ranked(names, "built-in", "SDR")[:BEST]:
        for seed in SEEDS[1:]:
            results.add(name, seed, options, songs)


def recipe(losses: list[dict], seed: int, n_steps: int) -> dict:
    """Describe one training: a single epoch, at a constant rate."""
    return {
        "separator": {
            "sources": ["vocals"],
            "segment": 2.0,
            "transform": {"class": "STFT", "n_fft": 2048, "hop_length": 1024},
            "network": {"class": "BLSTM", "hidden_size": 96, "n_layers": 1, "bandwidth": 11000},
        },
        "data": {
            "root": "demo",
            "items_per_epoch": n_steps * BATCH,
            "remix": 0.7,
            "augment": [{"class": "Gain", "low_db": -6, "high_db": 6}, {"class": "Sign"}, {"class": "SwapChannels"}],
            "workers": 0,
        },
        "losses": losses,
        "training": {
            "epochs": 1,
            "batch_size": BATCH,
            "optimizer": {"class": "AdamW", "lr": 0.004, "eps": 1e-16},
            "schedule": {"class": "Constant", "warmup": 0.04},
            "ema": 0.98,
            "precision": "float32",
            "seed": seed,
        },
        "validation": {"excerpt": 3.0},
        "observers": [],
    }


def excerpts(root: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Read of each test song mixture (1, C, T) and vocals (1, 1, C, T) where the vocals are loudest."""
    return {song.name: excerpt(song) for song in open_songs(root, "test", ["vocals"], 44100, 2)}


def excerpt(song: Song) -> tuple[Tensor, Tensor]:
    vocals = song.read_stem("vocals", 0, song.n_samples)
    starts = range(0, max(1, song.n_samples - EXCERPT), 44100)
    start = max(starts, key=lambda start: float(vocals[:, start : start + EXCERPT].square().sum()))
    return song.read_mixture(start, EXCERPT)[None], song.read_stem("vocals", start, EXCERPT)[None, None]


@torch.no_grad()
def measure(separator: Separator, songs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Take every loss of one separator, the median over the songs."""
    losses = [{"name": name, **terms[0]} for name, terms in (TRAINED | HEARD_ONLY).items() if len(terms) == 1]
    objective = Objective(losses, separator)
    values = []
    for mixture, target in songs.values():
        separation = separator.analyze(mixture, target)
        means = objective(separation).means()
        report = {term.name: float(means[term.name]) for term in objective.terms}
        ratios = {name: float(ratio(separation.estimate, target)) for name, ratio in RATIOS.items()}
        values.append({**report, **ratios})
    return {name: statistics.median(song[name] for song in values) for name in values[0]}


class Results:
    """What was measured, by loss and seed, in a file that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = json.loads(path.read_text()) if path.exists() else {}

    def add(self, name: str, seed: int, options: argparse.Namespace, songs: dict[str, dict]) -> None:
        """Train with a loss and measure the separator on each set of songs, where that has not been done."""
        settings = recipe(TRAINED[name], seed, options.steps)
        entry = self.found.get(f"{name}, {seed}", {})
        if entry.get("recipe") != settings:
            entry = {"recipe": settings, "scores": {}}
        run = self.path.parent / f"{name.replace(' ', '_')}-{seed}"
        missing = [kind for kind in songs if kind not in entry["scores"]]
        if not missing:
            return
        train(settings, run, device="cpu", quiet=True, log=lambda _: None)
        for kind in missing:
            entry["scores"][kind] = measure(load_model(run), songs[kind])
            print(f"{name}, seed {seed}, {kind}: {entry['scores'][kind]['SDR']:.2f} dB", flush=True)
        self.found[f"{name}, {seed}"] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1))

    def kinds(self, name: str) -> list[str]:
        """List the sets of songs that a loss was measured on."""
        return list(self.found.get(f"{name}, {SEEDS[0]}", {"scores": {}})["scores"])

    def values(self, name: str, kind: str, measured: str) -> list[float]:
        """List one number of a loss, a value for each seed."""
        entries = (self.found.get(f"{name}, {seed}") for seed in SEEDS)
        return [entry["scores"][kind][measured] for entry in entries if entry]

    def mean(self, name: str, kind: str, measured: str) -> float:
        """Average one number of a loss over the seeds."""
        return statistics.mean(self.values(name, kind, measured))

    def ranked(self, names: list[str], kind: str, measured: str) -> list[str]:
        """Order losses by one measure, the best first."""
        sign = -1 if measured in RATIOS else 1
        return sorted(names, key=lambda name: sign * self.mean(name, kind, measured))

    def ranks(self, names: list[str], kind: str, measured: str) -> list[int]:
        """Say who is first, second, ... by one measure."""
        ordered = self.ranked(names, kind, measured)
        return [1 + ordered.index(name) for name in names]


def write_csv(path: Path, results: Results, names: list[str], kinds: list[str], columns: list[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["songs", "trained with", "seeds", *columns])
        for kind in kinds:
            for name in names:
                means = [f"{results.mean(name, kind, column):.5g}" for column in columns]
                writer.writerow([kind, name, len(results.values(name, kind, "SDR")), *means])


def table(results: Results, names: list[str], kinds: list[str], columns: list[str]) -> list[str]:
    """Lay out what matters most: ratios, the mean place by all measures, the place by the loss's own."""
    headings = [f"{ratio}, {kind}" for kind in kinds for ratio in RATIOS]
    lines = ["| trained with | " + " | ".join(headings) + " | mean rank | own rank |"]
    lines.append("|---|" + "---|" * (len(headings) + 2))
    ranks = {column: dict(zip(names, results.ranks(names, "built-in", column), strict=True)) for column in columns}
    for name in names:
        cells = [describe(results.values(name, kind, ratio)) for kind in kinds for ratio in RATIOS]
        mean_rank = statistics.mean(ranks[column][name] for column in columns)
        own = ranks[name][name] if name in columns else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {mean_rank:.1f} | {own} |")
    return lines


def insert(path: Path, lines: list[str]) -> None:
    """Put the table between its marks in a page, or onto the screen where there is no page."""
    if not path.exists():
        print("\n".join(lines))
        return
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    path.write_text(before + "\n".join([MARKS[0], "", *lines, "", MARKS[1]]) + after, encoding="utf-8")


def describe(values: list[float]) -> str:
    """Write a mean, and how far single values are from it."""
    mean = statistics.mean(values)
    spread = max(abs(value - mean) for value in values)
    return f"{mean:.2f} ± {spread:.2f}" if len(values) > 1 else f"{mean:.2f}"


def draw(path: Path, results: Results, names: list[str], kind: str, columns: list[str]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.36 * len(columns) + 2.6, 0.3 * len(names) + 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ranks = [results.ranks(names, kind, column) for column in columns]
    matrix = [[column[row] for column in ranks] for row in range(len(names))]
    axes.imshow(matrix, cmap="RdYlBu_r", aspect="auto")
    for row, line in enumerate(matrix):
        for column, rank in enumerate(line):
            own = columns[column] == names[row]
            colour = "black" if 0.15 < rank / len(names) < 0.85 else "white"
            axes.text(column, row, rank, ha="center", va="center", fontsize=9, color=colour,
                      weight="bold" if own else "normal")  # fmt: skip
            if own:
                axes.add_patch(_frame(column, row))
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel=f"measured with, on {kind} songs (1: the best of the column)", ylabel="trained with")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=110)


def _frame(column: int, row: int) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5)


if __name__ == "__main__":
    main()
