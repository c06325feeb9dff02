"""Several separators of the same sources as one, whose estimates are averaged with a weight for each source."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import is_number
from sepkit.instantiate import InstantiationError, check_arguments
from sepkit.problems import show
from sepkit.separator import Separator

_SHARED = ("sources", "sample_rate", "n_channels")  # settings in which the members agree
_LIFTED = ("normalize", "chunking", "residual")  # settings of the whole bag


class Bag(nn.Module):
    """Average what separators estimate, each source with weights of its own.

    Separating a recording, each member has chunks of its own segment, and one without weight for what is asked for is
    not run. In training, all of them see the same example.

    Args:
        members: settings of the separators, of the same sources, rate and channels, without `normalize`, `chunking`
            and `residual`, which are the bag's.
        weights: of each member, one number >= 0 a source.
        n_sources: S.
        n_channels: C.
        sample_rate: Hz.
        trusted: let members name any importable class, not only one of this package.

    Raises:
        ValueError: members do not go together, or a member or a source has no weight.
        sepkit.instantiate.InstantiationError: a member cannot be built.

    Source:
        demucs 4.1, `BagOfModels`.
    """

    outputs = ("estimate",)

    def __init__(
        self,
        members: Sequence[Mapping[str, Any]],
        weights: Sequence[Sequence[float]],
        n_sources: int,
        n_channels: int,
        sample_rate: int,
        trusted: bool = False,
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("members must be at least one, got none")
        self.members = nn.ModuleList(_build(number, member, trusted) for number, member in enumerate(members))
        wanted = (list(self.members[0].sources), sample_rate, n_channels)
        for number, member in enumerate(self.members):
            found = (member.sources, member.sample_rate, member.n_channels)
            if len(member.sources) != n_sources:
                names = ", ".join(member.sources)
                raise ValueError(f"members.{number} must have as many sources as the whole, {n_sources}, got {names}")
            if found != wanted:
                raise ValueError(
                    f"members.{number} must have the sources, sample rate and channels of all, {n_sources} such as "
                    f"{', '.join(wanted[0])}, {sample_rate} and {n_channels}, got {', '.join(found[0])}, "
                    f"{found[1]} and {found[2]}"
                )
        for member in self.members:  # which are run in turns
            member.network.lends_weights = True
        weights = _check_weights(weights, len(self.members), n_sources)
        self.register_buffer("weights", weights, persistent=False)  # (M, S)
        self.blocks = tuple(dict.fromkeys(block for member in self.members for block in member.facts.blocks))

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Prepare the core of each member to be compiled, as `torch.nn.Module.compile` does a whole module."""
        for member in self.members:
            member.facts.core.compile(*arguments, **options)

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate the waveform of each source, (B, S, C, T), from that of the mixture, (B, C, T)."""
        shares = (self.weights / self.weights.sum(0)).to(mixture)[..., None, None]  # (M, S, 1, 1)
        return sum(share * member(mixture) for share, member in zip(shares, self.members, strict=True))


def join_members(
    members: Sequence[Mapping[str, Any]], weights: Sequence[Sequence[float]] | None = None
) -> dict[str, Any]:
    """Join settings of separators to those of one that averages them.

    Args:
        members: all settings of each; in sources, rate, channels, `normalize`, `chunking` and `residual` they agree.
        weights: of each member, one number >= 0 a source; None: 1.

    Returns:
        The arguments of `Separator`; it has the longest segment of all, and the first one's transform.

    Raises:
        ValueError: there is no member, or they do not agree.
    """
    if not members:
        raise ValueError("members must be at least one, got none")
    for name in (*_SHARED, *_LIFTED):
        for number, member in enumerate(members):
            if member.get(name) != members[0].get(name):
                wanted, found = show(members[0].get(name)), show(member.get(name))
                raise ValueError(f"members must agree in {name}, got {wanted} of the first and {found} of {number + 1}")
    first = deepcopy(dict(members[0]))
    weights = [[1.0] * len(first["sources"]) for _ in members] if weights is None else weights
    inner = [{name: value for name, value in member.items() if name not in _LIFTED} for member in members]
    network = {"class": "sepkit.bag.Bag", "members": deepcopy(inner), "weights": [list(row) for row in weights]}
    shared = {name: first[name] for name in (*_SHARED, "transform", *_LIFTED) if name in first}
    segments = [member["segment"] for member in members if "segment" in member]
    return {**shared, **({"segment": max(segments)} if segments else {}), "network": network}


def join_states(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the states of separators to that of the one that `join_members` describes."""
    return {
        f"network.members.{number}.{name}": value
        for number, state in enumerate(states)
        for name, value in state.items()
    }


def _build(number: int, settings: Mapping[str, Any], trusted: bool) -> Separator:
    given = [name for name in _LIFTED if settings.get(name) is not None]
    if given:
        raise ValueError(f"members.{number} must leave {' and '.join(given)} to the separator whose network the bag is")
    problems = check_arguments(Separator, settings)
    if problems:
        raise InstantiationError([problem.below("members", number) for problem in problems])
    try:
        member = Separator(**{**settings, "trusted": trusted})
    except InstantiationError as error:
        raise InstantiationError([problem.below("members", number) for problem in error.problems]) from None
    if isinstance(member.network, Bag):
        raise ValueError(f"members.{number} must not be a bag itself: list its members")
    return member


def _check_weights(weights: Sequence[Sequence[float]], n_members: int, n_sources: int) -> Tensor:
    """Take weights as a tensor (M, S)."""
    rows = [list(row) if isinstance(row, list | tuple) else [row] for row in weights]
    numbers = [number for row in rows for number in row]
    if [len(row) for row in rows] != [n_sources] * n_members or not all(map(is_number, numbers)):
        raise ValueError(f"weights must be {n_members} lists of {n_sources} numbers, got {show(weights)}")
    taken = torch.tensor(rows, dtype=torch.float64)
    if not taken.isfinite().all() or (taken < 0).any():
        raise ValueError(f"weights must be finite and not below 0, got {show(weights)}")
    for number in range(n_members):
        if not taken[number].any():
            raise ValueError(f"weights.{number} must be above 0 for one source at least: leave the member out")
    for number in range(n_sources):
        if not taken[:, number].any():
            raise ValueError(f"weights must be above 0 for source {number} in one member at least, got 0 in all")
    return taken.float()
