"""Drum kits: one-shots drawn per song, patterns with ghosts, rolls and fills."""

import numpy as np

from sepkit.datasets.demo.effects import compress, finish, saturate
from sepkit.datasets.demo.song import Section, Song
from sepkit.datasets.demo.synthesis import (
    amplitude,
    chance,
    colour,
    damped_partials,
    envelope,
    noise,
    pan,
    place,
    rms,
)

Kit = dict[str, list[np.ndarray]]
_LEVELS = {  # dB, mean and spread over songs, of the loudest moment
    "kick": (0.0, 2.0),
    "snare": (-1.5, 2.5),
    "clap": (-4.0, 3.0),
    "rim": (-7.0, 3.0),
    "hat": (-12.0, 4.0),
    "open": (-12.0, 4.0),
    "ride": (-14.0, 4.0),
    "crash": (-9.0, 3.0),
    "tom": (-4.0, 3.0),
    "shaker": (-15.0, 4.0),
    "conga": (-7.0, 3.0),
}


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _thump(pitch: tuple[float, float], decay: float, sweep: float, rate: int) -> np.ndarray:
    """Synthesize a membrane whose pitch falls from pitch[1] to pitch[0] Hz within `sweep` s and rings `decay` s."""
    n_samples = int(min(5.0 * decay, 1.6) * rate)
    time = np.arange(n_samples, dtype=np.float32) / rate
    frequency = pitch[0] + (pitch[1] - pitch[0]) * np.exp(-time / sweep)
    phase = 2 * np.pi * np.cumsum(frequency / rate)
    return np.sin(phase).astype(np.float32) * envelope(n_samples, 0.0008, 0.25 * decay, rate, decay)


def _hiss(rng: np.random.Generator, knots: tuple[float, float, float], decay: float, rate: int) -> np.ndarray:
    """Synthesize a burst of noise around knots (low, peak, high in Hz) that dies with `decay` s."""
    n_samples = int(5.0 * decay * rate) + 256
    low, peak, high = knots
    points = np.array([0.2 * low, low, peak, high, min(2.0 * high, 0.5 * rate)])
    gains = np.array([-40.0, -10.0, 0.0, -6.0, -22.0]) + rng.normal(0.0, 2.5, 5)
    sound = colour(noise(rng, n_samples), points, gains, rate) * envelope(n_samples, 0.0006, decay, rate, decay)
    return sound / (np.abs(sound).max() + 1e-9)


def _kick(rng: np.random.Generator, rate: int) -> np.ndarray:
    kind = rng.choice(["acoustic", "electronic", "long"], p=[0.4, 0.28, 0.32])
    low = rng.uniform(*{"acoustic": (45.0, 75.0), "electronic": (38.0, 58.0), "long": (30.0, 52.0)}[kind])
    decay = rng.uniform(*{"acoustic": (0.06, 0.16), "electronic": (0.1, 0.25), "long": (0.3, 0.7)}[kind])
    body = _thump((low, low * rng.uniform(2.5, 7.0)), decay, rng.uniform(0.008, 0.03), rate)
    body = np.tanh(body * rng.uniform(0.8, 3.0))
    click = _hiss(rng, (300.0, rng.uniform(900, 4500), 7000.0), rng.uniform(0.003, 0.012), rate)
    place(body, click, 0, amplitude(rng.uniform(-24.0, -5.0)))
    if kind == "acoustic":
        skin = _hiss(rng, (80.0, rng.uniform(250, 600), 1500.0), rng.uniform(0.02, 0.06), rate)
        place(body, skin, 0, amplitude(rng.uniform(-20.0, -8.0)))
    return body


def _snare(rng: np.random.Generator, rate: int) -> np.ndarray:
    first = rng.uniform(150.0, 260.0)
    ratios = np.array([1.0, 1.5, 1.83, 2.3, 2.9, 3.6, 4.4]) * np.exp(rng.normal(0.0, 0.04, 7))
    modes = first * ratios, rng.uniform(0.2, 1.0, 7) / ratios**0.6, rng.uniform(0.03, 0.16) / ratios**0.5
    body = damped_partials(rng, modes, int(0.5 * rate), rate)
    body *= 0.8 / (np.abs(body).max() + 1e-9)
    place(body, _thump((first, 1.8 * first), rng.uniform(0.03, 0.09), 0.01, rate), 0, rng.uniform(0.2, 0.9))
    wires = _hiss(rng, (rng.uniform(400, 900), rng.uniform(1500, 5000), 10500.0), rng.uniform(0.04, 0.16), rate)
    place(body, wires, 0, amplitude(rng.uniform(-8.0, 3.0)))
    box = _hiss(rng, (200.0, rng.uniform(450, 1000), 2500.0), rng.uniform(0.02, 0.07), rate)
    place(body, box, 0, amplitude(rng.uniform(-10.0, 0.0)))
    return body


