"""The weighted losses of a recipe, applied to a Separation."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.build import build, resolve_class
from sepkit.separator import PER_SOURCE, QUANTITIES, Separation, Separator

_TERM_KEYS = ("weight", "sources", "inputs", "name")


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
        sepkit.build.BuildError: a class or its arguments cannot be used.
    """

    def __init__(self, losses: Sequence[Mapping[str, Any]], separator: Separator) -> None:
        super().__init__()
        self.sources = list(separator.sources)
        self.terms = [self._term(settings, separator) for settings in losses]
        names = [term.name for term in self.terms]
        if not names or len({*names, "loss"}) <= len(names):
            raise ValueError(f"losses must have different names, at least one and not 'loss', got {names}: set `name`")
        if not any(term.weight.start or term.weight.end for term in self.terms):
            raise ValueError(f"losses must have a weight above 0, at least one of them, got 0 for {', '.join(names)}")
        self.losses = nn.ModuleList(term.loss for term in self.terms)

    def forward(
        self, separation: Separation, present: Tensor | None = None, epoch: float = 0.0
    ) -> dict[str, Tensor]:
        """Judge one pass.

        Args:
            separation: with targets.
            present: bool (B, S), which stems each item has; None: all.
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
        columns = list(term.columns)
        items = slice(None)
        if present is not None:
            items = present[:, columns].all(1) if term.all_sources else present.any(1)
        quantities = {}
        for name, quantity in term.inputs.items():
            value = getattr(separation, quantity)[items]
            quantities[name] = value[:, columns] if quantity in PER_SOURCE else value
        n_items = len(separation.mixture[items])
        return _evaluate(term, quantities, n_items, report).mean() if n_items else _connected_zero(quantities)

    def _judge_pairs(
        self, term: Term, separation: Separation, present: Tensor | None, report: dict[str, Tensor]
    ) -> Tensor:
        """Average a term over pairs of item and source, and report it per source."""
        pairs = _pairs(len(separation.mixture), term.columns, present, separation.mixture.device)
        items, columns = pairs
        if present is None and len(term.columns) == 1:  # nothing is copied
            folded = {name: _column(separation, quantity, term.columns[0]) for name, quantity in term.inputs.items()}
        else:
            folded = {
                name: _fold(getattr(separation, quantity), quantity in PER_SOURCE, pairs)
                for name, quantity in term.inputs.items()
            }
        if not len(items):
            return _connected_zero(folded)
        values = _evaluate(term, folded, len(items), report)
        if len(term.columns) > 1:
            counts = torch.bincount(columns, minlength=len(self.sources)).clamp(min=1)
            sums = values.detach().new_zeros(len(self.sources)).index_add(0, columns, values.detach())
            for column in term.columns:
                report[f"{term.name}/{self.sources[column]}"] = sums[column] / counts[column]
        return values.mean()

    def _term(self, settings: Mapping[str, Any], separator: Separator) -> Term:
        """Build one term from its settings."""
        spec = {key: value for key, value in settings.items() if key not in _TERM_KEYS}
        cls = resolve_class(spec.get("class"), "sepkit.losses")
        per_item = "reduction" in inspect.signature(cls).parameters
        if "reduction" in spec:
            raise ValueError(f"{spec['class']}: leave `reduction` out, the objective asks for one value per item")
        provided = {"reduction": "none", "sample_rate": separator.sample_rate}
        loss = build(spec, "sepkit.losses", provided)
        limited = settings.get("sources") or self.sources
        unknown = sorted(set(limited) - set(self.sources))
        if unknown:
            raise ValueError(f"losses may only name sources {self.sources}, got {unknown}")
        known = [name for name in (*QUANTITIES, *separator.outputs) if name != "mask" or name in separator.outputs]
        inputs = match_inputs(loss, settings.get("inputs") or {}, known)
        per_source = not PER_SOURCE.isdisjoint(inputs.values())
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


def match_inputs(loss: nn.Module, inputs: Mapping[str, str], known: Sequence[str]) -> dict[str, str]:
    """Find the quantity that each argument of a loss takes: the one that `inputs` names, or its namesake.

    Args:
        loss: its `forward` is read.
        inputs: argument -> quantity.
        known: names of the quantities there are.

    Raises:
        ValueError: an argument without default has no quantity, or `inputs` names what there is not.
    """
    parameters = inspect.signature(loss.forward).parameters
    unknown = sorted(set(inputs) - set(parameters))
    if unknown:
        raise ValueError(f"inputs of {type(loss).__name__} may name {', '.join(parameters)}, got {', '.join(unknown)}")
    matched = {}
    for name, parameter in parameters.items():
        quantity = inputs.get(name, name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if quantity in known:
            matched[name] = quantity
        elif name in inputs or parameter.default is parameter.empty:
            raise ValueError(
                f"{type(loss).__name__} takes {quantity!r}, which is none of {', '.join(known)}: "
                "name the quantity in `inputs`"
            )
    if not matched:
        raise ValueError(f"{type(loss).__name__} takes no quantity: name its arguments in forward")
    return matched


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


def _pairs(
    n_items: int, columns: tuple[int, ...], present: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """List the pairs of item and source that count: two index tensors (P,)."""
    chosen = torch.tensor(columns, device=device)
    items = torch.arange(n_items, device=device).repeat_interleave(len(columns))
    owners = chosen.repeat(n_items)
    if present is None:
        return items, owners
    kept = present[items, owners]
    return items[kept], owners[kept]


def _column(separation: Separation, quantity: str, column: int) -> Tensor:
    """Take (B, ...) of one source, or of all where there is one for all."""
    return separation.of_source(quantity, column) if quantity in PER_SOURCE else getattr(separation, quantity)


def _fold(quantity: Tensor, per_source: bool, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Put the pairs of (B, S, ...), or the items of (B, ...) as often as they occur, into the batch (P, ...)."""
    items, columns = pairs
    if per_source:
        n_pairs = quantity.shape[0] * quantity.shape[1]
        return quantity.flatten(0, 1) if n_pairs == len(items) else quantity[items, columns]
    return quantity[items]


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
