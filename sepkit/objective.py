"""The weighted losses of a recipe, applied to a Separation."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import is_number
from sepkit.instantiate import InstantiationError, check, instantiate, resolve_class
from sepkit.problems import Problem, did_you_mean, show
from sepkit.quantities import list_input_problems, match_inputs
from sepkit.separator import Separation, Separator

_TERM_KEYS = ("weight", "sources", "inputs", "name")
ITEM_WISE = {"reduction": "none", "sc_reduction": "item"}  # given to losses that know them: a value for each item alone
_POOLING = {"sc_reduction": "batch", "unit": "all"}  # attributes of this package's losses


@dataclass(frozen=True)
class Weight:
    """A weight that is constant, or moves in a straight line from `start` to `end` over `epochs` epochs."""

    start: float
    end: float
    epochs: int = 1

    def at(self, epoch: float) -> float:
        """The weight at an epoch, counted from 0."""
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
        per_item: the loss returns one value per item; else it is asked item by item.
        all_sources: the loss takes (B, S, ...) and gives one value per item of the batch.
        per_source: the loss takes a quantity that each source has; else it is asked once per item, not per pair.
    """

    name: str
    loss: nn.Module
    weight: Weight
    columns: tuple[int, ...]
    inputs: dict[str, str] = field(default_factory=dict)
    per_item: bool = True
    all_sources: bool = False
    per_source: bool = True


