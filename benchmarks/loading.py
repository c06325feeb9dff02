"""Cost of loading examples, beside the loaders of Open-Unmix, Demucs and musdb.

    python benchmarks/loading.py [--folder DIR] [--rounds 3] [--batches 50] [--songs 8] [--seconds 180] [--keep]

In one run it writes songs (by default 8 of 180 s: 1.3 GB as WAV, and again as FLAC), makes an environment with
openunmix, demucs and musdb from the registry, which shares torch with this one, and measures each loader in a fresh
process of one thread, in turns. An example is 6 s of stereo at 44.1 kHz, four stems drawn from songs at random, as
mixture and targets on the CPU, in batches of 4, with no other processes; the page cache is warm. CPU seconds are those
of the process and of those that it starts. The content of each batch is hashed, outside the time that is measured, and
batches must differ. Memory is anonymous, the most that a batch left over the imports. `--keep` keeps all that was made,
and finds it again. torchaudio dropped `info` and reading by soundfile: where it did, a shim of these lines stands in
for them, in the loaders that the table marks.
"""

import argparse
import hashlib
import importlib.metadata
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

RATE, SECONDS, BATCH = 44100, 6, 4
N_SAMPLES = RATE * SECONDS
SOURCES = ["vocals", "drums", "bass", "other"]
PACKAGES = ["openunmix==1.3.0", "demucs==4.1.0", "musdb==0.4.3", "dora-search"]
WARM_UP = 3  # batches
FEW = 2  # batches of the loader that takes a second for one
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "MKL_NUM_THREADS": "1"}
GOALS = [  # what is measured, beside what, and the least ratio of examples per CPU second
    ("sepkit, WAV", "Open-Unmix FixedSources, WAV *", 5),
    ("sepkit, WAV", "Open-Unmix SourceFolder, WAV *", 5),
    ("sepkit, WAV", "Demucs Wavset, WAV *", 8),
    ("sepkit, WAV", "Open-Unmix MUSDBDataset (musdb), WAV", 100),
    ("sepkit, FLAC in the store", "Open-Unmix FixedSources, WAV *", 5),
    ("sepkit, FLAC in the store", "Demucs Wavset, FLAC *", 15),
    ("sepkit, WAV, remix, gain, sign, swap", "sepkit, WAV, one song", 1 / 1.2),
]
MOST_MEMORY = 64  # MB


# Loaders: each yields batches of (mixture, targets), endlessly


def sepkit_batches(root: Path, remix: float = 1.0, augmented: bool = False, stored: bool = False) -> Iterator[tuple]:
    from sepkit.augment import Gain, Sign, SwapChannels
    from sepkit.datasets import EpochSampler, SongDataset, open_songs
    from sepkit.datasets.loader import Loader
    from sepkit.datasets.store_plan import plan_store

    songs = open_songs(root, "train", SOURCES, RATE, 2, valid_share=0)
    augment = [Gain(), Sign(), SwapChannels()] if augmented else []
    store = plan_store(songs) if stored else None
    dataset = SongDataset(songs, SOURCES, N_SAMPLES, 10**6, remix, augment, store=store)
    for batch in Loader(dataset, EpochSampler(len(dataset), BATCH)).batches(0):
        yield batch.mix()


def sepkit_items(root: Path) -> Iterator[tuple]:
    from sepkit.datasets import SongDataset, open_songs

    songs = open_songs(root, "train", SOURCES, RATE, 2, valid_share=0)
    return torch_batches(SongDataset(songs, SOURCES, N_SAMPLES, 10**6, 1.0))


def torch_batches(dataset) -> Iterator[tuple]:
    generator = torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, generator=generator, drop_last=True)
    while True:
        yield from loader


def fixed_sources(root: Path, suffix: str = ".wav") -> Iterator[tuple]:
    shim()
    from openunmix.data import FixedSourcesTrackFolderDataset

    files = [f"{name}{suffix}" for name in SOURCES]
    options = {"seq_duration": float(SECONDS), "random_chunks": True, "random_track_mix": True}
    tracks = FixedSourcesTrackFolderDataset(str(root), "train", files[0], files[1:], **options)
    return torch_batches(torch.utils.data.ConcatDataset([tracks] * 50))


def source_folders(root: Path) -> Iterator[tuple]:
    shim()
    from openunmix.data import SourceFolderDataset

    options = {"seq_duration": float(SECONDS), "random_chunks": True, "nb_samples": 10**4}
    return torch_batches(SourceFolderDataset(str(root), "train", SOURCES[0], SOURCES[1:], **options))


def musdb_tracks(root: Path) -> Iterator[tuple]:
    from openunmix.data import MUSDBDataset

    options = {"is_wav": True, "seq_duration": float(SECONDS), "random_track_mix": True}
    return torch_batches(MUSDBDataset("vocals", str(root), subsets="train", split="train", **options))


