"""The heart: a Separator is an STFT, a network that estimates the sources, and the inverse STFT."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import check_is_tensor, is_number, is_whole
from sepkit.files import is_safe_name, same_file_key
from sepkit.instantiate import InstantiationError, instantiate
from sepkit.masks import apply_mask
from sepkit.models.facts import derive_sizes, describe_network
from sepkit.problems import Problem, show
from sepkit.quantities import named_quantities


class Separator(nn.Module):
    """Separate mixtures into sources; made of plain data, so that it can be written down and rebuilt.

    Args:
        sources: names of the S sources, in the order of the output.
        network: mapping with `class` and arguments, a class of `sepkit.models` or a dotted path.
        sample_rate: Hz.
        n_channels: C.
        segment: seconds of audio that it is trained on and separates at a time.
        transform: mapping with `class` and arguments: `STFT`, or a dotted path to what has its methods; None: STFT's
            defaults.
        postfilter: mapping with `class` and arguments, `WienerFilter`, or a dotted path to a module that turns the
            estimated spectrograms, (B, S, C, F, N), and the mixture's into better ones, outside of training alone; for
            networks that estimate masks or spectra; None: none.
        trusted: let `class` be any importable class, not only one of this package.

    Attributes:
        facts: what the network declares, as `sepkit.models.facts` reads it.

    Raises:
        ValueError: the transform is not one that a separator can use, or what the network declares cannot be.
        sepkit.instantiate.InstantiationError: an argument, a class or its arguments cannot be used.
    """

    def __init__(
        self,
        sources: Sequence[str],
        network: Mapping[str, Any],
        sample_rate: int = 44100,
        n_channels: int = 2,
        segment: float = 3.0,
        transform: Mapping[str, Any] | None = None,
        postfilter: Mapping[str, Any] | None = None,
        trusted: bool = True,
    ) -> None:
        super().__init__()
        numbers = {"sample_rate": sample_rate, "n_channels": n_channels, "segment": segment}
        parts = {"network": network, "transform": transform, "postfilter": postfilter}
        problems = self.problems({"sources": sources, **numbers, **parts})
        if problems:
            raise InstantiationError(problems)
        self.sources, self.sample_rate = list(sources), sample_rate
        self.n_channels, self.segment = n_channels, segment
        self._transform, self._network = deepcopy(dict(transform or {"class": "STFT"})), deepcopy(dict(network))
        self.transform = instantiate(self._transform, "sepkit.transforms", trusted=trusted)
        methods = ("n_bins", "n_frames", "padded_length", "inverse")
        lacking = [name for name in methods if not hasattr(self.transform, name)]
        if lacking:
            found = type(self.transform).__name__
            raise ValueError(f"transform must have {', '.join(lacking)}, as STFT has, got {found}")
        _try_transform(self.transform, n_channels)
        derived = derive_sizes(self.transform, len(self.sources), n_channels, sample_rate, segment)
        self.network = instantiate(self._network, "sepkit.models", derived, trusted=trusted)
        self.facts = describe_network(self.network)
        self._postfilter = None if postfilter is None else deepcopy(dict(postfilter))
        self.postfilter = None
        if postfilter is not None:
            self.postfilter = instantiate(self._postfilter, "sepkit.masks", derived, trusted=trusted)
            for problem in list_filter_problems(self.facts.outputs):
                raise ValueError(str(problem))
            _try_postfilter(self.postfilter, (1, len(self.sources), n_channels, self.transform.n_bins, 2))

    @staticmethod
    def problems(settings: Mapping[str, Any]) -> list[Problem]:
        """List what is wrong with the sources and numbers among the constructor's arguments.

        Args:
            settings: all or some of the arguments, of any type.
        """
        problems = []
        if "sources" in settings:
            problems += [problem.below("sources") for problem in _source_problems(settings["sources"])]
        for name in ("sample_rate", "n_channels"):
            number = settings.get(name, 1)
            if not (is_whole(number) and number >= 1):
                problems.append(Problem((name,), f"must be a whole number, at least 1, got {show(number)}"))
        segment = settings.get("segment", 1.0)
        if not (is_number(segment) and 0 < segment < math.inf):
            problems.append(Problem(("segment",), f"must be a finite number of seconds above 0, got {show(segment)}"))
        for name in ("network", "transform", "postfilter"):
            part = settings.get(name)
            if name in settings and not isinstance(part, Mapping) and (part is not None or name == "network"):
                problems.append(Problem((name,), f"must be a mapping with `class:`, got {show(part)}"))
        return problems

    @property
    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        return {
            "sources": list(self.sources),
            "sample_rate": self.sample_rate,
            "n_channels": self.n_channels,
            "segment": self.segment,
            "transform": deepcopy(self._transform),
            "network": deepcopy(self._network),
            "postfilter": deepcopy(self._postfilter),
        }

    @property
    def n_parameters(self) -> int:
        """Return the number of trainable values."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def quantities(self) -> dict[str, str]:
        """Return the names of what a `Separation` of this separator holds, "source" each or "item"."""
        return named_quantities(self.facts.outputs)

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate a mixture.

        Args:
            mixture: (B, C, T) at `sample_rate`, T >= 1.

        Returns:
            (B, S, C, T).
        """
        return self.analyze(mixture).estimate

    def analyze(
        self, mixture: Tensor, targets: Tensor | None = None, *, network: nn.Module | None = None
    ) -> "Separation":
        """Run the network once and keep all quantities, for training.

        Args:
            mixture: (B, C, T).
            targets: (B, S, C, T), or None.
            network: run in place of the separator's own, as one that is wrapped; None: the own.

        Raises:
            ValueError: a shape is not this separator's, or the network returns other than it declares.
        """
        self._check(mixture, targets)
        separation = Separation(self, mixture, targets)
        inputs = {name: getattr(separation, name) for name in self.facts.inputs}
        try:
            outputs = (self.network if network is None else network)(**inputs)
        except RuntimeError as error:
            weights = next(self.network.parameters(), mixture)
            if (weights.dtype, weights.device) == (mixture.dtype, mixture.device):
                raise
            raise ValueError(
                f"mixture must be of the weights' type and on their device, {weights.dtype} on {weights.device}, got "
                f"{mixture.dtype} on {mixture.device}: convert one with .to(), and compute in half precision under "
                "autocast"
            ) from error
        if isinstance(outputs, Tensor):
            outputs = {next(iter(self.facts.outputs)): outputs}
        if not isinstance(outputs, Mapping) or not all(isinstance(value, Tensor) for value in outputs.values()):
            raise ValueError(f"network must return a tensor, or tensors by name, got {type(outputs).__name__}")
        self._check_outputs(outputs, separation)
        separation.set_outputs(outputs)
        return separation

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Transform (..., T), filled to the network's `least_length`, into complex (..., F, N).

        N is a multiple of the network's `frame_multiple`.
        """
        length = waveform.shape[-1]
        least_length = max(length, self.facts.least_length)
        missing = self.transform.padded_length(least_length, self.facts.frame_multiple) - length
        return self.transform(nn.functional.pad(waveform, (0, missing)) if missing else waveform)

    def _check(self, mixture: Tensor, targets: Tensor | None) -> None:
        check_is_tensor(mixture, "mixture")
        if mixture.dim() != 3 or mixture.shape[1] != self.n_channels or not mixture.shape[2]:
            raise ValueError(f"mixture must be (B, {self.n_channels}, T >= 1), got {tuple(mixture.shape)}")
        if targets is None:
            return
        check_is_tensor(targets, "targets")
        wanted = (mixture.shape[0], len(self.sources), *mixture.shape[1:])
        if targets.shape != wanted:
            raise ValueError(f"targets must be {wanted} for this mixture, got {tuple(targets.shape)}")

    def _check_outputs(self, outputs: Mapping[str, Tensor], separation: "Separation") -> None:
        if set(outputs) != set(self.facts.outputs):
            wanted, returned = ", ".join(self.facts.outputs), ", ".join(outputs)
            raise ValueError(f"network must return what it declares in `outputs`, {wanted}, got {returned}")
        per_source = (len(separation.mixture), len(self.sources))
        for name, kind in self.facts.outputs.items():
            shape = tuple(outputs[name].shape)
            if name in ("mask", "spectrum"):
                wanted = (*per_source, *separation.mixture_spectrogram.shape[1:])
            elif name in ("waveform", "estimate"):
                wanted = (*per_source, *separation.mixture.shape[1:])
            else:
                leading = per_source if kind == "source" else per_source[:1]
                wanted = (*leading, *shape[len(leading) :])
            if shape != wanted:
                article = "an" if name == "estimate" else "a"
                raise ValueError(f"network must return {article} {name} {wanted}, got {shape}")


