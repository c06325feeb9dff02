"""The vocals of a song: who sings what, in how many voices, through which microphone and studio."""

import numpy as np

from sepkit.datasets.demo.effects import active_level, chorus, compress, echo, finish, saturate
from sepkit.datasets.demo.melody import N_VOWELS, STYLES, Syllable, compose, harmonise
from sepkit.datasets.demo.song import Section, Song
from sepkit.datasets.demo.synthesis import amplitude, chance, colour, pan
from sepkit.datasets.singing.singers import Singer, change_place, draw_singer
from sepkit.datasets.singing.voice import sing

_SPOKEN = ("", "s", "sh", "f", "th", "h", "t", "k", "p", "d", "b", "g", "v", "z", "m", "n", "l", "r", "w")
_CODAS = ("", "", "", "s", "t", "k", "m", "n")
_KNEE = 0.9  # full scale of what limits every stem
_ODDS = (0.46, 0.22, 0.14, 0.08, 0.1)  # of the melody's styles, and of speech


def _speak(rng: np.random.Generator, song: Song, sections: list[Section], centre: float) -> list[Syllable]:
    """Write speech: phrases whose pitch falls, four to seven syllables a second, whatever the beat is."""
    syllables: list[Syllable] = []
    rate, range_ = rng.uniform(4.0, 7.0), rng.uniform(1.5, 5.0)
    for section in sections:
        time, end = (
            max(0.05, song.seconds(section.start)),
            min(song.seconds(section.end), song.n_samples / song.sample_rate),
        )
        while time < end - 0.3:
            n_left = n = int(rng.integers(3, 16))
            while n_left and time < end - 0.3:
                length = rng.gamma(9.0, 1.0 / 9.0) / rate * (1.6 if n_left == 1 else 1.0)
                fall = range_ * (n_left / n - 0.5) + rng.normal(0.0, 0.35 * range_)
                syllables.append(
                    Syllable(
                        start=time,
                        duration=min(0.88 * length, end - time),
                        midi=centre + fall,
                        slope=rng.normal(-0.8, 1.2),
                        vowel=int(rng.integers(N_VOWELS)),
                        second_vowel=int(rng.integers(N_VOWELS)),
                        onset=_SPOKEN[rng.integers(len(_SPOKEN))],
                        coda=_CODAS[rng.integers(len(_CODAS))],
                        effort=float(np.clip(section.energy + rng.normal(0.0, 0.2), 0.2, 1.0)),
                        breath=n_left == n,
                    )
                )
                time, n_left = time + length, n_left - 1
            time += rng.uniform(0.15, 1.0)
    return syllables


def _write(rng: np.random.Generator, song: Song, style: str, singer: Singer, sections: list[Section]) -> list[Syllable]:
    if style == "speech":
        return _speak(rng, song, sections, singer.centre)
    return compose(rng, song, style, singer.centre, sections)


def _double(rng: np.random.Generator, singer: Singer, lead: list[Syllable], song: Song) -> np.ndarray:
    """Place the lead, sung again, on both sides, (2, T)."""
    width, track = rng.uniform(0.3, 1.0), np.zeros((2, song.n_samples), dtype=np.float32)
    for side in (-width, width)[: int(rng.integers(1, 3))]:
        voice = sing(rng, change_place(rng, singer), harmonise(rng, song, lead, 0), song)
        track += pan(voice, side)
    return track * np.float32(amplitude(rng.uniform(-14.0, -3.0)))


def _harmonies(rng: np.random.Generator, singer: Singer, lead: list[Syllable], song: Song) -> np.ndarray:
    """Add other notes of the chords in some sections, up to three voices, (2, T)."""
    width, level = rng.uniform(0.2, 1.0), rng.uniform(-12.0, -2.0)
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    for _ in range(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])):
        joined = [section for section in song.sections if chance(rng, 0.65)]
        spans = [(song.seconds(section.start), song.seconds(section.end)) for section in joined]
        part = [s for s in lead if any(start <= s.start < end for start, end in spans)]
        if not part:
            continue
        second = change_place(rng, singer) if chance(rng, 0.5) else draw_singer(rng, "legato")
        interval = int(rng.choice([2, 4, -3, -5, 7, -7, 0]))
        line = sing(rng, second, harmonise(rng, song, part, interval), song)
        track += pan(line, width * rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0))
    return track * np.float32(amplitude(level))


