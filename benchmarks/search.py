"""Search the settings of the model that comes with the package: variants of its recipe, each at the same CPU time.

    python benchmarks/search.py JUDGE [--root ROOT[=WEIGHT] ...] [--minutes 8] [--seeds 0 1] [--only NAME ...]

benchmarks/search.yaml names the variants: what each changes of recipes/default.yaml. The songs of --root (default: the
built-in ones) are trained on, and those of JUDGE/valid/<song>/, of singers and bands that no root has, are scored after
the training by its last averages, so that no epoch is chosen by them. How many steps take --minutes of CPU time,
loading included, is measured before each training. Rows go to docs/tables/search.csv (medians over songs of the SDR,
dB), from which docs/tables/search.md is written. What has a row of the same variant, minutes, seed and songs is passed
over, so that the same command goes on where it was stopped.
"""

import argparse
import csv
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean

import yaml

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "default.yaml"
VARIANTS = Path(__file__).with_suffix(".yaml")
TABLE = ROOT / "docs" / "tables" / "search.csv"
STEMS = ("vocals", "drums", "bass", "other")
KEY = ("variant", "minutes", "seed", "songs")
EPOCHS, TRIAL = 10, 40  # epochs of a training; steps of the trial that measures what one costs
METRICS = ("SDR", "SI-SDRi")
TRAIN = "import sys; from sepkit.cli import train_command; sys.exit(train_command())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, TABLE, seeds=[0])
    parser.add_argument("--only", nargs="+", help="names of variants")
    options = parser.parse_args()
    from sepkit.training.data_store import store_data

    variants = yaml.safe_load(VARIANTS.read_text(encoding="utf-8"))
    if unknown := set(options.only or ()) - set(variants):
        parser.error(f"no variant is called {', '.join(sorted(unknown))}; there are {', '.join(variants)}")
    store_data(RECIPE, overrides(roots(options)))  # or a trial pays for it
    for seed in options.seeds:
        for name in options.only or variants:
            key = name, f"{options.minutes:g}", str(seed), songs(options)
            if not any(tuple(row[column] for column in KEY) == key for row in read(options.table)):
                row = score(options, name, variants[name] or {}, seed)
                write(options.table, [*read(options.table), row])  # of now: others may write into it
                write_page(options.table)


def add_options(parser: argparse.ArgumentParser, table: Path, seeds: list[int]) -> None:
    """Add what all trainings for equal CPU time are given."""
    parser.add_argument("judge", type=Path, help="songs that are scored, JUDGE/<split>/<song>/")
    parser.add_argument("--root", nargs="+", default=["demo"], help="songs to train on, ROOT or ROOT=WEIGHT")
    parser.add_argument("--minutes", type=float, default=8.0, help="CPU time of a training")
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--split", default="valid", help="of JUDGE")
    parser.add_argument("--runs", type=Path, default=Path("runs") / table.stem)
    parser.add_argument("--table", type=Path, default=table)


