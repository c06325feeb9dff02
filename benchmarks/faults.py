"""Measure which planted faults `sepkit-data check` finds, and how often it is wrong.

Songs are copied into a root of their own. Then faults are planted one after the other, each kind at four strengths and
in several songs, and the root is checked each time. A fault is found where a finding of its kind names the file in
which it is, or one of two that it is between. False alarms are errors and warnings on other songs, which were not
there before.

    python benchmarks/faults.py --output faults.md
    python benchmarks/faults.py --songs my_songs --trials 2 --kinds bleed swapped
    python benchmarks/faults.py --first 100 --seed 1
"""

import argparse
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets.checking import check_sound
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.gathering import gather
from sepkit.datasets.several import Source
from sepkit.report.media import encode_mp3

RATE = 44100
Stems = dict[str, Tensor]


class Plant(NamedTuple):
    """A fault that is planted: in which files, and what findings of it are called."""

    files: list[Path]
    kinds: tuple[str, ...]


class Song(NamedTuple):
    """A song whose files are changed: its folder, how to draw, its stems with "mixture", by name."""

    folder: Path
    rng: np.random.Generator
    stems: Stems

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.wav"

    def loud(self, *others: str) -> str:
        """Draw a stem that sounds, and is none of some."""
        names = [n for n, w in self.stems.items() if n not in ("mixture", *others) and w.square().mean() > 1e-6]
        return str(self.rng.choice(sorted(names)))

    def write(self, name: str, waveform: Tensor, rate: int = RATE) -> Path:
        soundfile.write(self.path(name), waveform.T.clamp(-1, 1).numpy(), rate, subtype="PCM_16")
        return self.path(name)


def decibel(level: float) -> float:
    return 10 ** (level / 20)


def late(waveform: Tensor, n: int) -> Tensor:
    return torch.nn.functional.pad(waveform, (n, 0))[:, : waveform.shape[1]]


def mp3(song: Song, waveform: Tensor, kilobits: float) -> Tensor:
    path = song.folder.parent / "coded.mp3"
    path.write_bytes(encode_mp3(waveform, RATE, kilobits))
    decoded = audio.read(path)[0]
    path.unlink()
    return torch.nn.functional.pad(decoded, (0, max(0, waveform.shape[1] - decoded.shape[1])))[:, : waveform.shape[1]]


def truncated(song: Song, share: float) -> Plant:
    path = song.path(song.loud())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return Plant([path], ("damage", "truncated", "damaged", "unreadable"))


def unreadable(song: Song, kind: str) -> Plant:
    path = song.path(song.loud())
    path.write_bytes(
        {"empty": b"", "text": b"no audio " * 99, "zeros": bytes(4096), "noise": song.rng.bytes(4096)}[kind]
    )
    return Plant([path], ("unreadable",))


def rate(song: Song, hertz: int) -> Plant:
    name = song.loud()
    return Plant([song.write(name, audio.resample(song.stems[name], RATE, hertz), hertz)], ("rate",))


def channels(song: Song, n: int) -> Plant:
    name = song.loud()
    return Plant([song.write(name, song.stems[name][:1].expand(n, -1))], ("channels",))


def length(song: Song, n: int) -> Plant:
    name = song.loud()
    return Plant([song.write(name, song.stems[name][:, :-n])], ("length",))


def nan(song: Song, n: int) -> Plant:
    name = song.loud()
    waveform = song.stems[name].clone()
    start = int(song.rng.integers(waveform.shape[1] - n))
    waveform[0, start : start + n] = float("nan")
    soundfile.write(song.path(name), waveform.T.numpy(), RATE, subtype="FLOAT")
    return Plant([song.path(name)], ("NaN",))


def silence(song: Song, level: float) -> Plant:
    name = song.loud()
    soundfile.write(song.path(name), (song.stems[name] * decibel(level)).T.numpy(), RATE, subtype="PCM_24")
    return Plant([song.path(name)], ("silence",))


def clipping(song: Song, level: float) -> Plant:
    name = song.loud()
    waveform = song.stems[name] / song.stems[name].abs().max() * decibel(level)
    return Plant([song.write(name, waveform)], ("clipping",))


def constant(song: Song, size: float) -> Plant:
    name = song.loud()
    return Plant([song.write(name, 0.8 * song.stems[name] + size)], ("DC",))


def mono(song: Song, level: float) -> Plant:
    name = song.loud()
    left = song.stems[name][0]
    side = torch.randn(len(left), generator=torch.Generator().manual_seed(0)) * left.std() * decibel(level)
    return Plant([song.write(name, torch.stack([left + side, left - side]))], ("mono",))


def inverted(song: Song, width: float) -> Plant:
    name = song.loud()
    middle, side = song.stems[name].mean(0), (song.stems[name][0] - song.stems[name][1]) / 2 * width
    return Plant([song.write(name, torch.stack([middle + side, side - middle]))], ("inverted",))


def one_sided(song: Song, level: float) -> Plant:
    name = song.loud()
    return Plant([song.write(name, song.stems[name] * torch.tensor([[1.0], [decibel(level)]]))], ("channels",))


