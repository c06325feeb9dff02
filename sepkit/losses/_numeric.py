"""Numerics of all losses: half precision is widened, values are reduced, roots have finite gradients."""

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")
# Asked once: compilers cannot follow the question.
_AUTOCAST = {name for name in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(name)}
_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
_DOUBLES = (torch.float64, torch.complex128)
_WIDEST = {torch.float32: torch.float64, torch.complex64: torch.complex128} | {
    half: torch.complex128 if half.is_complex else torch.float64 for half in _WIDER
}
_PIECE = 1024  # values whose squares are summed at a time: the sum of a million in float32 has an error of 1e-4
_Call = TypeVar("_Call", bound=Callable[..., Any])


def full_precision(function: _Call) -> _Call:
    """Run a function on tensors of one precision, float32 or float64, with autocast off: squares overflow in halves."""

    @functools.wraps(function)
    def widened(*args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        doubles = any(tensor.dtype in _DOUBLES for tensor in tensors)
        types = _WIDEST if doubles and len({tensor.device for tensor in tensors}) == 1 else _WIDER
        autocast = tensors and tensors[0].device.type in _AUTOCAST

        def widen(value: Any) -> Any:
            return value.to(types.get(value.dtype, value.dtype)) if isinstance(value, Tensor) else value

        with torch.autocast(tensors[0].device.type, enabled=False) if autocast else nullcontext():
            return function(*map(widen, args), **{name: widen(value) for name, value in kwargs.items()})

    return widened  # type: ignore[return-value]


def differentiated_once() -> None:
    """Refuse to return a gradient that would count as constant when it is differentiated again."""
    # Below a compiler's graph torch itself refuses.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise ValueError("this loss must be differentiated once, got create_graph=True; leave it out")


def reduce(values: Tensor, reduction: str) -> Tensor:
    """Average, add up, or return the values of a loss.

    Args:
        values: one value per item, or per item and channel.
        reduction: mean, sum or none.

    Returns:
        A scalar, or `values` for none.
    """
    if reduction == "mean":
        return values.mean()
    return values.sum() if reduction == "sum" else values


def item_mean(values: Tensor) -> Tensor:
    """Average everything but the first dimension: (B, ...) to (B,)."""
    return rows(values).mean(1)


def item_sum(values: Tensor) -> Tensor:
    """Add up everything but the first dimension: (B, ...) to (B,)."""
    return rows(values).sum(1)


def rows(values: Tensor) -> Tensor:
    """Return (B, ...) as (B, n), in the order in which each item's values lie, so that most layouts need no copy."""
    order = sorted(range(1, values.dim()), key=values.stride, reverse=True)
    return values.permute(0, *order).reshape(len(values), -1)


def mean_square(values: Tensor) -> Tensor:
    """Average the squares of everything but the first dimension: (B, ...) to (B,)."""
    return _MeanSquare.apply(rows(values))


class _MeanSquare(torch.autograd.Function):
    """The mean square of each row of (B, n), in a pass, for which no squares are kept.

    The difference of 4 x 1 M values and its mean square, forward and backward, one thread: 13 ms, of torch's own
    square and mean 24 ms.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        n_whole = values.shape[1] // _PIECE * _PIECE
        pieces, rest = values[:, :n_whole].unflatten(1, (-1, _PIECE)), values[:, n_whole:]
        sums = torch.linalg.vector_norm(pieces, dim=2).square().sum(1) + torch.linalg.vector_norm(rest, dim=1).square()
        return sums / values.shape[1]

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], _output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return values * (gradient * (2 / values.shape[1]))[:, None]


def reduce_elements(distances: Tensor, reduction: str) -> Tensor:
    """Average or add up all elements of (B, ...); for reduction none, average those of each item: (B,)."""
    return item_sum(distances).sum() if reduction == "sum" else reduce(item_mean(distances), reduction)


def safe_sqrt(power: Tensor) -> Tensor:
    """Take the root of a power with a finite gradient: 0 where the power is 0."""
    positive = power > 0
    return torch.where(positive, torch.where(positive, power, 1.0).sqrt(), power)
