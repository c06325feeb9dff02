"""Singers: what stays the same for one voice, from a bass to a child, breathy to screaming."""

from dataclasses import dataclass, replace

import numpy as np

from sepkit.datasets.demo.melody import N_VOWELS, VOICED
from sepkit.datasets.demo.synthesis import amplitude, chance

# Formants of an adult man in Hz: the ten vowels of the melodies, four that other languages have, then m, n, l, r, w.
FORMANTS = np.array(
    [
        (730, 1090, 2440, 3400), (660, 1720, 2410, 3500), (530, 1840, 2480, 3600), (390, 1990, 2550, 3600),
        (270, 2290, 3010, 3700), (570, 840, 2410, 3300), (440, 1020, 2240, 3300), (300, 870, 2240, 3300),
        (640, 1190, 2390, 3400), (490, 1350, 1690, 3200), (250, 1750, 2160, 3300), (370, 1500, 2200, 3300),
        (510, 1400, 2300, 3350), (320, 1550, 2350, 3350), (250, 1000, 2200, 3000), (250, 1500, 2400, 3200),
        (360, 1100, 2700, 3500), (340, 1150, 1500, 3000), (300, 650, 2200, 3200),
    ],
    dtype=np.float64,
)  # fmt: skip
CONSONANTS = {name: len(FORMANTS) - len(VOICED) + k for k, name in enumerate(VOICED)}
_FIVE = (0, 2, 4, 6, 7)  # a e i o u
_INVENTORIES = (_FIVE, _FIVE, tuple(range(N_VOWELS)), (*_FIVE, 1, 5, 8), (*_FIVE, 10, 11, 12), (*_FIVE, 13, 8))
# Kinds of voices: odds, MIDI pitch of the middle and its spread, tract and its spread.
_KINDS = {
    "bass": (0.1, 45.0, 2.5, 0.92, 0.05),
    "baritone": (0.2, 50.5, 3.0, 0.98, 0.05),
    "tenor": (0.2, 56.5, 3.0, 1.03, 0.05),
    "alto": (0.18, 59.5, 3.0, 1.12, 0.05),
    "mezzo": (0.14, 63.5, 3.0, 1.16, 0.05),
    "soprano": (0.08, 69.0, 3.0, 1.2, 0.05),
    "child": (0.04, 67.0, 3.0, 1.32, 0.06),
    "falsetto": (0.06, 65.0, 3.0, 1.03, 0.05),
}


@dataclass(frozen=True)
class Singer:
    """What stays the same for one voice.

    Attributes:
        centre: middle of the voice on the MIDI scale.
        tract: factor on all formants.
        places: factor on each formant of each sound, (19, 4): how this singer says them.
        inventory: which of FORMANTS each vowel of a melody is, ten.
        bandwidth: factor on the widths of all formants.
        tilt: slope of the source: harmonic h has the amplitude h ** -tilt at medium effort.
        flow: factor on the first harmonic, high where the glottis is long open.
        ring: dB of the singer's formant near 3 kHz.
        breath: amplitude of the air beside a voice of 1.
        grit: depth of what comes every second or third period.
        period: which, 2 or 3.
        vibrato: rate in Hz, depth in semitones, delay in s, and share of loudness that goes with it.
        speed: rad/s with which the pitch goes to a note.
        damping: of that; below 1 it overshoots.
        scoop: semitones below the note at its start.
        jitter: semitones.
        nasality: of all sounds, 0 to 1.
        sibilance: dB on all consonants.
        air: dB on breaths.
    """

    centre: float
    tract: float
    places: np.ndarray
    inventory: tuple[int, ...]
    bandwidth: float
    tilt: float
    flow: float
    ring: float
    breath: float
    grit: float
    period: int
    vibrato: tuple[float, float, float, float]
    speed: float
    damping: float
    scoop: float
    jitter: float
    nasality: float
    sibilance: float
    air: float


def draw_singer(rng: np.random.Generator, style: str) -> Singer:
    """Draw a voice.

    Args:
        rng: draws.
        style: one of the melody's styles, or "speech".
    """
    names = list(_KINDS)
    odds = np.array([_KINDS[name][0] for name in names])
    kind = names[rng.choice(len(names), p=odds / odds.sum())]
    _, centre, spread, tract, tract_spread = _KINDS[kind]
    spoken = style in ("rap", "speech")
    machine = chance(rng, 0.12)  # pitch corrected by a machine
    classical = not spoken and chance(rng, 0.15)
    inventory = _INVENTORIES[rng.integers(len(_INVENTORIES))]
    depth = 0.0 if machine or spoken else rng.gamma(1.8, 0.27) + 0.4 * classical
    tilt = rng.uniform(0.9, 1.7) + 0.5 * (kind == "falsetto")
    return Singer(
        centre=float(np.clip(centre + rng.normal(0.0, spread) - 5.0 * spoken, 40.0, 77.0)),
        tract=float(np.clip(tract + rng.normal(0.0, tract_spread), 0.8, 1.5)),
        places=np.exp(rng.normal(0.0, (0.07, 0.06, 0.05, 0.04), FORMANTS.shape) + rng.normal(0.0, 0.03, 4)),
        inventory=tuple(int(inventory[k % len(inventory)]) for k in range(N_VOWELS)),
        bandwidth=rng.uniform(0.7, 1.7),
        tilt=tilt,
        flow=rng.uniform(0.7, 2.2) * (1.5 if kind == "falsetto" else 1.0),
        ring=rng.uniform(5.0, 14.0) if classical else rng.uniform(-3.0, 5.0),
        breath=amplitude(rng.uniform(-44.0, -19.0) + 6.0 * (kind == "falsetto")),
        grit=rng.uniform(0.1, 0.7) if chance(rng, 0.2) else 0.0,
        period=int(rng.choice([2, 2, 3])),
        vibrato=(rng.normal(5.6, 0.6), min(depth, 1.3), rng.uniform(0.05, 0.4), rng.uniform(0.0, 0.25)),
        speed=rng.uniform(120.0, 300.0) if machine else rng.uniform(22.0, 70.0),
        damping=1.0 if machine else rng.uniform(0.45, 1.0),
        scoop=0.0 if machine else rng.uniform(0.0, 2.5),
        jitter=0.015 if machine else rng.uniform(0.05, 0.28),
        nasality=rng.uniform(0.0, 0.35) ** 1.5,
        sibilance=rng.normal(0.0, 4.0),
        air=rng.normal(2.0, 5.0),
    )


def change_place(rng: np.random.Generator, singer: Singer) -> Singer:
    """Return the same singer in another take: a little other in effort, vibrato and intonation."""
    rate, depth, delay, share = singer.vibrato
    vibrato = rate * rng.uniform(0.95, 1.05), depth * rng.uniform(0.6, 1.2), delay * rng.uniform(0.7, 1.4), share
    return replace(
        singer,
        tilt=singer.tilt + rng.uniform(-0.1, 0.25),
        vibrato=vibrato,
        tract=singer.tract * float(np.exp(rng.normal(0.0, 0.01))),
    )