def _choir(rng: np.random.Generator, song: Song, sections: list[Section]) -> np.ndarray:
    """Hold long notes in several voices of all kinds, (2, T)."""
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    sections = [section for section in sections if chance(rng, 0.75)]
    first = draw_singer(rng, "legato")
    line = compose(rng, song, "legato", first.centre, sections)
    for interval in rng.permutation([0, 2, 4, 7, -3, -5])[: int(rng.integers(2, 6))] if line else ():
        singer = first if interval == 0 else draw_singer(rng, "legato")
        track += pan(sing(rng, singer, harmonise(rng, song, line, int(interval)), song), rng.uniform(-1.0, 1.0))
    return track * np.float32(amplitude(rng.uniform(-14.0, -2.0)))


def _record(rng: np.random.Generator, voice: np.ndarray, song: Song) -> np.ndarray:
    """Send a voice (T,) through a microphone and what it is plugged into."""
    knots = np.array([60.0, 150.0, 400.0, 1200.0, 3000.0, 7000.0, 14000.0])
    gains = rng.normal(0.0, 2.0, 7) + np.array([rng.uniform(-18.0, 3.0), rng.uniform(-3.0, 4.0), 0, 0, 0, 0, 0])
    if chance(rng, 0.05):  # telephone, megaphone, small loudspeaker
        gains = np.array([-40.0, -28.0, -4.0, 3.0, 2.0, -26.0, -45.0])
    voice = colour(voice, knots, gains, song.sample_rate).astype(np.float32)
    if chance(rng, 0.5):
        voice = saturate(voice, float(np.exp(rng.uniform(np.log(0.3), np.log(5.0)))))
    return voice


def _brighten(rng: np.random.Generator, waveform: np.ndarray, song: Song) -> np.ndarray:
    """Filter a finished stem (2, T) towards the spectrum of a voice nearby, and keep its level."""
    level = active_level(waveform)
    gains = np.array([0.0, 0.0, 0.3, 1.0, 1.0, 0.2]) * rng.uniform(-1.0, 9.0)
    bright = colour(waveform, np.array([100.0, 900.0, 1800.0, 3000.0, 5500.0, 10000.0]), gains, song.sample_rate)
    bright *= np.float32(level / (active_level(bright) + 1e-9))
    return (np.float32(_KNEE) * np.tanh(bright / np.float32(_KNEE))).astype(np.float32)


def render_vocals(rng: np.random.Generator, song: Song, style: str | None = None) -> np.ndarray:
    """Synthesize the vocals of a song.

    Args:
        rng: draws singers, words and studio.
        song: the score.
        style: one of the melody's styles, or "speech"; None: drawn.

    Returns:
        (2, T) float32; silence where nobody sings.
    """
    if style is None:
        style = (*STYLES, "speech")[rng.choice(5, p=_ODDS)]
    singer, sections = draw_singer(rng, style), song.active("vocals")
    lead = _write(rng, song, style, singer, sections)
    if not lead:
        return np.zeros((2, song.n_samples), dtype=np.float32)
    voice = _record(rng, sing(rng, singer, lead, song), song)
    stereo = pan(voice, rng.normal(0.0, 0.07) if chance(rng, 0.92) else rng.uniform(-1.0, 1.0))
    sung = style != "speech"
    if sung and chance(rng, 0.3):
        stereo += _double(rng, singer, lead, song)
    elif chance(rng, 0.3):
        level, width = np.float32(amplitude(rng.uniform(-14.0, -2.0))), rng.uniform(0.4, 1.0)
        for side in (-width, width):
            copy = chorus(rng, voice, rng.uniform(0.012, 0.04), rng.uniform(0.0005, 0.004), song.sample_rate)
            stereo += level * pan(copy, side)
    if sung and chance(rng, 0.5 if style == "legato" else 0.35):
        stereo += _harmonies(rng, singer, lead, song)
    if chance(rng, 0.08):
        stereo += _choir(rng, song, sections)
    if chance(rng, 0.7):
        stereo = compress(stereo, rng.uniform(1.0, 2.4))
    if chance(rng, 0.35):
        delay = int(float(rng.choice([0.25, 0.5, 0.75, 1.0])) * 60.0 / song.bpm * song.sample_rate)
        stereo = echo(stereo, delay, rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4))
    finished = finish(rng, "vocals", stereo.astype(np.float32), song, rng.uniform(-44.0, -9.0))
    return _brighten(rng, finished, song)
