"""Everything that is neither voice, drums nor bass: chords, arpeggios, pads, leads, textures, in layers."""

import numpy as np

from sepkit.datasets.demo import bass
from sepkit.datasets.demo.effects import compress, echo, finish, saturate
from sepkit.datasets.demo.melody import Syllable, compose
from sepkit.datasets.demo.song import Section, Song
from sepkit.datasets.demo.synthesis import (
    amplitude,
    chance,
    colour,
    damped_partials,
    drift,
    envelope,
    hertz,
    noise,
    pad_loop,
    pan,
    periods,
    place,
    rms,
    sweep,
)

_TIMBRES = ("piano", "electric", "guitar", "pluck", "mallet", "stab", "fuzz")
_LAYERS = {"keys": 0.5, "pad": 0.2, "lead": 0.2, "texture": 0.1}
_LOOP = 131072


def _struck(rng: np.random.Generator, timbre: str, settings: dict, frequency: float, n: int, rate: int) -> np.ndarray:
    """Synthesize a string, bar or reed that is struck or plucked, (n,)."""
    count = {"piano": 26, "electric": 6, "guitar": 30, "mallet": 6}[timbre]
    number = np.arange(1, count + 1)
    if timbre == "mallet":
        ratios = np.array([1.0, 3.98, 9.1, 2.76, 5.4, 6.2])
        pitches, levels = frequency * ratios, np.array([1.0, 0.35, 0.1, 0.15, 0.1, 0.05]) * settings["colours"]
        decays = settings["decay"] / ratios**0.7
    else:
        stiffness = {"piano": 4e-4, "electric": 0.0, "guitar": 6e-5}[timbre]
        pitches = frequency * number * np.sqrt(1.0 + stiffness * number**2)
        pluck = np.abs(np.sin(np.pi * number * settings["position"])) + 0.1
        levels = pluck / number ** settings["slope"]
        decays = settings["decay"] * (220.0 / frequency) ** 0.3 / (1.0 + settings["damping"] * (number - 1))
    if timbre == "piano":  # two strings, slightly apart
        pitches = np.concatenate([pitches, pitches * (1.0 + 2e-4 * rng.standard_normal())])
        levels, decays = np.tile(levels, 2), np.tile(decays, 2)
    note = damped_partials(rng, (pitches, levels, decays), n, rate)
    knock = colour(noise(rng, 1200), np.array([100.0, 400.0, 2500.0, 9000.0]), np.array([-6.0, 0.0, -8.0, -26.0]), rate)
    place(note, knock * envelope(1200, 0.001, 0.02, rate, 0.006), 0, settings["knock"] * np.abs(note).max())
    return note


def _synthesised(
    rng: np.random.Generator, timbre: str, settings: dict, frequency: float, n: int, rate: int
) -> np.ndarray:
    """Synthesize a stack of detuned oscillators behind a filter that closes, (n,)."""
    number = np.arange(1, 121)
    fits = number * frequency < 0.45 * rate
    wave = (number % 2 if settings["hollow"] else 1.0) / number
    cutoffs = np.geomspace(1.5, settings["bright"] * 10.0 + 2.0, 8)[:, None]
    table = periods(wave * fits / (1.0 + (number / cutoffs) ** 3), rng.normal(0.0, 0.5, 120))
    time = np.arange(n) / rate
    closing = 9.0 if timbre == "fuzz" else settings["closing"]
    position = (6.99 * np.exp(-time / closing)).astype(np.float32)
    note = np.zeros(n, dtype=np.float32)
    for _ in range(1 if timbre == "pluck" else 3):
        detuned = frequency * 2.0 ** (rng.normal(0.0, settings["detune"]) / 1200.0)
        note += sweep(table, detuned * time + rng.random(), position)
    decay = settings["decay"] * 0.4 if timbre == "pluck" else 3.0
    return note * envelope(n, settings["attack"], 0.03, rate, decay)


def _settings(rng: np.random.Generator) -> dict:
    return {
        "position": rng.uniform(0.06, 0.45),
        "slope": rng.uniform(0.9, 2.0),
        "decay": rng.uniform(0.25, 1.6),
        "damping": rng.uniform(0.05, 0.5),
        "knock": rng.uniform(0.05, 0.8),
        "colours": np.exp(rng.normal(0.0, 0.5, 6)),
        "hollow": chance(rng, 0.3),
        "bright": rng.uniform(0.3, 3.0),
        "closing": rng.uniform(0.06, 0.6),
        "detune": rng.uniform(1.0, 14.0),
        "attack": float(rng.choice([0.002, 0.01, 0.04])),
    }


