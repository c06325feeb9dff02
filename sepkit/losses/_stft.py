"""One short-time Fourier transform for all losses: sums over bins and their exact gradients, in bounded memory.

A loss on spectra is a function of a few sums over bins and frames. They are taken chunk by chunk, so that a whole
spectrogram never exists; and the gradient of each sum with respect to the waveform is formed in the same pass, while
the chunk is at hand, by the adjoint transform (an inverse FFT and an overlap-add). The backward pass is then a
weighted sum of waveforms, and it needs no spectra.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from sepkit.constant import Constant
from sepkit.losses._numeric import differentiated_once

# Complex bins of one chunk, all rows together: small enough for a CPU's cache, large enough to keep a GPU busy.
_CHUNK, _CHUNK_ELSEWHERE = 1 << 17, 1 << 24


class KernelSettings(NamedTuple):
    """What a kernel is given beside spectra: numbers, filter banks, and whether estimate and target need gradients."""

    options: Sequence[float]
    tables: Sequence[Tensor]
    needs: Sequence[bool]


class ChunkSums(NamedTuple):
    """What a kernel makes of the spectra of one chunk.

    `sums` depend on the estimate, `target_sums` on the target alone: (R,) each. `gradients` are two lists of complex
    (R, N, F), with respect to the estimate and to the target: one for each sum, and for the target also one for each
    target sum. Not needed: empty.
    """

    sums: list[Tensor]
    target_sums: list[Tensor]
    gradients: Sequence[list[Tensor]]


Kernel = Callable[[Tensor, Tensor, KernelSettings], ChunkSums]  # estimate, target: complex (R, N, F)


class Resolution(nn.Module):
    """Hold the sizes and the window of one transform: centred frames of a reflected signal, no norm.

    Args:
        n_fft: samples of a Fourier transform, >= 2.
        hop_length: samples from frame to frame, >= 1.
        window: (win_length,), at most n_fft long; zeros surround it evenly.
    """

    def __init__(self, n_fft: int, hop_length: int, window: np.ndarray) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.window = int(n_fft), int(hop_length), Constant(window)

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal."""
        return _n_frames(n_samples, self.n_fft, self.hop_length)

    def check_length(self, n_samples: int) -> None:
        """Refuse a signal that is too short to be reflected."""
        if n_samples <= self.n_fft // 2:
            raise ValueError(
                f"a transform of {self.n_fft} samples needs more than {self.n_fft // 2} of signal, got {n_samples}; "
                "take smaller transforms"
            )

    def sums(
        self,
        operator: Callable,
        estimate: Tensor,
        target: Tensor,
        *,
        options: Sequence[float] = (0.0,),  # torch takes an empty list for one of tensors
        tables: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Apply a `spectral_operator`.

        Args:
            operator: what to sum.
            estimate: (R, T).
            target: (R, T).
            options: of the operator.
            tables: of the operator.

        Returns:
            Sums (R, K) and target sums (R, L), differentiable once, backward.
        """
        self.check_length(estimate.shape[1])
        refuse_other_modes(estimate, target)
        needs = [torch.is_grad_enabled() and signal.requires_grad for signal in (estimate, target)]
        sums, target_sums, _ = operator(
            estimate, target, window=self.window(estimate), n_fft=self.n_fft, hop_length=self.hop_length,
            options=list(map(float, options)), tables=list(tables), needs=needs,
        )  # fmt: skip
        return sums, target_sums

    def spectrum(self, signal: Tensor) -> Tensor:
        """Transform a whole signal by torch's own, differentiable transform: (R, T) to (R, N, F)."""
        self.check_length(signal.shape[1])
        window = self.window(signal)
        spectrum = torch.stft(
            signal, self.n_fft, self.hop_length, len(window), window, center=True, return_complex=True
        )
        return spectrum.mT


def refuse_other_modes(*signals: Tensor) -> None:
    """Refuse tangents, which an operator of torch's library drops, so that derivatives would be 0, and torch.func."""
    if torch.compiler.is_compiling():  # which knows neither
        return
    if any(forward_ad.unpack_dual(signal).tangent is not None for signal in signals):
        raise ValueError("this loss must be differentiated backward, got forward mode; take torch.autograd.grad")
    if torch._C._are_functorch_transforms_active():
        raise ValueError(
            "this loss must be differentiated by backward() or torch.autograd.grad, and called on a batch, got a "
            "transform of torch.func (vmap, grad, jvp); call it outside"
        )


def _n_frames(n_samples: int, n_fft: int, hop_length: int) -> int:
    return 1 + (n_samples + 2 * (n_fft // 2) - n_fft) // hop_length


def reflect(signal: Tensor, n: int) -> Tensor:
    """Pad by mirroring n samples at both ends: (R, T) to (R, T + 2 n)."""
    n_rows, n_samples = signal.shape
    padded = signal.new_empty(n_rows, n_samples + 2 * n)
    padded[:, n : n + n_samples] = signal
    padded[:, :n] = signal[:, 1 : n + 1].flip(1)
    padded[:, n + n_samples :] = signal[:, n_samples - 1 - n : n_samples - 1].flip(1)
    return padded


class _Transform:
    """The transform of one resolution, forth and back, a few frames at a time."""

    def __init__(self, window: Tensor, *, n_fft: int, hop_length: int, n_samples: int) -> None:
        self.n_fft, self.hop, self.window, self.n_samples = n_fft, hop_length, window, n_samples
        self.win = len(window)
        self.left = (n_fft - self.win) // 2
        self.n_frames = _n_frames(n_samples, n_fft, hop_length)

    def chunks(self, n_rows: int) -> list[tuple[int, int]]:
        budget = _CHUNK_ELSEWHERE
        if self.window.device.type == "cpu":
            # Threads wait for each other after every operation: the more there are, the fewer and larger those are.
            budget = min(_CHUNK * torch.get_num_threads() ** 2, _CHUNK_ELSEWHERE)
        step = max(1, budget // (n_rows * (self.n_fft // 2 + 1)))
        return [(start, min(start + step, self.n_frames)) for start in range(0, self.n_frames, step)]

    def spectrum(self, padded: Tensor, start: int, stop: int) -> Tensor:
        """Transform frames of a padded signal: (R, T + 2 n) to (R, N, F)."""
        first = self.left + start * self.hop
        span = padded[:, first : first + (stop - start - 1) * self.hop + self.win]
        frames = span.unfold(1, self.win, self.hop)
        if self.win == self.n_fft:
            return torch.fft.rfft(frames * self.window)
        buffer = padded.new_zeros(padded.shape[0], stop - start, self.n_fft)
        torch.mul(frames, self.window, out=buffer[..., self.left : self.left + self.win])
        return torch.fft.rfft(buffer)

    def accumulator(self, like: Tensor) -> Tensor:
        """Make an empty sum of frames, long enough for whole hops behind the last one."""
        n_hops = self.n_frames + -(-self.win // self.hop)
        length = max(self.left + n_hops * self.hop, self.n_samples + 2 * (self.n_fft // 2))
        return like.new_zeros(like.shape[0], length)

    def add_adjoint(self, accumulator: Tensor, gradient: Tensor, start: int) -> None:
        """Turn the gradient (R, N, F) with respect to spectra, which it overwrites, into one of the samples."""
        # Of a real signal's spectrum only half is there: inner bins count twice in the inverse, so halve the rest.
        gradient[..., 0] *= 2.0
        if self.n_fft % 2 == 0:
            gradient[..., -1] *= 2.0
        frames = torch.fft.irfft(gradient, n=self.n_fft, norm="forward")
        frames = frames[..., self.left : self.left + self.win] * (0.5 * self.window)
        n_frames = frames.shape[1]
        for offset in range(0, self.win, self.hop):
            piece = frames[..., offset : offset + self.hop]
            first = self.left + start * self.hop + offset
            place = accumulator[:, first : first + n_frames * self.hop].unflatten(1, (n_frames, self.hop))
            place[..., : piece.shape[2]] += piece

    def fold(self, accumulator: Tensor, signal: Tensor) -> None:
        """Write a finished sum of frames as gradients of the samples (R, T), reversing `reflect`."""
        n, n_samples = self.n_fft // 2, self.n_samples
        signal.copy_(accumulator[:, n : n + n_samples])
        signal[:, 1 : n + 1] += accumulator[:, :n].flip(1)
        signal[:, n_samples - 1 - n : n_samples - 1] += accumulator[:, n + n_samples : 2 * n + n_samples].flip(1)


def _all_sums(
    kernel: Kernel, transform: _Transform, signals: list[Tensor], *, settings: KernelSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a kernel over all chunks: its sums (R, K), its target sums (R, L), its gradients (J, R, T)."""
    padded = [reflect(signal, transform.n_fft // 2) for signal in signals]
    totals, accumulators, n_sums = 0.0, [], 0
    for start, stop in transform.chunks(len(signals[0])):
        chunk = kernel(*(transform.spectrum(signal, start, stop) for signal in padded), settings)
        n_sums = len(chunk.sums)
        totals = totals + torch.stack(chunk.sums + chunk.target_sums, 1)
        gradients = [*chunk.gradients[0], *chunk.gradients[1]]
        accumulators = accumulators or [transform.accumulator(padded[0]) for _ in gradients]
        for accumulator, gradient in zip(accumulators, gradients, strict=True):
            transform.add_adjoint(accumulator, gradient, start)
    stacked = signals[0].new_empty(len(accumulators), *signals[0].shape)
    for accumulator, place in zip(accumulators, stacked, strict=True):
        transform.fold(accumulator, place)
    return totals[:, :n_sums].clone(), totals[:, n_sums:].clone(), stacked


_LIBRARY = torch.library.Library("sepkit", "FRAGMENT")
_SCHEMA = (
    "(Tensor estimate, Tensor target, Tensor window, int n_fft, int hop_length, float[] options, Tensor[] tables, "
    "bool[] needs) -> (Tensor, Tensor, Tensor)"
)


def spectral_operator(name: str, count: Callable[[Sequence[float]], tuple[int, int]]) -> Callable[[Kernel], Callable]:
    """Make an operator of torch, opaque to compilers, of a kernel.

    The operator takes estimate and target (R, T), window, n_fft, hop_length, options, tables and needs, and returns
    sums (R, K) and target sums (R, L), differentiable once with respect to both signals; and their gradients (J, R, T).

    Args:
        name: of the operator.
        count: returns K and L for options.
    """

    def make(kernel: Kernel) -> Callable:
        def run(
            estimate: Tensor,
            target: Tensor,
            window: Tensor,
            n_fft: int,
            hop_length: int,
            options: list[float],
            tables: list[Tensor],
            needs: list[bool],
        ) -> tuple[Tensor, Tensor, Tensor]:
            transform = _Transform(window, n_fft=n_fft, hop_length=hop_length, n_samples=estimate.shape[1])
            return _all_sums(kernel, transform, [estimate, target], settings=KernelSettings(options, tables, needs))

        def fake(estimate: Tensor, *arguments: object) -> tuple[Tensor, Tensor, Tensor]:
            options, _, needs = arguments[4:]
            n_sums, n_target_sums = count(options)
            n_gradients = needs[0] * n_sums + needs[1] * (n_sums + n_target_sums)
            n_rows = estimate.shape[0]
            shapes = (n_rows, n_sums), (n_rows, n_target_sums), (n_gradients, *estimate.shape)
            return tuple(estimate.new_empty(shape) for shape in shapes)

        free = _free_name(name)
        _LIBRARY.define(free + _SCHEMA)
        _LIBRARY.impl(free, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"sepkit::{free}", fake, lib=_LIBRARY)
        torch.library.register_autograd(f"sepkit::{free}", _backward, setup_context=_keep_gradients, lib=_LIBRARY)
        return getattr(torch.ops.sepkit, free)

    return make


def _free_name(name: str) -> str:
    """Find a name that no operator has: those of a module that is imported again are still there, and in use."""
    names = itertools.chain([name], (f"{name}_{count}" for count in itertools.count(2)))
    return next(free for free in names if not hasattr(torch.ops.sepkit, free))


def _keep_gradients(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.needs, ctx.n_tables = inputs[7], len(inputs[6])
    ctx.shapes = [part.shape for part in output[:2]]
    ctx.save_for_backward(output[2])


def _backward(
    ctx: torch.autograd.function.FunctionCtx, of_sums: Tensor | None, of_target_sums: Tensor | None, _: None
) -> tuple:
    differentiated_once()
    (gradients,) = ctx.saved_tensors
    outer = zip((of_sums, of_target_sums), ctx.shapes, strict=True)
    weights = [gradients.new_zeros(shape) if part is None else part for part, shape in outer]
    n_sums = ctx.shapes[0][1]
    estimate = _weighted_sum(gradients[:n_sums], weights[0]) if ctx.needs[0] else None
    target_gradients = gradients[n_sums if ctx.needs[0] else 0 :]
    target = _weighted_sum(target_gradients, torch.cat(weights, 1)) if ctx.needs[1] else None
    return estimate, target, None, None, None, None, [None] * ctx.n_tables, None


def _weighted_sum(gradients: Tensor, weights: Tensor) -> Tensor:
    """Add up gradients (J, R, T) with weights (R, J): (R, T)."""
    result = gradients[0] * weights[:, :1]
    for gradient, weight in zip(gradients[1:], weights.unbind(1)[1:], strict=True):
        result.addcmul_(gradient, weight[:, None])
    return result


def total(values: Tensor) -> Tensor:
    """Add up all but the first dimension: (R, ...) to (R,)."""
    return values.flatten(1).sum(1)


def power(spectrum: Tensor) -> Tensor:
    """Compute squared magnitudes, twice as fast as `abs`."""
    real, imaginary = spectrum.real, spectrum.imag
    return (real * real).addcmul_(imaginary, imaginary)
