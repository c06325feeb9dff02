"""The keys of a recipe, their types, ranges and defaults."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sepkit.files import safe_name
from sepkit.problems import Problem, dotted
from sepkit.recipe.data_settings import DataSettings
from sepkit.recipe.document import Document, RecipeError, write_yaml
from sepkit.recipe.kinds import ClassMapping, Count, NotNegative, Positive, Seconds, Settings

if TYPE_CHECKING:
    from sepkit.recipe.base import Base


class BaseSettings(Settings):
    """The model that a separator begins as: a mapping, or its `model` alone.

    Attributes:
        model: folder of a model, or the name of one that was brought.
        weights: hash that its weights must have; None: any.
        licence: that its card must state; None: any.
    """

    model: Annotated[str, Field(min_length=1)]
    weights: str | None = None
    licence: str | None = None


class SeparatorSettings(Settings):
    """What the Separator is made of; what is not given is the base's, where there is one.

    Attributes:
        base: the model whose settings and weights are taken to start from, `from` in the recipe; None: no model's.
        sources: names of the stems to estimate.
        sample_rate: Hz.
        n_channels: of every recording.
        segment: seconds of audio in one training example.
        transform: class mapping, of STFT or of what has its methods.
        network: class mapping, from sepkit.models.
        postfilter: class mapping, from sepkit.masks, of what refines the estimates outside of training; None: nothing.
        normalize: `recording`: what the network sees has mean 0 and standard deviation 1 by example; None: as it is.
        chunking: arguments of sepkit.chunking.Chunking, the model's defaults for separating; None: its own defaults.
        residual: name of what a recording holds beside the sources, which is separated, too; None: not unless asked.
    """

    base: BaseSettings | None = Field(None, alias="from")
    sources: Annotated[list[str], Field(min_length=1)]
    sample_rate: Count = 44100
    n_channels: Count = 2
    segment: Seconds = 3.0
    transform: ClassMapping = {"class": "STFT"}
    network: ClassMapping
    postfilter: ClassMapping | None = None
    normalize: Literal["recording"] | None = None
    chunking: dict[str, Any] | None = None
    residual: str | None = None


class Ramp(Settings):
    """A weight that changes linearly.

    Attributes:
        start: weight in the first epoch, >= 0, `from` in the recipe.
        end: weight from `epochs` on, >= 0, `to` in the recipe.
        epochs: epochs in between.
    """

    start: NotNegative = Field(alias="from")
    end: NotNegative = Field(alias="to")
    epochs: Count


class RobustSettings(Settings):
    """What a term leaves out of each item: its worst frames.

    Attributes:
        share: of the frames, (0, 1).
        frame: s.
    """

    share: Annotated[float, Field(gt=0, lt=1)]
    frame: Seconds = 0.1


class LossSettings(Settings):
    """One term of the objective; all further keys are arguments of its class, from sepkit.losses.

    Attributes:
        class_name: `class` in the recipe.
        weight: a number >= 0, or a Ramp; one of the recipe's is above 0.
        sources: stems that the term is limited to; None: all.
        inputs: argument of the loss -> quantity of the separation, where their names differ.
        name: under which the term is logged; the class's own unless given.
        robust: the worst frames that are left out of each item, where stems hold what does not belong to them; None:
            none.
    """

    model_config = ConfigDict(extra="allow")

    class_name: str = Field(alias="class")
    weight: Annotated[
        Annotated[NotNegative, Tag("number")] | Annotated[Ramp, Tag("ramp")],
        Discriminator(lambda weight: "ramp" if isinstance(weight, Mapping | Ramp) else "number"),
    ] = 1.0
    sources: Annotated[list[str], Field(min_length=1)] | None = None
    inputs: dict[str, str] = {}
    name: Annotated[str, Field(min_length=1)]
    robust: RobustSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_after_the_class(cls, settings: Any) -> Any:
        if not isinstance(settings, Mapping) or settings.get("name") is not None:
            return settings
        return {**settings, "name": str(settings.get("class")).rpartition(".")[2]}


Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainingSettings(Settings):
    """How the network is trained.

    Attributes:
        epochs: passes over the data's items; a run may be made longer.
        batch_size: examples per optimizer step, accumulation included.
        accumulate: parts in which a batch is computed.
        optimizer: class mapping, from torch.optim.
        schedule: class mapping, from sepkit.schedules.
        clip: greatest norm of the gradient, that of losses with parameters included; None: no limit.
        ema: decay of the averaged weights per step, [0, 1), which are validated and saved; early on it is less,
            (1 + step) / (10 + step), so that the weights at the start do not count for long; a list: several averages,
            each validated, the best of which is saved; None: no averaging.
        precision: of the network's arithmetic; auto: what the device is good at; float64: of all that is computed, for
            comparisons.
        seed: decides the weights at the start, every example, and what networks and losses draw.
        max_minutes: wall time after which training ends; None: no limit.
        early_stop: epochs without a better score after which training ends; None: never.
        keep_best: models of the best epochs that are kept; the best is the run folder's own, and above 1,
            each lies in `best/`, too.
        max_skipped: steps in a row that are left out, since loss or gradient is not finite, before training ends.
        checkpoint_minutes: between checkpoints within an epoch, of which there is one at the end of each, too; None:
            there alone.
        compile: compile the network's core.
        freeze: patterns of the names of the network's parameters that are not trained, such as "core.encode.*".
        recompute: keep only the inputs of the network's blocks for the backward pass, and compute what is inside again:
            less memory, about a third more time.
        deterministic: take operations alone that repeat their results bit by bit, on CUDA, too, where others are the
            default; one that cannot is refused by name.
        sharding: `fsdp`: of several processes, each holds a part of the weights, their gradients and optimizer state;
            None: each holds all.
    """

    epochs: Count = 40
    batch_size: Count = 8
    accumulate: Count = 1
    optimizer: ClassMapping = {"class": "AdamW", "lr": 1e-3}
    schedule: ClassMapping = {"class": "Cosine"}
    clip: Positive | None = None
    ema: (
        Annotated[
            Annotated[Decay, Tag("number")] | Annotated[Annotated[list[Decay], Field(min_length=1)], Tag("list")],
            Discriminator(lambda decay: "list" if isinstance(decay, list) else "number"),
        ]
        | None
    ) = None
    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    max_minutes: Positive | None = None
    early_stop: Count | None = None
    keep_best: Count = 1
    max_skipped: Annotated[int, Field(ge=0)] = 10
    checkpoint_minutes: Positive | None = 10.0
    compile: bool = False
    freeze: list[str] = []
    recompute: bool = False
    deterministic: bool = False
    sharding: Literal["fsdp"] | None = None

    @field_validator("deterministic")
    @classmethod
    def _repeat_what_is_computed(cls, deterministic: bool, info: ValidationInfo) -> bool:
        if deterministic and info.data.get("compile"):
            raise ValueError(
                "must be false with training.compile, which chooses operations by their times: leave one of them out"
            )
        return deterministic

    @field_validator("sharding")
    @classmethod
    def _spread_what_can_be(cls, sharding: str | None, info: ValidationInfo) -> str | None:
        half = info.data.get("precision") == "float16"
        if sharding and (half or info.data.get("compile")):
            other = "training.precision float16" if half else "training.compile"
            raise ValueError(f"must be null with {other}: leave one of them out")
        return sharding

    @field_validator("ema")
    @classmethod
    def _tell_averages_apart(cls, ema: Any) -> Any:
        if isinstance(ema, list) and len(set(ema)) < len(ema):
            raise ValueError(f"must be different decays, got {ema}")
        return ema

    @field_validator("accumulate")
    @classmethod
    def _divide_the_batch(cls, accumulate: int, info: ValidationInfo) -> int:
        if info.data.get("batch_size", 0) % accumulate:
            raise ValueError(f"must divide training.batch_size, which is {info.data['batch_size']}")
        return accumulate


class ValidationSettings(Settings):
    """How often, and on what, the network is validated.

    Attributes:
        every: epochs.
        excerpt: seconds of each song; None: whole songs.
        batch_size: segments at a time; None: the training's.
    """

    every: Count = 1
    excerpt: Seconds | None = 10.0
    batch_size: Count | None = None


class Recipe(Settings):
    """A checked recipe; `load_recipe` makes one.

    Attributes:
        separator: what is trained.
        data: on which examples.
        losses: against which losses.
        training: how.
        validation: how it is judged on the way.
        observers: class mappings, from sepkit.observers; none: [].
    """

    separator: SeparatorSettings
    data: DataSettings
    losses: Annotated[list[LossSettings], Field(min_length=1)]
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    observers: list[ClassMapping] = [{"class": "TensorBoard"}]
    _path: Path | None = PrivateAttr(None)
    _document: Document | None = PrivateAttr(None)
    _base: Any = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """Return the file that it was read from; None for a mapping."""
        return self._path

    @property
    def base(self) -> "Base | None":
        """Return the model that the separator begins as; None: its weights are drawn."""
        return self._base

    @property
    def name(self) -> str:
        """Return the file's name without suffix, as a folder's name on every system; "recipe" for a mapping."""
        return safe_name(self._path.stem) if self._path else "recipe"

    def error(self, problems: Sequence[Problem]) -> RecipeError:
        """Return what to raise where the recipe turns out wrong later, with the line of each problem."""
        document = self._document or Document(self.to_dict())
        return RecipeError(document.describe(problems))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data, every default filled in but those of the classes."""
        return self.model_dump(by_alias=True)

    def separator_settings(self) -> dict[str, Any]:
        """Return the arguments of the Separator."""
        return {key: value for key, value in self.separator.model_dump().items() if key != "base"}

    def dump(self) -> str:
        """Write the recipe as YAML, every default filled in but those of the classes."""
        return write_yaml(self.to_dict())

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """List the keys, dotted, in which another recipe's `to_dict` is not the same."""
        mine, theirs = dict(_leaves(self.to_dict())), dict(_leaves(other))
        missing = object()
        keys = dict.fromkeys([*mine, *theirs])
        return [dotted(key) for key in keys if mine.get(key, missing) != theirs.get(key, missing)]


def _leaves(value: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """List the values of nested data by their paths; an empty mapping or list is a value."""
    if not isinstance(value, Mapping | list) or not value:
        return [(path, value)]
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    return [leaf for key, inner in items for leaf in _leaves(inner, (*path, key))]