def lossy(song: Song, kilobits: float) -> Plant:
    name = song.loud("bass")
    return Plant([song.write(name, mp3(song, song.stems[name], kilobits))], ("band limit",))


def loudness(song: Song, level: float) -> Plant:
    for name, waveform in song.stems.items():
        soundfile.write(song.path(name), (waveform * decibel(level)).T.numpy(), RATE, subtype="FLOAT")
    return Plant([song.path(name) for name in song.stems], ("loudness",))


def mixture_gain(song: Song, level: float) -> Plant:
    return Plant([song.write("mixture", song.stems["mixture"] * decibel(level))], ("mixture gain",))


def mixture_offset(song: Song, n: int) -> Plant:
    return Plant([song.write("mixture", late(song.stems["mixture"], n))], ("mixture offset",))


def left_over(song: Song, level: float) -> Plant:
    mixture = song.stems["mixture"]
    noise = torch.randn(mixture.shape, generator=torch.Generator().manual_seed(1)) * mixture.std() * decibel(level)
    return Plant([song.write("mixture", mixture + noise)], ("left over", "mixture"))


def stem_gain(song: Song, level: float) -> Plant:
    name = song.loud()
    return Plant([song.write(name, song.stems[name] * decibel(level))], ("mixture gain",))


def stem_offset(song: Song, n: int) -> Plant:
    name = song.loud()
    return Plant([song.write(name, late(song.stems[name], n))], ("mixture offset",))


def swapped(song: Song, pair: str) -> Plant:
    one, other = pair.split("-")
    song.write(one, song.stems[other])
    song.write(other, song.stems[one])
    return Plant([song.path(one), song.path(other)], ("swapped",))


def bleed(song: Song, level: float) -> Plant:
    name = song.loud()
    other = song.loud(name)
    return Plant([song.write(name, song.stems[name] + decibel(level) * song.stems[other])], ("bleed",))


def copied(song: Song, how: str) -> Plant:
    name = song.loud()
    other = song.loud(name)
    wave = song.stems[name]
    change = {"exact": wave, "softer": 0.5 * wave, "inverted": -wave, "100 later": late(wave, 100)}
    return Plant([song.path(name), song.write(other, change[how])], ("copy",))


def same_song(song: Song, how: str) -> Plant:
    """Put a song into the other split, too, under another name."""
    splits = {"train": "test", "test": "train"}
    folder = song.folder.parents[1] / splits[song.folder.parent.name] / "planted"
    folder.mkdir(parents=True)
    planted = Song(folder, song.rng, song.stems)
    for name, wave in song.stems.items():
        change: dict[str, Callable[[], Tensor]] = {
            "as it is": lambda wave=wave: wave,
            "12 dB softer": lambda wave=wave: wave * decibel(-12),
            "as MP3": lambda wave=wave: mp3(song, wave, 96),
            "1.3 s later, as MP3": lambda wave=wave: late(mp3(song, wave, 128), 57330),
        }
        planted.write(name, change[how]())
    return Plant([path for at in (song, planted) for path in map(at.path, song.stems)], ("same song",))


PAIRS = ("vocals-drums", "vocals-bass", "vocals-other", "drums-other")
FAULTS: dict[str, tuple[Callable[..., Plant], tuple]] = {
    "truncated to": (truncated, (0.99, 0.9, 0.5, 0.1)),
    "unreadable": (unreadable, ("empty", "text", "zeros", "noise")),
    "rate, Hz": (rate, (48000, 32000, 22050, 44056)),
    "channels": (channels, (3, 4, 6, 8)),
    "shorter by, samples": (length, (1, 100, 4410, 44100)),
    "NaN, samples": (nan, (1, 10, 1000, 20000)),
    "silence, dB": (silence, (-200, -120, -100, -85)),
    "clipped by, dB": (clipping, (1, 3, 6, 12)),
    "DC, of full scale": (constant, (0.001, 0.003, 0.01, 0.1)),
    "mono, side in dB": (mono, (-200, -80, -60, -45)),
    "a channel inverted, width": (inverted, (0.0, 0.1, 0.3, 1.0)),
    "a channel softer, dB": (one_sided, (-200, -100, -80, -70)),
    "MP3, kbit/s": (lossy, (64, 128, 192, 320)),
    "song louder by, dB": (loudness, (-24, -18, 12, 18)),
    "mixture louder by, dB": (mixture_gain, (-12, -3, -1, -0.3)),
    "mixture later by, samples": (mixture_offset, (1, 64, 2205, 44100)),
    "left over, dB": (left_over, (-20, -30, -40, -50)),
    "stem louder by, dB": (stem_gain, (-12, -3, -1, -0.3)),
    "stem later by, samples": (stem_offset, (1, 64, 2205, 44100)),
    "swapped": (swapped, PAIRS),
    "bleed, dB": (bleed, (-10, -20, -30, -40)),
    "copy": (copied, ("exact", "softer", "inverted", "100 later")),
    "same song in two splits": (same_song, ("as it is", "12 dB softer", "as MP3", "1.3 s later, as MP3")),
}


