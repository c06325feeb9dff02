"""Small sets of songs in the layouts in which sets are published."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile
import yaml
from songs import RATE
from training import song

SECONDS = 3.0


def stems_of(seed: int) -> dict[str, np.ndarray]:
    """Synthesize a voice and drums, and of others a bass and the rest."""
    bass = 0.2 * np.sin(2 * np.pi * (200 + 10 * seed) * np.arange(round(SECONDS * RATE)) / RATE)
    rest = song(seed + 20, SECONDS)["drums"][::-1]
    return {**song(seed, SECONDS), "bass": np.stack([bass, 0.9 * bass], 1), "other": rest}


def write(path: Path, waveform: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate, subtype="PCM_16")


def write_stems(folder: Path, stems: Mapping[str, np.ndarray], suffix: str = ".wav") -> None:
    for name, waveform in stems.items():
        write(folder / f"{name}{suffix}", waveform)


def musdb18hq(root: Path) -> Path:
    for seed, place in enumerate(("train/A - One", "train/B - Two", "train/C - Three", "test/D - Four")):
        stems = stems_of(seed)
        write_stems(root / place, {"mixture": sum(stems.values()), **stems})
    return root


def flat_tracks(root: Path) -> Path:  # MSST's types 1, 4 and 5
    for seed in range(3):
        write_stems(root / f"Song {seed}", stems_of(seed))
    return root


def with_mixtures(root: Path) -> Path:  # MSST's types 6 and 7
    for seed in range(3):
        stems = stems_of(seed)
        write_stems(root / f"Song {seed}", {"mixture": sum(stems.values()), **stems})
    return root


def stem_folders(root: Path) -> Path:  # MSST's type 2, validated on songs
    for seed in range(3):
        for name, waveform in stems_of(seed).items():
            write(root / name / f"{name} take {seed}.wav", waveform[: len(waveform) - 100 * seed])
    return root


def flat_files(root: Path) -> Path:
    for seed, name in enumerate(("Song_{}", "Second - {}", "Third Song_({})_model")):
        for stem, waveform in stems_of(seed).items():
            write(root / f"{name.format(stem)}.wav", waveform)
    return root


def moisesdb(root: Path) -> Path:
    for seed in range(3):
        place, stems = root / "moisesdb_v0.1" / f"uuid-{seed}", stems_of(seed)
        listed = []
        for name, waveform in stems.items():
            takes = {f"{name}-a": 0.5 * waveform, f"{name}-b": 0.5 * waveform[: -RATE // 4]}
            for take, part in takes.items():
                write(place / name / f"{take}.wav", part)
            tracks = [{"id": take, "extension": "wav", "trackType": name, "has_bleed": False} for take in takes]
            listed.append({"id": f"{seed}-{name}", "stemName": name, "tracks": tracks})
        title = {"song": f"Song {seed % 2}", "artist": "Artist", "genre": "pop", "stems": listed}
        (place / "data.json").write_text(json.dumps(title), encoding="utf-8")
    return root


def slakh(root: Path) -> Path:
    for seed, split in enumerate(("train", "train", "validation", "test")):
        place, stems = root / split / f"Track{seed:05d}", stems_of(seed)
        classes = {"vocals": "Vocals", "drums": "Drums", "bass": "Bass", "other": "Strings (continued)"}
        described = {}
        for k, (name, waveform) in enumerate(stems.items()):
            write(place / "stems" / f"S{k:02d}.flac", waveform[:, 0])
            described[f"S{k:02d}"] = {"inst_class": classes[name], "is_drum": name == "drums", "audio_rendered": True}
        described["S09"] = {"inst_class": "Piano", "audio_rendered": False}
        write(place / "mix.flac", sum(stems.values())[:, 0])
        (place / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "x", "stems": described}), encoding="utf-8")
    return root


def _dnr(root: Path, mixture: str, splits: tuple[str, ...]) -> None:
    for seed, split in enumerate(splits):
        stems = stems_of(seed)
        named = {"speech": stems["vocals"], "music": stems["bass"], "sfx": stems["drums"]}
        write_stems(root / split / str(1000 + seed), {mixture: sum(named.values()), **named})
        (root / split / str(1000 + seed) / "annots.csv").write_text("x", encoding="utf-8")


def dnr_v2(root: Path) -> Path:
    _dnr(root, "mix", ("tr", "cv", "tt"))
    return root


def dnr_v3(root: Path) -> Path:
    for language in ("eng", "deu"):
        _dnr(root / language, "mixture", ("train", "val", "test"))
    return root


def msst_list(root: Path) -> Path:
    lines = ["instrum,path"]
    for seed in range(3):
        for name, waveform in stems_of(seed).items():
            write(root / "anywhere" / f"{seed}-{name}.wav", waveform)
            lines.append(f"{name},anywhere/{seed}-{name}.wav")
    (root / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def manifest(root: Path) -> Path:
    lines = ["path,stem,track,split,gain,start,licence,tempo,key"]
    for seed, split in enumerate(("train", "train", "valid")):
        for name, waveform in stems_of(seed).items():
            write(root / "files" / f"{seed}{name}.wav", waveform)
            lines.append(f"files/{seed}{name}.wav,{name},Song {seed},{split},-6,0.5,CC0,{100 + seed},Am")
    (root / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


VOCALS, SPEECH = ["vocals", "drums"], ["speech", "sfx"]
TREES: dict[str, tuple[Callable[[Path], Path], str, list[str], bool]] = {  # tree, layout, sources, whole songs
    "MUSDB18-HQ": (musdb18hq, "song_folders", VOCALS, True),
    "flat tracks": (flat_tracks, "song_folders", VOCALS, True),
    "tracks with mixtures": (with_mixtures, "song_folders", VOCALS, True),
    "stem folders": (stem_folders, "stem_folders", VOCALS, False),
    "flat files": (flat_files, "flat_files", VOCALS, True),
    "MoisesDB": (moisesdb, "moisesdb", VOCALS, True),
    "Slakh": (slakh, "slakh", VOCALS, True),
    "DnR v2": (dnr_v2, "dnr", SPEECH, True),
    "DnR v3": (dnr_v3, "dnr", SPEECH, True),
    "MSST list": (msst_list, "msst_list", VOCALS, False),
    "manifest": (manifest, "manifest", VOCALS, True),
}