def wavset(root: Path, suffix: str = ".wav", remix: bool = False) -> Iterator[tuple]:
    shim()
    import soundfile
    from demucs.augment import Remix
    from demucs.wav import Wavset

    meta = {}
    for song in sorted((root / "train").iterdir()):
        info = soundfile.info(song / f"{SOURCES[0]}{suffix}")
        meta[song.name] = {"length": info.frames, "mean": 0.0, "std": 1.0, "samplerate": info.samplerate}
    dataset = Wavset(root / "train", meta, SOURCES, segment=SECONDS, shift=0.5, ext=suffix)
    mixing = Remix(proba=1, group_size=BATCH).train()
    for sources in torch_batches(dataset):
        mixed = mixing(sources) if remix else sources
        yield mixed.sum(1), mixed


LOADERS: dict[str, tuple[str, Callable]] = {  # folder of its songs, and what loads them
    "sepkit, WAV": ("wav", sepkit_batches),
    "sepkit, WAV, one song": ("wav", lambda root: sepkit_batches(root, 0.0)),
    "sepkit, WAV, remix, gain, sign, swap": ("wav", lambda root: sepkit_batches(root, augmented=True)),
    "sepkit, WAV, torch's DataLoader": ("wav", sepkit_items),
    "sepkit, FLAC": ("flac", sepkit_batches),
    "sepkit, FLAC in the store": ("flac", lambda root: sepkit_batches(root, stored=True)),
    "Open-Unmix FixedSources, WAV *": ("wav", fixed_sources),
    "Open-Unmix SourceFolder, WAV *": ("folders", source_folders),
    "Open-Unmix FixedSources, FLAC *": ("flac", lambda root: fixed_sources(root, ".flac")),
    "Open-Unmix MUSDBDataset (musdb), WAV": ("musdb", musdb_tracks),
    "Demucs Wavset, WAV *": ("wav", wavset),
    "Demucs Wavset, WAV, Remix *": ("wav", lambda root: wavset(root, remix=True)),
    "Demucs Wavset, FLAC *": ("flac", lambda root: wavset(root, ".flac")),
}


def shim() -> None:
    """Put back what torchaudio dropped, as its soundfile backend read."""
    import soundfile
    import torchaudio

    def load(path, frame_offset: int = 0, num_frames: int = -1):
        with soundfile.SoundFile(path) as file:
            file.seek(frame_offset)
            return torch.from_numpy(file.read(num_frames, "float32", always_2d=True)).t(), file.samplerate

    class Info:
        def __init__(self, path) -> None:
            info = soundfile.info(path)
            self.sample_rate, self.num_frames, self.num_channels = info.samplerate, info.frames, info.channels

    if not hasattr(torchaudio, "info"):
        torchaudio.info, torchaudio.load, torchaudio.get_audio_backend = Info, load, lambda: "soundfile"


# One measurement, in a process of its own


def used() -> float:
    """Return the CPU seconds of this process and of those that it started and that ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def anonymous() -> float:
    """Return the anonymous memory of this process, MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def measure(name: str, folder: Path, n_batches: int) -> dict:
    torch.set_num_threads(1)
    place, loader = LOADERS[name]
    next(itertools.islice(loader(folder / place), 0, 1))  # everything is imported
    is_slow = "musdb" in name
    before, most, seconds, hashes = anonymous(), 0.0, [], []
    batches = loader(folder / place)
    for _ in range(1 if is_slow else WARM_UP):
        next(batches)
        most = max(most, anonymous() - before)
    for _ in range(FEW if is_slow else n_batches):
        start = used()
        mixture, targets = next(batches)
        seconds.append(used() - start)
        digest = hashlib.blake2b(mixture.contiguous().numpy(), digest_size=8)
        digest.update(targets.contiguous().numpy())
        hashes.append(digest.hexdigest())
        if targets.ndim == mixture.ndim + 1:
            assert float((targets.sum(1) - mixture).abs().max()) < 1e-5
    if len(set(hashes)) < len(hashes):
        raise SystemExit(f"{name} gave a batch twice")
    everything = hashlib.blake2b("".join(hashes).encode(), digest_size=6).hexdigest()
    return {"ms": 1000 * sum(seconds) / len(seconds) / BATCH, "memory": most, "hash": everything}


# What is measured with


def make_environment(folder: Path) -> Path:
    """Make an environment with the other packages, which takes torch and what else is there from this one."""
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


