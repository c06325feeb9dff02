"""The scores of a recipe over seeds and machines: train it, and score it on songs that it was not trained on.

    python benchmarks/recipes.py [vocals] [--seeds 0 1 2] [--threads 1] [--real ROOT] [--run runs/recipes]

Each seed is trained on the built-in songs, about 7 CPU minutes, and scored on their test songs, and on those below
ROOT/test/<song>/ where it is given. docs/tables/recipes.csv gets a line for each training, songs, stem and system: the
median SDR and the mean SI-SDR gained over the mixture, in dB; lines of the same training are replaced. Figures in
README.md, docs/networks.md and the heads of recipes are ranges over these lines; tests/test_figures.py compares them.
Lines of earlier trainings hold what was noted of them.
"""

import argparse
import csv
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "tables" / "recipes.csv"
COLUMNS = ("recipe", "songs", "target", "system", "seed", "threads", "machine", "SDR", "SI-SDRi")
METRICS = ("SDR", "SI-SDRi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="vocals")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--real", type=Path, help="ROOT/test/<song>/: songs to be scored on too")
    parser.add_argument("--run", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is imported
    for seed in options.seeds:
        replace(options.table, rows_of(options, seed))


def rows_of(options: argparse.Namespace, seed: int) -> list[dict]:
    """Train from a seed, and list the scores of all systems."""
    from sepkit import evaluate, load_model
    from sepkit.report.environment import processor
    from sepkit.training import train

    folder = train(
        options.recipe,
        options.run / f"{options.recipe}_{seed}_{options.threads}",
        overrides=[f"training.seed={seed}"],
        device="cpu",
        quiet=True,
    )
    songs = {"built-in": "demo", **({"real": options.real} if options.real else {})}
    rows = []
    model = load_model(folder)
    training = (seed, options.threads, f"{processor()}, {os.cpu_count()} cores")
    for name, root in songs.items():
        scores = evaluate(model, root, metrics=METRICS, progress=False)
        for target in model.sources:
            for system in scores.systems(target):
                if system == "silence":  # 0 dB by definition
                    continue
                sdr, gain = scores.median(system, target, "SDR"), scores.mean(system, target, "SI-SDRi")
                own = training if system == "model" else ("", "", "")
                facts = (options.recipe, name, target, system, *own)
                rows.append(dict(zip(COLUMNS, (*facts, f"{sdr:.2f}", f"{gain:.2f}"), strict=True)))
    return rows


def replace(table: Path, rows: list[dict]) -> None:
    """Add lines to the table, in place of those of the same training."""
    former = []
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            former = list(csv.DictReader(file))
    keys = {tuple(str(row[column]) for column in COLUMNS[:-2]) for row in rows}
    kept = [row for row in former if tuple(row[column] for column in COLUMNS[:-2]) not in keys]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])


if __name__ == "__main__":
    main()
