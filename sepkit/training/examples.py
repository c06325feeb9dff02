"""The examples of a recipe, and what of them a stopped training needs to know."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sepkit.datasets import Song, SongDataset
from sepkit.datasets.activity import ActivityRules
from sepkit.datasets.matching import Remix
from sepkit.datasets.plan import VERSION
from sepkit.datasets.sampling import SamplingRules
from sepkit.datasets.store_plan import plan_store
from sepkit.instantiate import instantiate
from sepkit.recipe import Recipe


def make_dataset(recipe: Recipe, songs: Sequence[Song]) -> SongDataset:
    """Make the examples that a recipe trains on; where it samples by activity, the songs are read once.

    Args:
        recipe: which is trained.
        songs: to train on.

    Raises:
        ValueError: the songs do not have what the recipe asks for.
        sepkit.audio.AudioError: activity is asked for, and a file does not decode.
    """
    separator, data = recipe.separator, recipe.data
    activity = data.sampling.activity
    derived = {"sample_rate": separator.sample_rate, "n_channels": separator.n_channels}
    return SongDataset(
        songs,
        separator.sources,
        round(separator.segment * separator.sample_rate),
        data.items_per_epoch,
        data.remix if isinstance(data.remix, float) else Remix(**data.remix.model_dump()),
        [instantiate(config, "sepkit.augment", derived) for config in data.augment],
        recipe.training.seed,
        SamplingRules(
            data.sampling.tracks, data.sampling.balanced, activity and ActivityRules(**activity.model_dump())
        ),
        data.on_error,
        plan_store(songs, data.store_limit) if data.store == "auto" else None,
    )


class Drawing:
    """How the examples of a training are drawn, and which songs judge it, as a part of its state.

    Args:
        dataset: the examples.
        valid_songs: to validate on.
    """

    def __init__(self, dataset: SongDataset, valid_songs: Sequence[Song] = ()) -> None:
        self.dataset, self.valid_songs = dataset, valid_songs

    def state_dict(self) -> dict[str, Any]:
        """Return the version of the order of draws, and hashes of the songs on which they, and scores, depend."""
        facts = [(song.name, song.n_samples, sorted(song.stems)) for song in self.valid_songs]
        return {
            "version": VERSION,
            "songs": self.dataset.planner.fingerprint,
            "names": _hash(song.name for song in self.dataset.songs),
            "valid": _hash(map(repr, facts)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with how a run drew that goes on, and warn where the songs are others.

        Raises:
            ValueError: the order of draws is another.
        """
        if state["version"] != VERSION:
            raise ValueError(
                f"this run drew its examples by plan {state['version']}, and this sepkit draws others, by plan "
                f"{VERSION}: go on with the sepkit that it began with, or start anew with --restart"
            )
        others = self._find_others(state)
        if {"songs", "names"} & others:
            warnings.warn(
                "the songs to train on are not those that this run began with, or have other lengths, stems, weights, "
                "tempi or keys, or sound elsewhere: from here on its examples are others than they would have been; "
                "bring the songs back, or start anew with --restart",
                stacklevel=2,
            )
        if "valid" in others:
            warnings.warn(
                "the songs to validate on are not those that this run began with: scores from here on do not compare "
                "with those before, of which the best counts; bring the songs back, or start anew with --restart",
                stacklevel=2,
            )

    def refuse_others(self, state: Mapping[str, Any], moved: Sequence[str]) -> None:
        """Refuse other songs than those of a run that goes on, where they lie elsewhere.

        Args:
            state: of the drawing of that run.
            moved: keys of the recipe whose paths are others than they were; none: nothing is refused.

        Raises:
            ValueError: there are other songs.
        """
        if moved and (state["songs"] is None or self._find_others(state)):
            raise ValueError(
                f"{', '.join(moved)} may be another path of the same songs when a run goes on, but there are other "
                "songs: give the path of those that it began with, choose another folder with --run, or start anew "
                "with --restart"
            )

    def _find_others(self, state: Mapping[str, Any]) -> set[str]:
        """List which hashes of songs are others; a state of an earlier version lacks some."""
        own = self.state_dict()
        return {name for name in ("songs", "names", "valid") if state.get(name) not in (None, own[name])}


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()
