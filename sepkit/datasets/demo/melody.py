"""What a singer sings: phrases of syllables that come back with other words."""

from dataclasses import dataclass, replace

import numpy as np

from sepkit.datasets.demo.song import Section, Song
from sepkit.datasets.demo.synthesis import chance

STYLES = ("sung", "legato", "rap", "chops")
VOICED = ("m", "n", "l", "r", "w")
N_VOWELS = 10
_ONSETS = ("", "s", "sh", "f", "th", "h", "t", "k", "p", "ch", "d", "b", "g", "v", "z", *VOICED)
_ONSET_ODDS = np.array([14, 11, 4, 5, 4, 7, 9, 8, 5, 3, 6, 5, 3, 3, 3, 6, 6, 6, 4, 4], dtype=np.float64)
_SOFT_ONSETS = ("", "h", "m", "n", "l", "w")
_CODAS = ("s", "t", "k", "m", "n", "sh")
_LENGTHS = {  # beats
    "sung": (0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 1.5, 2.0),
    "legato": (1.0, 2.0, 2.0, 3.0, 4.0),
    "rap": (0.25, 0.25, 0.25, 0.5),
    "chops": (0.25, 0.5, 0.5, 0.75),
}
_CLOSURE = 0.075  # s, before a consonant without voice


@dataclass(frozen=True)
class Syllable:
    """One note of a line."""

    start: float  # s
    duration: float  # s
    midi: float
    slope: float  # semitones over its duration
    vowel: int
    second_vowel: int
    onset: str
    coda: str
    effort: float  # 0.3 soft, 1 loud
    breath: bool  # taken before it


@dataclass(frozen=True)
class _Note:
    beat: float
    length: float
    step: int  # degrees above the middle of the voice
    word: tuple[int, int, str, str]


def _word(rng: np.random.Generator, style: str) -> tuple[int, int, str, str]:
    """Draw vowel, second vowel, first and last consonant."""
    vowel = int(rng.integers(N_VOWELS))
    second = int(rng.integers(N_VOWELS)) if chance(rng, 0.35) else vowel
    if style == "legato" and chance(rng, 0.7):
        return vowel, second, _SOFT_ONSETS[rng.integers(len(_SOFT_ONSETS))], ""
    onset = _ONSETS[rng.choice(len(_ONSETS), p=_ONSET_ODDS / _ONSET_ODDS.sum())]
    coda = _CODAS[rng.integers(len(_CODAS))] if chance(rng, 0.3) else ""
    return vowel, second, onset, coda


def _motif(rng: np.random.Generator, style: str) -> list[_Note]:
    """Write a phrase of 4 beats, rests included (chops: one bar, half empty)."""
    notes, step = [], int(rng.integers(-2, 3))
    beat = float(rng.choice([0.0, 0.0, 0.5, 1.0]))
    end = 4.0 - float(rng.choice([0.0, 0.0, 0.5, 1.0]))
    while beat < end - 0.2:
        length = float(rng.choice(_LENGTHS[style]))
        length = min(length, end - beat) if style != "legato" else length
        if not (style == "chops" and chance(rng, 0.35)):
            notes.append(_Note(beat, length, step, _word(rng, style)))
        beat += length
        leap = int(rng.choice([-4, -2, -1, -1, 0, 0, 1, 1, 2, 4]))
        step += leap if abs(step + leap) < 6 else -leap
        step = round(step * (0.3 if style == "rap" else 1.0))
    return notes


def _sing_note(
    rng: np.random.Generator, song: Song, style: str, note: _Note, where: tuple[float, int, float]
) -> Syllable:
    """Turn a note of a motif into a syllable at a beat, near the degree of the singer, with an effort."""
    beat, middle, effort = where
    degree = middle + note.step
    if chance(rng, 0.5) and (degree - song.chord(beat)) % 7 not in (0, 2, 4):
        degree += int(rng.choice([-1, 1]))
    vowel, second, onset, coda = note.word
    rap = style == "rap"
    return Syllable(
        start=song.seconds(beat) + rng.normal(0.0, 0.004 if style == "chops" else 0.016),
        duration=note.length * 60.0 / song.bpm * rng.uniform(0.75, 1.0),
        midi=song.pitch(max(0, degree)) + (rng.normal(0.0, 1.0) if rap else rng.normal(0.0, 0.06)),
        slope=rng.uniform(-4.0, 1.5) if rap else rng.normal(0.0, 0.15),
        vowel=vowel,
        second_vowel=second,
        onset=onset,
        coda=coda,
        effort=float(np.clip(effort + rng.normal(0.0, 0.16), 0.2, 1.0)),
        breath=False,
    )


def _phrases(rng: np.random.Generator, song: Song, section: Section, style: str, middle: int) -> list[Syllable]:
    motifs = [_motif(rng, style) for _ in range(1 if style == "chops" else 2)]
    fresh = 0.05 if style == "chops" else rng.uniform(0.3, 1.0)
    syllables, beat = [], section.start
    while beat < section.end:
        if not chance(rng, 0.06):
            for note in motifs[rng.integers(len(motifs))]:
                words = _word(rng, style) if chance(rng, fresh) else note.word
                where = beat + note.beat, middle, section.energy
                sung = _sing_note(rng, song, style, replace(note, word=words), where)
                syllables.append(replace(sung, breath=not syllables or sung.start > _end(syllables[-1]) + 0.25))
        beat += 4.0
    return syllables


def _closure(syllable: Syllable) -> float:
    return 0.0 if syllable.onset in ("", *VOICED) else _CLOSURE


def _end(syllable: Syllable) -> float:
    return syllable.start + syllable.duration


def compose(rng: np.random.Generator, song: Song, style: str, centre: float, sections: list[Section]) -> list[Syllable]:
    """Write the line of one singer through some sections of a song.

    Args:
        rng: draws the phrases.
        song: the score.
        style: one of STYLES, most sections keep it.
        centre: the middle of the voice on the MIDI scale.
        sections: those in which the singer sings.

    Returns:
        Syllables in order of time, none of which overlap, within the song.
    """
    middle = song.degree(centre)
    syllables = []
    for section in sections:
        other = STYLES[rng.integers(len(STYLES))] if chance(rng, 0.2) else style
        syllables += _phrases(rng, song, section, other, middle)
    syllables.sort(key=lambda syllable: syllable.start)
    end = song.n_samples / song.sample_rate
    line = []
    for k, syllable in enumerate(syllables):
        limits = [end, *(after.start - _closure(after) for after in syllables[k + 1 : k + 2])]
        start, stop = max(0.0, syllable.start), min(_end(syllable), *limits)
        if stop - start > 0.03:
            line.append(replace(syllable, start=start, duration=stop - start))
    return line


def harmonise(rng: np.random.Generator, song: Song, line: list[Syllable], interval: int) -> list[Syllable]:
    """Copy a line `interval` degrees higher, as another singer would: not quite together."""
    return [
        replace(
            syllable,
            start=max(0.0, syllable.start + rng.normal(0.0, 0.02)),
            midi=song.pitch(max(0, song.degree(syllable.midi) + interval)) + rng.normal(0.0, 0.07),
            effort=max(0.25, syllable.effort - 0.1),
            breath=False,
        )
        for syllable in line
    ]


def sounding_frames(syllable: Syllable, rate: float, n_frames: int) -> tuple[int, int]:
    """Return the first frame of a syllable, of `rate` a second, and the one behind its last."""
    first = int(np.clip(syllable.start * rate, 0, n_frames - 1))
    return first, int(np.clip((syllable.start + syllable.duration) * rate, first + 1, n_frames))
