"""Scoring speed and memory against museval, on the same signals, one process each, interleaved, one thread.

python benchmarks/scoring.py                            built signals, all cases: about 40 minutes
python benchmarks/scoring.py --tracks DIR               DIR/<song>/{vocals,drums,bass,other}.flac, repeated to length
python benchmarks/scoring.py --seconds 30 --stems 4     one case
python benchmarks/scoring.py --workers 2                how much sooner 2 processes have scored 8 tracks than 1

CPU seconds are of the scoring call alone, after a short one that loads the libraries, the least of all rounds, since
other load only adds to it; memory is the growth of the process over its float32 inputs. With --workers it is wall-clock
seconds of `sepkit.evaluate`, its start and the reading of files included, on a machine that has nothing else to do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

STEMS = ("vocals", "drums", "bass", "other")
RATE = 44100
MODES = {
    "v4": {},
    "v3": {"framewise_filters": True},
    "sdr": {"metrics": ("SDR",)},
}


def main() -> None:
    options = parse()
    if options.run:
        return run(*options.run)
    if options.workers:
        return scale(options)
    print("| mode | stems | s | museval CPU s | sepkit CPU s | ratio | museval MB | sepkit MB | max difference dB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seconds in options.seconds:
        for n_stems in options.stems:
            with tempfile.TemporaryDirectory() as folder:
                build(Path(folder), n_stems, seconds, options.tracks)
                for mode, columns in zip(
                    options.modes, compare(Path(folder), options.modes, options.rounds), strict=True
                ):
                    print(f"| {mode} | {n_stems} | {seconds} | {columns} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[30, 240], help="length of the signals")
    parser.add_argument("--stems", type=int, nargs="+", default=[4, 2], choices=[1, 2, 3, 4])
    parser.add_argument("--modes", nargs="+", default=["v4", "sdr"], choices=MODES)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--tracks", type=Path, default=os.environ.get("SEPKIT_TRACKS"), help="folder of songs")
    parser.add_argument("--workers", type=int, help="compare so many processes over tracks with 1, without museval")
    parser.add_argument("--n-tracks", type=int, default=8, help="for --workers")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(folder: Path, modes: list[str], rounds: int) -> Iterator[str]:
    """Run the engines in turn, and yield the columns of each mode; "sdr" is compared with museval's "v4"."""
    museval = {mode: "v3" if mode == "v3" else "v4" for mode in modes}
    runs = [("museval", mode) for mode in sorted(set(museval.values()))] + [("sepkit", mode) for mode in modes]
    measured = {one: [] for one in runs}
    for _ in range(rounds):
        for one in runs:
            measured[one].append(measure(*one, folder))
    cpu = {one: min(result["cpu"] for result in results) for one, results in measured.items()}
    memory = {one: max(result["megabytes"] for result in results) for one, results in measured.items()}
    for mode in modes:
        theirs, ours = ("museval", museval[mode]), ("sepkit", mode)
        scores = [np.load(folder / f"{'_'.join(one)}.npy") for one in (theirs, ours)]
        with np.errstate(invalid="ignore"):  # SIR of one source is infinite in both
            difference = np.nanmax(np.abs(scores[0] - scores[1])[: 1 if mode == "sdr" else 4])
        yield (
            f"{cpu[theirs]:.2f} | {cpu[ours]:.3f} | {cpu[theirs] / cpu[ours]:.0f} "
            f"| {memory[theirs]:.0f} | {memory[ours]:.0f} | {difference:.0e}"
        )


