"""The examples of a recipe, and what of them a stopped training needs to know."""

import warnings
from collections.abc import Mapping, Sequence
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
    """How the examples of a training are drawn, as a part of its state.

    Args:
        dataset: the examples.
    """

    def __init__(self, dataset: SongDataset) -> None:
        self.dataset = dataset

    def state_dict(self) -> dict[str, Any]:
        """Return the version of the order of draws, and a hash of the songs on which they depend."""
        return {"version": VERSION, "songs": self.dataset.planner.fingerprint}

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
        if state["songs"] not in (None, self.state_dict()["songs"]):
            warnings.warn(
                "the songs to train on are not those that this run began with, or have other lengths, stems, weights, "
                "tempi or keys, or sound elsewhere: from here on its examples are others than they would have been; "
                "bring the songs back, or start anew with --restart",
                stacklevel=2,
            )
