"""One voice: a pitch that overshoots, formants that move, a glottis that opens with effort, consonants, breath."""

import numpy as np
from scipy import fft, ndimage, signal

from sepkit.datasets.demo.melody import Syllable, sounding_frames
from sepkit.datasets.demo.song import Song
from sepkit.datasets.demo.synthesis import (
    FRAME,
    HOP,
    amplitude,
    colour,
    drift,
    envelope,
    filter_frames,
    hertz,
    noise,
    periods,
    place,
    rms,
    scan,
    stretch,
)
from sepkit.datasets.singing.singers import CONSONANTS, FORMANTS, Singer

# Each unvoiced sound: s, dB relative to the voice, and its spectrum as (Hz, dB) knots.
_BURSTS = {
    "s": (0.12, -11.0, (500, 2500, 4500, 7000, 10000, 16000), (-45, -28, -6, 0, -3, -12)),
    "sh": (0.12, -9.0, (500, 1500, 2500, 4000, 8000, 16000), (-40, -22, 0, 0, -8, -24)),
    "f": (0.09, -21.0, (300, 1500, 4000, 8000, 12000, 18000), (-16, -8, -4, 0, -2, -10)),
    "th": (0.08, -22.0, (300, 1500, 4000, 7000, 12000, 18000), (-20, -10, -6, 0, -2, -10)),
    "h": (0.08, -18.0, (300, 800, 1600, 3500, 8000, 16000), (-8, 0, -2, -8, -18, -30)),
    "t": (0.05, -10.0, (300, 1500, 3500, 6000, 10000, 16000), (-25, -12, -2, 0, -4, -16)),
    "k": (0.05, -11.0, (300, 1000, 1900, 3500, 8000, 16000), (-20, -8, 0, -8, -12, -24)),
    "p": (0.03, -13.0, (100, 400, 1200, 4000, 8000, 16000), (-2, 0, -6, -14, -20, -30)),
    "ch": (0.1, -9.0, (500, 1500, 2800, 4500, 8000, 16000), (-35, -18, 0, -1, -7, -20)),
    "breath": (0.35, -27.0, (300, 1000, 1800, 4000, 8000, 16000), (-18, -4, 0, -5, -10, -22)),
}
_BURST_OF = {"d": "t", "b": "p", "g": "k", "v": "f", "z": "s"}  # weaker, and the voice goes on