def _clap(rng: np.random.Generator, rate: int) -> np.ndarray:
    centre = rng.uniform(900.0, 1800.0)
    sound = np.zeros(int(0.45 * rate), dtype=np.float32)
    for k in range(rng.integers(2, 5)):
        hand = _hiss(rng, (0.5 * centre, centre, 5.0 * centre), 0.008, rate)
        place(sound, hand, int((0.011 * k + rng.uniform(0.0, 0.004)) * rate), rng.uniform(0.6, 1.0))
    tail = _hiss(rng, (0.5 * centre, centre, 6.0 * centre), rng.uniform(0.03, 0.1), rate)
    place(sound, tail, int(0.03 * rate))
    return sound


def _metal(rng: np.random.Generator, low: float, decay: float, rate: int) -> np.ndarray:
    """Synthesize a cymbal: many inharmonic partials above `low` Hz and hiss, the highest first to die."""
    n_samples = int(min(4.0 * decay + 0.02, 2.5) * rate)
    frequencies = low * np.exp(rng.uniform(0.0, np.log(17000.0 / low), 70))
    partials = frequencies, rng.uniform(0.2, 1.0, 70), decay * rng.uniform(0.4, 1.2, 70) * (low / frequencies) ** 0.2
    rings = damped_partials(rng, partials, n_samples, rate)
    hiss = _hiss(rng, (low, rng.uniform(6000, 10000), 14000.0), 0.7 * decay, rate)[:n_samples]
    sound = rings / (np.abs(rings).max() + 1e-9) * rng.uniform(0.2, 1.0)
    place(sound, hiss, 0, rng.uniform(0.4, 1.0))
    return sound


def _knock(rng: np.random.Generator, low: float, high: float, decay: float, rate: int) -> np.ndarray:
    """Synthesize wood or a small skin between `low` and `high` Hz."""
    first = rng.uniform(low, high)
    ratios = np.array([1.0, 1.6, 2.2, 2.9, 4.1])
    modes = first * ratios, rng.uniform(0.2, 1.0, 5) / ratios, decay / ratios
    sound = damped_partials(rng, modes, int(6.0 * decay * rate), rate)
    sound /= np.abs(sound).max() + 1e-9
    place(sound, _hiss(rng, (first, 3.0 * first, 9000.0), 0.006, rate), 0, rng.uniform(0.1, 0.7))
    return sound


def _sound(rng: np.random.Generator, kind: str, rate: int) -> np.ndarray:
    if kind in ("kick", "snare", "clap"):
        return {"kick": _kick, "snare": _snare, "clap": _clap}[kind](rng, rate)
    if kind in ("hat", "open", "ride", "crash"):
        ranges = {"hat": (0.015, 0.05), "open": (0.12, 0.3), "ride": (0.3, 0.7), "crash": (0.4, 0.9)}[kind]
        return _metal(rng, rng.uniform(300.0, 4000.0), _log_uniform(rng, *ranges), rate)
    if kind == "shaker":
        sound = _hiss(rng, (3000.0, rng.uniform(5000, 9000), 14000.0), rng.uniform(0.02, 0.05), rate)
        return sound * np.minimum(1.0, np.arange(len(sound)) / (0.02 * rate)).astype(np.float32)
    if kind == "tom":
        low = rng.uniform(70.0, 140.0)
        tom = _thump((low, 1.6 * low), rng.uniform(0.12, 0.3), 0.03, rate)
        place(tom, _hiss(rng, (200.0, 900.0, 4000.0), 0.02, rate), 0, rng.uniform(0.1, 0.5))
        return tom
    ranges = {"rim": (400.0, 1700.0, 0.02), "conga": (180.0, 420.0, 0.07)}[kind]
    return _knock(rng, ranges[0], ranges[1], ranges[2] * rng.uniform(0.6, 1.8), rate)


def _variants(rng: np.random.Generator, kind: str, rate: int) -> list[np.ndarray]:
    """Draw one sound and two takes of it, each (2, n), that differ as two strokes do; peak 1."""
    sound = _sound(rng, kind, rate)
    position = rng.normal(0.0, 0.06) if kind in ("kick", "snare") else rng.uniform(-0.6, 0.6)
    takes = []
    for _ in range(3 if chance(rng, 0.6) else 1):
        gains = rng.normal(0.0, 1.5, 6)
        take = colour(sound, np.array([60.0, 200.0, 700.0, 2500.0, 6000.0, 14000.0]), gains, rate)
        takes.append(pan(take / (np.abs(take).max() + 1e-9), position))
    return takes


