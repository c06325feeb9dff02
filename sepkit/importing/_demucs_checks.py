"""How the arguments of Demucs' constructors are read."""

from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

from sepkit.importing._config import agreed, required, stated

RESIDUAL_IN = {1: "encoder", 2: "decoder", 3: "both"}
SEPARATING = {  # how demucs separates recordings
    "normalize": "recording",
    "chunking": {"overlap": 0.25, "window": "triangle", "last": "short"},
}


def check_known(config: Mapping[str, Any], known: Collection[str], fixed: Mapping[str, Collection[Any]]) -> None:
    """Refuse a config that asks for what is not supported.

    Args:
        config: arguments of the original's constructor.
        known: those that are read elsewhere, or do nothing after training.
        fixed: those that must have one of these values.

    Raises:
        ValueError: an argument is unknown, or has another value.
    """
    for name, value in config.items():
        if name in fixed and value not in fixed[name]:
            raise ValueError(f"{name} must be {fixed[name][-1]!r}, which alone is supported, got {value!r}")
        if name not in fixed and name not in known:
            raise ValueError(f"config must hold arguments of the original network alone, got {name}")


def segment_length(config: Mapping[str, Any]) -> int:
    """Return the samples of a segment: `segment_length`, or the whole part of `segment` in seconds times the rate."""
    sample_rate = required(config, "samplerate")
    n_samples = stated(config, "segment_length") or int(_exact(required(config, "segment")) * sample_rate)
    if n_samples < 1:
        raise ValueError(f"segment must be a number of seconds above 0, got {n_samples / sample_rate:g}")
    return n_samples


def _exact(number: Any) -> Fraction:
    """Return an exact number of seconds: 7.8 as 39/5, not as the float that is nearest to it."""
    return Fraction(str(number)) if isinstance(number, float) else Fraction(number)


def first_layer(config: Mapping[str, Any], key: str, found: Iterable[int], depth: int) -> int:
    """Return the first of the layers that have something, `depth` where none has, once the config says the same."""
    first, told = min(found, default=depth), stated(config, key)
    if told is not None and min(told, depth) != first:
        agreed(config, key, first)
    return first