def main() -> int:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        songs = copy_songs(options.songs, Path(folder) / "songs", options.first, options.n_songs)
        clean = check(Path(folder) / "songs")
        lines = [
            f"{len(songs)} songs of {Path(options.songs).name} from number {options.first} on, {options.trials} of "
            f"them for each strength, drawn with seed {options.seed}; unchanged they have "
            f"{sum(f.severity == Severity.ERROR for f in clean)} errors, "
            f"{sum(f.severity == Severity.WARNING for f in clean)} warnings, "
            f"{sum(f.severity == Severity.NOTE for f in clean)} notes.",
            "",
            "| fault | strengths | found | false alarms |",
            "|---|---|---|---|",
        ]
        print(*lines, sep="\n", flush=True)
        for name in options.kinds or FAULTS:
            lines.append(measure(name, songs, set(map(identity, clean)), options.trials, options.seed))
            print(lines[-1], flush=True)
    if options.output:
        Path(options.output).write_text("\n".join(lines) + "\n")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", default="demo", help="root of songs with vocals, drums, bass and other")
    parser.add_argument("--n-songs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="songs of the root that are left out, in its order")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn: songs, stems, places")
    parser.add_argument("--trials", type=int, default=3, help="songs in which each strength is planted")
    parser.add_argument("--kinds", nargs="+", choices=list(FAULTS), help="default: all")
    parser.add_argument("--output", help="Markdown")
    return parser.parse_args()


def copy_songs(source: str, root: Path, first: int, n_songs: int) -> list[Path]:
    """Copy songs, as 16-bit WAV with a mixture, a fifth of them into test."""
    found = gather([Source(source)], sample_rate=RATE, n_channels=2).songs[first : first + n_songs]
    folders = []
    for i, song in enumerate(found):
        folder = root / ("test" if i % 5 == 4 else "train") / f"song_{i:03d}"
        folder.mkdir(parents=True)
        stems = {name: song.stems[name].read(0, song.n_samples) for name in song.parts}
        scale = min(1.0, 0.98 / max(1e-9, float(sum(stems.values()).abs().max())))
        stems = {name: (wave * scale * 32768).round() / 32768 for name, wave in stems.items()}
        for name, wave in {**stems, "mixture": sum(stems.values())}.items():
            soundfile.write(folder / f"{name}.wav", wave.T.numpy(), RATE, subtype="PCM_16")
        folders.append(folder)
    return folders


def check(root: Path) -> list[Finding]:
    gathered = gather([Source(root)], progress=False)
    return [*gathered.findings, *check_sound(gathered.songs, progress=False).findings]


def identity(finding: Finding) -> tuple:
    return finding.kind, finding.file, finding.message


def measure(name: str, songs: list[Path], clean: set[tuple], trials: int, seed: int) -> str:
    """Plant a fault at each strength, and describe what was found in a row of the table."""
    plant, strengths = FAULTS[name]
    found, false = [], 0
    for number, strength in enumerate(strengths):
        hits = 0
        rng = np.random.default_rng([zlib.crc32(name.encode()), number, *([seed] if seed else [])])
        chosen = [songs[i] for i in rng.permutation(len(songs)) if _fits(songs[i], strength)][:trials]
        for folder in chosen:
            hit, wrong = _try(folder, plant, strength, clean, rng)
            hits, false = hits + hit, false + wrong
        found.append(f"{hits}/{len(chosen)}")
    return f"| {name} | {', '.join(map(str, strengths))} | {', '.join(found)} | {false} |"


def _fits(folder: Path, strength: object) -> bool:
    """Return whether a song has the stems that are to be swapped."""
    names = str(strength).split("-") if strength in PAIRS else []
    return all(soundfile.read(folder / f"{name}.wav")[0].std() > 1e-3 for name in names)


def _try(folder: Path, plant: Callable[..., Plant], strength: object, clean: set[tuple], rng) -> tuple[bool, int]:
    """Plant a fault, check, and put everything back."""
    kept = folder.parents[2] / "kept"
    shutil.copytree(folder, kept)
    try:
        stems = {path.stem: audio.read(path)[0] for path in sorted(folder.glob("*.wav"))}
        planted = plant(Song(folder, rng, stems), strength)
        findings = [finding for finding in check(folder.parents[1]) if identity(finding) not in clean]
    finally:
        shutil.rmtree(folder)
        shutil.move(kept, folder)
        for split in ("train", "test"):
            shutil.rmtree(folder.parents[1] / split / "planted", ignore_errors=True)
    hit = any(finding.kind in planted.kinds and finding.file in planted.files for finding in findings)
    touched = {folder, *(path.parent for path in planted.files)}
    wrong = [
        finding
        for finding in findings
        if finding.severity > Severity.NOTE
        and finding.file is not None
        and not {finding.file.parent, finding.file} & touched
    ]
    for finding in ([] if hit else findings[:4]) + wrong:
        print(f"    {plant.__name__} {strength} in {planted.files[0]}: {finding.kind} {finding}", file=sys.stderr)
    return hit, len(wrong)


if __name__ == "__main__":
    sys.exit(main())
