"""Bass lines: plucked, bowed out of oscillators, or pure low sines, now and then driven."""

import numpy as np

from sepkit.datasets.demo.effects import compress, finish, saturate
from sepkit.datasets.demo.song import Section, Song
from sepkit.datasets.demo.synthesis import (
    amplitude,
    chance,
    colour,
    damped_partials,
    envelope,
    hertz,
    noise,
    pan,
    periods,
    place,
    sweep,
)

_KINDS = ("finger", "pick", "saw", "sub", "fm", "square")
Sound = tuple[str, dict[str, float]]


def draw_sound(rng: np.random.Generator) -> Sound:
    """Draw an instrument: its kind and what stays the same for all its notes."""
    kind = str(rng.choice(_KINDS, p=[0.3, 0.15, 0.2, 0.15, 0.1, 0.1]))
    settings = {
        "position": rng.uniform(0.08, 0.35),  # of the finger on the string
        "slope": rng.uniform(1.0, 2.2),
        "decay": rng.uniform(0.3, 1.5),  # s
        "bright": rng.uniform(2.0, 14.0),  # harmonics at the beginning of a note
        "closing": rng.uniform(0.05, 0.5),  # s
        "ratio": float(rng.choice([1.0, 1.0, 2.0, 3.0])),
        "fret": amplitude(rng.uniform(-34.0, -16.0)),
    }
    return kind, settings


def _plucked(rng: np.random.Generator, sound: Sound, frequency: float, n_samples: int, rate: int) -> np.ndarray:
    kind, settings = sound
    number = np.arange(1, 31)
    pitches = frequency * number * np.sqrt(1.0 + 8e-5 * number**2)
    levels = np.abs(np.sin(np.pi * number * settings["position"])) / number ** settings["slope"] + 1e-3 / number
    decays = settings["decay"] / (1.0 + 0.25 * (number - 1))
    note = damped_partials(rng, (pitches, levels, decays), n_samples, rate)
    note /= np.abs(note).max() + 1e-9
    n_fret = int(0.03 * rate)
    peak = 2500.0 if kind == "pick" else 900.0
    knots = np.array([80.0, 300.0, peak, 2.5 * peak, 12000.0])
    fret = colour(noise(rng, n_fret), knots, np.array([-30.0, -8.0, 0.0, -14.0, -40.0]), rate)
    place(note, fret * envelope(n_fret, 0.001, 0.02, rate, 0.008), 0, settings["fret"] * 3.0)
    return note


def _oscillator(sound: Sound, frequency: float, n_samples: int, rate: int) -> np.ndarray:
    kind, settings = sound
    number = np.arange(1, 41)
    time = np.arange(n_samples, dtype=np.float32) / rate
    phase = frequency * time.astype(np.float64)
    if kind == "fm":
        index = 2.5 * np.exp(-time / settings["closing"]) + 0.2
        return np.sin(2 * np.pi * phase + index * np.sin(2 * np.pi * settings["ratio"] * phase)).astype(np.float32)
    if kind == "sub":
        return (np.sin(2 * np.pi * phase) + 0.1 * np.sin(4 * np.pi * phase)).astype(np.float32)
    harmonics = (number % 2 if kind == "square" else 1.0) / number
    cutoffs = np.geomspace(1.2, settings["bright"] + 1.3, 6)[:, None]
    table = periods(harmonics / (1.0 + (number / cutoffs) ** 4) * (number * frequency < 0.45 * rate))
    return sweep(table, phase, 4.99 * np.exp(-time / settings["closing"]))


def play_note(rng: np.random.Generator, sound: Sound, midi: float, duration: float, rate: int) -> np.ndarray:
    """Play one note of `duration` s, (n,) of peak near 1."""
    n_samples = int((duration + 0.06) * rate)
    frequency = float(hertz(midi))
    if sound[0] in ("finger", "pick"):
        note = _plucked(rng, sound, frequency, n_samples, rate)
        return note * envelope(n_samples, 0.001, 0.06, rate)
    return 0.7 * _oscillator(sound, frequency, n_samples, rate) * envelope(n_samples, 0.005, 0.05, rate, 4.0)


def _pattern(rng: np.random.Generator, song: Song) -> list[tuple[float, float, int]]:
    """Draw one bar: (beat, length in beats, degrees above the chord)."""
    style = rng.choice(["kick", "eighths", "long", "quarters", "walk", "offbeat"])
    starts = {
        "kick": [step / 4.0 for step in range(16) if song.kick[step]] or [0.0],
        "eighths": list(np.arange(8) / 2.0),
        "long": [0.0] if chance(rng, 0.6) else [0.0, 2.5],
        "quarters": [0.0, 1.0, 2.0, 3.0],
        "walk": [0.0, 1.0, 2.0, 3.0],
        "offbeat": [0.5, 1.5, 2.5, 3.5],
    }[str(style)]
    starts = [start for start in starts if not chance(rng, 0.07)] or [0.0]
    tight = rng.uniform(0.5, 1.0)
    bar = []
    for start, following in zip(starts, [*starts[1:], 4.0], strict=True):
        degree = int(rng.choice([0, 2, 4, 5, 7], p=[0.35, 0.2, 0.2, 0.1, 0.15])) if style == "walk" else 0
        if style != "walk" and chance(rng, 0.15):
            degree = int(rng.choice([4, 7, 6, -1]))
        bar.append((start, (following - start) * tight, degree))
    return bar


def _play(rng: np.random.Generator, song: Song, section: Section, sound: Sound, notes: dict, track: np.ndarray) -> None:
    """Play a section into a mono track, reusing notes of the same pitch and length."""
    bar = _pattern(rng, song)
    lowest = int(rng.integers(27, 34))
    for first in np.arange(section.start, section.end, 4.0):
        for start, length, step in bar:
            beat = first + start
            if beat >= section.end or chance(rng, 0.03):
                continue
            midi = song.pitch(song.chord(beat) + step)
            midi -= 12 * int(max(0, midi - lowest) // 12) - (12 if step == 7 else 0)
            key = midi, round(length, 2), int(rng.integers(2))
            if key not in notes:
                notes[key] = play_note(rng, sound, midi, length * 60.0 / song.bpm, song.sample_rate)
            late = int(rng.normal(0.0, 0.005) * song.sample_rate)
            place(track, notes[key], song.sample(beat) + late, rng.uniform(0.7, 1.0))


def render_bass(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Play the bass of a song, (2, T) float32."""
    track = np.zeros(song.n_samples, dtype=np.float32)
    sound, notes = draw_sound(rng), {}
    for section in song.active("bass"):
        _play(rng, song, section, sound, notes, track)
    if track.any() and chance(rng, 0.45):
        track = saturate(track, float(np.exp(rng.uniform(np.log(0.3), np.log(5.0)))))
    stereo = pan(track, rng.normal(0.0, 0.015))
    if chance(rng, 0.5):
        stereo = compress(stereo, rng.uniform(1.0, 3.0))
    return finish(rng, "bass", stereo, song, rng.uniform(-60.0, -22.0))
