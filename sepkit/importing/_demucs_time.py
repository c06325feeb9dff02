"""Weights of demucs' networks in the time domain, versions 2 and 3."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import agreed, agreed_divisor, count, listed_names, required, shape_of
from sepkit.importing._demucs_checks import RESIDUAL_IN, SEPARATING, check_known, first_layer, segment_length
from sepkit.importing._demucs_names import original_time
from sepkit.importing._tensors import convert_named

_BOTH = {
    "sources", "audio_channels", "channels", "growth", "depth", "kernel_size", "stride", "lstm_layers", "resample",
    "normalize", "samplerate", "segment", "segment_length", "rescale",
}  # fmt: skip
_THIRD = {
    "gelu", "norm_starts", "norm_groups", "dconv_mode", "dconv_depth", "dconv_comp", "dconv_attn", "dconv_lstm",
    "dconv_init",
}  # fmt: skip
_FIXED = {"rewrite": (True,), "glu": (True,)}


def detect_time(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are those of Demucs in the time domain, by their names."""
    return {"encoder.0.0.weight", "decoder.0.0.weight"} <= tensors.keys() and _second(tensors) in tensors


def time_settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors; see `sepkit.importing.demucs.settings`."""
    second = "encoder.0.2.weight" in tensors  # version 2, whose layers have nothing but convolutions
    check_known(config, _BOTH if second else _BOTH | _THIRD, {**_FIXED, "context": (3,) if second else (1,)})
    hidden, n_channels, kernel_size = shape_of(tensors, "encoder.0.0.weight", 3)
    depth = agreed(config, "depth", count(tensors, "encoder."))
    growth = shape_of(tensors, "encoder.1.0.weight", 3)[0] // hidden if depth > 1 else 2
    agreed(config, "audio_channels", n_channels)
    n_sources = shape_of(tensors, _second(tensors, f"decoder.{depth - 1}"), 3)[1] // n_channels
    names = listed_names(config, "sources")
    if len(names) != n_sources:
        raise ValueError(f"sources must be {n_sources}, as the tensors have it, got {', '.join(names)} in the config")
    sample_rate = required(config, "samplerate")
    return {
        "sources": names,
        "sample_rate": sample_rate,
        "n_channels": n_channels,
        "segment": segment_length(config) / sample_rate,
        **SEPARATING,
        "network": {
            "class": "Demucs",
            "hidden_channels": agreed(config, "channels", hidden),
            "growth": agreed(config, "growth", growth),
            "depth": depth,
            "kernel_size": agreed(config, "kernel_size", kernel_size),
            "stride": config.get("stride", 4),
            "n_recurrent": agreed(config, "lstm_layers", _n_recurrent(tensors)),
            "resample": config.get("resample", True),
            **(_second_version(config, depth) if second else _third_version(tensors, config, depth)),
        },
    }


def convert_time(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Put tensors under this package's names; see `sepkit.importing.demucs.convert`."""
    state = convert_named(tensors, settings, lambda own: original_time(own, tensors))
    if "encoder.0.2.weight" in tensors:
        first = "network.core.encoder.0.convolution.weight"
        state[first] = state[first] / (1 + 1e-5)  # version 2 divides each mixture by so much
    return state


def _second_version(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if config.get("normalize", False):
        raise ValueError("normalize must be False in version 2, which alone is supported, got True")
    return {
        "activation": "relu", "norm_from": depth, "residual_in": None, "padded": False, "normalize": False,
        "recurrence_from": None, "attention_from": None,
    }  # fmt: skip


def _third_version(tensors: Mapping[str, Tensor], config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    mode = sum(
        number * any(name.startswith(f"{coder}.0.3.layers.") for name in tensors)
        for number, coder in ((1, "encoder"), (2, "decoder"))
    )
    layers = range(depth)
    normed = (index for index in layers if f"encoder.{index}.1.weight" in tensors)
    network = {
        "activation": "gelu" if config.get("gelu", True) else "relu",
        "norm_from": first_layer(config, "norm_starts", normed, depth),
        "norm_groups": config.get("norm_groups", 4),
        "residual_in": RESIDUAL_IN.get(agreed(config, "dconv_mode", mode)),
        "normalize": config.get("normalize", True),
    }
    if not mode:
        return {**network, "recurrence_from": None, "attention_from": None}
    coder = "encoder" if mode != 2 else "decoder"
    numbers = dict(zip(layers, layers if coder == "encoder" else reversed(layers), strict=True))
    innermost = depth - 1 if coder == "encoder" else 0
    n_narrow, n_features, _ = shape_of(tensors, f"{coder}.{innermost}.3.layers.0.0.weight", 3)
    for name, key, part in (
        ("recurrence_from", "dconv_lstm", ".lstm."),
        ("attention_from", "dconv_attn", ".query_decay."),
    ):
        found = (
            numbers[index]
            for index in layers
            if any(other.startswith(f"{coder}.{index}.3.layers.") and part in other for other in tensors)
        )
        first = first_layer(config, key, found, depth)
        network[name] = first if first < depth else None
    return {
        **network,
        "residual_depth": agreed(config, "dconv_depth", count(tensors, f"{coder}.0.3.layers.")),
        "residual_compression": agreed_divisor(config, "dconv_comp", n_features, n_narrow),
    }


def _n_recurrent(tensors: Mapping[str, Tensor]) -> int:
    return sum(f"lstm.lstm.weight_ih_l{layer}" in tensors for layer in range(len(tensors)))


def _second(tensors: Mapping[str, Tensor], layer: str = "encoder.0") -> str:
    """Name the weights of the second convolution of a layer."""
    has_branches = any(name.startswith(f"{layer}.3.layers.") for name in tensors)
    return f"{layer}.{2 if f'{layer}.2.weight' in tensors else 4 if has_branches else 3}.weight"
