"""Checks of songs before the first step."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from sepkit.datasets import Song, check_songs
from sepkit.datasets.inspected import Memory
from sepkit.datasets.variants import Variant, make_variants
from sepkit.metrics import framewise_sdr
from sepkit.recipe import Recipe
from sepkit.training.signals import TrainingError
from sepkit.training.validation import choose_excerpt

NOTHING_TO_SCORE = (
    "no validation excerpt has a second in which all targets sound: set validation.excerpt to a longer time or null, "
    "or choose other songs for valid/"
)


def check_recipe_songs(recipe: Recipe, songs: Mapping[str, Sequence[Song]]) -> None:
    """Check the sound of the songs of a recipe before anything is trained, and warn of what may be wrong.

    Args:
        recipe: which is trained.
        songs: by subset, "train" and "valid".

    Raises:
        sepkit.datasets.DatasetError: numbers would be wrong, or a file does not decode.
        TrainingError: no validation excerpt can be scored.
    """
    sources = recipe.separator.sources
    check_songs(recipe.data.name, songs, sources)
    scored = torch.tensor(_find_scored(songs["valid"], sources, recipe.validation.excerpt)).any(0)
    if not scored.any():
        raise TrainingError(NOTHING_TO_SCORE)
    for name, is_scored in zip(sources, scored.tolist(), strict=True):
        if not is_scored:
            warnings.warn(
                f"{name} sounds in no validation excerpt and is not scored: set validation.excerpt to a longer time or "
                "null, or add songs to valid/ in which it sounds",
                stacklevel=2,
            )


def add_variants(
    recipe: Recipe, songs: Mapping[str, Sequence[Song]], log: Callable[[str], object]
) -> dict[str, list[Song]]:
    """Add to the songs that a recipe trains on the variants of them that it asks for.

    Args:
        recipe: which is trained.
        songs: by subset, "train" and "valid".
        log: called with a line on them.

    Raises:
        sepkit.audio.AudioError: a song cannot be read.
        sepkit.disk.OutputError: the variants do not fit on the disk.
    """
    variants = [Variant(variant.pitch, variant.tempo) for variant in recipe.data.variants]
    if not variants:
        return dict(songs)
    made = make_variants(songs["train"], variants)
    log(f"beside the songs: {len(made)} variants of them, {'; '.join(variant.name for variant in variants)}")
    return {**songs, "train": [*songs["train"], *made]}


def _find_scored(songs: Sequence[Song], sources: Sequence[str], excerpt: float | None) -> list[list[bool]]:
    """Find which sources the excerpt of each song can be scored by, or recall it."""
    memory = Memory(f"scored {excerpt} {list(sources)}")
    known = memory.recall(songs)
    new = {n: _is_scored(songs[n], sources, excerpt).tolist() for n, found in enumerate(known) if found is None}
    memory.keep((songs[n], found) for n, found in new.items())
    return [new.get(n, found) for n, found in enumerate(known)]


def _is_scored(song: Song, sources: Sequence[str], excerpt: float | None) -> Tensor:
    """Return whether the excerpt of a song has a second in which a source can be scored, for each source, (S,)."""
    rate, present = next(iter(song.stems.values())).sample_rate, torch.tensor([song.has(name) for name in sources])
    start, n_samples = choose_excerpt(song, None if excerpt is None else round(excerpt * rate))
    targets = torch.stack([song.read_stem(name, start, n_samples) for name in filter(song.has, sources)])
    present[present.clone()] = ~framewise_sdr(targets, targets, rate, rate).isnan().all(-1)
    return present