class Objective(nn.Module):
    """Sum the weighted losses of a recipe over the present stems of a batch.

    Every pair of an item and one of its stems is an item of its own to the losses, so that no loss needs to
    know of stems, or of stems that a song does not have. A loss that takes nothing per source, as one on a
    network's latent variables, counts each item that has any stem once.

    Args:
        losses: mappings with `class`, the arguments of the loss, and `weight` (a number >= 0, or from, to and
            epochs), `sources` (names to which the term is limited), `inputs` (argument -> quantity), `name`.
        separator: whose estimates are judged; it says the sources and the sample rate.

    Raises:
        ValueError: a loss does not judge each item alone.
        sepkit.instantiate.InstantiationError: with all that `problems` lists.
    """

    def __init__(self, losses: Sequence[Mapping[str, Any]], separator: Separator) -> None:
        super().__init__()
        problems = self.problems(losses, separator.sources, separator.quantities)
        if problems:
            raise InstantiationError(problems)
        self.sources, self.quantities = list(separator.sources), separator.quantities
        self.terms = [self._term(settings, separator) for settings in losses]
        self.losses = nn.ModuleList(term.loss for term in self.terms)

    @staticmethod
    def problems(
        losses: Sequence[Any], sources: Sequence[str] = (), quantities: Mapping[str, str] | None = None
    ) -> list[Problem]:
        """List what is wrong with the settings of losses, before one is built.

        Args:
            losses: the constructor's, of any content.
            sources: of the separator; none: unknown.
            quantities: of its separations, "source" each or "item"; None: unknown.
        """
        problems = [] if losses else [Problem(("losses",), "must hold at least one loss")]
        names: list[str] = ["loss"]
        for position, settings in enumerate(losses):
            term_problems = _term_problems(settings, names, sources, quantities)
            problems += [problem.below("losses", position) for problem in term_problems]
            names.append(_name_of(settings))
        ramps = [_ramp(settings) for settings in losses]
        if losses and all(ramp.get(end) == 0 for ramp in ramps for end in ("from", "to")):
            message = "must be above 0 in one of the losses: with 0 in all nothing is learned"
            problems.append(Problem(("losses", 0, "weight"), message))
        return problems

    def forward(self, separation: Separation, present: Tensor | None = None, epoch: float = 0.0) -> dict[str, Tensor]:
        """Judge one pass.

        Args:
            separation: with targets.
            present: bool (B, S), which stems each item has, on the CPU, or a device has to be waited for; None: all.
            epoch: at which the weights are taken, from 0.

        Returns:
            Scalars: "loss", to be minimised; every term under its name, before weighting; "name/source" where
            a term counts several sources; "name/part" where a loss reports parts. A term or a source without any
            present stem is 0.

        Raises:
            ValueError: `present` has another shape, or a loss gives other than one value per item.
        """
        wanted = (len(separation.mixture), len(self.sources))
        if present is not None and (present.shape != wanted or present.dtype != torch.bool):
            raise ValueError(f"present must be bool {wanted}, got {present.dtype} {tuple(present.shape)}")
        present = None if present is None else present.cpu()
        report: dict[str, Tensor] = {}
        total = separation.mixture.new_zeros(())
        for term in self.terms:
            judge = self._judge_pairs if term.per_source and not term.all_sources else self._judge_items
            value = judge(term, separation, present, report)
            report[term.name] = value.detach()
            total = total + term.weight.at(epoch) * value
        report["loss"] = total
        return report

    def _judge_items(
        self, term: Term, separation: Separation, present: Tensor | None, report: dict[str, Tensor]
    ) -> Tensor:
        """Average a term over the items that have all of its sources, or any where it takes nothing per source."""
        n_items = len(separation.mixture)
        quantities = {
            name: _of_sources(separation, quantity, term.columns)
            if self.quantities[quantity] == "source"
            else getattr(separation, quantity)
            for name, quantity in term.inputs.items()
        }
        if present is not None:
            counted = present[:, list(term.columns)].all(1) if term.all_sources else present.any(1)
            items = counted.nonzero().flatten()
            quantities, n_items = _take(quantities, items), len(items)
        return _evaluate(term, quantities, n_items, report).mean() if n_items else _connected_zero(quantities)

    def _judge_pairs(
        self, term: Term, separation: Separation, present: Tensor | None, report: dict[str, Tensor]
    ) -> Tensor:
        """Average a term over pairs of item and source, and report it per source."""
        n_columns, n_pairs = len(term.columns), len(separation.mixture) * len(term.columns)
        folded = {name: self._fold(separation, quantity, term.columns) for name, quantity in term.inputs.items()}
        counts, places = [len(separation.mixture)] * n_columns, None
        if present is not None:
            counted = present[:, list(term.columns)]
            counts, places = counted.sum(0).tolist(), counted.flatten().nonzero().flatten()
            folded, n_pairs = _take(folded, places), len(places)
        if not n_pairs:
            return _connected_zero(folded)
        values = _evaluate(term, folded, n_pairs, report)
        if n_columns > 1:
            known = values.detach()
            if places is not None:
                known = known.new_zeros(counted.numel()).index_copy(0, places.to(known.device), known)
            for column, count, total in zip(term.columns, counts, known.view(-1, n_columns).sum(0), strict=True):
                report[f"{term.name}/{self.sources[column]}"] = total / max(1, count)
        return values.mean()

    def _fold(self, separation: Separation, quantity: str, columns: tuple[int, ...]) -> Tensor:
        """Put all pairs of item and source, or the item as often as it has sources, into the batch (P, ...)."""
        if self.quantities[quantity] == "source":
            return _of_sources(separation, quantity, columns).flatten(0, 1)
        value = getattr(separation, quantity)
        return value.unsqueeze(1).expand(-1, len(columns), *value.shape[1:]).flatten(0, 1)

    def _term(self, settings: Mapping[str, Any], separator: Separator) -> Term:
        """Build one term from its settings."""
        config = {key: value for key, value in settings.items() if key not in _TERM_KEYS}
        loss = instantiate(config, "sepkit.losses", {**ITEM_WISE, "sample_rate": separator.sample_rate})
        for problem in find_pooling(loss):
            raise ValueError(problem)
        ramp, limited = _ramp(settings), settings.get("sources") or self.sources
        inputs = match_inputs(type(loss), settings.get("inputs") or {}, self.quantities)
        return Term(
            name=_name_of(settings),
            loss=loss,
            weight=Weight(ramp["from"], ramp["to"], ramp["epochs"]),
            columns=tuple(i for i, source in enumerate(self.sources) if source in limited),
            inputs=inputs,
            per_item="reduction" in inspect.signature(type(loss)).parameters,
            all_sources=getattr(loss, "all_sources", False),
            per_source="source" in {self.quantities[quantity] for quantity in inputs.values()},
        )


def _name_of(settings: Any) -> str:
    """Return the name of a term: its own, or that of its class."""
    settings = settings if isinstance(settings, Mapping) else {}
    return str(settings.get("name") or str(settings.get("class")).rpartition(".")[2])


