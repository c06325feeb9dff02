"""One rendering of a piece: from its notes to stems that sum to a finished song."""

import numpy as np

from sepkit.datasets.rendering.fluidsynth import RATE, SoundFont, synthesize
from sepkit.datasets.rendering.midi import Note, Piece
from sepkit.datasets.rendering.performance import Take, measure_duration, write_part
from sepkit.datasets.studio import active_level, add_room, draw_room, equalise, master

PEAK = 0.98
_SILENT = 1e-5  # peak below which the font has no such instrument
_TYPICAL = {"drums": -18.5, "bass": -18.0, "other": -21.5}  # dB RMS where a stem of recorded music sounds
_ROOMS = {"drums": (-34.0, -12.0), "bass": (-50.0, -26.0), "other": (-28.0, -8.0)}  # dB of the room


def record(
    rng: np.random.Generator, piece: Piece, take: Take, parts: dict[str, tuple[Note, ...]], font: SoundFont
) -> dict[str, np.ndarray]:
    """Render the parts of a piece and finish them: equaliser, room, balance, mastering.

    Args:
        rng: draws the studio.
        piece: what is played.
        take: how.
        parts: notes by stem, as `perform` gave them.
        font: the instruments.

    Returns:
        (2, T) float32 by stem, at 44.1 kHz; without those for which the font has no instrument.
    """
    duration = measure_duration(parts)
    n_samples = round(duration * RATE)
    stems = {}
    room = draw_room(rng, float(np.exp(rng.uniform(np.log(0.25), np.log(2.0)))), RATE)
    for stem, notes in parts.items():
        spread, wet = rng.uniform(0.5, 3.5), rng.uniform(*_ROOMS[stem])
        level = rng.normal(0.0, 2.0)
        dry = synthesize(write_part(piece, take, notes, duration), font.path)
        dry = np.pad(dry, ((0, 0), (0, max(0, n_samples - dry.shape[-1]))))[:, :n_samples]
        if np.abs(dry).max() < _SILENT:
            continue
        sound = add_room(equalise(rng, dry, spread, RATE), room, wet)
        towards = 0.5 * (_TYPICAL[stem] - 20 * np.log10(active_level(sound)))
        stems[stem] = sound * np.float32(10 ** ((towards + level) / 20))
    loudness, ratio = rng.uniform(-22.0, -11.0), rng.uniform(1.0, 3.0)
    return master(stems, loudness, ratio, PEAK) if stems else {}
