"""bandit's second version: its tensors under the names and in the order of the first, and its spectrograms."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sepkit.importing._config import agreed, required, window_size
from sepkit.importing._tensors import rename

_SPLIT = "band_split.norm_fc_modules."
_NAMES = (
    (r"^band_split\.norm_fc_modules\.(\d+)\.combined\.0\.", r"bsrnn.band_split.norm_fc_modules.\1.norm."),
    (r"^band_split\.norm_fc_modules\.(\d+)\.combined\.1\.", r"bsrnn.band_split.norm_fc_modules.\1.fc."),
    (r"^mask_estim\.", "bsrnn.mask_estim."),
)
_LAYER = re.compile(r"tf_model\.seqband\.(\d+)\.(.*)")  # of which every second one turns axes, and has no tensors
_AGAIN = (  # what is stored twice, and its other name
    (r"(norm_mlp\.\d+)\.combined\.0\.", r"\1.norm."),
    (r"(norm_mlp\.\d+)\.combined\.1\.0\.", r"\1.hidden.0."),
    (r"(norm_mlp\.\d+)\.combined\.2\.0\.", r"\1.output.0."),
)
_PADS = ("constant", "reflect")


def is_second(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of the second version."""
    return any(name.startswith(_SPLIT) for name in tensors)


def as_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put tensors of the second version under the names of the first, real parts before imaginary ones.

    Raises:
        ValueError: one that is stored twice has different values.
    """
    if not is_second(tensors):
        return dict(tensors)
    first = {}
    for name, tensor in tensors.items():
        other = rename(name, _AGAIN)
        if other != name and other in tensors:
            if not torch.equal(tensors[other], tensor):
                raise ValueError(f"{name} must be {other}, which it repeats, got other values")
            continue
        first[_first_name(other)] = _apart(tensor) if _is_of_bins(name, tensor) else tensor
    return first


def _first_name(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    if layer and int(layer[1]) % 2 == 0:
        return f"bsrnn.tf_model.seqband.{int(layer[1]) // 2}.{layer[2]}"
    return rename(name, _NAMES)


def _is_of_bins(name: str, tensor: Tensor) -> bool:
    """Return whether the last dimension is that of a band's bins, real and imaginary part in turn."""
    is_split = name.startswith(_SPLIT) and not name.endswith("combined.1.bias")
    return is_split and tensor.dim() > 0 and tensor.shape[-1] % 2 == 0


def _apart(values: Tensor) -> Tensor:
    """Put all real parts before all imaginary ones."""
    return values.unflatten(-1, (-1, 2)).mT.flatten(-2)


def read_transform(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Read the spectrogram, of which the second version takes what its config states.

    Args:
        config: with the arguments of bandit's network in a section.
        section: its name.

    Returns:
        The argument `transform` of a Separator.

    Raises:
        ValueError: something is missing, or not supported.
    """
    for key, value in {"window_fn": "hann_window", "center": True, "onesided": True, "wkwargs": {}}.items():
        agreed(config, f"{section}.{key}", value, "no other is supported")
    n_fft, pad_mode = required(config, f"{section}.n_fft"), required(config, f"{section}.pad_mode")
    if pad_mode not in _PADS:
        raise ValueError(f"{section}.pad_mode must be {' or '.join(_PADS)}, which are supported, got {pad_mode}")
    return {
        "class": "STFT",
        "n_fft": n_fft,
        "hop_length": required(config, f"{section}.hop_length"),
        "window_size": window_size(config, f"{section}.win_length", f"{section}.hop_length", n_fft),
        "normalized": "window" if required(config, f"{section}.normalized") else False,
        "pad_mode": pad_mode,
        "whole_hops": False,
    }