def scale(options: argparse.Namespace) -> None:
    """Score the same tracks with 1 and with several processes, in turns, and print the wall-clock seconds."""
    seconds, n_stems, counts = options.seconds[0], options.stems[0], (1, options.workers)
    print("| processes | tracks | stems | s | wall-clock s | times as fast |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_tracks(Path(folder), n_stems, seconds, options)
        walls = [[score_folders(Path(folder), workers) for workers in counts] for _ in range(options.rounds)]
    least = [min(column) for column in zip(*walls, strict=True)]
    for workers, wall in zip(counts, least, strict=True):
        print(f"| {workers} | {options.n_tracks} | {n_stems} | {seconds} | {wall:.1f} | {least[0] / wall:.2f} |")


def write_tracks(folder: Path, n_stems: int, seconds: int, options: argparse.Namespace) -> None:
    """Write the signals as WAV files, and link to them under the names of several tracks."""
    import soundfile

    build(folder, n_stems, seconds, options.tracks)
    for kind in ("estimate", "target"):
        for stem, waveform in zip(STEMS, np.load(folder / f"{kind}.npy"), strict=False):
            written = folder / f"{kind} {stem}.wav"
            soundfile.write(written, waveform.T, RATE, subtype="FLOAT")
            for track in range(options.n_tracks):
                place = folder / kind / f"track {track}"
                place.mkdir(parents=True, exist_ok=True)
                os.link(written, place / written.name.partition(" ")[2])


def score_folders(folder: Path, workers: int) -> float:
    """Score all tracks, and return the wall-clock seconds."""
    from sepkit import evaluate

    given = {"estimates": folder / "estimate", "references": folder / "target", "metrics": ("SDR", "ISR", "SIR", "SAR")}
    start = time.perf_counter()
    evaluate(**given, baselines=False, workers=workers, progress=False)
    return time.perf_counter() - start


def measure(engine: str, mode: str, folder: Path) -> dict:
    """Score in a process of its own."""
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    command = [sys.executable, __file__, "--run", engine, mode, str(folder)]
    answer = subprocess.run(command, env=os.environ | one_thread, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def run(engine: str, mode: str, folder: str) -> None:
    """Score the signals in the folder, and print what it cost."""
    score = (museval_engine if engine == "museval" else sepkit_engine)(MODES[mode])
    estimate, target = (np.load(Path(folder) / f"{name}.npy") for name in ("estimate", "target"))
    score(estimate[..., : 2 * RATE], target[..., : 2 * RATE])
    before = resident(reset=True)
    start = time.process_time()
    scores = score(estimate, target)
    cpu = time.process_time() - start
    np.save(Path(folder) / f"{engine}_{mode}.npy", scores)
    print(json.dumps({"cpu": cpu, "megabytes": resident() - before}))


def museval_engine(options: dict):
    from museval.metrics import bss_eval

    framewise = options.get("framewise_filters", False)

    def score(estimate: np.ndarray, target: np.ndarray) -> np.ndarray:
        waveforms = target.swapaxes(1, 2), estimate.swapaxes(1, 2)
        return np.array(bss_eval(*waveforms, window=RATE, hop=RATE, framewise_filters=framewise)[:4])

    return score


def sepkit_engine(options: dict):
    from sepkit.metrics import bss_eval
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()  # as sepkit's commands do
    return lambda estimate, target: np.array([score.numpy() for score in bss_eval(estimate, target, **options)[:4]])


def resident(reset: bool = False) -> float:
    """Largest memory of this process since the last reset, in MB; Linux."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def build(folder: Path, n_stems: int, seconds: int, tracks: Path | None) -> None:
    """Write references, and estimates with filtering, interference and noise, as float32 (S, C, T)."""
    rng = np.random.default_rng(0)
    length = seconds * RATE
    target = repeated(tracks, n_stems, length) if tracks else coloured(rng, n_stems, length)
    estimate = 0.9 * target + 0.1 * np.roll(target, 5, axis=-1) + 0.05 * target.sum(0)
    estimate += 0.003 * rng.standard_normal(target.shape, dtype=np.float32)
    np.save(folder / "target.npy", target.astype(np.float32))
    np.save(folder / "estimate.npy", estimate.astype(np.float32))


def coloured(rng: np.random.Generator, n_stems: int, length: int) -> np.ndarray:
    """Noises whose spectra fall towards 22 kHz, rounded to 16 bits."""
    spectra = np.fft.rfft(rng.standard_normal((n_stems, 2, length), dtype=np.float32))
    slope = (1 + np.linspace(0, 200, spectra.shape[-1])) ** -np.linspace(0.7, 1.5, n_stems)[:, None, None]
    waveforms = np.fft.irfft(spectra * slope, length)
    waveforms *= 0.5 / np.abs(waveforms).max()
    return (np.round(waveforms * 32768) / 32768).astype(np.float32)


def repeated(tracks: Path, n_stems: int, length: int) -> np.ndarray:
    """Chain the songs, quietest hiss added, so that a stem that is silent in some of them is scored."""
    import soundfile

    rng = np.random.default_rng(1)
    songs = sorted(path for path in Path(tracks).iterdir() if path.is_dir())
    stems = []
    for stem in STEMS[:n_stems]:
        whole = np.concatenate([soundfile.read(song / f"{stem}.flac", dtype="float32")[0].T for song in songs], axis=-1)
        stems.append(np.tile(whole, -(-length // whole.shape[-1]))[:, :length])
    hiss = rng.integers(-1, 2, (n_stems, 2, length)).astype(np.float32) / 32768
    return np.stack(stems) + hiss


if __name__ == "__main__":
    main()
