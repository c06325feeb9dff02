"""Pieces of music as MIDI files hold them: notes in seconds with their instruments, controllers, tempo, key."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from sepkit.datasets.keys import normalize_key
from sepkit.datasets.rendering.errors import RenderingError

if TYPE_CHECKING:
    import mido

SUFFIXES = (".mid", ".midi", ".kar")
DRUM_CHANNEL = 9  # the tenth
_LONGEST = 3600.0  # s of a piece, beyond which a file is taken for broken
_STEADY = 0.04  # tempi that differ by less are one tempo
_SHARE = 0.9  # of a piece that has one tempo
# How well the twelve notes fit a key, from its tonic upwards.
_PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_LEAST_FIT = 0.6  # correlation with the nearest profile, below which a key is unknown


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes:
        start: s.
        end: s.
        channel: 0 to 15.
        pitch: 0 to 127; of drums, the instrument.
        velocity: 1 to 127.
        program: General MIDI's number from 0; of drums, the kit.
        bank: variation of the program.
        is_drum: whether its channel is one of drums.
    """

    start: float
    end: float
    channel: int
    pitch: int
    velocity: int
    program: int = 0
    bank: int = 0
    is_drum: bool = False


@dataclass(frozen=True)
class Piece:
    """What a MIDI file plays.

    Attributes:
        path: of the file.
        notes: in order of their beginnings.
        controls: time in s and message, of controllers and pitch bends, in order.
        tempo: beats per minute; None: none is stated, or it changes.
        key: as "A minor"; None: unknown.
    """

    path: Path
    notes: tuple[Note, ...]
    controls: tuple[tuple[float, "mido.Message"], ...]
    tempo: float | None
    key: str | None

    @property
    def duration(self) -> float:
        """Return the s at which its last note ends."""
        return max(note.end for note in self.notes)


def read_piece(path: Path, seconds: float | None = None) -> Piece:
    """Read a MIDI file.

    Args:
        path: of type 0 or 1.
        seconds: after which it is cut; None: all of it.

    Raises:
        RenderingError: it is none, has no notes or no end, or mido is missing.
    """
    mido = import_mido()
    try:
        with path.open("rb") as stream:
            file = mido.MidiFile(file=stream, clip=True)
        if file.type == 2 or file.ticks_per_beat <= 0:
            kind = "independent sequences (type 2)" if file.type == 2 else "times of frames (SMPTE)"
            raise RenderingError(f"{path.name} has {kind}: save it as type 0 or 1 with beats")
        state = _State()
        for message in file:
            state.take(message)
    except RenderingError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise RenderingError(f"{path.name} is no MIDI file that can be read: {reason}") from error
    except Exception as error:  # of mido's parser, whatever it stumbles over
        reason = str(error) or ("it ends early" if isinstance(error, EOFError) else type(error).__name__)
        raise RenderingError(f"{path.name} is no MIDI file that can be read: {reason}") from error
    return _make_piece(path, state, seconds)


def import_mido() -> ModuleType:
    """Import mido.

    Raises:
        RenderingError: it is missing.
    """
    try:
        import mido
    except ImportError:
        raise RenderingError("MIDI files are read by mido, which is missing: pip install 'sepkit[midi]'") from None
    return mido