def list_filter_problems(outputs: Iterable[str]) -> list[Problem]:
    """List what keeps the estimates of a network with these outputs from being filtered."""
    if not {"waveform", "estimate"} & {*outputs}:
        return []
    found = ", ".join(outputs)
    return [Problem(("postfilter",), f"needs a network that estimates masks or spectra alone, got one with {found}")]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for as long as the context lasts, and restore the mode of each part then."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@torch.no_grad()
def _try_transform(transform: nn.Module, n_channels: int) -> None:
    """Refuse a transform that gives no complex spectrogram, or whose inverse gives no waveform: training would fail."""
    device = next(chain(transform.parameters(), transform.buffers()), torch.zeros(())).device
    spectrogram = transform(torch.zeros(n_channels, transform.padded_length(1), device=device))
    shape = tuple(spectrogram.shape)
    if not spectrogram.is_complex() or len(shape) != 3 or shape[:2] != (n_channels, transform.n_bins):
        wanted = f"complex ({n_channels}, {transform.n_bins}, N), as STFT does"
        raise ValueError(f"transform must turn ({n_channels}, T) into {wanted}, got {spectrogram.dtype} {shape}")
    waveform = transform.inverse(spectrogram, 1)
    if waveform.is_complex() or waveform.shape != (n_channels, 1):
        found = f"{waveform.dtype} {tuple(waveform.shape)}"
        raise ValueError(f"transform's inverse(spectrogram, T) must give a real ({n_channels}, T), got {found}")