def _hit(song: Song, kit: Kit, track: np.ndarray, stroke: tuple[str, float, float], rng: np.random.Generator) -> None:
    """Play one stroke: kind, beat, strength from 0 to 1."""
    kind, beat, strength = stroke
    takes = kit[kind]
    start = song.sample(beat) + int(rng.normal(0.0, 0.003) * song.sample_rate)
    place(track, takes[rng.integers(len(takes))], start, strength ** rng.uniform(1.0, 1.6))


def _groove(rng: np.random.Generator, song: Song) -> dict[str, np.ndarray]:
    """Draw the strength of each kind on each sixteenth of two bars."""
    steps = np.arange(32)
    groove = {kind: np.zeros(32) for kind in _LEVELS}
    groove["kick"] = np.array(song.kick) if chance(rng, 0.95) else np.zeros(32)
    half_time = chance(rng, 0.25)
    back = (steps % 16 == 8) if half_time else (steps % 8 == 4)
    hand = str(rng.choice(["snare", "clap", "both", "rim", "none"], p=[0.5, 0.15, 0.15, 0.1, 0.1]))
    for kind in ("snare", "clap") if hand == "both" else (hand,):
        if kind in groove:
            groove[kind] = np.where(back, 1.0, (rng.random(32) < 0.06) * rng.uniform(0.15, 0.6, 32))
    rest = int(rng.choice([1, 2, 4], p=[0.35, 0.5, 0.15]))
    top = str(rng.choice(["hat", "ride", "shaker", "none"], p=[0.68, 0.12, 0.1, 0.1]))
    if top != "none":
        accents = np.where(steps % 4 == 0, 1.0, rng.uniform(0.35, 0.9))
        groove[top] = (steps % rest == 0) * accents * (rng.random(32) > rng.uniform(0.0, 0.25))
    groove["open"] = (rng.random(32) < 0.05) * 0.8 + ((steps % 4 == 2) * 0.7 if chance(rng, 0.2) else 0.0)
    for kind in ("conga", "tom", "rim", "shaker"):
        if chance(rng, 0.2):
            groove[kind] = np.maximum(groove[kind], (rng.random(32) < 0.25) * rng.uniform(0.3, 0.9, 32))
    return groove


def _play(rng: np.random.Generator, song: Song, section: Section, kit: Kit, groove: dict, track: np.ndarray) -> None:
    """Play a groove through a section: some kinds pause, single steps vary, a fill may end it."""
    kinds = [kind for kind in groove if groove[kind].any() and not chance(rng, 0.12)]
    fill_from = section.end - float(rng.choice([0.0, 1.0, 2.0], p=[0.5, 0.3, 0.2]))
    for step in range(round(section.start * 4), round(section.end * 4)):
        beat = step / 4.0
        for kind in kinds:
            strength = groove[kind][step % 32]
            if beat >= fill_from and kind != "kick":
                break
            if strength and not chance(rng, 0.03):
                strength *= rng.uniform(0.8, 1.0) * (0.6 + 0.4 * section.energy)
                _hit(song, kit, track, (kind, beat, strength), rng)
            if kind == "hat" and strength and chance(rng, 0.04):
                for k in range(1, 4):
                    _hit(song, kit, track, ("hat", beat + k / 12.0, 0.6), rng)
    voice = str(rng.choice(["snare", "tom", "clap"], p=[0.5, 0.4, 0.1]))
    for step in range(round(fill_from * 4), round(section.end * 4)):
        if chance(rng, 0.75):
            _hit(song, kit, track, (voice, step / 4.0, rng.uniform(0.3, 1.0)), rng)
    if chance(rng, 0.4):
        _hit(song, kit, track, ("crash", section.start, 0.9), rng)


def render_drums(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Play the drums of a song, (2, T) float32."""
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    kit = {}
    for kind, (mean, spread) in _LEVELS.items():
        gain = np.float32(amplitude(rng.normal(mean, spread)))
        kit[kind] = [gain * take for take in _variants(rng, kind, song.sample_rate)]
    grooves = [_groove(rng, song) for _ in range(2)]
    for section in song.active("drums"):
        _play(rng, song, section, kit, grooves[int(chance(rng, 0.25))], track)
    if rms(track) > 0.0 and chance(rng, 0.5):
        track = saturate(track, rng.uniform(0.2, 2.0))
    if chance(rng, 0.4):
        track = compress(track, rng.uniform(1.0, 2.0))
    return finish(rng, "drums", track, song, rng.uniform(-28.0, -8.0))
