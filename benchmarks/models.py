"""One table of all models that can be had here, on the same songs by the same measures: `make benchmark`.

    python benchmarks/models.py [--runs runs/recipes] [--models NAME|DIR ...] [--songs NAME=ROOT ...] [--no-training]

Trains the small recipes that have no run below --runs, about 5 CPU minutes each, an hour in all; scores them, the
model that comes with the package, and those of --models, such as htdemucs after `sepkit-model get htdemucs`, on the
test songs of --songs (default: the built-in ones), beside mixture and ideal ratio mask. Stopped, the same command
goes on. Rows go to docs/tables/benchmark.csv, in place of those of the same model and songs, and from there into
docs/tables/benchmark.md: the median SDR and the mean SI-SDRi over songs, dB, and what separating costs on one
thread.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "tables" / "benchmark.csv"
COLUMNS = ("songs", "target", "model", "parameters", "CPU ms", "tracks", "SDR", "SI-SDRi")
METRICS = ("SDR", "SI-SDRi")
ORDER = ("vocals", "drums", "bass", "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"), help="a run folder for each recipe")
    parser.add_argument("--models", nargs="*", default=[], help="further models, by folder or name")
    parser.add_argument("--songs", nargs="+", default=["built-in=demo"], help="sets of songs, NAME=ROOT")
    parser.add_argument("--no-training", action="store_true", help="leave out recipes that were not trained")
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    songs = dict(each.split("=", 1) if "=" in each else (Path(each).name, each) for each in options.songs)
    models = {"default": "default", **trained(options.runs, not options.no_training)}
    models |= {Path(each).name: each for each in options.models}
    for number, (name, place) in enumerate(models.items()):
        print(f"{number + 1} of {len(models)}: {name}", flush=True)
        for title, root in songs.items():
            replace(options.table, score(name, place, title, root))
    write_page(options.table)


def trained(runs: Path, trains: bool) -> dict[str, Path]:
    """Return the run folders of the small recipes, which are trained where they have none."""
    from sepkit.training import train

    small = sorted(path.stem for path in (ROOT / "recipes").glob("*_small.yaml"))
    names = ["vocals", "four_stems", "spectrogram_net_simple", *small]
    if trains:
        for name in names:
            if not (runs / name / "model.json").is_file():
                print(f"training {name}", flush=True)
                train(name, runs / name, device="cpu")
    found = {name: runs / name for name in names if (runs / name / "model.json").is_file()}
    for name in sorted(set(names) - set(found)):
        print(f"{name} was not trained below {runs}: it is left out")
    return found


def score(name: str, place: str | Path, title: str, root: str) -> list[dict[str, str]]:
    """Score a model and the baselines on a set of songs."""
    from sepkit import evaluate, load_model

    model = load_model(place)
    facts = {"parameters": f"{sum(each.numel() for each in model.parameters()) / 1e6:.2f} M", "CPU ms": cost(model)}
    scores = evaluate(model, root, metrics=METRICS, output=Path("evaluation/benchmark") / title / name)
    rows = []
    for target in model.sources:
        for system in scores.systems(target):
            if system != "silence":  # 0 dB by definition
                own = {"model": name, **facts} if system == "model" else {"model": system}
                values = {
                    "SDR": scores.median(system, target, "SDR"),
                    "SI-SDRi": scores.mean(system, target, "SI-SDRi"),
                }
                numbers = {key: "" if math.isnan(value) else f"{value:.2f}" for key, value in values.items()}
                n_tracks = str(len(scores.values(system, target, "SDR")))
                rows.append({"songs": title, "target": target, "tracks": n_tracks, **own, **numbers})
    return rows


def cost(model) -> str:
    """Measure the CPU time of separating a second of audio, in ms: the least of three."""
    import torch

    from sepkit import separate

    mixture = 0.1 * torch.randn(model.n_channels, 10 * model.sample_rate, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(3):
        start = time.process_time()
        separate(model, mixture)
        times.append(time.process_time() - start)
    return f"{100 * min(times):.0f}"


def replace(table: Path, rows: list[dict[str, str]]) -> None:
    """Add rows to the table, in place of those of the same songs, target and model."""
    former = []
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            former = list(csv.DictReader(file))
    keys = {(row["songs"], row["target"], row["model"]) for row in rows}
    kept = [row for row in former if (row["songs"], row["target"], row["model"]) not in keys]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows([*kept, *rows])


def write_page(table: Path) -> None:
    """Write the table as Markdown, a block for each set of songs and each target, best SDR first."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for songs in dict.fromkeys(row["songs"] for row in rows):
        for target in ORDER:
            block = [row for row in rows if (row["songs"], row["target"]) == (songs, target)]
            if block:
                lines += [f"**{target}, {songs}**, {max(int(row['tracks']) for row in block)} songs", ""]
                lines += ["| model | parameters | CPU ms a second | SDR | SI-SDRi |", "|---|---|---|---|---|"]
                block.sort(key=lambda row: -float(row["SDR"] or "-inf"))
                lines += [
                    f"| {row['model']} | {row['parameters']} | {row['CPU ms']} | {row['SDR']} | {row['SI-SDRi']} |"
                    for row in block
                ]
                lines.append("")
    table.with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")
    print(f"table      {table.with_suffix('.md')}")


if __name__ == "__main__":
    main()