def _ramp(settings: Any) -> Mapping[str, Any]:
    """Return the weight of a term as from, to and epochs."""
    weight = settings.get("weight", 1.0) if isinstance(settings, Mapping) else 1.0
    return weight if isinstance(weight, Mapping) else {"from": weight, "to": weight, "epochs": 1}


def _term_problems(
    settings: Any, names: Sequence[str], sources: Sequence[str], quantities: Mapping[str, str] | None
) -> list[Problem]:
    """List what is wrong with the settings of one loss, beside others of these names."""
    problems = check(settings, "sepkit.losses", (*ITEM_WISE, "sample_rate"), extra_keys=_TERM_KEYS)
    if not isinstance(settings, Mapping):
        return problems
    name = _name_of(settings)
    if name in names:
        taken = "'loss' is the sum of all terms" if name == "loss" else f"another loss is called '{name}' too"
        problems.append(Problem(("name",), f"{taken}; give this one a name of its own"))
    if "reduction" in settings:
        message = "must be left out: the objective sets it, to get a value for each item"
        problems.append(Problem(("reduction",), message, at_key=True))
    weight, ramp = settings.get("weight", 1.0), _ramp(settings)
    if set(ramp) != {"from", "to", "epochs"} or not all(map(is_number, ramp.values())) or ramp["epochs"] <= 0:
        problems.append(Problem(("weight",), f"must be a number, or from, to and epochs > 0, got {show(weight)}"))
    elif min(ramp["from"], ramp["to"]) < 0:
        message = f"must be at least 0, since losses fall as estimates improve, got {show(weight)}"
        problems.append(Problem(("weight",), message))
    limited = settings.get("sources") or []
    if isinstance(limited, str) or not isinstance(limited, Sequence):
        problems.append(Problem(("sources",), f"must be a list of names, got {show(limited)}"))
        limited = []
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
    if not input_problems and limited and quantities:
        taken = match_inputs(cls, inputs, quantities).values()
        if all(quantities[quantity] == "item" for quantity in taken):
            message = f"must be left out: {cls.__name__} takes {', '.join(taken)}, of no source"
            problems.append(Problem(("sources",), message, at_key=True))
    return problems + input_problems


def find_pooling(loss: nn.Module) -> list[str]:
    """List the options of a loss, or of one within it, that let an item's value depend on the rest of its batch."""
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


# Sources are chosen by numbers of Python: an index that lies on a device has to be copied there first, in each step.
def _of_sources(separation: Separation, quantity: str, columns: tuple[int, ...]) -> Tensor:
    """Take (B, S', ...) of some sources."""
    whole = getattr(separation, quantity)
    if len(columns) == whole.shape[1]:
        return whole
    parts = [separation.of_source(quantity, column) for column in columns]
    return parts[0].unsqueeze(1) if len(parts) == 1 else torch.stack(parts, 1)  # one is not copied


def _take(quantities: Mapping[str, Tensor], places: Tensor) -> dict[str, Tensor]:
    """Take the items at some places of the batch."""
    return {name: quantity.index_select(0, places.to(quantity.device)) for name, quantity in quantities.items()}


def _connected_zero(quantities: Mapping[str, Tensor]) -> Tensor:
    """Sum quantities of no item: 0, from which backward() still reaches the network."""
    return sum(quantity.abs().sum() for quantity in quantities.values())


def _evaluate(term: Term, quantities: dict[str, Tensor], n_items: int, report: dict[str, Tensor]) -> Tensor:
    """Ask a loss for one value per item (P,), and report its parts where it has some."""
    if not term.per_item:
        rows = ({name: q[i : i + 1] for name, q in quantities.items()} for i in range(n_items))
        return torch.stack([term.loss(**row).mean() for row in rows])
    if inspect.ismethod(getattr(term.loss, "parts", None)):
        parts = term.loss.parts(**quantities)
        values = sum(parts.values())
        report.update({f"{term.name}/{name}": part.detach().mean() for name, part in parts.items()})
    else:
        values = term.loss(**quantities)
    if values.dim() == 0 or len(values) != n_items:
        raise ValueError(
            f"{term.name} must give one value per item with reduction='none', "
            f"got {tuple(values.shape)} for {n_items} items"
        )
    return values.reshape(n_items, -1).mean(1)
