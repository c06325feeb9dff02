"""LoRA: a network that is left as it is, and small updates of its weights, which alone are trained."""

import copy
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from sepkit.models._band_layouts import BandLinear
from sepkit.problems import did_you_mean

_INSIDE = re.compile(r"(^|\.)parametrizations\.(\w+)\.(original$|0\..*)")  # what torch makes of the name of a weight


class LoRA(nn.Module):
    """Add to weights of a network the product of two small matrices each, and train these alone.

    Of linear layers, convolutions (transposed ones, and those with groups, too), the packed input projection of
    `torch.nn.MultiheadAttention` and the layers of bands in `sepkit.models` the weights can be adapted; weights of
    recurrences, biases and gains cannot. Before the first step the products are zero, and the network answers what it
    does without them, bit for bit; the statistics of batch normalisation stay as they are.

    Args:
        network: what is adapted; what it declares holds for the whole.
        rank: of the products, >= 1; where a weight has fewer rows or columns, it is their number.
        alpha: the products are multiplied by alpha / rank; None: by 1.
        targets: patterns of the names of weights, such as "core.decode.*"; None: all that can be adapted.

    Attributes:
        adapted: names of the weights that are adapted, in the network.

    Raises:
        ValueError: a number is out of range, a pattern matches nothing, or nothing that can be adapted.

    Source:
        E. J. Hu et al., LoRA: Low-rank adaptation of large language models, 2021, eq. 3. A convolution's weight is
        taken as one matrix, a row an output channel (transposed: an input channel). The weights are summed, not the
        outputs, so that what is merged later gives the same values.
    """

    def __init__(
        self, network: nn.Module, rank: int = 8, alpha: float | None = None, targets: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        if isinstance(network, LoRA):
            raise ValueError("network must be one without LoRA, got another LoRA: give the network within it")
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        if alpha is not None and not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be above 0 and finite, got {alpha}")
        self.network, self.rank, self.alpha = network, rank, float(rank if alpha is None else alpha)
        layers = {f"{name}.{weight}".lstrip("."): (module, weight) for name, module, weight in _adaptable(network)}
        self.adapted = _select(network, list(layers), targets)
        network.requires_grad_(False)
        for name in self.adapted:
            module, weight = layers[name]
            update = _Update(getattr(module, weight), rank, self.alpha / rank, isinstance(module, BandLinear))
            register_parametrization(module, weight, update, unsafe=True)
        self.train(self.training)

    @property
    def wrapped(self) -> nn.Module:
        """Return the network, whose `forward` names what is taken."""
        return self.network

    @property
    def core(self) -> nn.Module:  # noqa: D102
        return getattr(self.network, "core", self.network)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_"):
                raise
        return getattr(super().__getattr__("network"), name)  # what it declares

    def forward(self, **inputs: Tensor) -> Any:
        """Return what the network returns with its adapted weights."""
        with nullcontext() if torch.is_grad_enabled() else _as_if_trained(self.network):
            return self.network(**inputs)

    def train(self, mode: bool = True) -> "LoRA":
        """Set the mode, in which batch normalisation keeps its statistics."""
        super().train(mode)
        for part in self.network.modules():
            if isinstance(part, _NormBase):
                part.eval()
        return self

    def names(self) -> dict[str, str]:
        """Return the names in the state of this module by the names that the network alone has for them."""
        return {plain_name(name): name for name in self.state_dict() if not re.search(r"\.0\.(up|down)$", name)}

    def updates(self) -> dict[str, Tensor]:
        """Return the matrices of the products, as `<name of the weight>.up` and `.down`."""
        found = re.compile(r".*\.0\.(up|down)$")
        state = {name: tensor for name, tensor in self.state_dict().items() if found.match(name)}
        return {f"{plain_name(name)}.{name.rpartition('.')[2]}": tensor for name, tensor in state.items()}

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Return a copy of the network alone, with the products added to its weights."""
        network = copy.deepcopy(self.network)
        for module in network.modules():
            if is_parametrized(module):
                merged = {name: nn.Parameter(getattr(module, name).detach()) for name in module.parametrizations}
                del module.parametrizations
                module.__class__ = type(module).__bases__[0]  # torch's own way would take it from the original, too
                for name, weight in merged.items():
                    module.register_parameter(name, weight)
        return network.requires_grad_(True)


def plain_name(name: str) -> str:
    """Return the name that a weight, of which a parameter of a LoRA is a part, has in the network alone."""
    return _INSIDE.sub(r"\1\2", name.removeprefix("network."))


def _adaptable(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """List the names of modules, the modules, and the names of the weights in them that can be adapted."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | _ConvNd | BandLinear) and isinstance(module.weight, nn.Parameter):
            yield name, module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield name, module, "in_proj_weight"


def _select(network: nn.Module, adaptable: Sequence[str], targets: Sequence[str] | None) -> list[str]:
    """Select the weights that are adapted, and refuse a pattern that matches none."""
    for pattern in targets or ():
        if any(fnmatchcase(name, pattern) for name in adaptable):
            continue
        others = [name for name, _ in network.named_parameters() if fnmatchcase(name, pattern)]
        if others:
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if others[3:] else "")
            raise ValueError(
                f"targets must match weights of linear layers or convolutions, {pattern!r} matches {shown}"
            )
        suggestion = did_you_mean(pattern, [*adaptable, *list_prefixes(adaptable)])
        raise ValueError(f"targets must match weights of the network, {pattern!r} matches none{suggestion}")
    chosen = [name for name in adaptable if targets is None or any(fnmatchcase(name, each) for each in targets)]
    if not chosen:
        raise ValueError(f"network must have weights that can be adapted, {type(network).__name__} has none")
    return chosen


def list_prefixes(names: Sequence[str]) -> list[str]:
    """List the patterns that match all below a part of a network."""
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join([*part[:n], "*"]) for part in parts for n in range(1, len(part))))


class _Update(nn.Module):
    """Add to a weight the product of two matrices, the second of which is zero at first.

    Args:
        weight: (rows, ...), or (stack, rows, columns).
        rank: of the product.
        scale: of the product.
        stacked: the weight is a stack of matrices.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, stacked: bool) -> None:
        super().__init__()
        *stack, n_rows = weight.shape[: 1 + stacked]
        n_columns = math.prod(weight.shape[1 + stacked :])
        rank, bound = min(rank, n_rows, n_columns), 1 / math.sqrt(n_columns)
        self.down = nn.Parameter(weight.new_empty(*stack, rank, n_columns).uniform_(-bound, bound))
        self.up = nn.Parameter(weight.new_zeros(*stack, n_rows, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        with _full_precision(weight.device.type):
            adapted = weight + self.scale * (self.up @ self.down).reshape(weight.shape)
        return adapted if torch.is_grad_enabled() or torch.compiler.is_compiling() else adapted.requires_grad_()


@contextmanager
def _as_if_trained(network: nn.Module) -> Iterator[None]:
    """Set the flags of frozen weights while no gradients are taken: torch multiplies in another order without them."""
    frozen = [weight for weight in network.parameters() if not weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _full_precision(device_type: str) -> AbstractContextManager:
    """Turn autocast off for a while, so that a sum of weights is as precise as they are."""
    has_autocast = device_type != "meta" and torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if has_autocast else nullcontext()
