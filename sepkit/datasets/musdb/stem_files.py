"""What is MUSDB18's own: its validation songs, and its `.stem.mp4` files decoded into the cache."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sepkit import audio
from sepkit.cache import cache_directory, writing_to_cache
from sepkit.files import atomic_folder, readable
from sepkit.terminal import bar_option

SOURCES = ("vocals", "drums", "bass", "other")
STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # of a `.stem.mp4`, in their order
VALIDATION_SONGS = frozenset(  # of the train folder, by convention
    (
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    )
)


def is_stem_file(path: Path) -> bool:
    """Return whether a path is a song in one `.stem.mp4` file."""
    return path.name.lower().endswith(".stem.mp4") and not path.name.startswith(".") and path.is_file()


def song_name(path: Path) -> str:
    """Name a song after its folder, or after its file without `.stem.mp4`."""
    return readable(path.name[: -len(".stem.mp4")] if is_stem_file(path) else path.name)


def check_stem_file(path: Path) -> str | None:
    """Describe the fault of a `.stem.mp4`, without decoding it; None: it has none."""
    try:
        info = audio.probe(path)
    except audio.AudioError as error:
        return str(error)
    if info.n_streams != len(STREAMS):
        wanted = f"{len(STREAMS)} streams ({', '.join(STREAMS)})"
        return f"{path}: wanted are {wanted}, it has {info.n_streams}; replace it"
    if info.truncated:
        return f"{path}: truncated, {info.n_samples} of {info.n_declared} samples decode; download it again"
    if info.damage:
        return f"{path}: {audio.describe_damage(info.damage, info.sample_rate)}; download it again"
    return None


def decode_stem_files(paths: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """Decode `.stem.mp4` files to 16-bit WAV, as musdb does, once: they stay in `$SEPKIT_CACHE/musdb`.

    A song takes 50 MB a minute. Processes may call at once; a song appears when it is complete.

    Args:
        paths: files that `check_stem_file` found to be in order.

    Returns:
        For each file the folder with `mixture.wav`, `drums.wav` ..., and what went wrong.
    """
    folders = {path: _cache_folder(path) for path in paths}
    missing = [path for path, folder in folders.items() if not folder.is_dir()]
    if missing and not shutil.which("ffmpeg"):
        return folders, [
            f"{missing[0]} and {len(missing) - 1} more are decoded by ffmpeg, which is not on the PATH; install it "
            "(apt install ffmpeg, brew install ffmpeg, conda install ffmpeg), or use the wav version, MUSDB18-HQ"
        ]
    bar = tqdm(missing, "decoding", unit="song", disable=bar_option(bool(missing)))
    findings = [_decode(path, folders[path]) for path in bar]
    return folders, [finding for finding in findings if finding]


def _cache_folder(path: Path) -> Path:
    """Name the folder of the decoded file: another path, size or time of change gives another one."""
    path = path.resolve()
    status = path.stat()
    key = f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
    return cache_directory() / "musdb" / hashlib.sha256(os.fsencode(key)).hexdigest()[:24]


def _decode(path: Path, folder: Path) -> str | None:
    """Decode a file into its folder in the cache; return what went wrong."""
    try:
        with writing_to_cache(), atomic_folder(folder) as work:
            _run_ffmpeg(path, work)
    except _NotDecodedError as error:
        return str(error)
    return None


class _NotDecodedError(Exception):
    """A file does not decode in full."""


def _run_ffmpeg(path: Path, work: Path) -> None:
    """Write one WAV a stream."""
    outputs = [work / f"{name}.wav" for name in STREAMS]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", os.fspath(path.resolve())]
    for k, output in enumerate(outputs):
        command += ["-map", f"0:a:{k}", "-c:a", "pcm_s16le", "-bitexact", os.fspath(output)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        messages = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise _NotDecodedError(
            f"{path}: ffmpeg does not decode it ({messages[-1]}); download it again, or make room in {work.parent}"
        )
    wanted, found = audio.probe(path).n_samples, min(audio.probe(output).n_samples for output in outputs)
    if found < wanted:
        raise _NotDecodedError(f"{path}: {found} of {wanted} samples decode; download it again")
