"""The recipe of the default model beside Open-Unmix's own: the same songs, the same CPU time, singers that none heard.

    pip install --target PEERS --no-deps openunmix==1.3.0
    python benchmarks/open_unmix.py JUDGE --peers PEERS [--root ROOT[=WEIGHT] ...] [--minutes 8] [--seeds 0 1 2]

"Open-Unmix" is the class of the package openunmix, trained as its scripts/train.py does: 512 features, frames of 4096
samples, bins up to 16 kHz, Adam with rate 1e-3 and decay 1e-5, batches of 16 examples of 6 s, mean squared error of
magnitudes, gains of 0.25 to 1.25 and swapped channels, stems of random songs, input standardised by their mixtures. It
learns vocals alone, with all of the time. Its rate never falls, and the last weights are scored: where 8 minutes are
less than one of its published epochs, of 5504 examples, neither its plateau schedule nor its choice of an epoch acts.
"Open-Unmix, Wiener" is the same weights with one iteration of its filter, the residual as the second source; else its
magnitudes have the mixture's phase. A recording is given to it whole.

"ours" is recipes/default.yaml, which learns all four stems. Examples of both are read by sepkit from the same songs;
one thread of the CPU; the songs are decoded before. The time of Open-Unmix begins with its first step: to import,
to open songs and to fit its input cost it nothing. That of ours is as in benchmarks/search.py: steps are counted
before, by what they cost, start not included.

The songs of JUDGE/valid (--split) are scored after the training: the median over songs of the SDR of vocals, and the
mean of their SI-SDR above the mixture's, dB. Rows go to docs/tables/open_unmix.csv, and a table of their means beside
it. Trainings whose rows are there, of as many minutes, the same songs and of the same split, are passed over: the same
command goes on where it stopped.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

import numpy as np
import search
import torch
from search import RECIPE, ROOT, STEMS
from torch import Tensor, nn
from unmix import ADAM, PUBLISHED, Settings, make_encoder, make_network, take_step

from sepkit.augment import SwapChannels
from sepkit.datasets import Song, SongDataset
from sepkit.datasets.loader import Loader
from sepkit.datasets.plan import EpochSampler
from sepkit.datasets.store_plan import plan_store
from sepkit.importing import open_unmix
from sepkit.model_folder import save_model
from sepkit.processes import retain_freed_memory
from sepkit.recipe import load_recipe
from sepkit.separator import Separator
from sepkit.training.data_store import store_data
from sepkit.training.opening import open_data

TABLE = ROOT / "docs" / "tables" / "open_unmix.csv"
OURS = "ours"
FILTERS = {"Open-Unmix": 0, "Open-Unmix, Wiener": 1}  # iterations
SIDES = {"theirs": [*FILTERS], "ours": [OURS]}
N_FITTED = 64  # examples by which the input is standardised
WHOLE = 60.0  # s; a recording up to this is separated in one piece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    search.add_options(parser, TABLE, seeds=[0, 1, 2])
    parser.add_argument("--only", choices=SIDES, help="the other is left out")
    parser.add_argument("--peers", type=Path, default=Path("peers"), help="folder of the package openunmix")
    options = parser.parse_args()
    sides = [options.only] if options.only else list(SIDES)
    if "theirs" in sides and (problem := find_openunmix(options.peers)):
        parser.error(problem)
    prepare()
    store_data(RECIPE, search.overrides(search.roots(options)))  # or the first training pays for it
    for side in sides:
        for seed in options.seeds:
            if not is_done(options, side, seed):
                rows = {"theirs": score_theirs, "ours": score_ours}[side](options, seed)
                search.write(options.table, [*search.read(options.table), *rows])
                write_page(options.table)


def find_openunmix(peers: Path) -> str | None:
    """Let openunmix be imported from a folder; say what is wrong where it cannot."""
    sys.path.append(str(peers))
    try:
        import openunmix.model  # noqa: F401
    except ImportError as error:
        remedy = __doc__.split("\n\n")[1].splitlines()[0].strip()
        return f"openunmix cannot be imported ({error}); --peers is {peers}, to install it there: {remedy}"
    return None


def prepare() -> None:
    """Compute on one thread, and keep freed memory, as sepkit-train does."""
    torch.set_num_threads(1)
    retain_freed_memory()


def is_done(options: argparse.Namespace, side: str, seed: int) -> bool:
    """Tell whether the rows of a training are in the table."""
    rows = search.read(options.table)
    return all(any(identity(options, network, seed).items() <= row.items() for row in rows) for network in SIDES[side])


def identity(options: argparse.Namespace, network: str, seed: int) -> dict[str, str]:
    """Return the cells by which a row is known."""
    facts = {"network": network, "minutes": f"{options.minutes:g}", "seed": str(seed)}
    return {**facts, "songs": search.songs(options), "split": options.split}


def score_ours(options: argparse.Namespace, seed: int) -> list[dict[str, str]]:
    """Train the default recipe, and score it."""
    run, steps, spent = search.fit(options, OURS, {}, seed)
    return [make_row(options, OURS, seed, run, steps, spent)]


def score_theirs(options: argparse.Namespace, seed: int, settings: Settings = PUBLISHED) -> list[dict[str, str]]:
    """Train Open-Unmix, and score it with and without its filter."""
    songs = open_data(load_recipe(RECIPE, search.overrides(search.roots(options))))["train"]
    network, steps, spent = train(songs, options.minutes, seed, settings)
    rows = []
    for name, iterations in FILTERS.items():
        run = options.runs / f"{name} {options.minutes:g} min {seed}"
        save_model(convert(network.state_dict(), iterations, settings), run, {"data": [each.name for each in songs]})
        rows.append(make_row(options, name, seed, run, steps, spent))
    return rows


def make_row(
    options: argparse.Namespace, network: str, seed: int, run: Path, steps: int, spent: float
) -> dict[str, str]:
    """Score the vocals of a run."""
    model, scores = search.judge(options, run)
    row = {
        **identity(options, network, seed),
        "parameters": f"{sum(each.numel() for each in model.parameters()) / 1e6:.2f} M",
        "steps": str(steps),
        "CPU min": f"{spent / 60:.1f}",
        "SDR": f"{scores.median('model', 'vocals', 'SDR'):.2f}",
        "SI-SDRi": f"{scores.mean('model', 'vocals', 'SI-SDRi'):.2f}",
    }
    print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


# Open-Unmix's training


def train(songs: list[Song], minutes: float, seed: int, settings: Settings = PUBLISHED) -> tuple[nn.Module, int, float]:
    """Train the network of vocals for as many CPU minutes; return it, its steps and its CPU seconds."""
    torch.manual_seed(seed)
    encoder = make_encoder(settings)
    network = make_network(settings, *fit_input(songs, encoder, seed, settings)).train()
    optimizer = torch.optim.Adam(network.parameters(), **ADAM)
    batches = load(make_dataset(songs, seed, settings), settings)
    steps, started = 0, time.process_time()
    while time.process_time() - started < 60 * minutes:
        take_step(network, encoder, optimizer, *next(batches))
        steps += 1
    return network.eval(), steps, time.process_time() - started


class Gain:
    """Scale each stem by a factor that is drawn uniformly, as openunmix does, and not in decibels."""

    low, high = 0.25, 1.25

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        return generator.uniform(self.low, self.high, n_stems)

    def fold(self, parameters: np.ndarray | Tensor) -> tuple[np.ndarray | Tensor, None]:
        return parameters, None

    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        return stems * parameters.to(stems)[..., None, None]


def make_dataset(songs: list[Song], seed: int, settings: Settings = PUBLISHED, augmented: bool = True) -> SongDataset:
    """Make the examples: each stem from a song of its own, anywhere in it. All four are drawn, as ours has them."""
    augment = [Gain(), SwapChannels()] if augmented else []
    n_samples = round(settings.seconds * settings.rate)
    return SongDataset(songs, STEMS, n_samples, None, 1.0, augment, seed, store=plan_store(songs))


def load(dataset: SongDataset, settings: Settings = PUBLISHED) -> Iterator[tuple[Tensor, Tensor]]:
    """Load batches endlessly: mixtures (B, C, T) and their vocals (B, C, T)."""
    loader = Loader(dataset, EpochSampler(len(dataset), settings.batch))
    for batch in chain.from_iterable(loader.batches(epoch) for epoch in count()):
        mixture, targets = batch.mix()
        yield mixture, targets[:, STEMS.index("vocals")].contiguous()


def fit_input(
    songs: list[Song], encoder: nn.Module, seed: int, settings: Settings = PUBLISHED
) -> tuple[np.ndarray, np.ndarray]:
    """Measure mean and spread of each bin (F,) over mixtures, which are not augmented; its channels are averaged."""
    dataset = make_dataset(songs, seed, settings, augmented=False)
    batches = load(dataset, settings)
    magnitudes = [encoder(next(batches)[0]).mean(1) for _ in range(-(-N_FITTED // settings.batch))]  # (B, F, N) each
    spread, mean = torch.std_mean(torch.cat(magnitudes), (0, 2), correction=0)
    return mean.numpy(), spread.clamp(min=1e-4 * float(spread.max())).numpy()


def convert(tensors: dict[str, Tensor], iterations: int, settings: Settings = PUBLISHED) -> Separator:
    """Make the separator that openunmix makes of a network, with this many iterations of its filter."""
    how = {"sample_rate": settings.rate, "n_hop": settings.hop, "segment": WHOLE, "sources": ["vocals"]}
    how |= {"niter": iterations, "residual": iterations > 0}
    arguments = {**open_unmix.settings(tensors, how), "chunking": {"last": "short"}}
    separator = Separator(**arguments)
    separator.load_state_dict(open_unmix.convert(tensors, arguments))
    return separator.eval()


# The page


def write_page(table: Path) -> None:
    """Write means over seeds, with ranges, the best first."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in search.read(table):
        groups.setdefault((row["minutes"], row["songs"], row["split"], row["network"]), []).append(row)
    lines = ["| CPU min | songs | split | network | parameters | seeds | steps | SDR | SI-SDRi |", "|" + "---|" * 9]
    for (minutes, mix, split, network), rows in sorted(
        groups.items(), key=lambda item: (float(item[0][0]), *item[0][1:3], -search.average(item[1], "SDR"))
    ):
        lines.append(
            f"| {minutes} | {mix} | {split} | {network} | {rows[0]['parameters']} | {len(rows)} "
            f"| {search.average(rows, 'steps'):.0f} | {search.span(rows, 'SDR')} | {search.span(rows, 'SI-SDRi')} |"
        )
    search.write_lines(table, lines)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # of what it starts
    main()
