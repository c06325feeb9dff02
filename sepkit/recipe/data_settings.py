"""The keys of a recipe's `data`, their types, ranges and defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from sepkit.recipe.kinds import ClassMapping, Count, Positive, Settings

Share = Annotated[float, Field(ge=0, le=1)]


class RemixSettings(Settings):
    """Which examples take their stems from different songs, and which songs go together.

    Attributes:
        share: of the examples, 0 to 1.
        tempo: largest difference between tempi, as a share of them; half and double tempo are the same; None: any.
        key: most steps between keys on the circle of fifths; relative keys are the same; None: any.
    """

    share: Share
    tempo: Annotated[float, Field(ge=0, lt=0.5)] | None = None
    key: Annotated[int, Field(ge=0, le=6)] | None = None


class ActivitySettings(Settings):
    """What counts as sounding and as silent, and how many segments are silent.

    Attributes:
        silent: share of silent segments among those that are drawn, 0 to 1.
        threshold: dB re full scale, of 100 ms, above which a stem is active.
        sounding: share of a segment in which a stem must be active for it to sound; one in which it is active nowhere
            is silent, and no other is drawn.
    """

    silent: Share = 0.1
    threshold: Annotated[float, Field(le=0)] = -60.0
    sounding: Annotated[float, Field(gt=0, le=1)] = 0.1


class SamplingSettings(Settings):
    """How songs, and positions in them, are drawn.

    Attributes:
        tracks: `duration`: songs in proportion to their length, or to what of it may be drawn; `equally`: all as often.
        balanced: draw the examples of one song for one source after the other, each as often, where it is there.
        activity: draw segments in which a source sounds, with a share of silent ones; None: as they come.
    """

    tracks: Literal["duration", "equally"] = "duration"
    balanced: bool = False
    activity: ActivitySettings | None = None


class VariantSettings(Settings):
    """A variant of each song to train on, beside the song.

    Attributes:
        pitch: semitones up, -6 to 6.
        tempo: factor, 0.75 to 1.5.
    """

    pitch: Annotated[float, Field(ge=-6, le=6)] = 0.0
    tempo: Annotated[float, Field(ge=0.75, le=1.5)] = 1.0

    @model_validator(mode="after")
    def _differ(self) -> "VariantSettings":
        if self.pitch == 0 and self.tempo == 1:
            raise ValueError("must have another pitch or tempo: the songs themselves are trained on anyway")
        return self


Layout = Literal[
    "manifest", "shards", "msst_list", "moisesdb", "slakh", "dnr", "stem_folders", "flat_files", "song_folders"
]  # as `sepkit.datasets.sources.LAYOUTS`  # fmt: skip
Named = Annotated[str, Field(min_length=1)]
StemMap = dict[Named, Annotated[list[Named], Field(min_length=1)]]


def _check_stem_map(stems: StemMap | None) -> StemMap | None:
    """Refuse a stem that two others hold, or one twice."""
    parts = [part.casefold() for held in (stems or {}).values() for part in held]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise ValueError(f"must name each stem once, {twice!r} is there twice")
    return stems


class RootSettings(Settings):
    """One of several sets of songs.

    Attributes:
        root: folder of the songs, a manifest or a list, relative to the current folder; `demo`: the built-in songs.
        weight: how often its songs are drawn, for their length.
        layout: how files lie in it; None: as `data.layout` says.
        stems: by name of a stem, the stems of this set whose sum it is; None: as `data.stems` says.
    """

    root: Named
    weight: Positive = 1.0
    layout: Layout | None = None
    stems: StemMap | None = None

    _check_stems = field_validator("stems")(_check_stem_map)


def _kind_of_root(root: Any) -> str:
    return "list" if isinstance(root, list) else "mapping" if isinstance(root, Mapping | RootSettings) else "path"


_OneRoot = Annotated[
    Annotated[Named, Tag("path")] | Annotated[RootSettings, Tag("mapping")], Discriminator(_kind_of_root)
]


class DataSettings(Settings):
    """Which examples there are.

    Attributes:
        root: folder of the songs, a manifest or a list, relative to the current folder; `demo`: the built-in songs;
            or a mapping of it, its weight, layout and stems; or a list of such.
        layout: how files lie in the roots; None: as their shapes show.
        stems: by name of a stem, the stems of the sets whose sum it is, `other: [guitar, piano]`.
        resample: let songs of another rate be resampled.
        allow_damaged: take what decodes of truncated and damaged files, as players do, instead of refusing them.
        items_per_epoch: examples.
        remix: share of the items whose stems come from different songs, 0 to 1, or a mapping of it and of how songs
            that go together are alike.
        sampling: how songs, and positions in them, are drawn.
        augment: class mappings, from sepkit.augment.
        variants: of each song to train on, in another pitch and tempo; they are made once, into the cache.
        workers: processes that read songs, beside the main one.
        on_error: what a file does that cannot be read: `stop` the training, or `skip` the example, another one being
            drawn in its place.
        store: `auto`: files that are slow to read, all but 16-bit WAV at the right rate, are decoded once into the
            cache; `off`: they are decoded each time.
        store_limit: GB that the store may take; None: $SEPKIT_STORE_LIMIT, else 50.
        licence: of the songs, as it is to stand in the model card; None: unknown.
    """

    root: Annotated[
        Annotated[Named, Tag("path")]
        | Annotated[RootSettings, Tag("mapping")]
        | Annotated[list[_OneRoot], Field(min_length=1), Tag("list")],
        Discriminator(_kind_of_root),
    ]
    layout: Layout | None = None
    stems: StemMap = {}
    resample: bool = False
    allow_damaged: bool = False
    items_per_epoch: Count = 400
    remix: Annotated[
        Annotated[Share, Tag("number")] | Annotated[RemixSettings, Tag("mapping")],
        Discriminator(lambda remix: "mapping" if isinstance(remix, Mapping | RemixSettings) else "number"),
    ] = 0.0
    sampling: SamplingSettings = SamplingSettings()
    augment: list[ClassMapping] = []
    variants: list[VariantSettings] = []
    workers: Annotated[int, Field(ge=0)] = 2
    on_error: Literal["stop", "skip"] = "stop"
    store: Literal["auto", "off"] = "auto"
    store_limit: Positive | None = None
    licence: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("variants")
    @classmethod
    def _differ(cls, variants: list[VariantSettings]) -> list[VariantSettings]:
        for position, variant in enumerate(variants):
            if variant in variants[:position]:
                raise ValueError(
                    f"must not hold the same twice, got pitch {variant.pitch:g} and tempo {variant.tempo:g}"
                )
        return variants

    _check_stems = field_validator("stems")(_check_stem_map)

    @field_validator("root")
    @classmethod
    def _name_each_root_once(cls, root: Any) -> Any:
        roots = [each if isinstance(each, str) else each.root for each in (root if isinstance(root, list) else [root])]
        twice = next((each for each in roots if roots.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"must name each root once, {twice} is there twice; give it a weight")
        return root

    @property
    def roots(self) -> list[RootSettings]:
        """Return the roots, each with its weight, layout and stem map."""
        given = self.root if isinstance(self.root, list) else [self.root]
        roots = [RootSettings(root=each) if isinstance(each, str) else each for each in given]
        return [
            each.model_copy(
                update={
                    "layout": each.layout or self.layout,
                    "stems": self.stems if each.stems is None else each.stems,
                }
            )
            for each in roots
        ]

    @property
    def name(self) -> str:
        """Return the roots as text, for messages."""
        return ", ".join(each.root for each in self.roots)
