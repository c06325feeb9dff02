"""The heart: a Separator is an STFT, a network that estimates the sources, and the inverse STFT."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

from torch import Tensor, nn

from sepkit.arguments import check_is_tensor
from sepkit.chunking import Chunking
from sepkit.instantiate import InstantiationError, instantiate
from sepkit.models.facts import derive_sizes, describe_network
from sepkit.normalization import as_statistics, measure_mixture, normalize, restore
from sepkit.parts import (
    list_number_problems,
    list_rule_problems,
    list_source_problems,
    try_postfilter,
    try_transform,
)
from sepkit.problems import Problem, show
from sepkit.quantities import named_quantities
from sepkit.separation import Separation


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
        normalize: "recording": the network sees mixtures minus the mean and divided by the standard deviation of the
            whole recording, averaged over its channels, and estimates come back at the recording's level; None: as
            they are.
        chunking: arguments of `sepkit.chunking.Chunking`, with which recordings are separated where nothing else is
            asked for; None: its defaults.
        residual: name of what a recording holds beside the sources, which is separated with them then; None: it is
            named and separated on demand, as `sepkit.inference.residual_name` says.
        trusted: let `class` be any importable class, not only one of this package.

    Attributes:
        facts: what the network declares, as `sepkit.models.facts` reads it.
        chunking: how recordings are cut.

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
        normalize: Literal["recording"] | None = None,
        chunking: Mapping[str, Any] | None = None,
        residual: str | None = None,
        trusted: bool = True,
    ) -> None:
        super().__init__()
        numbers = {"sample_rate": sample_rate, "n_channels": n_channels, "segment": segment}
        parts = {"network": network, "transform": transform, "postfilter": postfilter}
        rules = {"normalize": normalize, "chunking": chunking, "residual": residual}
        problems = self.problems({"sources": sources, **numbers, **parts, **rules})
        if problems:
            raise InstantiationError(problems)
        self.sources, self.sample_rate = list(sources), sample_rate
        self.n_channels, self.segment, self.residual = n_channels, segment, residual
        self.normalize, self.chunking = normalize, Chunking(**(chunking or {}))
        self._chunking = None if chunking is None else dict(chunking)
        self._transform, self._network = deepcopy(dict(transform or {"class": "STFT"})), deepcopy(dict(network))
        self.transform = instantiate(self._transform, "sepkit.transforms", trusted=trusted)
        methods = ("n_bins", "n_frames", "padded_length", "inverse")
        lacking = [name for name in methods if not hasattr(self.transform, name)]
        if lacking:
            found = type(self.transform).__name__
            raise ValueError(f"transform must have {', '.join(lacking)}, as STFT has, got {found}")
        try_transform(self.transform, n_channels)
        derived = derive_sizes(self.transform, len(self.sources), n_channels, sample_rate, segment)
        self.network = instantiate(self._network, "sepkit.models", derived, trusted=trusted)
        self.facts = describe_network(self.network)
        self._postfilter = None if postfilter is None else deepcopy(dict(postfilter))
        self.postfilter = None
        if postfilter is not None:
            self.postfilter = instantiate(self._postfilter, "sepkit.masks", derived, trusted=trusted)
            for problem in list_filter_problems(self.facts.outputs):
                raise ValueError(str(problem))
            try_postfilter(self.postfilter, (1, len(self.sources), n_channels, self.transform.n_bins, 2))

    @staticmethod
    def problems(settings: Mapping[str, Any]) -> list[Problem]:
        """List what is wrong with the sources and numbers among the constructor's arguments.

        Args:
            settings: all or some of the arguments, of any type.
        """
        problems = []
        if "sources" in settings:
            problems += [problem.below("sources") for problem in list_source_problems(settings["sources"])]
        problems += list_number_problems(settings)
        problems += list_rule_problems(settings)
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
            "normalize": self.normalize,
            "chunking": deepcopy(self._chunking),
            "residual": self.residual,
        }

    @property
    def n_parameters(self) -> int:
        """Return the number of trainable values."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def quantities(self) -> dict[str, str]:
        """Return the names of what a `Separation` of this separator holds, "source" each or "item"."""
        return named_quantities(self.facts.outputs)

    def forward(self, mixture: Tensor, statistics: Tensor | Sequence[float] | None = None) -> Tensor:
        """Separate a mixture.

        Args:
            mixture: (B, C, T) at `sample_rate`, T >= 1.
            statistics: where `normalize` is "recording", mean and standard deviation of the recording that the mixture
                is of, averaged over its channels, (2,) or (B, 2); None: each item is taken for a whole recording.

        Returns:
            (B, S, C, T), silent where a recording is.

        Raises:
            ValueError: a shape is not this separator's, or statistics come where nothing is normalised.
        """
        if self.normalize is None:
            if statistics is not None:
                raise ValueError("statistics are for a separator whose normalize is 'recording': leave them out")
            return self.analyze(mixture).estimate
        self._check(mixture, None)
        if statistics is None:
            statistics = measure_mixture(mixture)
        statistics = as_statistics(statistics, len(mixture))
        normalized = normalize(mixture, statistics)
        audible = normalized.flatten(1).any(1)[:, None, None, None]
        return restore(self._analyze(normalized, None).estimate * audible, statistics)

    def analyze(
        self,
        mixture: Tensor,
        targets: Tensor | None = None,
        *,
        network: nn.Module | None = None,
        wanted: Collection[str] | None = None,
    ) -> Separation:
        """Run the network once and keep all quantities, for training.

        Where `normalize` is "recording", each item is taken for a whole recording: mixture and targets are normalised
        by what is measured on its mixture, and all quantities are those of the normalised waveforms.

        Args:
            mixture: (B, C, T).
            targets: (B, S, C, T), or None.
            network: run in place of the separator's own, as one that is wrapped; None: the own.
            wanted: names of the quantities that will be asked for: what they do not need is not kept; None: all.

        Raises:
            ValueError: a shape is not this separator's, or the network returns other than it declares.
        """
        self._check(mixture, targets)
        if self.normalize is not None:
            statistics = measure_mixture(mixture)
            mixture = normalize(mixture, statistics)
            targets = None if targets is None else normalize(targets, statistics)
        return self._analyze(mixture, targets, network, wanted)

    def _analyze(
        self,
        mixture: Tensor,
        targets: Tensor | None,
        network: nn.Module | None = None,
        wanted: Collection[str] | None = None,
    ) -> Separation:
        """Run the network on what is checked and normalised."""
        separation = Separation(self, mixture, targets, wanted)
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

    def normalized(self, mixture: Tensor) -> Tensor:
        """Return what the network sees of mixtures (B, C, T), each taken for a whole recording."""
        return mixture if self.normalize is None else normalize(mixture, measure_mixture(mixture))

    def valid_length(self, n_samples: int) -> int:
        """Return the samples to which the network fills up a mixture of `n_samples`."""
        if self.facts.has_valid_length:
            return self.network.valid_length(n_samples)
        return max(n_samples, self.facts.least_length)

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

    def _check_outputs(self, outputs: Mapping[str, Tensor], separation: Separation) -> None:
        if set(outputs) != set(self.facts.outputs):
            wanted, returned = ", ".join(self.facts.outputs), ", ".join(outputs)
            raise ValueError(f"network must return what it declares in `outputs`, {wanted}, got {returned}")
        per_source = (len(separation.mixture), len(self.sources))
        for name, kind in self.facts.outputs.items():
            shape = tuple(outputs[name].shape)
            if name in ("mask", "spectrum"):
                wanted = (*per_source, *separation.bins)
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