def write_songs(folder: Path, n_songs: int, seconds: int) -> None:
    """Write songs as WAV and as FLAC, made of the built-in ones, one after the other, from different places on."""
    if (folder / "complete").exists():
        return
    import soundfile

    from sepkit.datasets.demo import demo_root

    songs = sorted((demo_root() / "train").iterdir())
    for i in range(n_songs):
        total = 0
        for name in SOURCES:
            pieces = [soundfile.read(song / f"{name}.wav", dtype="int16", always_2d=True)[0] for song in songs[:15]]
            joined = np.roll(np.concatenate(pieces), -i * 7 * RATE, axis=0)
            waveform = np.resize(joined, (seconds * RATE, 2))
            total = total + waveform.astype(np.int32) // len(SOURCES)
            for place, suffix in (("wav", ".wav"), ("flac", ".flac")):
                path = folder / place / "train" / f"song {i}" / f"{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, waveform, RATE, subtype="PCM_16")
            wav = folder / "wav" / "train" / f"song {i}" / f"{name}.wav"
            for link in (folder / "folders/train" / name / f"{i}.wav", folder / "musdb/train" / f"{i}" / f"{name}.wav"):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(wav.absolute())
        soundfile.write(folder / "musdb/train" / f"{i}" / "mixture.wav", total.astype(np.int16), RATE, subtype="PCM_16")
    (folder / "musdb" / "test").mkdir()
    (folder / "complete").touch()


def store_flac(folder: Path) -> None:
    from sepkit.datasets import open_songs
    from sepkit.datasets.store import build_store
    from sepkit.datasets.store_plan import plan_store

    store = plan_store(open_songs(folder / "flac", "train", SOURCES, RATE, 2, valid_share=0))
    start = used()
    built = build_store(store)
    print(f"the store of the FLAC songs: {built.n_bytes / 1e9:.2f} GB, {used() - start:.0f} CPU seconds if made anew")


def run(name: str, python: Path, folder: Path, n_batches: int) -> dict:
    call = [python, "-W", "ignore", __file__, "--measure", name, "--folder", folder, "--batches", str(n_batches)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def print_table(found: dict[str, list[dict]]) -> bool:
    """Print medians and ratios, and return whether all goals are reached."""
    cost = {name: statistics.median(row["ms"] for row in rows) for name, rows in found.items()}
    print(
        "\n| loader | CPU ms an example | least | examples per CPU s | anonymous MB | hash |\n|---|---|---|---|---|---|"
    )
    for name, rows in found.items():
        least, memory = min(row["ms"] for row in rows), max(row["memory"] for row in rows)
        print(
            f"| {name} | {cost[name]:.2f} | {least:.2f} | {1000 / cost[name]:.3g} | {memory:.0f} | {rows[0]['hash']} |"
        )
    shimmed = not hasattr(__import__("torchaudio"), "info")
    print(f"\n\\* reads files by {'the shim, since torchaudio has no info any more' if shimmed else 'torchaudio'}.\n")
    reached = True
    print("| | beside | wanted | reached |\n|---|---|---|---|")
    for ours, theirs, wanted in GOALS:
        if ours in cost and theirs in cost:
            ratio = cost[theirs] / cost[ours]
            reached &= ratio >= wanted
            print(f"| {ours} | {theirs} | {wanted:.2f} x | {ratio:.2f} x |")
    most = max(
        (
            row["memory"]
            for name, rows in found.items()
            if name.startswith("sepkit") and "torch" not in name
            for row in rows
        ),
        default=0,
    )
    print(f"\nanonymous memory of sepkit's loader: {most:.0f} MB, wanted at most {MOST_MEMORY} MB")
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where songs and environment are made")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measurements of each, default 3")
    parser.add_argument("--batches", type=int, default=50, metavar="N", help="of one measurement, default 50")
    parser.add_argument("--songs", type=int, default=8, metavar="N", help="songs, default 8")
    parser.add_argument("--seconds", type=int, default=180, metavar="S", help="length of a song, default 180")
    parser.add_argument("--only", nargs="*", metavar="TEXT", help="measure loaders whose names hold one of these")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and use what is in it")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.folder, options.batches)))
        return 0
    folder = (options.folder or Path(tempfile.gettempdir()) / "sepkit-loading").absolute()
    os.environ["SEPKIT_CACHE"] = os.environ.get("SEPKIT_CACHE", str(folder / "cache"))
    warnings.simplefilter("ignore")
    try:
        write_songs(folder / "songs", options.songs, options.seconds)
        os.environ["SEPKIT_CACHE"] = str(folder / "cache")
        store_flac(folder / "songs")
        python = make_environment(folder / "environment")
        names = [name for name in LOADERS if not options.only or any(text in name for text in options.only)]
        found: dict[str, list[dict]] = {name: [] for name in names}
        for i in range(options.rounds):
            for name in names:
                interpreter = Path(sys.executable) if name.startswith("sepkit") else python
                found[name].append(run(name, interpreter, folder / "songs", options.batches))
                print(f"round {i + 1}: {name}: {found[name][-1]['ms']:.2f} ms", flush=True)
        print(
            f"\ntorch {torch.__version__}, numpy {np.__version__}, "
            f"soundfile {importlib.metadata.version('soundfile')}, {', '.join(PACKAGES[:3])}; "
            f"{options.songs} songs of {options.seconds} s"
        )
        return 0 if print_table(found) else 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
