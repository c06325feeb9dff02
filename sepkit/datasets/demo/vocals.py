"""Singers: a glottal source with glides and vibrato, formants that move, consonants, breath, several voices."""

from dataclasses import dataclass, replace

import numpy as np
import scipy  # whose parts are imported when they are used

from sepkit.datasets.demo.effects import chorus, compress, echo, finish, saturate
from sepkit.datasets.demo.melody import N_VOWELS, STYLES, VOICED, Syllable, compose, harmonise, sounding_frames
from sepkit.datasets.demo.song import Song
from sepkit.datasets.demo.synthesis import (
    FRAME,
    HOP,
    amplitude,
    chance,
    colour,
    drift,
    envelope,
    filter_frames,
    hertz,
    noise,
    pan,
    periods,
    place,
    rms,
    scan,
    stretch,
)

# Formants of an adult man in Hz: ten vowels, then m, n, l, r, w.
_FORMANTS = np.array(
    [
        (730, 1090, 2440, 3400),
        (660, 1720, 2410, 3500),
        (530, 1840, 2480, 3600),
        (390, 1990, 2550, 3600),
        (270, 2290, 3010, 3700),
        (570, 840, 2410, 3300),
        (440, 1020, 2240, 3300),
        (300, 870, 2240, 3300),
        (640, 1190, 2390, 3400),
        (490, 1350, 1690, 3200),
        (250, 1000, 2200, 3000),
        (250, 1500, 2400, 3200),
        (360, 1100, 2700, 3500),
        (340, 1150, 1500, 3000),
        (300, 650, 2200, 3200),
    ],
    dtype=np.float64,
)
_VOICED = {name: N_VOWELS + k for k, name in enumerate(VOICED)}
# Each unvoiced sound: s, dB relative to the voice, and its spectrum as (Hz, dB) knots.
_BURSTS = {
    "s": (0.11, -9.0, (500, 2500, 4500, 7000, 10000, 16000), (-45, -28, -5, 0, -3, -14)),
    "sh": (0.11, -8.0, (500, 1500, 2500, 4000, 8000, 16000), (-40, -22, 0, 0, -8, -24)),
    "f": (0.09, -19.0, (300, 1500, 4000, 8000, 12000, 18000), (-16, -8, -4, 0, -2, -10)),
    "th": (0.08, -20.0, (300, 1500, 4000, 7000, 12000, 18000), (-20, -10, -6, 0, -2, -10)),
    "h": (0.07, -17.0, (300, 800, 1600, 3500, 8000, 16000), (-8, 0, -2, -8, -18, -30)),
    "t": (0.05, -9.0, (300, 1500, 3500, 6000, 10000, 16000), (-25, -12, -2, 0, -4, -16)),
    "k": (0.05, -10.0, (300, 1000, 1900, 3500, 8000, 16000), (-20, -8, 0, -8, -12, -24)),
    "p": (0.03, -12.0, (100, 400, 1200, 4000, 8000, 16000), (-2, 0, -6, -14, -20, -30)),
    "ch": (0.09, -8.0, (500, 1500, 2800, 4500, 8000, 16000), (-35, -18, 0, -1, -7, -20)),
    "breath": (0.24, -29.0, (300, 1000, 1800, 4000, 8000, 16000), (-18, -4, 0, -4, -8, -18)),
}
_BURST_OF = {"d": "t", "b": "p", "g": "k", "v": "f", "z": "s"}  # weaker, and the voice goes on


@dataclass(frozen=True)
class Singer:
    """What stays the same for one voice."""

    centre: float  # MIDI
    tract: float  # factor on all formants
    tilt: float  # slope of the source: harmonic h has the amplitude h ** -tilt
    breath: float
    grit: float  # every second period weaker
    vibrato_rate: float  # Hz
    vibrato_depth: float  # semitones
    glide: float  # s
    scoop: float  # semitones below the note at its start
    jitter: float  # semitones
    sibilance: float  # dB on all consonants
    bandwidth: float  # factor on the widths of all formants


def draw_singer(rng: np.random.Generator, style: str) -> Singer:
    """Draw a voice, from a low man to a child."""
    female = chance(rng, 0.5)
    centre = rng.normal(64.0, 4.0) if female else rng.normal(53.5, 4.5)
    machine = chance(rng, 0.2)  # pitch corrected by a machine
    return Singer(
        centre=float(np.clip(centre - 5.0 * (style == "rap"), 42.0, 76.0)),
        tract=float(np.clip(rng.normal(1.17 if female else 1.0, 0.07), 0.8, 1.4)),
        tilt=rng.uniform(0.95, 1.75),
        breath=amplitude(rng.uniform(-38.0, -14.0)),
        grit=rng.choice([0.0, rng.uniform(0.1, 0.5)], p=[0.8, 0.2]),
        vibrato_rate=rng.uniform(4.6, 6.8),
        vibrato_depth=0.0 if machine or style == "rap" else rng.uniform(0.0, 0.7),
        glide=rng.uniform(0.005, 0.015) if machine else rng.uniform(0.02, 0.09),
        scoop=0.0 if machine else rng.uniform(0.0, 2.0),
        jitter=0.02 if machine else rng.uniform(0.06, 0.25),
        sibilance=rng.normal(0.0, 3.5),
        bandwidth=rng.uniform(0.8, 1.5),
    )


