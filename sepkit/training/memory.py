"""The memory that a step of a training needs, told without computing it: on tensors that have shapes and no values."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sepkit.devices import HALVES, total_memory
from sepkit.instantiate import instantiate
from sepkit.objective import Objective
from sepkit.recipe import Recipe
from sepkit.recipe.dry_build import Undrawn
from sepkit.separator import Separator
from sepkit.training.recomputation import recompute_blocks
from sepkit.training.signals import TrainingError
from sepkit.training.weights import limit_training, plan_inheritance

_RESERVED = {nn.LSTM: 6, nn.GRU: 5}  # values a step of a recurrence keeps for each feature: gates, cells, outputs
_SPARE = 1.15  # of the allocator, which rounds up and leaves gaps
_LIBRARIES = 700 * 2**20  # bytes of CUDA itself, and work space of its libraries


def estimate_memory(recipe: Recipe) -> tuple[int, int]:
    """Estimate how much of a GPU's memory a step takes: the tensors alone, and with what surrounds them; bytes.

    The step is done on tensors without values, so that it takes seconds and hardly any memory, whatever the size. The
    lower bound is the most that weights, their averages, gradients, the optimizer's values and all that is computed
    hold at a time; the upper adds 15 % for gaps between them, copies of the weights in an optimizer that is not fused,
    and 0.7 GB for CUDA and its libraries. `precision: auto` counts as bfloat16.

    Args:
        recipe: checked.

    Raises:
        RuntimeError: the network or a loss computes with what only values can tell.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # loading it takes a while

    settings, plain = recipe.training, recipe.to_dict()
    with torch.random.fork_rng([]):
        with Undrawn():
            separator = Separator(**recipe.separator_settings())
            limit_training(separator, recipe, plan_inheritance(recipe))
        objective = Objective(plain["losses"], separator)
        with FakeTensorMode(allow_non_fake_inputs=True), _fused_attention(), LiveBytes() as tensors:
            n_bytes = 4
            if settings.precision == "float64":
                n_bytes = 8
                for module in (separator, objective):
                    module.double()
            for module in (separator, objective):
                _make_valueless(module, tensors.add)
            if settings.recompute:  # what recurrences have become, too
                recompute_blocks(separator)
            weights = [weight for module in (separator, objective) for weight in module.parameters()]
            n_values = sum(weight.numel() for weight in weights if weight.requires_grad)
            held = n_bytes * round(n_values * (_states(settings.optimizer) + _count_averages(settings.ema)))
            for _ in range(min(2, settings.accumulate)):  # each further part is like the second
                _backward(separator, objective, settings.batch_size // settings.accumulate, settings.precision)
    at_the_step = tensors.now + (0 if settings.optimizer.get("fused") else n_bytes * n_values)
    return held + tensors.most, round(_SPARE * (held + max(tensors.most, at_the_step))) + _LIBRARIES


def share_of(recipe: Recipe, world: int) -> Recipe:
    """Return a recipe whose batch is what one of several processes has of it, at most."""
    training = recipe.training
    part = -(-training.batch_size // training.accumulate // world)
    own = training.model_copy(update={"batch_size": training.accumulate * part})
    return recipe.model_copy(update={"training": own})


def tell_memory(
    recipe: Recipe, device: torch.device, log: Callable[[str], object], world: int = 1
) -> tuple[int, int] | None:
    """Show what `estimate_memory` finds in the log, and refuse what cannot fit; None where it cannot tell.

    Args:
        recipe: checked.
        device: of this process.
        log: called with a line.
        world: processes that share each batch; what they shard is not estimated.

    Raises:
        TrainingError: a step needs more memory than the device has.
    """
    each = " of each process" if world > 1 else ""
    if each and recipe.training.sharding:
        log(f"GPU memory that a step needs{each}: not known, since training.sharding spreads it")
        return None
    recipe = share_of(recipe, world)
    try:
        needed = estimate_memory(recipe)
    except Exception as error:  # whatever a network from elsewhere does with tensors that have no values
        reason = (str(error).splitlines() or [""])[0]
        log(f"GPU memory that a step needs{each}: not known ({type(error).__name__}: {reason})")
        return None
    low, high = (n_bytes / 2**30 for n_bytes in needed)
    log(f"GPU memory that a step needs{each}: {low:.1f} to {high:.1f} GB, as estimated")
    total = total_memory(device)
    if total is not None and (least := _least(recipe, device, needed[0])) > total:
        raise TrainingError(
            f"a step needs at least {least / 2**30:.1f} GB, and {device} has {total / 2**30:.1f}: raise "
            "training.accumulate, set training.recompute=true, or shorten separator.segment"
        )
    return needed


def _least(recipe: Recipe, device: torch.device, on_gpu: int) -> int:
    """Return the bytes that a step takes here: `auto` is bfloat16 on a GPU, and float32 on a CPU."""
    if device.type == "cuda" or recipe.training.precision != "auto":
        return on_gpu
    training = recipe.training.model_copy(update={"precision": "float32"})
    return estimate_memory(recipe.model_copy(update={"training": training}))[0]


def _backward(separator: Separator, objective: Objective, n_items: int, precision: str) -> None:
    dtype = torch.bfloat16 if precision == "auto" else getattr(torch, precision)
    shape = (separator.n_channels, round(separator.segment * separator.sample_rate))
    exact = {"dtype": torch.float64 if dtype is torch.float64 else torch.float32}
    mixture = torch.empty(n_items, *shape, **exact)
    targets = torch.empty(n_items, len(separator.sources), *shape, **exact)
    with torch.autocast("cpu", dtype, enabled=dtype in HALVES):
        separation = separator.analyze(mixture, targets, wanted=objective.wanted)
    sums = objective(separation).sums.values()
    del separation, mixture, targets
    torch.stack([each.sum() for each in sums]).sum().backward()


def _count_averages(ema: float | list[float] | None) -> int:
    return 0 if ema is None else len(ema) if isinstance(ema, list) else 1


def _states(optimizer: dict[str, Any]) -> float:
    """Return how many values an optimizer keeps for each weight."""
    weight = nn.Parameter(torch.zeros(64, 64))
    weight.grad = torch.zeros_like(weight)
    built = instantiate(optimizer, "torch.optim", {"params": [weight]})
    built.step()
    return sum(value.numel() for value in built.state[weight].values() if isinstance(value, Tensor)) / weight.numel()


def _make_valueless(module: nn.Module, count: Callable[[Tensor], None]) -> None:
    """Replace weights and buffers by such without values, and recurrences by what has their shapes."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(weight), weight.requires_grad)
                count(part._parameters[name])
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer)
        if isinstance(part, tuple(_RESERVED)):
            part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]
            part.forward = partial(_recur, part)


def _recur(cell: nn.RNNBase, features: Tensor, _state: object = None) -> tuple[Tensor, None]:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
    return _Recurrence.apply(cell, dtype, features, *cell._flat_weights), None


class _Recurrence(torch.autograd.Function):
    """Give a recurrence's output its shape, and keep as much for the backward pass as cuDNN does."""

    @staticmethod
    def forward(ctx: Any, cell: nn.RNNBase, dtype: torch.dtype, features: Tensor, *weights: Tensor) -> Tensor:
        width = cell.hidden_size * (2 if cell.bidirectional else 1)
        leading = features.shape[:-1]
        n_values = next(n_values for kind, n_values in _RESERVED.items() if isinstance(cell, kind))
        reserved = features.new_empty(*leading, n_values * width * cell.num_layers, dtype=dtype)
        ctx.save_for_backward(features, reserved, *weights)
        return features.new_empty(*leading, width, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, *_gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, _, *weights = ctx.saved_tensors
        return None, None, torch.empty_like(features), *map(torch.empty_like, weights)


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Set attention to drop nothing, as only then a CPU does without all weights in memory, which a GPU always does."""
    plain = nn.functional.scaled_dot_product_attention

    def attend(*args: Any, **named: Any) -> Tensor:
        return plain(*args, **{**named, "dropout_p": 0.0})

    nn.functional.scaled_dot_product_attention = attend  # no mode reaches what is recomputed in a backward pass
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = plain


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all tensors that are made within it.

    Attributes:
        now: bytes of those that are still there.
        most: bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count what a tensor stands in, once, for as long as it is there."""
        storage = tensor.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += n_bytes
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._remove, key, n_bytes).atexit = False

    def _remove(self, key: int, n_bytes: int) -> None:
        self.known.discard(key)
        self.now -= n_bytes

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in torch.utils._pytree.tree_iter(made):
            if isinstance(each, Tensor):
                self.add(each)
        return made