def fit(options: argparse.Namespace, name: str, changes: dict, seed: int) -> tuple[Path, int, float]:
    """Train a variant for the CPU time that it has; return its run, its steps and its CPU seconds."""
    run = options.runs / f"{name} {songs(options)} {options.minutes:g} min {seed}"
    settings = {
        **roots(options),
        "data.workers": 0,
        "training.seed": seed,
        "validation": {"every": EPOCHS * 10},  # never
        "observers": [],
        **changes,
    }
    trial = run.with_name(f"{run.name}, trial")  # of its own, as others may be searching
    seconds = []
    for steps in (TRIAL // 4, TRIAL):  # the difference is what steps cost without the start
        shutil.rmtree(trial, ignore_errors=True)
        seconds.append(train(trial, settings, epochs=1, steps=steps))
    shutil.rmtree(trial, ignore_errors=True)
    step = (seconds[1] - seconds[0]) / (TRIAL - TRIAL // 4)
    steps = max(1, round(60 * options.minutes / step / EPOCHS))
    shutil.rmtree(run, ignore_errors=True)
    return run, EPOCHS * steps, train(run, settings, epochs=EPOCHS, steps=steps)


def judge(options: argparse.Namespace, run: Path):
    """Score the model of a run; return it, and the scores."""
    from sepkit import evaluate, load_model

    model, output = load_model(run), run / "evaluation"
    how = {"split": options.split, "metrics": METRICS, "baselines": False, "output": output}
    return model, evaluate(model, options.judge, **how)


def score(options: argparse.Namespace, name: str, changes: dict, seed: int) -> dict[str, str]:
    """Train a variant for the CPU time that it has, and score it."""
    run, steps, spent = fit(options, name, changes, seed)
    model, scores = judge(options, run)
    row = {
        "variant": name,
        "minutes": f"{options.minutes:g}",
        "seed": str(seed),
        "songs": songs(options),
        "parameters": f"{sum(each.numel() for each in model.parameters()) / 1e6:.2f} M",
        "steps": str(steps),
        "CPU min": f"{spent / 60:.1f}",
        **{stem: f"{scores.median('model', stem, 'SDR'):.2f}" for stem in STEMS},
        "SI-SDRi": f"{scores.mean('model', 'vocals', 'SI-SDRi'):.2f}",
    }
    print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def roots(options: argparse.Namespace) -> dict:
    """Return the songs to train on, as a recipe has them."""
    parts = [each.partition("=") for each in options.root]
    return {"data.root": [{"root": root, "weight": float(weight or 1)} for root, _, weight in parts]}


def songs(options: argparse.Namespace) -> str:
    """Return the names and weights of the roots."""
    parts = [each.partition("=") for each in options.root]
    return ", ".join(f"{Path(root).name} {weight or 1}" for root, _, weight in parts)


def overrides(settings: dict) -> list[str]:
    """Return settings as the command line has them."""
    dumped = {key: yaml.safe_dump(value, default_flow_style=True, width=10**6) for key, value in settings.items()}
    return [f"{key}={value.splitlines()[0]}" for key, value in dumped.items()]


def train(run: Path, settings: dict, epochs: int, steps: int) -> float:
    """Train by the recipe with changed settings, alone in a process on one thread; return its CPU seconds."""
    batch = settings.get("training.batch_size", 4)
    settings = {**settings, "training.epochs": epochs, "data.items_per_epoch": steps * batch}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", TRAIN, str(RECIPE), "--run", str(run), "--device", "cpu"]
    with open(os.devnull, "w") as nowhere:
        subprocess.run(
            [*command, *overrides(settings)], check=True, stdout=nowhere, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def read(table: Path) -> list[dict[str, str]]:
    """Read the rows of a table that may not be there yet."""
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(table: Path, rows: list[dict[str, str]]) -> None:
    """Write the rows of a table."""
    from sepkit.files import atomic_file

    with atomic_file(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def average(rows: list[dict[str, str]], column: str) -> float:
    """Average a column."""
    return mean(float(row[column]) for row in rows)


def span(rows: list[dict[str, str]], column: str) -> str:
    """Write the mean of a column, and the range where there is one."""
    values = [float(row[column]) for row in rows]
    return f"{mean(values):.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(rows) > 1 else "")


def write_page(table: Path) -> None:
    """Write means over seeds, with the range of the vocals, the best vocals first."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read(table):
        groups.setdefault((row["minutes"], row["songs"], row["variant"]), []).append(row)
    lines = ["| CPU min | songs | variant | seeds | steps | vocals | drums | bass | other | SI-SDRi of vocals |"]
    lines.append("|" + "---|" * 10)
    for (minutes, mix, name), rows in sorted(
        groups.items(), key=lambda item: (float(item[0][0]), -average(item[1], "vocals"))
    ):
        others = " | ".join(f"{average(rows, stem):.1f}" for stem in STEMS[1:])
        steps = f"{average(rows, 'steps'):.0f}"
        lines.append(
            f"| {minutes} | {mix} | {name} | {len(rows)} | {steps} | {span(rows, 'vocals')} "
            f"| {others} | {average(rows, 'SI-SDRi'):.1f} |"
        )
    write_lines(table, lines)


def write_lines(table: Path, lines: list[str]) -> None:
    """Write the page beside a table."""
    from sepkit.files import atomic_file

    with atomic_file(table.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
