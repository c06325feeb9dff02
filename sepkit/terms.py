"""The terms of an objective: a loss each, with its weight and what it takes; and what is wrong with their settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sepkit.arguments import is_number
from sepkit.instantiate import InstantiationError, check, resolve_class
from sepkit.problems import Problem, did_you_mean, show
from sepkit.quantities import list_input_problems, match_inputs
from sepkit.robust import Robust, list_robust_problems

TERM_KEYS = ("weight", "sources", "inputs", "name", "robust")
ITEM_WISE = {"reduction": "none", "sc_reduction": "item"}  # given to losses that know them: a value for each item alone
_COLUMNS = (  # of a history, which no term may take
    "best", "data_wait", "epoch", "grad_norm", "loss", "lr", "memory", "overhead", "SDR", "seconds", "skipped",
    "step", "total_seconds",
)  # fmt: skip
_POOLING = {"sc_reduction": "batch", "unit": "all"}  # attributes of this package's losses


@dataclass(frozen=True)
class Weight:
    """A weight that is constant, or moves in a straight line from `start` to `end` over `epochs` epochs."""

    start: float
    end: float
    epochs: int = 1

    def at(self, epoch: float) -> float:
        """Return the weight at an epoch, counted from 0."""
        return self.start + (self.end - self.start) * min(1.0, max(0.0, epoch / self.epochs))


@dataclass(frozen=True)
class Term:
    """One loss of the objective.

    Attributes:
        name: under which it is reported.
        loss: called with the quantities that `inputs` names.
        weight: its share of the sum.
        columns: indices of the sources that it counts.
        inputs: argument name of the loss -> quantity of the Separation.
        per_item: the loss returns one value per item; else it is evaluated item by item.
        all_sources: the loss takes (B, S, ...) and gives one value per item of the batch.
        per_source: the loss takes a quantity that each source has; else it is evaluated once per item, not per pair.
        robust: which frames of each pair or item are left out; None: none.
    """

    name: str
    loss: nn.Module
    weight: Weight
    columns: tuple[int, ...]
    inputs: dict[str, str] = field(default_factory=dict)
    per_item: bool = True
    all_sources: bool = False
    per_source: bool = True
    robust: Robust | None = None

    @property
    def in_pairs(self) -> bool:
        """Return whether it counts pairs of item and source; else it counts items."""
        return self.per_source and not self.all_sources


def name_term(settings: Any) -> str:
    """Return the name of a term: its own, or that of its class."""
    settings = settings if isinstance(settings, Mapping) else {}
    return str(settings.get("name") or str(settings.get("class")).rpartition(".")[2])


def read_ramp(settings: Any) -> Mapping[str, Any]:
    """Return the weight of a term as from, to and epochs."""
    weight = settings.get("weight", 1.0) if isinstance(settings, Mapping) else 1.0
    return weight if isinstance(weight, Mapping) else {"from": weight, "to": weight, "epochs": 1}


def list_term_problems(
    settings: Any,
    names: Sequence[str],
    sources: Sequence[str],
    quantities: Mapping[str, str] | None,
    segment: float | None,
) -> list[Problem]:
    """List what is wrong with the settings of one loss, beside others of these names."""
    problems = check(settings, "sepkit.losses", (*ITEM_WISE, "sample_rate"), extra_keys=TERM_KEYS)
    if not isinstance(settings, Mapping):
        return problems
    name = name_term(settings)
    if name.partition("/")[0] in _COLUMNS or name in names:
        taken = f"another loss is called '{name}' too"
        if name.partition("/")[0] in _COLUMNS:
            taken = "'loss' is the sum of all terms" if name == "loss" else f"'{name}' is a column of the history"
        problems.append(Problem(("name",), f"{taken}; give this one a name of its own"))
    if "reduction" in settings:
        message = "must be left out: the objective sets it, to get a value for each item"
        problems.append(Problem(("reduction",), message, at_key=True))
    weight, ramp = settings.get("weight", 1.0), read_ramp(settings)
    if set(ramp) != {"from", "to", "epochs"} or not all(map(is_number, ramp.values())) or ramp["epochs"] <= 0:
        problems.append(Problem(("weight",), f"must be a number, or from, to and epochs > 0, got {show(weight)}"))
    elif min(ramp["from"], ramp["to"]) < 0:
        message = f"must be at least 0, since losses fall as estimates improve, got {show(weight)}"
        problems.append(Problem(("weight",), message))
    limited = settings.get("sources")
    if limited is not None and (isinstance(limited, str) or not isinstance(limited, Sequence) or not limited):
        problems.append(Problem(("sources",), f"must be a list of names, got {show(limited)}"))
        limited = []
    limited = limited or []
    for position, name in enumerate(limited if sources else ()):
        if name not in sources:
            message = f"must be one of separator.sources ({', '.join(sources)}), got {show(name)}"
            problems.append(Problem(("sources", position), message + did_you_mean(name, sources)))
    try:
        cls = resolve_class(settings.get("class"), "sepkit.losses")
    except InstantiationError:  # which check lists
        return problems
    inputs = settings.get("inputs") if isinstance(settings.get("inputs"), Mapping) else {}
    input_problems = list_input_problems(cls, inputs, quantities)
    if settings.get("robust") is not None:
        taken = match_inputs(cls, inputs, quantities) if quantities and not input_problems else None
        problems += list_robust_problems(settings["robust"], taken, segment)
    if not input_problems and limited and quantities:
        taken = match_inputs(cls, inputs, quantities).values()
        if all(quantities[quantity] == "item" for quantity in taken):
            message = f"must be left out: {cls.__name__} takes {', '.join(taken)}, of no source"
            problems.append(Problem(("sources",), message, at_key=True))
    return problems + input_problems


def find_pooling(loss: nn.Module) -> list[str]:
    """Describe the options of a loss, or of one within it, by which an item's value depends on its batch."""
    found = {
        (type(module).__name__, name, value): None
        for module in loss.modules()
        for name, value in _POOLING.items()
        if getattr(module, name, None) == value and _is_own(module)
    }
    return [
        f"{cls} must judge each item alone, got {name} {value!r}, with which batches and their parts have other "
        f"losses: leave {name} out"
        for cls, name, value in found
    ]


def _is_own(module: nn.Module) -> bool:
    return any(cls.__module__.startswith("sepkit.losses.") for cls in type(module).__mro__)