def _envelopes(singer: Singer, sample_rate: int) -> np.ndarray:
    """Compute the gains of all sounds of a tract, log amplitude, (15, F)."""
    bins = scipy.fft.rfftfreq(FRAME, 1.0 / sample_rate)
    n_more = max(2, int(sample_rate / 2 / (1050.0 * singer.tract)) - 4)
    upper = 4500.0 + 1050.0 * np.arange(n_more)
    formants = np.concatenate([_FORMANTS, np.tile(upper, (len(_FORMANTS), 1))], axis=1) * singer.tract
    widths = singer.bandwidth * (50.0 + 0.045 * formants + formants**2 / 3.0e5)
    pole = np.stack([formants, widths])[..., None]  # (2, 15, K, 1)
    square = (pole[0] ** 2 - bins**2) ** 2 + (pole[1] * bins) ** 2
    gains = (2.0 * np.log(pole[0]) - 0.5 * np.log(square)).sum(1)  # (15, F)
    gains -= np.log(np.maximum(bins, 60.0) / 60.0) * 0.15
    loudness = np.log((np.exp(2 * gains) / np.maximum(bins, 100.0) ** 2).sum(1, keepdims=True)) / 2
    gains -= 0.7 * (loudness - loudness.mean())
    gains[N_VOWELS : N_VOWELS + 2] -= 1.2 * np.minimum(1.0, bins / 1500.0)  # noses are dull
    return gains.astype(np.float32)


