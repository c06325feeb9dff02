"""Make the model that comes with the package of a run, and measure what docs/default_model.md states of it.

    python benchmarks/default_model.py pack runs/default --scores evaluation/unseen [--sources NAME ...]
    python benchmarks/default_model.py robust [--data ROOT]
    python benchmarks/default_model.py cost

`pack` writes sepkit/data/default/: the weights as float16, and a card with every source of the songs, its licence and
whom it is by, and the score that `sepkit-separate` prints, from --scores, a folder of `sepkit-evaluate`. `robust`
separates songs of ROOT/test/<song>/ (default: the built-in ones) as they are, in mono, with vocals on one side alone,
at 22 kHz, after MP3 of 64 kbit/s, with generated speech in place of the vocals, vocals alone and without vocals, and
prints a table. `cost` separates by it and by htdemucs, whose weights are drawn at their published size, in turns.
"""

import argparse
import csv
import io
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "sepkit" / "data" / "default"
SOURCES = {
    "demo": {"name": "the built-in songs of sepkit", "licence": "MIT", "by": "the authors of sepkit"},
    "made": {"name": "the songs of `sepkit-data songs`", "licence": "MIT", "by": "the authors of sepkit"},
    "bands": {
        "name": "music of Freedoom, by Fluid R3 GM and MuseScore General (MIT)",
        "licence": "BSD-3-Clause",
        "by": "contributors to the Freedoom project",
        "address": "https://github.com/freedoom/freedoom",
    },
    "sek": {
        "name": "Everything is Free: Caesium, Francium, Hydrogen, Lithium",
        "licence": "CC0-1.0",
        "by": "SEK (Software-Entwicklungskit)",
        "address": "https://github.com/ichbinsoftware/everythingisremixed",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("run", type=Path)
    packing.add_argument("--sources", nargs="+", help="of SOURCES; default: the names of the run's roots")
    packing.add_argument("--scores", type=Path, required=True)
    packing.add_argument("--songs", default="unseen singers over unseen bands")
    packing.add_argument("--output", type=Path, default=PLACE)
    robust = commands.add_parser("robust")
    robust.add_argument("--data", default="demo")
    robust.add_argument("--model", default="default")
    costing = commands.add_parser("cost")
    costing.add_argument("--seconds", type=float, default=30.0)
    costing.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    {"pack": pack, "robust": print_robustness, "cost": print_cost}[options.command](options)


def pack(options: argparse.Namespace) -> None:
    """Write weights as float16, with a card that names all sources."""
    from sepkit.model_folder import load_model, read_card, save_model

    card = read_card(options.run)
    names = options.sources or [Path(name.strip()).name for name in card["data"].split(",")]
    missing = [name for name in names if name not in SOURCES]
    if missing:
        raise SystemExit(f"SOURCES must state licence and origin of all songs, {', '.join(missing)} missing: add them")
    stated = {"recipe": "default", "data": ", ".join(names), "finished": card["finished"]}
    stated |= {"sources": [SOURCES[name] for name in names], "licence": "MIT"}
    stated["score"] = read_score(options.scores, options.songs)
    save_model(load_model(options.run).half(), options.output, stated)
    print(f"{options.output}: {sum(path.stat().st_size for path in options.output.iterdir()) / 1e6:.2f} MB")


def read_score(folder: Path, songs: str) -> dict[str, str]:
    """Read medians over tracks of the SDR of all targets."""
    found: dict[str, list[float]] = {}
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["system"] == "model" and row["metric"] == "SDR" and row["value"]:
                found.setdefault(row["target"], []).append(float(row["value"]))
    stated = ", ".join(f"{target} {median(values):.1f}" for target, values in found.items())
    return {"stated": f"{stated} dB", "metric": "SDR, median (silence 0)", "data set": songs}


def print_robustness(options: argparse.Namespace) -> None:
    """Print, for each condition, the median SDR of vocals, or how loud they are beside what is wanted."""
    import torch

    from sepkit import load_model, metrics
    from sepkit.datasets import open_songs

    torch.set_num_threads(1)
    model = load_model(options.model)
    songs = open_songs(options.data, "test", model.sources, model.sample_rate, 2)
    print("| condition | what | median over songs | from | to |\n|---|---|---|---|---|")
    for name, change in CONDITIONS.items():
        values = []
        for song in songs:
            n_samples = min(song.n_samples, 12 * model.sample_rate)
            stems = {stem: song.read_stem(stem, 0, n_samples) for stem in model.sources}
            values.append(score(model, metrics, *change(stems)))
        what = "level of vocals, dB" if name in LEVELS else "SDR of vocals, dB"
        values = [value for value in values if value == value]
        print(f"| {name} | {what} | {median(values):.1f} | {min(values):.1f} | {max(values):.1f} |", flush=True)


def score(model, metrics, mixture, vocals):
    """Score estimated vocals; where there are none, or nothing else, their level beside the mixture's."""
    from sepkit import separate

    estimate = separate(model, mixture)["vocals"]
    if vocals is None or bool((mixture == vocals).all()):
        return float(10 * ((estimate**2).sum() / (mixture**2).sum().clamp(min=1e-9)).log10())
    pair = (estimate, mixture - estimate), (vocals, mixture - vocals)
    import torch

    values = metrics.framewise_sdr(torch.stack(pair[0]), torch.stack(pair[1]), model.sample_rate, model.sample_rate)[0]
    return float(values[~values.isnan()].median()) if (~values.isnan()).any() else float("nan")


def print_cost(options: argparse.Namespace) -> None:
    """Print the least and the most CPU time of a second of stereo, on one thread."""
    import time

    import torch
    import yaml

    from sepkit import load_model, separate
    from sepkit.separator import Separator

    torch.set_num_threads(1)
    torch.manual_seed(0)
    own = load_model("default")
    recipe = yaml.safe_load((ROOT / "recipes" / "htdemucs.yaml").read_text(encoding="utf-8"))  # of published size
    other = Separator(**recipe["separator"]).eval()
    mixture = 0.1 * torch.randn(2, round(options.seconds * 44100))
    times: dict[str, list[float]] = {"default": [], "htdemucs": []}
    for _ in range(options.rounds):
        for name, model in zip(times, (own, other), strict=True):
            start = time.process_time()
            separate(model, mixture)
            times[name].append(1000 * (time.process_time() - start) / options.seconds)
    for name, model in zip(times, (own, other), strict=True):
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(f"{name:10} {size:5.1f} M parameters, {min(times[name]):.0f} to {max(times[name]):.0f} CPU ms a second")


def as_it_is(stems):
    """Return mixture and vocals."""
    return sum(stems.values()), stems["vocals"]


def mono(stems):
    """Return both channels alike."""
    mixture, vocals = as_it_is(stems)
    return mixture.mean(0, keepdim=True).expand(2, -1), vocals.mean(0, keepdim=True).expand(2, -1)


def one_side(stems):
    """Pan vocals to the left."""
    vocals = stems["vocals"].mean(0, keepdim=True) * stems["vocals"].new_tensor([[1.41], [0.0]])
    return sum(stem for name, stem in stems.items() if name != "vocals") + vocals, vocals


def at_22_khz(stems):
    """Leave out what is above 11 kHz."""
    from sepkit.audio import resample

    return tuple(resample(resample(each, 44100, 22050), 22050, 44100)[:, : each.shape[1]] for each in as_it_is(stems))


def mp3(stems):
    """Encode and decode the mixture as MP3 of 64 kbit/s."""
    import soundfile
    import torch

    mixture, vocals = as_it_is(stems)
    file = io.BytesIO()
    soundfile.write(file, mixture.T.numpy(), 44100, format="MP3", bitrate_mode="CONSTANT", compression_level=0.889)
    file.seek(0)
    decoded = torch.from_numpy(soundfile.read(file, dtype="float32", always_2d=True)[0].T.copy())
    spectra = [torch.fft.rfft(each.mean(0), 2**20) for each in (decoded, mixture)]
    delay = int(torch.fft.irfft(spectra[0] * spectra[1].conj())[:4096].argmax())  # of the codec
    n_samples = min(decoded.shape[1] - delay, mixture.shape[1])
    return decoded[:, delay : delay + n_samples], vocals[:, :n_samples]


def speech(stems):
    """Put generated speech in the place of the vocals, by a voice of its own for each song."""
    import numpy as np
    import torch

    from sepkit.datasets.demo.song import draw_song
    from sepkit.datasets.singing.vocals import render_vocals

    rng = np.random.default_rng(round(1e3 * float(stems["drums"].abs().sum())))
    n_samples = stems["drums"].shape[1]
    spoken = torch.from_numpy(render_vocals(rng, draw_song(rng, n_samples / 44100, 44100), "speech"))[:, :n_samples]
    return spoken + instrumental(stems)[0], spoken


def a_cappella(stems):
    """Return vocals alone."""
    return stems["vocals"], stems["vocals"]


def instrumental(stems):
    """Return all but the vocals."""
    return sum(stem for name, stem in stems.items() if name != "vocals"), None


CONDITIONS = {
    "as it is": as_it_is,
    "mono": mono,
    "vocals on one side": one_side,
    "22 kHz": at_22_khz,
    "MP3, 64 kbit/s": mp3,
    "speech over music": speech,
    "vocals alone": a_cappella,
    "no vocals": instrumental,
}
LEVELS = ("vocals alone", "no vocals")


if __name__ == "__main__":
    main()
