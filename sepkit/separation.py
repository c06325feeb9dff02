"""A Separation: the quantities of one pass through a Separator."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.masks import apply_mask
from sepkit.transforms import absolute

_MASKED = {"estimate", "estimate_spectrogram"}  # quantities that are made of the mixture's spectrogram
_MAGNITUDES = ("mixture_magnitude", "target_magnitude")


class Separation:
    """Quantities of one pass through a Separator, under the field's names, each derived once on first use.

    Waveforms are (B, C, T) or, per source, (B, S, C, T); spectrograms (B, C, F, N) or (B, S, C, F, N). What the
    network returned is here under the names that it declares.

    Attributes:
        mixture: waveform.
        mixture_spectrogram: complex.
        mixture_magnitude: its absolute value.
        mask: real or complex, per source; only where the network estimates masks.
        estimate: waveform per source.
        estimate_spectrogram: complex, per source; the estimate's transform where the network returns waveforms.
        estimate_magnitude: its absolute value.
        target: waveform per source; only where targets were given, as all below.
        target_spectrogram: complex, per source.
        target_magnitude: its absolute value.
        interference_magnitude: mixture_magnitude - target_magnitude, per source, signed.

    Args:
        separator: the `sepkit.separator.Separator` whose pass it is.
        mixture: (B, C, T).
        targets: (B, S, C, T), or None.
        wanted: names of the quantities that will be asked for: a spectrogram of which no more than the magnitude is
            needed for them is not kept, and computed anew if it is asked for after all; None: all are kept.
    """

    def __init__(
        self,
        separator: nn.Module,
        mixture: Tensor,
        targets: Tensor | None,
        wanted: Collection[str] | None = None,
    ) -> None:
        self._separator, self._targets = separator, targets
        self._wanted = None if wanted is None else {*wanted, *separator.facts.inputs}
        self._postfilter = None if separator.training else separator.postfilter
        self.mixture = mixture
        self._outputs: Mapping[str, Tensor] = {}
        self._by_source: dict[str, tuple[Tensor, ...]] = {}

    def set_outputs(self, outputs: Mapping[str, Tensor]) -> None:
        """Add the outputs of the network; waveforms take the mixture's precision, in which they are compared."""
        as_mixture = {
            name: outputs[name].to(self.mixture.dtype) for name in ("waveform", "estimate") if name in outputs
        }
        self._outputs = {**outputs, **as_mixture}
        vars(self).update(self._outputs)  # an "estimate" among them is the one that would be derived

    @property
    def bins(self) -> tuple[int, ...]:
        """Return the shape of an item's spectrogram, (C, F, N)."""
        known = vars(self).get("mixture_magnitude")
        return tuple((self.mixture_spectrogram if known is None else known).shape[1:])

    @cached_property
    def mixture_spectrogram(self) -> Tensor:  # noqa: D102
        return self._separator.spectrogram(self.mixture)

    @cached_property
    def mixture_magnitude(self) -> Tensor:  # noqa: D102
        if self._keeps("mixture_spectrogram"):
            return absolute(self.mixture_spectrogram)
        return self._measure(self.mixture)

    @cached_property
    def estimate_spectrogram(self) -> Tensor:  # noqa: D102
        if "waveform" in self._outputs or "estimate" in self._outputs:
            return self._separator.spectrogram(self.estimate)
        return self._output_spectrogram

    @cached_property
    def estimate_magnitude(self) -> Tensor:  # noqa: D102
        if set(self._outputs) & {"spectrum", "waveform", "estimate"} or self._postfilter is not None:
            return absolute(self.estimate_spectrogram)
        return _mask_magnitude(self.mask, self.mixture_magnitude.unsqueeze(1))

    @cached_property
    def estimate(self) -> Tensor:  # noqa: D102
        if "mask" not in self._outputs and "spectrum" not in self._outputs:
            return self.waveform
        if torch.is_grad_enabled() or self._postfilter is not None or "_output_spectrogram" in vars(self):
            estimate = self._to_waveform(self._output_spectrogram)
        else:  # one source in memory at a time
            if "spectrum" in self._outputs:
                spectrograms = iter(self.spectrum.split(1, 1))
            else:
                spectrograms = (apply_mask(mask, self.mixture_spectrogram) for mask in self.mask.split(1, 1))
            estimate = torch.cat([self._to_waveform(spectrogram) for spectrogram in spectrograms], 1)
        return estimate + self.waveform if "waveform" in self._outputs else estimate

    @cached_property
    def _output_spectrogram(self) -> Tensor:
        """Return the spectrum of each source, or the masked mixture, filtered where there is a postfilter."""
        spectrum = self.spectrum if "spectrum" in self._outputs else apply_mask(self.mask, self.mixture_spectrogram)
        return spectrum if self._postfilter is None else self._postfilter(spectrum, self.mixture_spectrogram)

    def _to_waveform(self, spectrogram: Tensor) -> Tensor:
        return self._separator.transform.inverse(spectrogram, self.mixture.shape[-1])

    @property
    def target(self) -> Tensor:  # noqa: D102
        if self._targets is None:
            raise ValueError("this separation has no targets: give them to analyze(mixture, targets)")
        return self._targets

    @cached_property
    def target_spectrogram(self) -> Tensor:  # noqa: D102
        return self._separator.spectrogram(self.target)

    @cached_property
    def target_magnitude(self) -> Tensor:  # noqa: D102
        if self._keeps("target_spectrogram"):
            return absolute(self.target_spectrogram)
        return self._measure(self.target)

    @cached_property
    def interference_magnitude(self) -> Tensor:  # noqa: D102
        return self.mixture_magnitude.unsqueeze(1) - self.target_magnitude

    def by_source(self, quantity: str) -> tuple[Tensor, ...]:
        """Split a quantity that is there per source, (B, S, ...), into S of (B, ...).

        It is split once: an index for each source would give back a whole gradient that is mostly zeros, which costs
        9 % of a step with eight terms of one source each.
        """
        if quantity not in self._by_source:
            self._by_source[quantity] = getattr(self, quantity).unbind(1)
        return self._by_source[quantity]

    def _keeps(self, spectrogram: str) -> bool:
        """Return whether a spectrogram is there, or needed for more than its magnitude."""
        if self._wanted is None or spectrogram in vars(self) or spectrogram in self._wanted:
            return True
        masked = {*_MASKED, *(() if "mask" in self._separator.facts.outputs else ("estimate_magnitude",))}
        return spectrogram == "mixture_spectrogram" and bool(masked & self._wanted)

    def _measure(self, waveform: Tensor) -> Tensor:
        """Take the magnitude of waveforms (..., T); on a CPU, one channel's spectrogram at a time is in memory."""
        if waveform.device.type != "cpu" or waveform.requires_grad:
            return absolute(self._separator.spectrogram(waveform))
        magnitudes, channels = None, waveform.flatten(0, -2)
        for i, channel in enumerate(channels):
            magnitude = absolute(self._separator.spectrogram(channel))
            if magnitudes is None:
                magnitudes = magnitude.new_empty(len(channels), *magnitude.mT.shape).mT  # as a spectrogram lies
            magnitudes[i] = magnitude
        return magnitudes.unflatten(0, waveform.shape[:-1])


def _mask_magnitude(mask: Tensor, magnitude: Tensor) -> Tensor:
    """Multiply a magnitude (B, 1, C, F, N) by the absolute value of a mask (B, S, C, F, N)."""
    if mask.is_complex() or mask.dtype != magnitude.dtype or torch.compiler.is_compiling():
        return mask.abs() * magnitude
    return _MaskedMagnitude.apply(mask, magnitude)


class _MaskedMagnitude(torch.autograd.Function):
    """The product of a real mask's absolute value and a magnitude, for which no more than these two are kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(mask: Tensor, magnitude: Tensor) -> Tensor:
        return torch.mul(mask, magnitude).abs_()

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor], _output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        mask, magnitude = ctx.saved_tensors
        to_mask = to_magnitude = None
        if ctx.needs_input_grad[0]:
            signs, again = mask.sgn(), torch.is_grad_enabled()  # to be differentiated again
            to_mask = signs * magnitude * gradient if again else signs.mul_(magnitude).mul_(gradient)
        if ctx.needs_input_grad[1]:
            to_magnitude = (gradient * mask.abs()).sum(1, keepdim=True)
        return to_mask, to_magnitude
