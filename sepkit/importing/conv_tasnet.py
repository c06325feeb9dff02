"""Conv-TasNet in asteroid's names: `encoder.filterbank`, `masker.TCN`, `decoder.filterbank`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import agreed, count, listed_names, required, shape_of, stated
from sepkit.importing._tensors import convert_named

_NORMS = {"gLN": "global", "cLN": "frame", "cgLN": "cumulative"}
_MASKS = ("sigmoid", "relu", "softmax")
_ACTIVATIONS = {None: False, "linear": False, "relu": True}
_NAMES = {
    "encode.weight": "encoder.filterbank._filters",
    "decode.weight": "decoder.filterbank._filters",
    "enter_norm.weight": "masker.bottleneck.0.gamma",
    "enter_norm.bias": "masker.bottleneck.0.beta",
    "enter.weight": "masker.bottleneck.1.weight",
    "enter.bias": "masker.bottleneck.1.bias",
    "leave_activation.weight": "masker.mask_net.0.weight",
    "leave.weight": "masker.mask_net.1.weight",
    "leave.bias": "masker.mask_net.1.bias",
}
_PARTS = {
    "widen": "shared_block.0",
    "widen_activation": "shared_block.1",
    "widen_norm": "shared_block.2",
    "convolve_activation": "shared_block.4",
    "convolve_norm": "shared_block.5",
    "narrow": "res_conv",
    "skip": "skip_conv",
}
_LEAVES = {"weight": "gamma", "bias": "beta"}  # of norms


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a Conv-TasNet of asteroid."""
    return "encoder.filterbank._filters" in tensors and any(name.startswith("masker.TCN.") for name in tensors)


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names.
        config: arguments of asteroid's ConvTasNet, which it calls `model_args`, of which `sample_rate`, `stride`,
            `n_blocks`, `norm_type` and `mask_act` must be there; `sources`, their names, and `segment` in seconds.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: the config lacks something, contradicts the tensors, or asks for a variant that there is not.
    """
    n_filters, _, filter_size = shape_of(tensors, "encoder.filterbank._filters", 3)
    n_features = shape_of(tensors, "masker.bottleneck.1.weight", 3)[0]
    n_rows, n_last, _ = shape_of(tensors, "masker.mask_net.1.weight", 3)
    causal = "masker.TCN.0.shared_block.3.0.weight" in tensors
    hidden_size, _, kernel_size = shape_of(tensors, f"masker.TCN.0.shared_block.3{'.0' * causal}.weight", 3)
    n_skip = n_last if "masker.TCN.0.skip_conv.weight" in tensors else 0
    found = {"n_src": n_rows // n_filters, "n_filters": n_filters, "kernel_size": filter_size, "bn_chan": n_features}
    found |= {"hid_chan": hidden_size, "skip_chan": n_skip, "conv_kernel_size": kernel_size, "causal": causal}
    for key, value in {**found, "in_chan": n_filters, "out_chan": n_filters}.items():
        agreed(config, key, value)
    if stated(config, "fb_name") not in (None, "free", "FreeFB"):
        raise ValueError(f"fb_name must be free, which alone is supported, got {stated(config, 'fb_name')}")
    total, n_blocks = count(tensors, "masker.TCN."), int(required(config, "n_blocks"))
    if n_blocks < 1 or total % n_blocks:
        raise ValueError(f"n_blocks must divide {total}, the blocks of the tensors, got {n_blocks} in the config")
    sources = listed_names(config, "sources")
    if len(sources) != found["n_src"]:
        raise ValueError(f"sources must be {found['n_src']}, as the tensors have it, got {', '.join(sources)}")
    norm, activation = _choice(config, "norm_type", _NORMS), stated(config, "encoder_activation")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"encoder_activation must be null, linear or relu, which are supported, got {activation}")
    return {
        "sources": sources,
        "sample_rate": int(required(config, "sample_rate")),
        "n_channels": 1,
        "segment": float(required(config, "segment")),
        "transform": {"class": "STFT"},
        "network": {
            "class": "ConvTasNet",
            "n_filters": n_filters,
            "filter_size": filter_size,
            "hop_length": int(required(config, "stride")),
            "n_features": n_features,
            "hidden_size": hidden_size,
            "n_skip": n_skip,
            "kernel_size": kernel_size,
            "n_blocks": n_blocks,
            "n_repeats": agreed(config, "n_repeats", total // n_blocks),
            # asteroid takes cLN where gLN is asked for with causal.
            "norm": "frame" if causal and norm == "gLN" else _NORMS[norm],
            "mask": _choice(config, "mask_act", _MASKS),
            "rectify": _ACTIVATIONS[activation],
            "causal": causal,
        },
    }


def convert(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Put tensors under this package's names.

    Args:
        tensors: under their original names.
        settings: of the Separator.

    Returns:
        The state of the Separator with these settings.

    Raises:
        ValueError: a tensor is missing, of another shape or one too many.
    """
    arguments = settings["network"]
    # The last block's, which hands nothing on but its skip; asteroid has it and does not use it.
    last = f"masker.TCN.{arguments['n_blocks'] * arguments['n_repeats'] - 1}.res_conv."
    used = {name: t for name, t in tensors.items() if not (arguments["n_skip"] and name.startswith(last))}

    def original(name: str) -> str:
        name = name.removeprefix("core.")
        block = re.match(r"blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if not block:
            return _NAMES[name]
        number, part, leaf = block.groups()
        place = f"shared_block.3{'.0' * arguments['causal']}" if part == "convolve" else _PARTS[part]
        return f"masker.TCN.{number}.{place}.{_LEAVES[leaf] if part.endswith('norm') else leaf}"

    return convert_named(used, settings, original)


def _choice(config: Mapping[str, Any], key: str, choices: Mapping[str, Any] | tuple[str, ...]) -> str:
    found = required(config, key)
    if found not in choices:
        raise ValueError(f"{key} must be one of {', '.join(choices)}, which are supported, got {found}")
    return found
