"""The score all stems of one song share: tempo, key, chords, sections, who plays when."""

from dataclasses import dataclass

import numpy as np

from sepkit.datasets.demo.synthesis import chance

STEMS = ("vocals", "drums", "bass", "other")
_MODES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 9, 10),  # Dorian
    (0, 2, 4, 5, 7, 9, 10),  # Mixolydian
)
_PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 3),
    (0, 3, 0, 4),
    (1, 4, 0, 0),
    (0, 6, 5, 6),
    (0, 0, 3, 3),
    (0, 2, 3, 4),
    (5, 4, 3, 4),
    (0, 5, 1, 4),
    (0, 0, 0, 0),
    (3, 4, 2, 5),
)
_SECTION = 8  # beats
_SILENT = {"vocals": 0.02, "drums": 0.05, "bass": 0.08, "other": 0.03}  # share of songs without the stem


@dataclass(frozen=True)
class Section:
    """A stretch of a song, in beats, and the stems that play in it."""

    start: float
    end: float
    active: frozenset[str]
    energy: float


@dataclass(frozen=True)
class Song:
    """The score of one song."""

    sample_rate: int
    n_samples: int
    bpm: float
    first_beat: float  # s, 0 or before the beginning: songs are excerpts
    swing: float  # share of a sixteenth by which every second one comes late
    root: int  # MIDI, 36 to 47
    mode: tuple[int, ...]
    progression: tuple[int, ...]
    beats_per_chord: int
    sections: tuple[Section, ...]
    kick: tuple[float, ...]  # strength on each sixteenth of two bars; the bass may follow it
    cutoff: float  # Hz, above which the whole song is empty, as after a lossy codec

    def seconds(self, beat: float) -> float:
        """Return the time of a beat, swing included."""
        late = self.swing / 4.0 if round(beat * 4) % 2 else 0.0
        return self.first_beat + (beat + late) * 60.0 / self.bpm

    def sample(self, beat: float) -> int:
        """Return the sample at which a beat falls; before the beginning it is negative."""
        return round(self.seconds(beat) * self.sample_rate)

    def pitch(self, degree: int) -> int:
        """Return the MIDI pitch of a degree of the scale; 7 is one octave above 0."""
        return self.root + 12 * (degree // 7) + self.mode[degree % 7]

    def degree(self, midi: float) -> int:
        """Return the degree of the scale nearest to a MIDI pitch."""
        return min(range(49), key=lambda degree: abs(self.pitch(degree) - midi))

    def chord(self, beat: float) -> int:
        """Return the degree on which the chord at a beat stands."""
        return self.progression[int(beat / self.beats_per_chord + 1e-6) % len(self.progression)]

    def active(self, stem: str) -> list[Section]:
        """List the sections in which a stem plays."""
        return [section for section in self.sections if stem in section.active]


def _sections(rng: np.random.Generator, n_beats: int) -> tuple[Section, ...]:
    missing = next((stem for stem in STEMS if chance(rng, _SILENT[stem])), None)
    present = [stem for stem in STEMS if stem != missing]
    share = {stem: rng.uniform(0.78, 0.92) for stem in present}
    length = int(rng.choice([_SECTION // 2, _SECTION, _SECTION], p=[0.2, 0.5, 0.3]))
    sections = []
    for start in range(0, n_beats, length):
        active: frozenset[str] = frozenset()
        while len(active) < 2:
            active = frozenset(stem for stem in present if chance(rng, share[stem]))
        sections.append(Section(start, start + length, active, rng.uniform(0.45, 1.0)))
    return tuple(sections)


def _kick_pattern(rng: np.random.Generator) -> tuple[float, ...]:
    style = rng.choice(["floor", "rock", "half", "broken"], p=[0.22, 0.33, 0.25, 0.2])
    steps = np.zeros(32)
    fixed = {"floor": range(0, 32, 4), "rock": (0, 8, 16, 24), "half": (0, 16), "broken": (0, 10, 16)}[style]
    steps[list(fixed)] = 1.0
    extra = {"floor": 0.03, "rock": 0.14, "half": 0.13, "broken": 0.2}[style]
    loose = rng.random(32) < extra * np.where(np.arange(32) % 2, 0.5, 1.5)
    steps = np.where(loose & (steps == 0), rng.uniform(0.6, 1.0, 32), steps)
    if chance(rng, 0.6):
        steps[16:] = steps[:16]
    return tuple(steps)


def draw_song(rng: np.random.Generator, duration: float, sample_rate: int) -> Song:
    """Write the score of a song.

    Args:
        rng: draws everything.
        duration: s.
        sample_rate: Hz.

    Returns:
        The score; its sections cover the whole duration.
    """
    bpm = rng.uniform(68.0, 150.0)
    first_beat = -rng.uniform(0.0, 4.0) * 60.0 / bpm
    n_beats = int(np.ceil((duration - first_beat) * bpm / 60.0))
    return Song(
        sample_rate=sample_rate,
        n_samples=round(duration * sample_rate),
        bpm=bpm,
        first_beat=first_beat,
        swing=float(rng.choice([0.0, rng.uniform(0.05, 0.35)], p=[0.7, 0.3])),
        root=int(rng.integers(36, 48)),
        mode=_MODES[rng.choice(4, p=[0.35, 0.4, 0.13, 0.12])],
        progression=_PROGRESSIONS[rng.integers(len(_PROGRESSIONS))],
        beats_per_chord=int(rng.choice([2, 4, 8], p=[0.2, 0.6, 0.2])),
        sections=_sections(rng, n_beats),
        kick=_kick_pattern(rng),
        cutoff=rng.uniform(15000.0, 17000.0) if chance(rng, 0.25) else 24000.0,
    )