def _note(rng: np.random.Generator, timbre: str, settings: dict, midi: float, duration: float, rate: int) -> np.ndarray:
    """Play a note of `duration` s and its release, (n,), peak 1."""
    struck = timbre in ("piano", "electric", "guitar", "mallet")
    n_samples = int((max(duration, 0.4 if timbre == "mallet" else 0.0) + 0.08) * rate)
    make = _struck if struck else _synthesised
    note = make(rng, timbre, settings, float(hertz(midi)), n_samples, rate)
    return note * envelope(n_samples, 0.001, 0.08, rate) / (np.abs(note).max() + 1e-9)


def _voicing(rng: np.random.Generator, song: Song, beat: float, octave: int, timbre: str) -> list[int]:
    """Choose the MIDI pitches of the chord at a beat, low to high."""
    degree = song.chord(beat)
    if timbre == "fuzz":
        return [song.pitch(degree) + octave - 12, song.pitch(degree) + octave - 5, song.pitch(degree) + octave]
    steps = [0, 2, 4] + ([6] if chance(rng, 0.3) else []) + ([7] if chance(rng, 0.4) else [])
    pitches = [song.pitch(degree + step) + octave for step in steps]
    lift = int(rng.integers(0, 3))
    return sorted(pitch + 12 if k < lift else pitch for k, pitch in enumerate(pitches))


def _rhythm(rng: np.random.Generator, style: str) -> list[tuple[float, float]]:
    """Draw one bar of (beat, length)."""
    if style == "held":
        return [(0.0, 4.0)] if chance(rng, 0.4) else [(0.0, 2.0), (2.0, 2.0)]
    if style == "offbeat":
        return [(0.5 + k, rng.uniform(0.15, 0.5)) for k in range(4)]
    steps = [step / 4.0 for step in range(16) if chance(rng, 0.55 if step % 4 == 0 else 0.2)] or [0.0]
    long = rng.uniform(0.3, 1.0)
    return [(a, long * (b - a)) for a, b in zip(steps, [*steps[1:], 4.0], strict=True)]


def _bar(rng: np.random.Generator, song: Song, style: str, timbre: str, octave: int, start: float) -> list[tuple]:
    """Write one bar of keys as (beat, length, MIDI, strength)."""
    if style != "arpeggio":
        notes = []
        for offset, length in _rhythm(rng, style):
            strum = rng.uniform(0.0, 0.06) if timbre == "guitar" else 0.0
            for k, pitch in enumerate(_voicing(rng, song, start + offset, octave, timbre)):
                notes.append((start + offset + strum * k, length, pitch, rng.uniform(0.5, 1.0)))
        return notes
    step = float(rng.choice([0.25, 0.5, 0.5]))
    order = rng.permutation(8) if chance(rng, 0.4) else np.arange(8)
    notes = []
    for k in range(int(4.0 / step)):
        pitches = _voicing(rng, song, start + k * step, octave, timbre)
        index = int(order[k % 8]) % (2 * len(pitches))
        lift = 12 if index >= len(pitches) else 0
        notes.append((start + k * step, step * 1.5, pitches[index % len(pitches)] + lift, rng.uniform(0.6, 1.0)))
    return notes


