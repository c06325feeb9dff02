"""The weighted losses of a recipe, applied to a Separation."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.instantiate import instantiate, resolve_class
from sepkit.quantities import match_inputs
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
        ValueError: a term names an unknown source, argument or quantity, or its weight or name cannot be.
        sepkit.instantiate.InstantiationError: a class or its arguments cannot be used.
    """

    def __init__(self, losses: Sequence[Mapping[str, Any]], separator: Separator) -> None:
        super().__init__()
        self.sources, self.quantities = list(separator.sources), separator.quantities
        self.terms = [self._term(settings, separator) for settings in losses]
        names = [term.name for term in self.terms]
        if not names or len({*names, "loss"}) <= len(names):
            raise ValueError(f"losses must have different names, at least one and not 'loss', got {names}: set `name`")
        if not any(term.weight.start or term.weight.end for term in self.terms):
            raise ValueError(f"losses must have a weight above 0, at least one of them, got 0 for {', '.join(names)}")
        self.losses = nn.ModuleList(term.loss for term in self.terms)

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
        spec = {key: value for key, value in settings.items() if key not in _TERM_KEYS}
        cls = resolve_class(spec.get("class"), "sepkit.losses")
        per_item = "reduction" in inspect.signature(cls).parameters
        if "reduction" in spec:
            raise ValueError(f"{spec['class']}: leave `reduction` out, the objective asks for one value per item")
        loss = instantiate(spec, "sepkit.losses", {**ITEM_WISE, "sample_rate": separator.sample_rate})
        for problem in find_pooling(loss):
            raise ValueError(problem)
        limited = settings.get("sources") or self.sources
        unknown = sorted(set(limited) - set(self.sources))
        if unknown:
            raise ValueError(f"losses may only name sources {self.sources}, got {unknown}")
        inputs = match_inputs(loss, settings.get("inputs") or {}, tuple(self.quantities))
        per_source = any(self.quantities[quantity] == "source" for quantity in inputs.values())
        if settings.get("sources") and not per_source:
            raise ValueError(f"{cls.__name__} takes {', '.join(inputs.values())}, of no source: leave `sources` out")
        return Term(
            name=settings.get("name") or cls.__name__,
            loss=loss,
            weight=_weight(settings.get("weight", 1.0)),
            columns=tuple(i for i, source in enumerate(self.sources) if source in limited),
            inputs=inputs,
            per_item=per_item,
            all_sources=getattr(loss, "all_sources", False),
            per_source=per_source,
        )


def find_pooling(loss: nn.Module) -> list[str]:
    """Say which options of a loss, or of one within it, would let an item's value depend on the rest of its batch."""
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


def _weight(setting: float | Mapping[str, float]) -> Weight:
    if isinstance(setting, Mapping):
        if set(setting) != {"from", "to", "epochs"} or setting["epochs"] <= 0:
            raise ValueError(f"weight must be a number, or from, to and epochs > 0, got {dict(setting)}")
        weight = Weight(setting["from"], setting["to"], setting["epochs"])
    else:
        weight = Weight(setting, setting)
    if min(weight.start, weight.end) < 0:
        raise ValueError(f"weight must be at least 0, since losses fall as estimates improve, got {setting}")
    return weight


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