def draw_pitch(
    rng: np.random.Generator, singer: Singer, syllables: list[Syllable], rate: float, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the pitch of a line.

    Args:
        rng: draws what is not in the notes.
        singer: who sings.
        syllables: in order of time.
        rate: values a second.
        n: how many.

    Returns:
        On the MIDI scale, and the vibrato alone in its depth, -1 to 1, (N,) each.

    Source:
        Saitou, Unoki, Akagi, Development of an F0 control model based on F0 dynamic characteristics for
        singing-voice synthesis, 2005: overshoot, vibrato, fine fluctuation; preparation is left out.
    """
    target, depth = np.full(n, np.nan), np.zeros(n)
    vibrato_rate, vibrato_depth, delay, _ = singer.vibrato
    for syllable in syllables:
        first, last = sounding_frames(syllable, rate, n)
        time = np.arange(last - first) / rate
        scoop = singer.scoop * rng.random() ** 2 * (2.0 if syllable.breath else 1.0)
        target[first:last] = syllable.midi + syllable.slope * time / max(syllable.duration, 0.05)
        target[first:last] -= scoop * np.exp(-time / rng.uniform(0.03, 0.1))
        depth[first:last] = np.clip((time - delay * rng.uniform(0.6, 1.4)) / 0.35, 0.0, 1.0) * rng.uniform(0.5, 1.2)
    known = np.flatnonzero(~np.isnan(target))
    target = target[known[np.clip(np.searchsorted(known, np.arange(n), side="right") - 1, 0, len(known) - 1)]]
    squared = singer.speed**2
    b, a = signal.bilinear([squared], [1.0, 2 * singer.damping * singer.speed, squared], fs=rate)
    course = signal.lfilter(b, a, target, zi=signal.lfilter_zi(b, a) * target[0])[0]
    speed = vibrato_rate * (1.0 + 0.07 * drift(rng, n, int(0.4 * rate)))
    depth = ndimage.uniform_filter1d(depth, int(0.1 * rate)) * np.clip(1.0 + 0.3 * drift(rng, n, int(0.5 * rate)), 0, 2)
    swing = depth * np.sin(2 * np.pi * np.cumsum(speed) / rate)
    wobble = singer.jitter * (drift(rng, n, int(0.12 * rate)) + 0.4 * drift(rng, n, 3) + 0.1 * drift(rng, n, 1))
    return np.clip(course + vibrato_depth * swing + wobble, 33.0, 96.0), swing


def _mouth(
    rng: np.random.Generator, singer: Singer, syllables: list[Syllable], rate: float, n: int
) -> tuple[np.ndarray, ...]:
    """Draw loudness (N,), effort (N,), formants (N, 4) in Hz of an adult man, and how nasal the sound is (N,)."""
    loudness, effort, sounds = np.zeros(n), np.full(n, 0.5), np.zeros(n, dtype=int)
    fade = rng.uniform(2.0, 16.0)
    for syllable in syllables:
        first, last = sounding_frames(syllable, rate, n)
        middle = first + int((last - first) * rng.uniform(0.5, 0.85))
        sounds[first:] = singer.inventory[syllable.vowel]
        sounds[middle:] = singer.inventory[syllable.second_vowel]
        course = np.linspace(0.0, 1.0, last - first)
        swell = rng.uniform(-3.0, 5.0) * np.sin(np.pi * course) - rng.uniform(0.0, fade) * course**2
        loudness[first:last] = amplitude(20.0 * (syllable.effort - 0.6) + swell + rng.normal(0.0, 1.5))
        loudness[max(first, last - int(rng.uniform(0.0, 0.07) * rate)) : last] *= rng.uniform(0.02, 0.8)
        effort[first:] = syllable.effort + 0.02 * swell.mean()
        if syllable.onset in CONSONANTS:
            stop = min(last, first + int(rng.uniform(0.04, 0.11) * rate) + 1)
            sounds[first:stop] = CONSONANTS[syllable.onset]
            loudness[first:stop] *= rng.uniform(0.08, 0.4)
            if syllable.onset == "r" and rng.random() < 0.3:  # rolled
                loudness[first:stop] *= 1.0 - 0.8 * (np.arange(stop - first) * 27.0 / rate % 1.0 < 0.4)
        elif syllable.onset in _BURST_OF:
            loudness[first : min(last, first + int(rng.uniform(0.03, 0.07) * rate))] *= 0.06
        if syllable.coda in CONSONANTS and last - first > int(0.2 * rate):
            sounds[last - int(0.08 * rate) :] = CONSONANTS[syllable.coda]
            loudness[last - int(0.08 * rate) : last] *= rng.uniform(0.15, 0.5)
    slow = rng.uniform(0.012, 0.04) * rate
    formants = ndimage.gaussian_filter1d((np.log(FORMANTS) + np.log(singer.places))[sounds], slow, axis=0)
    nasal = np.isin(sounds, (CONSONANTS["m"], CONSONANTS["n"])).astype(np.float64)
    nasal = ndimage.gaussian_filter1d(np.maximum(nasal, singer.nasality), slow)
    shimmer = np.clip(1.0 + 0.07 * drift(rng, n, 3) + 0.1 * drift(rng, n, int(0.15 * rate)), 0.2, 2.0)
    return (
        ndimage.gaussian_filter1d(loudness, rng.uniform(0.005, 0.015) * rate) * shimmer,
        effort,
        np.exp(formants),
        nasal,
    )


def _resonances(
    singer: Singer, formants: np.ndarray, nasal: np.ndarray, frequency: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Compute the gains of a tract at every frame, log amplitude, (N, F)."""
    bins = np.maximum(fft.rfftfreq(FRAME, 1.0 / sample_rate), 40.0).astype(np.float32)
    moving = formants * singer.tract
    moving[:, 0] = np.maximum(moving[:, 0], 0.95 * np.minimum(frequency, 1000.0))  # high voices open the mouth
    square = bins**2
    gains = np.zeros((len(formants), len(bins)), dtype=np.float32)
    n_more = max(2, int(sample_rate / 2 / (1050.0 * singer.tract)) - 4)
    upper = (4500.0 + 1050.0 * np.arange(n_more)) * singer.tract
    for poles in [*moving.T, *upper[:, None]]:
        poles = poles[:, None].astype(np.float32)
        widths = np.float32(singer.bandwidth) * (50.0 + 0.045 * poles + poles**2 / 3.0e5)
        gains = gains + (2.0 * np.log(poles) - 0.5 * np.log((poles**2 - square) ** 2 + (widths * bins) ** 2))
    gains -= np.float32(0.15) * np.log(np.maximum(bins, 60.0) / 60.0)
    centre = 2900.0 * singer.tract**0.5
    gains += np.float32(singer.ring * np.log(10) / 20) * np.exp(-0.5 * (np.log(bins / centre) / 0.18) ** 2)
    loud = np.log((np.exp(2 * gains) / np.maximum(bins, 100.0) ** 2).sum(1, keepdims=True)) / 2
    gains -= 0.7 * (loud - loud.mean())
    hole = -1.3 * np.exp(-0.5 * (np.log(bins / (900.0 * singer.tract)) / 0.25) ** 2) - np.minimum(1.0, bins / 1800.0)
    return gains + nasal[:, None].astype(np.float32) * hole.astype(np.float32)


def _glottis(rng: np.random.Generator, singer: Singer, tilt: float, sample_rate: int) -> np.ndarray:
    """Build one period per half octave of pitch, each with the harmonics that fit, (12, 2049)."""
    highest = 55.0 * 2.0 ** (0.5 * np.arange(1, 13))
    number = np.arange(1, 701)
    harmonics = number**-tilt * np.exp(rng.normal(0.0, 0.12, 700))
    harmonics[0] *= singer.flow
    harmonics[1] *= singer.flow**0.5
    fits = number * highest[:, None] < 0.48 * sample_rate
    return periods(harmonics * fits, rng.normal(0.0, 0.35, 700))


def _voiced(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Synthesize the voiced part of a line and its breathiness, (T,)."""
    rate = song.sample_rate / HOP
    n_frames = song.n_samples // HOP + 2
    midi, swing = draw_pitch(rng, singer, syllables, rate, n_frames)
    loudness, effort, formants, nasal = _mouth(rng, singer, syllables, rate, n_frames)
    loudness = loudness * (1.0 + singer.vibrato[3] * swing)
    frequency = hertz(midi)
    phase = np.cumsum(stretch(frequency, song.n_samples), dtype=np.float64) / song.sample_rate
    row = np.repeat(np.clip(np.log2(frequency / 55.0) * 2.0, 0, 11).astype(np.int32), HOP)[: song.n_samples]
    effort = ndimage.gaussian_filter1d(effort + 0.05 * drift(rng, n_frames, int(0.3 * rate)), 0.04 * rate)
    share = np.clip(stretch(effort, song.n_samples), 0.0, 1.0)
    soft = scan(_glottis(rng, singer, singer.tilt + 0.45, song.sample_rate), phase, row)
    loud = scan(_glottis(rng, singer, max(0.6, singer.tilt - 0.25), song.sample_rate), phase, row)
    glottis = soft + share * (loud - soft)
    if singer.grit:
        rough = np.float32(singer.grit) * np.clip(2.0 * share - 0.6, 0.0, 1.0)
        glottis *= 1.0 + rough * np.cos(2 * np.pi * phase / singer.period).astype(np.float32)
    air = np.diff(noise(rng, song.n_samples + 1)) * (0.3 + 0.5 * np.abs(glottis)) * (1.4 - 0.6 * share)
    sounding = loudness > 1e-4
    excitation = (glottis + np.float32(singer.breath) * air) * stretch(loudness, song.n_samples)
    gains = _resonances(singer, formants[sounding], nasal[sounding], frequency[sounding], song.sample_rate)
    return filter_frames(excitation, np.exp(gains), sounding)


def _burst(rng: np.random.Generator, singer: Singer, kind: str, song: Song) -> np.ndarray:
    """Draw one unvoiced sound of unit RMS, (n,)."""
    length, _, frequencies, gains = _BURSTS[kind]
    n_samples = int(length * rng.uniform(0.6, 1.6) * song.sample_rate)
    knots = np.array(frequencies) * singer.tract**0.5 * np.exp(rng.normal(0.0, 0.08))
    sound = colour(noise(rng, n_samples), knots, np.array(gains) + rng.normal(0.0, 2.5, 6), song.sample_rate)
    if kind in ("t", "k", "p"):
        sound *= envelope(
            n_samples, 0.001, 0.6 * n_samples / song.sample_rate, song.sample_rate, rng.uniform(0.006, 0.02)
        )
    else:
        attack = 0.4 if kind == "breath" else rng.uniform(0.15, 0.4)
        sound *= envelope(n_samples, attack * length, 0.4 * length, song.sample_rate)
    return sound / (rms(sound) + 1e-9)


def _consonants(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Synthesize all unvoiced sounds of a line, relative to a voice of unit RMS, (T,)."""
    track = np.zeros(song.n_samples, dtype=np.float32)
    for syllable in syllables:
        weight = 6.0 * (syllable.effort - 0.6) + singer.sibilance + rng.normal(0.0, 2.5)
        start, stop = syllable.start, syllable.start + syllable.duration
        for kind, at_end in ((syllable.onset, False), (syllable.coda, True)):
            name = _BURST_OF.get(kind, kind)
            if name not in _BURSTS:
                continue
            sound = _burst(rng, singer, name, song)
            level = amplitude(_BURSTS[name][1] + weight - (7.0 if kind in _BURST_OF else 0.0))
            begin = stop * song.sample_rate if at_end else start * song.sample_rate - 0.9 * len(sound)
            place(track, sound, int(begin), level)
        if syllable.breath:
            sound = _burst(rng, singer, "breath", song)
            level = amplitude(_BURSTS["breath"][1] + rng.normal(0.0, 4.0) + singer.air)
            place(track, sound, int((start - 0.12) * song.sample_rate) - len(sound), level)
    return track


def sing(rng: np.random.Generator, singer: Singer, syllables: list[Syllable], song: Song) -> np.ndarray:
    """Synthesize a line of one singer.

    Args:
        rng: draws what is not in the notes.
        singer: who sings.
        syllables: in order of time, at least one.
        song: the score.

    Returns:
        (T,) float32, near unit RMS where it sounds.
    """
    voice = _voiced(rng, singer, syllables, song)
    voice /= np.sqrt((voice**2).sum() / (1.0 + sum(s.duration for s in syllables) * song.sample_rate)) + 1e-9
    return (voice + _consonants(rng, singer, syllables, song)).astype(np.float32)