def _keys(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Play chords or arpeggios on a struck, plucked or synthesised instrument, (2, T)."""
    timbre = str(rng.choice(_TIMBRES, p=[0.2, 0.13, 0.22, 0.15, 0.08, 0.12, 0.1]))
    style = str(rng.choice(["held", "comp", "arpeggio", "offbeat"], p=[0.25, 0.35, 0.28, 0.12]))
    style = "comp" if timbre == "fuzz" and style == "arpeggio" else style
    settings, octave, notes = _settings(rng), int(rng.choice([0, 0, 12, 12, 24])), {}
    seeds = rng.integers(1 << 32, size=2)
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    width = rng.uniform(0.0, 0.8)
    for section in sections:
        for bar, start in enumerate(np.arange(section.start, section.end, 4.0)):
            again = np.random.default_rng(seeds[bar % 2])  # the same figure in every second bar
            for beat, length, midi, strength in _bar(again, song, style, timbre, octave, start):
                key = midi, round(length, 1)
                if key not in notes:
                    sound = _note(rng, timbre, settings, midi, length * 60.0 / song.bpm, song.sample_rate)
                    notes[key] = pan(sound, width * rng.uniform(-1.0, 1.0))
                late = int(abs(rng.normal(0.0, 0.006)) * song.sample_rate)
                place(track, notes[key], song.sample(beat) + late, strength * rng.uniform(0.7, 1.0))
    return saturate(track, rng.uniform(3.0, 15.0)) if timbre == "fuzz" else track


def _chord_loop(rng: np.random.Generator, song: Song, settings: dict, pitches: list[int]) -> np.ndarray:
    """Build the endless sound of one chord, (2, n), unit RMS."""
    number = np.arange(1, 49)
    slope = (settings["slope"] - 0.3) * np.ones(48)
    levels = (np.where(number % 2, 1.0, 0.25) if settings["hollow"] else 1.0) / number**slope
    if settings["organ"]:
        levels = np.where(np.isin(number, (1, 2, 3, 4, 6, 8)), settings["drawbars"][number % 7], 0.02 / number)
    fundamentals = hertz(np.array(pitches, dtype=np.float64))
    frequencies = (fundamentals[:, None] * number).reshape(-1)
    bandwidth = 0.0006 if settings["organ"] else settings["detune"] / 1200.0
    return pad_loop(rng, frequencies, np.tile(levels, len(pitches)), bandwidth, song.sample_rate)


def _pad(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Hold chords on strings, organ or a soft synthesiser, (2, T)."""
    settings = _settings(rng) | {"organ": chance(rng, 0.3), "drawbars": rng.uniform(0.0, 1.0, 7) ** 2 + 0.03}
    attack, octave, loops = float(np.exp(rng.uniform(-4.5, -0.3))), int(rng.choice([0, 0, 12, 12, 24])), {}
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    for section in sections:
        step = float(min(song.beats_per_chord, 4))
        for beat in np.arange(section.start, section.end, step):
            degree = song.chord(beat)
            if degree not in loops:
                loops[degree] = _chord_loop(rng, song, settings, _voicing(rng, song, beat, octave, "pad"))
            n_samples = int((step * 60.0 / song.bpm + 0.4 * attack) * song.sample_rate)
            first = int(rng.integers(_LOOP))
            sound = loops[degree].take(np.arange(first, first + n_samples), axis=1, mode="wrap")
            shape = envelope(n_samples, attack, max(0.03, 0.5 * attack), song.sample_rate)
            place(track, sound * shape, song.sample(beat), 0.6 + 0.4 * section.energy)
    if chance(rng, 0.2):  # tremolo in time with the song
        pulse = np.arange(song.n_samples) / song.sample_rate * song.bpm / 60.0 * float(rng.choice([1.0, 2.0, 4.0]))
        track *= (1.0 - rng.uniform(0.3, 0.9) * (pulse % 1.0) ** 0.7).astype(np.float32)
    return track


def _lead_note(
    rng: np.random.Generator, tone: Syllable, last: float, table: np.ndarray, manner: dict, rate: int
) -> np.ndarray:
    """Play one note of a lead that glides from the pitch `last`, (n,)."""
    n_samples = int((tone.duration + 0.05) * rate)
    time = np.arange(n_samples) / rate
    midi = tone.midi + (last - tone.midi) * np.exp(-time / manner["glide"])
    depth = manner["depth"] * np.clip((time - 0.15) / 0.3, 0.0, 1.0)
    midi += depth * np.sin(2 * np.pi * manner["rate"] * time) + 0.03 * drift(rng, n_samples, 4000)
    phase = np.cumsum(hertz(midi)) / rate + rng.random()
    position = np.clip(2.0 + 2.5 * tone.effort + 0.7 * drift(rng, n_samples, 3000) - time, 0.0, 5.99)
    note = sweep(table, phase, position.astype(np.float32))
    return note * envelope(n_samples, manner["attack"], 0.05, rate) * np.float32(0.4 + 0.6 * tone.effort)


def _lead(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Play a melody with glides and vibrato, as a synthesiser, flute, violin or guitar might, (2, T)."""
    line = compose(rng, song, str(rng.choice(["sung", "legato"])), rng.uniform(57.0, 80.0), sections)
    number = np.arange(1, 61)
    wave = (number % 2 if chance(rng, 0.3) else 1.0) / number ** rng.uniform(0.7, 1.6)
    bumps = rng.uniform(2.0, 20.0, 2)[:, None]  # a body that resonates
    wave = wave * (1.0 + (rng.uniform(0.0, 3.0, 2)[:, None] * np.exp(-0.5 * ((number - bumps) / 1.5) ** 2)).sum(0))
    cutoffs = np.geomspace(1.5, rng.uniform(8.0, 50.0), 7)[:, None]
    table = periods(wave / (1.0 + (number / cutoffs) ** 3) * (number < 0.45 * song.sample_rate / 1000.0))
    manner = {"glide": rng.uniform(0.004, 0.06), "depth": rng.uniform(0.0, 0.6), "rate": rng.uniform(4.0, 7.0)}
    manner["attack"] = float(np.exp(rng.uniform(np.log(0.004), np.log(0.12))))
    track, last = np.zeros(song.n_samples, dtype=np.float32), None
    for tone in line:
        start = tone.midi if last is None else last
        place(track, _lead_note(rng, tone, start, table, manner, song.sample_rate), int(tone.start * song.sample_rate))
        last = tone.midi
    if track.any() and chance(rng, 0.3):
        track = saturate(track, rng.uniform(1.0, 10.0))
    return pan(track, rng.normal(0.0, 0.3))


def _low(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Hold the roots of the chords in the range of the bass, (2, T)."""
    sound, notes = bass.draw_sound(rng), {}
    track = np.zeros(song.n_samples, dtype=np.float32)
    for section in sections:
        for beat in np.arange(section.start, section.end, 2.0):
            midi = song.pitch(song.chord(beat) % 7) - (12 if song.root > 40 else 0)
            if midi not in notes:
                notes[midi] = bass.play_note(rng, sound, midi, 120.0 / song.bpm, song.sample_rate)
            place(track, notes[midi], song.sample(beat), rng.uniform(0.7, 1.0))
    return pan(track, 0.0)


def _texture(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Synthesize coloured noise that swells towards the ends of sections, or hisses all the time, (2, T)."""
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    centre, rising = rng.uniform(5.0, 9.0), chance(rng, 0.6)
    grid = np.geomspace(30.0, 20000.0, 24)
    gains = -8.0 * np.abs(np.log(grid) - centre) + rng.normal(0.0, 3.0, 24)
    for section in sections:
        n_samples = max(1, song.sample(section.end) - song.sample(section.start))
        sound = np.stack([noise(rng, n_samples), noise(rng, n_samples)])
        sound = colour(sound, grid, gains, song.sample_rate)
        swell = np.linspace(0.0, 1.0, n_samples, dtype=np.float32) ** 2 if rising else np.float32(0.5)
        place(track, sound * swell, song.sample(section.start))
    return track


def render_other(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Play all further instruments of a song in one to three layers, (2, T) float32."""
    rumble = np.float32(amplitude(rng.uniform(-50.0, -30.0)))
    players = {"keys": _keys, "pad": _pad, "lead": _lead, "low": _low, "texture": _texture}
    names, odds = list(_LAYERS), list(_LAYERS.values())
    chosen = [str(rng.choice(["keys", "pad", "lead"], p=[0.55, 0.3, 0.15]))]
    chosen += [str(name) for name in rng.choice(names, int(rng.choice(4, p=[0.2, 0.35, 0.3, 0.15])), p=odds)]
    if not song.active("bass") or chance(rng, 0.7):
        chosen.append("low")
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    active = song.active("other")
    for k, name in enumerate(chosen):
        sections = [section for section in active if k == 0 or chance(rng, 0.85)]
        layer = players[name](rng, song, sections) if sections else np.zeros_like(track)
        if not layer.any():
            continue
        if chance(rng, 0.25):
            delay = int(float(rng.choice([0.5, 0.75, 1.0])) * 60.0 / song.bpm * song.sample_rate)
            layer = echo(layer, delay, rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.5))
        track += layer * np.float32(amplitude(rng.uniform(-8.0, 1.0) * (k > 0)) / (rms(layer) + 1e-9))
    if track.any() and chance(rng, 0.4):  # what a stage, a tape or a distant traffic adds
        track += rumble * drift(rng, song.n_samples, song.sample_rate // 220).astype(np.float32)
    if chance(rng, 0.4):
        track = compress(track, rng.uniform(1.0, 2.0))
    return finish(rng, "other", track, song, rng.uniform(-28.0, -6.0))
