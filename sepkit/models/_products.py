"""Linear layers whose products oneDNN computes on x86 CPUs: on some, in half of the time of the library torch takes."""

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEAST = 2**20  # products of two numbers; of fewer, the call is what costs
_MULTIPLY = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `torch.nn.functional.linear`: (..., D) times the transposed weight (E, D), plus a bias (E,)."""
    if not _suits(features, weight) or features.numel() * len(weight) < _LEAST:
        return F.linear(features, weight, bias)
    compute = _Linear.apply if torch.is_grad_enabled() else multiply
    return compute(features.flatten(0, -2), weight, bias).unflatten(0, features.shape[:-1])


def multiply(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute what `linear` does, of rows (L, D) and without gradients, where `multiplies` says that it can be."""
    return _MULTIPLY(_plain(features), _plain(weight), bias, "none", [], "")


def _plain(matrix: Tensor) -> Tensor:
    """Copy a matrix whose rows and columns lie apart, for which there is only a slow product."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


def multiplies(features: Tensor) -> bool:
    """Return whether oneDNN multiplies a tensor: one of float32 as it is, on an x86 CPU."""
    return (
        _MULTIPLY is not None
        and _IS_X86
        and type(features) is Tensor  # no subclass, which may stand for something else
        and features.device.type == "cpu"
        and features.dtype == torch.float32
        and torch._C._get_mkldnn_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
    )


def _suits(features: Tensor, weight: Tensor) -> bool:
    return multiplies(features) and weight.dtype == torch.float32 and weight.device.type == "cpu"


class _Linear(torch.autograd.Function):
    """Rows (L, D) times the transposed weight (E, D), plus a bias; gradients of any order are such products too."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return multiply(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        for_rows, for_weight, for_bias = ctx.needs_input_grad
        return (
            linear(gradient, weight.mT) if for_rows else None,
            linear(rows.mT, gradient.mT).mT if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


class Linear(nn.Linear):
    """Compute what `torch.nn.Linear` does."""

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., D) to (..., E)."""
        return linear(features, self.weight, self.bias)