def _source_problems(sources: object) -> Iterator[Problem]:
    """List what is wrong with names of sources: files are called after them."""
    if isinstance(sources, str) or not isinstance(sources, Sequence) or not sources:
        yield Problem((), f"must be a list of names, at least one, got {show(sources)}")
        return
    keys: set[str] = set()
    for position, name in enumerate(sources):
        if not isinstance(name, str):
            yield Problem((position,), f"must be a name, got {show(name)}")
            continue
        key = same_file_key(name)
        if key in keys:
            yield Problem((position,), f"each source must be named once, got {show(name)} again")
        elif key == "mixture":
            yield Problem((position,), f"{show(name)} is what the sources are separated from; it cannot be one of them")
        elif name.startswith(".") or not is_safe_name(name, ".flac"):
            yield Problem((position,), f"a source must be a name that files can have, got {show(name)}")
        keys.add(key)


@torch.no_grad()
def _try_postfilter(postfilter: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse a postfilter that does not turn complex (B, S, C, F, N) and the mixture's spectrogram into the same."""
    device = next(chain(postfilter.parameters(), postfilter.buffers()), torch.zeros(())).device
    silence = torch.zeros(shape, dtype=torch.complex64, device=device)
    filtered = postfilter(silence, silence[:, 0])
    if not isinstance(filtered, Tensor) or not filtered.is_complex() or filtered.shape != shape:
        found = f"{filtered.dtype} {tuple(filtered.shape)}" if isinstance(filtered, Tensor) else type(filtered).__name__
        raise ValueError(f"postfilter must turn estimates, complex {shape}, into as many, got {found}")


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
    """

    def __init__(self, separator: Separator, mixture: Tensor, targets: Tensor | None) -> None:
        self._separator, self._targets = separator, targets
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

    @cached_property
    def mixture_spectrogram(self) -> Tensor:  # noqa: D102
        return self._separator.spectrogram(self.mixture)

    @cached_property
    def mixture_magnitude(self) -> Tensor:  # noqa: D102
        return self.mixture_spectrogram.abs()

    @cached_property
    def estimate_spectrogram(self) -> Tensor:  # noqa: D102
        if "waveform" in self._outputs or "estimate" in self._outputs:
            return self._separator.spectrogram(self.estimate)
        return self._output_spectrogram

    @cached_property
    def estimate_magnitude(self) -> Tensor:  # noqa: D102
        if set(self._outputs) & {"spectrum", "waveform", "estimate"} or self._postfilter is not None:
            return self.estimate_spectrogram.abs()
        return self.mask.abs() * self.mixture_magnitude.unsqueeze(1)

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
        return self.target_spectrogram.abs()

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
