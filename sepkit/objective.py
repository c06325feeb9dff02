"""The weighted losses of a recipe, applied to a Separation."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import check_is_tensor
from sepkit.instantiate import InstantiationError, instantiate
from sepkit.problems import Problem
from sepkit.quantities import match_inputs
from sepkit.robust import Robust, average_frames, choose_frames, cut_frames
from sepkit.separator import Separation, Separator
from sepkit.terms import ITEM_WISE, TERM_KEYS, Term, Weight, find_pooling, list_term_problems, name_term, read_ramp


@dataclass(frozen=True)
class Judgement:
    """Sums of the values of a pass, and their counts: those of several passes add up.

    Attributes:
        sums: "term", differentiable, "term/source" where a term counts pairs of several sources, and "term/part"
            where a loss has parts; all before weighting.
        counts: pairs or items behind each sum.
    """

    sums: dict[str, Tensor]
    counts: dict[str, int]

    def __add__(self, other: "Judgement") -> "Judgement":
        """Add another pass, without gradients."""
        names = dict.fromkeys((*self.sums, *other.sums))
        sums = {name: sum(part.sums[name].detach() for part in (self, other) if name in part.sums) for name in names}
        return Judgement(sums, {name: self.counts.get(name, 0) + other.counts.get(name, 0) for name in names})

    def means(self) -> dict[str, Tensor]:
        """Divide the sums by their counts; a mean of nothing is 0."""
        return {name: total / max(1, self.counts[name]) for name, total in self.sums.items()}


class Objective(nn.Module):
    """Evaluate the weighted losses of a recipe on the present stems of a batch.

    Every pair of an item and one of its stems is an item of its own to the losses, so that no loss needs to
    know of stems, or of stems that a song does not have. A loss that takes nothing per source, as one on a
    network's latent variables, counts each item that has any stem once.

    Args:
        losses: mappings with `class`, the arguments of the loss, and `weight` (a number >= 0, or from, to and
            epochs), `sources` (names to which the term is limited), `inputs` (argument -> quantity), `name`, `robust`
            (share and frame, as `sepkit.robust.Robust` has them).
        separator: whose estimates are judged; its sources and sample rate are used.

    Raises:
        ValueError: a loss does not judge each item alone.
        sepkit.instantiate.InstantiationError: with all that `problems` lists.
    """

    def __init__(self, losses: Sequence[Mapping[str, Any]], separator: Separator) -> None:
        super().__init__()
        problems = self.problems(losses, separator.sources, separator.quantities, separator.segment)
        if problems:
            raise InstantiationError(problems)
        self.sources, self.quantities = list(separator.sources), separator.quantities
        self.sample_rate = separator.sample_rate
        self.terms = [self._term(settings, separator) for settings in losses]
        self.losses = nn.ModuleList(term.loss for term in self.terms)

    @staticmethod
    def problems(
        losses: Sequence[Any],
        sources: Sequence[str] = (),
        quantities: Mapping[str, str] | None = None,
        segment: float | None = None,
    ) -> list[Problem]:
        """List what is wrong with the settings of losses, before one is built.

        Args:
            losses: the constructor's, of any content.
            sources: of the separator; none: unknown.
            quantities: of its separations, "source" each or "item"; None: unknown.
            segment: seconds of an item; None: unknown.
        """
        problems = [] if losses else [Problem(("losses",), "must hold at least one loss")]
        names: list[str] = []
        for position, settings in enumerate(losses):
            term_problems = list_term_problems(settings, names, sources, quantities, segment)
            problems += [problem.below("losses", position) for problem in term_problems]
            names.append(name_term(settings))
        ramps = [read_ramp(settings) for settings in losses]
        if losses and all(ramp.get(end) == 0 for ramp in ramps for end in ("from", "to")):
            message = "must be above 0 in one of the losses: with 0 in all nothing is learned"
            problems.append(Problem(("losses", 0, "weight"), message))
        return problems

    @property
    def wanted(self) -> set[str]:
        """Name the quantities of a separation that the terms ask for."""
        return {quantity for term in self.terms for quantity in term.inputs.values()}

    def forward(self, separation: Separation, present: Tensor | None = None) -> Judgement:
        """Evaluate one pass.

        Args:
            separation: with targets.
            present: bool (B, S), which stems each item has, on the CPU, or a device has to be waited for; None: all.

        Returns:
            Sums and counts; the sum of a term without any present stem is a 0 that is connected with the network.

        Raises:
            ValueError: `present` has another shape, or a loss gives other than one value per item.
        """
        n_items = len(separation.mixture)
        wanted = (n_items, len(self.sources))
        if present is not None and (present.shape != wanted or present.dtype != torch.bool):
            raise ValueError(f"present must be bool {wanted}, got {present.dtype} {tuple(present.shape)}")
        counts = self.count(n_items if present is None else present)
        rows = None if present is None else present.tolist()
        sums: dict[str, Tensor] = {}
        for term in self.terms:
            judged = self._judge(term, separation, rows)
            sums.update(judged)
            counts |= {name: counts[term.name] for name in judged if name not in counts}  # parts
        return Judgement(sums, counts)

    def count(self, present: Tensor | int) -> dict[str, int]:
        """Count the pairs or items behind each sum, without a pass.

        Args:
            present: bool (B, S), as in `forward`; or B, where all items have all stems.

        Returns:
            By "term" and "term/source"; the parts of a term are as many as the term.
        """
        rows = [[True] * len(self.sources)] * present if isinstance(present, int) else present.tolist()
        counts = {}
        for term in self.terms:
            counted = _counted(term, rows)
            counts[term.name] = sum(counted)
            for position, name in enumerate(self._names_by_source(term)):
                counts[name] = sum(counted[position :: len(term.columns)])
        return counts

    def loss(self, judgement: Judgement, counts: Mapping[str, float] | None = None, epoch: float = 0.0) -> Tensor:
        """Sum the weighted means of the terms.

        Args:
            judgement: of a pass, which may be a part of a batch.
            counts: of the whole batch, as `count` gives them, so that the losses of its parts add up to that of the
                whole; None: the pass is the whole batch.
            epoch: at which the weights are taken, from 0.

        Returns:
            A scalar, to be minimised.
        """
        counts = judgement.counts if counts is None else counts
        return sum(
            term.weight.at(epoch) * (judgement.sums[term.name] / max(1, counts[term.name])) for term in self.terms
        )

    def _judge(self, term: Term, separation: Separation, present: list[list[bool]] | None) -> dict[str, Tensor]:
        """Sum the values of a term over its pairs or items, altogether, by part and by source."""
        quantities = {name: self._take(separation, quantity, term) for name, quantity in term.inputs.items()}
        names, places = self._names_by_source(term), None
        if present is not None:
            places = torch.tensor([i for i, counts in enumerate(_counted(term, present)) if counts], dtype=torch.int64)
            quantities = {name: value.index_select(0, places.to(value.device)) for name, value in quantities.items()}
        n_values = len(next(iter(quantities.values())))
        if not n_values:
            zero = sum(quantity.abs().sum() for quantity in quantities.values())
            return {term.name: zero, **dict.fromkeys(names, zero.detach())}
        seconds = separation.mixture.shape[-1] / self.sample_rate
        values, parts = _evaluate_robustly(term, quantities, n_values, seconds)
        sums = {f"{term.name}/{name}": part.detach().sum() for name, part in parts.items()}
        if names:
            pairs = values.detach()
            if places is not None:
                n_pairs = len(separation.mixture) * len(names)
                pairs = pairs.new_zeros(n_pairs).index_copy(0, places.to(pairs.device), pairs)
            sums.update(zip(names, pairs.view(-1, len(names)).sum(0), strict=True))
        return {**sums, term.name: values.sum()}

    def _names_by_source(self, term: Term) -> list[str]:
        """Name the sums of a term by source; none where it counts one source, or items."""
        columns = term.columns if term.in_pairs and len(term.columns) > 1 else ()
        return [f"{term.name}/{self.sources[column]}" for column in columns]

    def _take(self, separation: Separation, quantity: str, term: Term) -> Tensor:
        """Take a quantity for a term: (P, ...) of pairs, else (B, S', ...) of some sources, or (B, ...) of items."""
        value, columns = getattr(separation, quantity), term.columns
        if self.quantities[quantity] == "item":
            return (
                value.unsqueeze(1).expand(-1, len(columns), *value.shape[1:]).flatten(0, 1) if term.in_pairs else value
            )
        if len(columns) < value.shape[1]:
            # By numbers of Python: an index that lies on a device has to be copied there first, in each step.
            sources = [separation.by_source(quantity)[column] for column in columns]
            value = sources[0].unsqueeze(1) if len(sources) == 1 else torch.stack(sources, 1)  # one is not copied
        return value.flatten(0, 1) if term.in_pairs else value

    def _term(self, settings: Mapping[str, Any], separator: Separator) -> Term:
        """Build one term from its settings."""
        config = {key: value for key, value in settings.items() if key not in TERM_KEYS}
        loss = instantiate(config, "sepkit.losses", {**ITEM_WISE, "sample_rate": separator.sample_rate})
        for problem in find_pooling(loss):
            raise ValueError(problem)
        ramp, limited = read_ramp(settings), settings.get("sources") or self.sources
        inputs = match_inputs(type(loss), settings.get("inputs") or {}, self.quantities)
        return Term(
            name=name_term(settings),
            loss=loss,
            weight=Weight(ramp["from"], ramp["to"], ramp["epochs"]),
            columns=tuple(i for i, source in enumerate(self.sources) if source in limited),
            inputs=inputs,
            per_item="reduction" in inspect.signature(type(loss)).parameters,
            all_sources=getattr(loss, "all_sources", False),
            per_source="source" in {self.quantities[quantity] for quantity in inputs.values()},
            robust=Robust(**settings["robust"]) if settings.get("robust") else None,
        )


def _counted(term: Term, present: Sequence[Sequence[bool]]) -> list[bool]:
    """Return whether a term counts each pair, or each item: one with all of its sources, or with any of all."""
    chosen = [[row[column] for column in term.columns] for row in present]
    if term.in_pairs:
        return [is_present for row in chosen for is_present in row]
    return [all(row) for row in chosen] if term.all_sources else [any(row) for row in present]


def _evaluate_robustly(
    term: Term, quantities: dict[str, Tensor], n_items: int, seconds: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute what `_evaluate` does; of the frames that count, where the term leaves some out."""
    if term.robust is None:
        return _evaluate(term, quantities, n_items)
    n_frames, n_left_out = term.robust.count(seconds)
    try:
        values, parts = _evaluate(term, cut_frames(quantities, n_frames), n_items * n_frames)
    except ValueError as error:
        length = f"frames of {seconds / n_frames:.3g} s"
        raise ValueError(f"{term.name} on {length}: {error}, or set a longer robust.frame") from error
    values = values.view(n_items, n_frames)
    chosen = choose_frames(values, n_left_out)
    averaged = {name: average_frames(part.view(n_items, n_frames), chosen) for name, part in parts.items()}
    return average_frames(values, chosen), averaged


def _evaluate(term: Term, quantities: dict[str, Tensor], n_items: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute one value per item (P,) of a loss, and of each of its parts."""
    if not term.per_item:
        rows = ({name: q[i : i + 1] for name, q in quantities.items()} for i in range(n_items))
        found = [term.loss(**row) for row in rows]
        check_is_tensor(found[0], f"the value of {term.name}")
        return torch.stack([values.mean() for values in found]), {}
    if inspect.ismethod(getattr(term.loss, "parts", None)):
        parts = {name: _per_item(term, part, n_items) for name, part in term.loss.parts(**quantities).items()}
        return sum(parts.values()), parts
    return _per_item(term, term.loss(**quantities), n_items), {}


def _per_item(term: Term, values: Tensor, n_items: int) -> Tensor:
    check_is_tensor(values, f"the value of {term.name}")
    if values.dim() == 0 or len(values) != n_items:
        got = f"{tuple(values.shape)} for {n_items} items"
        raise ValueError(f"{term.name} must give one value per item with reduction='none', got {got}")
    return values.reshape(n_items, -1).mean(1)
