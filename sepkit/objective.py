"""The weighted losses of a recipe, applied to a Separation."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import check_is_tensor, is_number
from sepkit.instantiate import InstantiationError, check, instantiate, resolve_class
from sepkit.problems import Problem, did_you_mean, show
from sepkit.quantities import list_input_problems, match_inputs
from sepkit.robust import Robust, average_frames, choose_frames, cut_frames, list_robust_problems
from sepkit.separator import Separation, Separator

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
            term_problems = _term_problems(settings, names, sources, quantities, segment)
            problems += [problem.below("losses", position) for problem in term_problems]
            names.append(_name_of(settings))
        ramps = [_ramp(settings) for settings in losses]
        if losses and all(ramp.get(end) == 0 for ramp in ramps for end in ("from", "to")):
            message = "must be above 0 in one of the losses: with 0 in all nothing is learned"
            problems.append(Problem(("losses", 0, "weight"), message))
        return problems

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
            robust=Robust(**settings["robust"]) if settings.get("robust") else None,
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
    name = _name_of(settings)
    if name.partition("/")[0] in _COLUMNS or name in names:
        taken = f"another loss is called '{name}' too"
        if name.partition("/")[0] in _COLUMNS:
            taken = "'loss' is the sum of all terms" if name == "loss" else f"'{name}' is a column of the history"
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
