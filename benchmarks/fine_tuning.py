"""What fine-tuning gains on a song that it has not seen: trained on the others, in full, with LoRA, or from nothing.

    python benchmarks/fine_tuning.py SONGS [--base runs/vocals] [--ways base full lora] [--folds 5] [KEY=VALUE ...]

SONGS holds a folder of stems for each song. Each song is left out once: the next one by name chooses the best epoch,
the rest are trained on by benchmarks/fine_tuning.yaml. The base is trained by the recipe `vocals` on the built-in songs
where it is missing, about 7 CPU minutes. docs/tables/fine_tuning.csv gets a line for each song and way: SDR and SI-SDR
over the mixture's, in dB, of the song that was left out, the epoch that was chosen, and CPU seconds of the training,
loading processes included; lines of the same song and way are replaced.
"""

import argparse
import csv
import os
import resource
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = Path(__file__).with_suffix(".yaml")
TABLE = ROOT / "docs" / "tables" / "fine_tuning.csv"
COLUMNS = ("song", "way", "trained values", "epoch", "CPU seconds", "SDR", "SI-SDRi")
METRICS = ("SDR", "SI-SDRi")
WAYS = {  # overrides of the recipe
    "full": [],
    "lora": ["separator.network={class: LoRA, rank: 8}", "training.optimizer.lr=2e-3"],
    "last layer": ["training.freeze=[core.encode.*, core.recurrence.*]"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("overrides", nargs="*", default=[], help="of the recipe, of all ways")
    parser.add_argument("--base", type=Path, default=Path("runs/vocals"))
    parser.add_argument("--ways", nargs="+", default=["base", "full", "lora"], choices=["base", *WAYS])
    parser.add_argument("--folds", type=int, help="how many songs are left out; default: each")
    parser.add_argument("--run", type=Path, default=Path("runs/fine_tuning"))
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_intermixed_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    from sepkit.training import train

    if not (options.base / "model.json").is_file():
        train("vocals", options.base, device="cpu")
    songs = sorted(path for path in options.songs.iterdir() if path.is_dir())
    for number, song in enumerate(songs[: options.folds]):
        fold = make_fold(options.run / "folds" / song.name, songs, number)
        for way in options.ways:
            replace(options.table, score(options, fold, song.name, way))


def make_fold(folder: Path, songs: list[Path], number: int) -> Path:
    """Link one song to test, the next one to validate, the others to train."""
    subsets = {number: "test", (number + 1) % len(songs): "valid"}
    for position, song in enumerate(songs):
        place = folder / subsets.get(position, "train") / song.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(song.resolve())
    return folder


def score(options: argparse.Namespace, fold: Path, song: str, way: str) -> dict:
    """Train in one way, and score the song that was left out."""
    from sepkit import evaluate, load_model
    from sepkit.model_folder import read_card
    from sepkit.training import dry_run, train

    folder, started, facts = options.base, cpu_seconds(), {"trained values": "", "epoch": "", "CPU seconds": ""}
    if way != "base":
        settings = {
            "overrides": [*WAYS[way], *options.overrides],
            "data": fold,
            "initial": options.base,
            "device": "cpu",
        }
        n_values = dry_run(RECIPE, **settings).n_parameters
        started = cpu_seconds()
        folder = train(RECIPE, options.run / way.replace(" ", "_") / song, restart=True, quiet=True, **settings)
        seconds = round(cpu_seconds() - started)
        facts = {"trained values": n_values, "epoch": read_card(folder)["validation"]["epoch"], "CPU seconds": seconds}
    scores = evaluate(load_model(folder), fold, metrics=METRICS, progress=False)
    values = {metric: f"{scores.median('model', 'vocals', metric):.2f}" for metric in METRICS}
    print(song, way, facts, values, flush=True)
    return {"song": song, "way": way, **facts, **values}


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def replace(table: Path, row: dict) -> None:
    """Add a line to the table, in place of that of the same song and way."""
    rows = []
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows = [other for other in rows if (other["song"], other["way"]) != (row["song"], row["way"])]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*rows, row], key=lambda each: each["song"]))


if __name__ == "__main__":
    main()
