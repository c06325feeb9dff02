"""How a piece is played: by which instruments, in which key and tempo, how loosely."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from sepkit.datasets.rendering.instruments import find_stem, list_alike
from sepkit.datasets.rendering.midi import Note, Piece, import_mido

if TYPE_CHECKING:
    import mido

_TICKS = 9600  # of a beat, which lasts half a second
_TAIL = 2.5  # s that a piece rings out
_LATE = 0.006  # s by which notes come late, one standard deviation
_LOOSE = 7.0  # by which velocities differ, one standard deviation
_PAN, _BANKS = 10, (0, 32)
_KITS = 127  # bank by which XG makes any channel one of drums, and another makes it one of notes


@dataclass(frozen=True)
class Take:
    """One way to play a piece.

    Attributes:
        speed: factor on the tempo.
        semitones: by which all but drums are moved.
        programs: what plays instead of each program, by whether it is a kit, and its number.
        pans: position of each channel whose position the piece leaves open, 0 to 127.
    """

    speed: float
    semitones: int
    programs: dict[tuple[bool, int], int]
    pans: dict[int, int]


def draw_take(rng: np.random.Generator, piece: Piece, is_first: bool) -> Take:
    """Draw how a piece is played.

    Args:
        rng: draws.
        piece: what is played.
        is_first: play it as it is written: tempo, key and instruments.
    """
    used = {(note.is_drum, note.program): note for note in piece.notes}
    swapped = {place: int(rng.choice(list_alike(used[place]))) for place in sorted(used)}
    speed, semitones = float(np.exp(rng.uniform(-0.12, 0.12))), int(rng.integers(-4, 5))
    kept = {message.channel for _, message in piece.controls if getattr(message, "control", None) == _PAN}
    kept |= {note.channel for note in piece.notes if note.is_drum}
    pans = {channel: int(np.clip(rng.normal(64.0, 28.0), 0, 127)) for channel in range(16)}
    pans = {channel: pan for channel, pan in pans.items() if channel not in kept}
    if is_first:
        return Take(1.0, 0, {place: place[1] for place in used}, pans)
    return Take(speed, semitones, swapped, pans)


def perform(rng: np.random.Generator, piece: Piece, take: Take, looseness: float) -> dict[str, tuple[Note, ...]]:
    """Play the notes of each stem.

    Args:
        rng: draws how late and how loud each note is.
        piece: what is played.
        take: how.
        looseness: of time and loudness; 0: as it is written.

    Returns:
        By stem, those that have notes; in the time of the take.
    """
    parts: dict[str, list[Note]] = {}
    late = np.abs(
        rng.normal(0.0, _LATE, len(piece.notes)) + rng.normal(0.0, _LATE, 16)[[n.channel for n in piece.notes]]
    )
    louder = rng.normal(0.0, _LOOSE, len(piece.notes))
    for note, delay, more in zip(piece.notes, late * looseness, louder * looseness, strict=True):
        stem = find_stem(note)
        if stem is None:
            continue
        start, end = note.start / take.speed + delay, note.end / take.speed + delay
        pitch = note.pitch if note.is_drum else int(np.clip(note.pitch + take.semitones, 0, 127))
        velocity = int(np.clip(round(note.velocity + more), 1, 127))
        program = take.programs[note.is_drum, note.program]
        played = replace(note, start=start, end=end, pitch=pitch, velocity=velocity, program=program)
        parts.setdefault(stem, []).append(played)
    return {stem: tuple(sorted(notes, key=lambda note: note.start)) for stem, notes in parts.items()}


def write_part(piece: Piece, take: Take, notes: tuple[Note, ...], duration: float) -> "mido.MidiFile":
    """Write the notes of a stem as a MIDI file, with the controllers of their channels.

    Args:
        piece: whose controllers are taken.
        take: how it is played.
        notes: as `perform` gave them.
        duration: s of the file.
    """
    mido = import_mido()
    channels = {note.channel for note in notes}
    events: list[tuple[float, int, mido.Message]] = []  # time, order among those of a time
    for channel, pan in take.pans.items():
        if channel in channels:
            events.append((0.0, 0, mido.Message("control_change", channel=channel, control=_PAN, value=pan)))
    events += [(time / take.speed, 1, message) for time, message in piece.controls if message.channel in channels]
    events += list(_play(mido, notes))
    events.append((duration, 9, mido.Message("control_change", channel=0, control=119, value=0)))
    track, ticks = mido.MidiTrack(), 0
    for time, _, message in sorted(events, key=lambda event: event[:2]):
        now = max(ticks, round(time * 2 * _TICKS))
        track.append(message.copy(time=now - ticks))
        ticks = now
    return mido.MidiFile(type=0, ticks_per_beat=_TICKS, tracks=[track])


def measure_duration(parts: dict[str, tuple[Note, ...]]) -> float:
    """Return the seconds that a performance lasts, with what rings on."""
    return max(note.end for notes in parts.values() for note in notes) + _TAIL


def _play(mido: ModuleType, notes: tuple[Note, ...]) -> Iterator[tuple[float, int, "mido.Message"]]:
    """Yield the messages of notes, with their instruments where these change."""
    following: dict[tuple[int, int], float] = {}
    ends = []
    for note in reversed(notes):  # a note ends before the next of its pitch begins
        place = note.channel, note.pitch
        ends.append(min(note.end, following.get(place, note.end)))
        following[place] = note.start
    playing: dict[int, tuple[bool, int, int]] = {}
    for note, end in zip(notes, reversed(ends), strict=True):
        place = {"channel": note.channel}
        if playing.get(note.channel) != (note.is_drum, note.bank, note.program):
            playing[note.channel] = note.is_drum, note.bank, note.program
            for control, value in zip(_BANKS, (_KITS, 0) if note.is_drum else (0, note.bank), strict=True):
                yield note.start, 3, mido.Message("control_change", **place, control=control, value=value)
            yield note.start, 3, mido.Message("program_change", **place, program=note.program)
        yield note.start, 3, mido.Message("note_on", **place, note=note.pitch, velocity=note.velocity)
        yield end, 2 if end > note.start else 4, mido.Message("note_off", **place, note=note.pitch)
