"""MIDI to waveforms by the command `fluidsynth` and a sound font."""

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from sepkit.datasets.rendering.errors import RenderingError

if TYPE_CHECKING:
    import mido

RATE = 44100  # Hz
_COMMAND = "fluidsynth"
_INSTALL = "apt-get install fluidsynth, brew install fluid-synth, or choco install fluidsynth"
_FONTS = "Debian's fluid-soundfont-gm puts one at /usr/share/sounds/sf2/FluidR3_GM.sf2"
_SETTINGS = ("synth.dynamic-sample-loading=1", "synth.cpu-cores=1", "synth.polyphony=512", "synth.midi-bank-select=xg")
_LINES = {b"INAM": "name", b"ICOP": "copyright"}


@dataclass(frozen=True)
class SoundFont:
    """A sound font.

    Attributes:
        path: of the file.
        name: as it states.
        copyright: as it states; "": nothing.
        digest: SHA-256 of the file.
    """

    path: Path
    name: str
    copyright: str
    digest: str


def find_fluidsynth() -> str:
    """Find the command.

    Raises:
        RenderingError: it is not installed.
    """
    found = shutil.which(_COMMAND)
    if found is None:
        raise RenderingError(f"MIDI is rendered by FluidSynth, which is not installed: {_INSTALL}")
    return found


def read_font(path: Path) -> SoundFont:
    """Read what a sound font states of itself.

    Args:
        path: `.sf2` or `.sf3`.

    Raises:
        RenderingError: it is none.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"sfbk":
                raise RenderingError(f"{path} is no sound font (.sf2 or .sf3); {_FONTS}")
            kind, size = file.read(4), int.from_bytes(file.read(4), "little")
            stated = _read_lines(file.read(min(size, 1 << 16))[4:]) if kind == b"LIST" else {}
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise RenderingError(f"the sound font {path} cannot be read: {error.strerror or error}; {_FONTS}") from error
    return SoundFont(path, stated.get("name") or path.stem, stated.get("copyright", ""), digest.hexdigest())


def _read_lines(chunk: bytes) -> dict[str, str]:
    """Read the texts of an INFO list."""
    found, position = {}, 0
    while position + 8 <= len(chunk):
        size = int.from_bytes(chunk[position + 4 : position + 8], "little")
        name = _LINES.get(chunk[position : position + 4])
        if name:
            text = chunk[position + 8 : position + 8 + size].split(b"\0")[0].decode("latin-1")
            found[name] = " ".join(text.split())
        position += 8 + size + size % 2
    return found


def synthesize(file: "mido.MidiFile", font: Path) -> np.ndarray:
    """Synthesize a MIDI file, dry.

    Args:
        file: what is played.
        font: the sound font.

    Returns:
        (2, T) float32 at 44.1 kHz, not limited to full scale.

    Raises:
        RenderingError: FluidSynth fails, or finds no instrument.
    """
    with tempfile.TemporaryDirectory(prefix="sepkit-render-") as folder:
        score, sound = Path(folder) / "part.mid", Path(folder) / "part.wav"
        file.save(score)
        settings = [part for setting in _SETTINGS for part in ("-o", setting)]
        call = [find_fluidsynth(), "-ni", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(RATE), *settings]
        call += ["-T", "wav", "-O", "float", "-F", str(sound), str(font.absolute()), str(score)]
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode or not sound.is_file():
            lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
            reason = lines[-1] if lines else f"it ended with {done.returncode}"
            raise RenderingError(f"FluidSynth cannot render with {font.name}: {reason}")
        waveform, _ = soundfile.read(sound, dtype="float32", always_2d=True)
    return np.ascontiguousarray(waveform.T)