class _State:
    """What a MIDI file has set up to a message, and the notes so far."""

    def __init__(self) -> None:
        self.time = 0.0
        self.notes: list[Note] = []
        self.controls: list[tuple[float, mido.Message]] = []
        self.tempi: list[tuple[float, float]] = []  # s, beats per minute
        self.key: str | None = None
        self._held: dict[tuple[int, int], list[Note]] = {}
        self._programs, self._banks = [0] * 16, [0] * 16
        self._drum_channels, self._drum_banks = {DRUM_CHANNEL}, set()

    def take(self, message: "mido.Message") -> None:
        """Take the next message."""
        self.time += message.time
        kind = message.type
        if kind == "note_on" and message.velocity:
            self._begin(message)
        elif kind in ("note_on", "note_off"):
            self._end(message.channel, message.note)
        elif kind == "program_change":
            self._programs[message.channel] = message.program
        elif kind == "control_change" and message.control in (0, 32):
            if message.control == 0:
                self._banks[message.channel] = message.value
        elif kind in ("control_change", "pitchwheel", "aftertouch", "polytouch"):
            self.controls.append((self.time, message.copy(time=0)))
        elif kind == "set_tempo" and message.tempo:
            self.tempi.append((self.time, 6e7 / message.tempo))
        elif kind == "key_signature" and self.key is None:
            self.key = message.key
        elif kind == "sysex":
            self._take_sysex(tuple(message.data))

    def _begin(self, message: "mido.Message") -> None:
        channel = message.channel
        bank = self._banks[channel]
        is_drum = channel in self._drum_channels or bank in self._drum_banks
        note = Note(
            self.time, self.time, channel, message.note, message.velocity, self._programs[channel], bank, is_drum
        )
        self._held.setdefault((channel, message.note), []).append(note)

    def _end(self, channel: int, pitch: int) -> None:
        held = self._held.get((channel, pitch))
        if held:
            note = held.pop(0)
            self.notes.append(Note(**{**vars(note), "end": self.time}))

    def _take_sysex(self, data: tuple[int, ...]) -> None:
        """Take what makes channels those of drums, besides the tenth.

        Source:
            Yamaha XG, GM2 and Roland GS: "XG system on", "GM2 system on", "use for rhythm part".
        """
        if data[:1] == (67,) and data[2:7] == (76, 0, 0, 126, 0):
            self._drum_banks = {126, 127}
        elif data[:1] == (126,) and data[2:4] == (9, 3):
            self._drum_banks = {120}
        elif data[:1] == (65,) and data[2:5] == (66, 18, 64) and len(data) > 7 and data[5] >> 4 == 1 and data[6] == 21:
            part = data[5] & 15
            channel = DRUM_CHANNEL if part == 0 else part - 1 if part < 10 else part
            (self._drum_channels.add if data[7] else self._drum_channels.discard)(channel)

    def finish(self) -> None:
        """End the notes that nothing ended."""
        for channel, pitch in [place for place, held in self._held.items() for _ in held]:
            self._end(channel, pitch)


def _make_piece(path: Path, state: _State, seconds: float | None) -> Piece:
    state.finish()
    end = max((note.end for note in state.notes), default=0.0) if seconds is None else seconds
    notes = sorted(
        (Note(**{**vars(note), "end": min(note.end, end)}) for note in state.notes if note.start < end),
        key=lambda note: note.start,
    )
    if not notes:
        raise RenderingError(f"{path.name} has no notes" + ("" if seconds is None else f" in its first {seconds:g} s"))
    if end > _LONGEST:
        raise RenderingError(f"{path.name} lasts {end / 60:.0f} minutes, more than an hour: cut it by --seconds")
    controls = tuple((time, message) for time, message in state.controls if time < end)
    melodic = [note for note in notes if not note.is_drum]
    return Piece(path, tuple(notes), controls, _steady_tempo(state.tempi, end), _choose_key(state.key, melodic))


def _steady_tempo(tempi: list[tuple[float, float]], end: float) -> float | None:
    """Return the tempo of nearly the whole piece; None: there is none."""
    spans = [
        (bpm, min(stop, end) - start) for (start, bpm), (stop, _) in zip(tempi, [*tempi, (end, 0.0)][1:], strict=True)
    ]
    spans = [(bpm, length) for bpm, length in spans if length > 0]
    if not spans:
        return None
    tempo = max(spans, key=lambda span: span[1])[0]
    steady = sum(length for bpm, length in spans if abs(bpm / tempo - 1) <= _STEADY)
    return round(tempo, 2) if steady >= _SHARE * end else None


def _choose_key(stated: str | None, notes: list[Note]) -> str | None:
    """Return the key that is stated, unless it is C, which most programs state of any music, else that of the notes."""
    if stated is not None and stated != "C" and notes:
        return normalize_key(stated)
    return estimate_key(notes)


def estimate_key(notes: list[Note]) -> str | None:
    """Estimate the key of notes by how long each of the twelve sounds.

    Args:
        notes: without drums.

    Returns:
        Such as "A minor"; None: no key fits.

    Source:
        Krumhansl, Cognitive Foundations of Musical Pitch, 1990, chapter 4; its probe-tone profiles.
    """
    sounding = np.zeros(12)
    for note in notes:
        sounding[note.pitch % 12] += min(note.end - note.start, 2.0)
    if not sounding.std() > 0:
        return None
    fits = {
        f"{_NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), sounding)[0, 1])
        for mode, profile in _PROFILES.items()
        for tonic in range(12)
    }
    best = max(fits, key=fits.__getitem__)
    return best if fits[best] >= _LEAST_FIT else None