def _source(singer: Singer, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Build one period of the glottis per half octave of pitch, each with the harmonics that fit, (R, 2049)."""
    n_rows, n_harmonics = 12, 700
    highest = 55.0 * 2.0 ** (0.5 * np.arange(1, n_rows + 1))
    number = np.arange(1, n_harmonics + 1)
    harmonics = number**-singer.tilt * np.exp(rng.normal(0.0, 0.12, n_harmonics))
    harmonics[0] *= rng.uniform(0.8, 2.0)
    fits = number * highest[:, None] < 0.48 * sample_rate
    return periods(harmonics * fits, rng.normal(0.0, 0.35, n_harmonics))


def _pitch(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], rate: float, n: int) -> np.ndarray:
    """Draw the pitch on the MIDI scale at every frame, (N,), with `rate` frames a second."""
    target, depth = np.full(n, np.nan), np.zeros(n)
    for syllable in syllables:
        first, last = sounding_frames(syllable, rate, n)
        time = np.arange(last - first) / rate
        scoop = singer.scoop * rng.random() ** 2 * (2.0 if syllable.breath else 1.0)
        target[first:last] = syllable.midi + syllable.slope * time / max(syllable.duration, 0.05)
        target[first:last] -= scoop * np.exp(-time / 0.05)
        depth[first:last] = np.clip((time - 0.2) / 0.3, 0.0, 1.0)
    known = np.flatnonzero(~np.isnan(target))
    target = target[known[np.clip(np.searchsorted(known, np.arange(n), side="right") - 1, 0, len(known) - 1)]]
    target = scipy.ndimage.gaussian_filter1d(target, max(0.3, 0.6 * singer.glide * rate))
    speed = singer.vibrato_rate * (1.0 + 0.06 * drift(rng, n, int(0.4 * rate)))
    depth = scipy.ndimage.uniform_filter1d(depth, int(0.1 * rate)) * (1.0 + 0.25 * drift(rng, n, int(0.5 * rate)))
    vibrato = singer.vibrato_depth * depth * np.sin(2 * np.pi * np.cumsum(speed) / rate)
    wobble = singer.jitter * (drift(rng, n, int(0.12 * rate)) + 0.4 * drift(rng, n, 3))
    return np.clip(target + vibrato + wobble, 36.0, 93.0)


def _mouth(rng: np.random.Generator, syllables: list[Syllable], rate: float, n: int) -> tuple[np.ndarray, ...]:
    """Draw loudness (N,), effort (N,) and the share of each sound (N, 15) at every frame."""
    loudness, effort, sounds = np.zeros(n), np.full(n, 0.5), np.zeros(n, dtype=int)
    for syllable in syllables:
        first, last = sounding_frames(syllable, rate, n)
        middle = first + int((last - first) * rng.uniform(0.5, 0.8))
        sounds[first:] = syllable.vowel
        sounds[middle:] = syllable.second_vowel
        course = np.linspace(0.0, 1.0, last - first)
        loudness[first:last] = amplitude(18.0 * (syllable.effort - 0.6) - rng.uniform(0.0, 12.0) * course**2)
        effort[first:] = syllable.effort
        if syllable.onset in _VOICED:
            stop = min(last, first + int(rng.uniform(0.04, 0.1) * rate) + 1)
            sounds[first:stop] = _VOICED[syllable.onset]
            loudness[first:stop] *= 0.5
        elif syllable.onset in _BURST_OF:
            loudness[first : min(last, first + int(0.04 * rate))] *= 0.15
        if syllable.coda in _VOICED and last - first > int(0.2 * rate):
            sounds[last - int(0.08 * rate) :] = _VOICED[syllable.coda]
            loudness[last - int(0.08 * rate) : last] *= 0.5
    shares = np.eye(len(_FORMANTS), dtype=np.float32)[sounds]
    shares = scipy.ndimage.gaussian_filter1d(shares, rng.uniform(0.012, 0.03) * rate, axis=0)
    shimmer = 1.0 + 0.06 * drift(rng, n, 4) + 0.08 * drift(rng, n, int(0.15 * rate))
    return scipy.ndimage.gaussian_filter1d(loudness, 0.008 * rate) * shimmer, effort, shares


def _voice(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Render the voiced part of a line and its breathiness, (T,)."""
    rate = song.sample_rate / HOP
    n_frames = song.n_samples // HOP + 2
    midi = _pitch(rng, singer, syllables, rate, n_frames)
    loudness, effort, shares = _mouth(rng, syllables, rate, n_frames)
    frequency = hertz(midi)
    phase = np.cumsum(stretch(frequency, song.n_samples), dtype=np.float64) / song.sample_rate
    row = np.clip(np.log2(frequency / 55.0) * 2.0, 0, 11).astype(np.int32)
    glottis = scan(_source(singer, rng, song.sample_rate), phase, np.repeat(row, HOP)[: song.n_samples])
    if singer.grit:
        glottis *= 1.0 + np.float32(singer.grit) * np.cos(np.pi * phase).astype(np.float32)
    air = np.diff(noise(rng, song.n_samples + 1)) * (0.3 + 0.5 * np.abs(glottis))
    sounding = loudness > 1e-4
    excitation = (glottis + np.float32(singer.breath) * air) * stretch(loudness, song.n_samples)
    bins = scipy.fft.rfftfreq(FRAME, 1.0 / song.sample_rate)
    tilt = 0.9 * np.log2(np.clip(bins, 300.0, 5000.0) / 300.0).astype(np.float32)
    bright = scipy.ndimage.gaussian_filter1d(effort, 0.05 * rate)[:, None].astype(np.float32) - 0.7
    gains = np.exp(shares[sounding] @ _envelopes(singer, song.sample_rate) + bright[sounding] * tilt)
    return filter_frames(excitation, gains, sounding)


def _burst(rng: np.random.Generator, singer: Singer, kind: str, song: Song) -> np.ndarray:
    """Draw one unvoiced sound of unit RMS, (n,)."""
    length, _, frequencies, gains = _BURSTS[kind]
    n_samples = int(length * rng.uniform(0.7, 1.4) * song.sample_rate)
    knots = np.array(frequencies) * singer.tract**0.5 * np.exp(rng.normal(0.0, 0.06))
    sound = colour(noise(rng, n_samples), knots, np.array(gains) + rng.normal(0.0, 2.0, 6), song.sample_rate)
    if kind in ("t", "k", "p"):
        sound *= envelope(n_samples, 0.001, 0.6 * n_samples / song.sample_rate, song.sample_rate, 0.012)
    else:
        attack = 0.4 if kind == "breath" else 0.25
        sound *= envelope(n_samples, attack * length, 0.4 * length, song.sample_rate)
    return sound / (rms(sound) + 1e-9)


def _consonants(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Render all unvoiced sounds of a line, relative to a voice of unit RMS, (T,)."""
    bank = {kind: [_burst(rng, singer, kind, song) for _ in range(3)] for kind in _BURSTS}
    track = np.zeros(song.n_samples, dtype=np.float32)
    for syllable in syllables:
        weight = 6.0 * (syllable.effort - 0.6) + singer.sibilance + rng.normal(0.0, 2.0)
        start, stop = syllable.start, syllable.start + syllable.duration
        for kind, at_end in ((syllable.onset, False), (syllable.coda, True)):
            name = _BURST_OF.get(kind, kind)
            if name not in _BURSTS:
                continue
            sound = bank[name][rng.integers(3)]
            level = amplitude(_BURSTS[name][1] + weight - (7.0 if kind in _BURST_OF else 0.0))
            begin = stop * song.sample_rate if at_end else start * song.sample_rate - 0.9 * len(sound)
            place(track, sound, int(begin), level)
        if syllable.breath:
            sound = bank["breath"][rng.integers(3)]
            level = amplitude(_BURSTS["breath"][1] + rng.normal(0.0, 4.0) + singer.sibilance)
            place(track, sound, int((start - 0.12) * song.sample_rate) - len(sound), level)
    return track


def _line(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Render a line of one singer, (T,), near unit RMS where it sounds."""
    voice = _voice(rng, singer, syllables, song)
    voice /= np.sqrt((voice**2).sum() / (1.0 + sum(s.duration for s in syllables) * song.sample_rate)) + 1e-9
    return voice + _consonants(rng, singer, syllables, song)


def _backing(rng: np.random.Generator, singer: Singer, lead: list[Syllable], song: Song) -> np.ndarray:
    """Render up to three more voices that join the lead in some sections, (2, T)."""
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    width, level = rng.uniform(0.2, 1.0), rng.uniform(-12.0, -2.0)
    for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])):
        joined = {section for section in song.sections if chance(rng, 0.65)}
        spans = [(song.seconds(section.start), song.seconds(section.end)) for section in joined]
        part = [s for s in lead if any(start <= s.start < end for start, end in spans)]
        if not part:
            continue
        interval = int(rng.choice([2, 4, -3, -5, 7, -7, 0]))
        second = replace(
            singer if chance(rng, 0.6) else draw_singer(rng, "legato"),
            sibilance=singer.sibilance - 6.0,
            tilt=singer.tilt + rng.uniform(0.0, 0.3),
        )
        line = _line(rng, second, harmonise(rng, song, part, interval), song)
        track += pan(line, width * rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)) * np.float32(amplitude(level))
    return track


def _choir(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Hold long notes behind the lead with a voice of its own, often in parallel and wide, (2, T)."""
    singer = draw_singer(rng, "legato")
    sections = [section for section in song.active("vocals") if chance(rng, 0.75)]
    line = compose(rng, song, "legato", singer.centre + rng.uniform(-5.0, 5.0), sections)
    track = np.zeros((2, song.n_samples), dtype=np.float32)
    for interval in (0, 2, 4)[: rng.integers(1, 4)] if line else ():
        voice = _line(rng, replace(singer, sibilance=-10.0), harmonise(rng, song, line, interval), song)
        copy = chorus(rng, voice, rng.uniform(0.015, 0.05), rng.uniform(0.001, 0.005), song.sample_rate)
        track += np.stack([voice, copy] if chance(rng, 0.5) else [copy, voice])
    return track * np.float32(amplitude(rng.uniform(-14.0, -2.0)))


def render_vocals(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Render the vocals of a song, (2, T) float32."""
    style = STYLES[rng.choice(4, p=[0.5, 0.22, 0.16, 0.12])]
    singer = draw_singer(rng, style)
    lead = compose(rng, song, style, singer.centre, song.active("vocals"))
    if not lead:
        return np.zeros((2, song.n_samples), dtype=np.float32)
    voice = _line(rng, singer, lead, song)
    if chance(rng, 0.5):
        voice = saturate(voice, np.exp(rng.uniform(np.log(0.3), np.log(4.0))))
    stereo = pan(voice, rng.normal(0.0, 0.07))
    if chance(rng, 0.5):
        level, width = np.float32(amplitude(rng.uniform(-14.0, -2.0))), rng.uniform(0.4, 1.0)
        for side in (-width, width):
            copy = chorus(rng, voice, rng.uniform(0.012, 0.04), rng.uniform(0.0005, 0.004), song.sample_rate)
            stereo += level * pan(copy, side)
    if chance(rng, 0.7 if style == "legato" else 0.45):
        stereo += _backing(rng, singer, lead, song)
    if chance(rng, 0.06):
        stereo += _choir(rng, song)
    stereo = compress(stereo, rng.uniform(0.8, 1.8))
    if chance(rng, 0.4):
        delay = int(float(rng.choice([0.25, 0.5, 0.75, 1.0])) * 60.0 / song.bpm * song.sample_rate)
        stereo = echo(stereo, delay, rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.45))
    return finish(rng, "vocals", stereo, song, rng.uniform(-26.0, -5.0))
