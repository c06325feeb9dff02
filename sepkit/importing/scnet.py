"""SCNet, as its authors and the toolkits of the community write it: `encoder`, `separation_net`, `decoder`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import (
    agreed,
    agreed_divisor,
    chunk_samples,
    count,
    listed_names,
    normalization,
    required,
    shape_of,
    source_names,
    stated,
    window_size,
)
from sepkit.importing._tensors import convert_named, rename

_NAMES = (
    (r"^core\.position$", "pos_embed_f"),
    (r"^core\.mask\.", "mask_layer."),
    (r"^core\.down\.(\d+)\.compress\.", r"encoder.\1.SDlayer.convs."),
    (r"^core\.down\.(\d+)\.rows\.", r"encoder.\1.conv_modules."),
    (r"^core\.down\.(\d+)\.join\.", r"encoder.\1.globalconv."),
    (r"^core\.up\.(\d+)\.fuse\.", r"decoder.\1.0.conv."),
    (r"^core\.up\.(\d+)\.expand\.", r"decoder.\1.1.convtrs."),
    (r"^core\.dual_paths\.(\d+)\.frequencies\.(\w+)\.", r"separation_net.dp_modules.\1.\2.0."),
    (r"^core\.dual_paths\.(\d+)\.frames\.(\w+)\.", r"separation_net.dp_modules.\1.\2.1."),
    (r"\.recur\.", ".lstm_layers."),
    (r"\.project\.", ".linear_layers."),
    (r"\.normalise\.", ".norm_layers."),
)
_UNOFFICIAL = {"bandsplit_ratios", "downsample_strides", "n_conv_modules", "n_rnn_layers", "rnn_hidden_dim"}
_PATHS = "separation_net.dp_modules."


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of an SCNet."""
    return f"{_PATHS}0.lstm_layers.0.weight_ih_l0" in tensors and "encoder.0.SDlayer.convs.0.weight" in tensors


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names.
        config: with the sections `model`, and `audio` and `training` of the community's or `data` of the authors'; the
            latter needs `model.standardize` too, which says whether each item is standardised within the network, as it
            is in their code since September 2024.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: tensors and config contradict each other, or the config lacks what the tensors cannot tell.
    """
    _refuse_unofficial(config)
    shared = "audio" in config
    sample_rate = required(config, "audio.sample_rate" if shared else "data.samplerate")
    hop_length = required(config, "model.hop_size")
    segment = chunk_samples(config, hop_length) / sample_rate if shared else required(config, "data.segment")
    standardize = stated(config, "model.standardize") if shared else required(config, "model.standardize")
    masked, n_fft = "mask_layer.0.weight" in tensors, required(config, "model.nfft")
    if masked:
        n_fft = agreed(config, "model.nfft", 2 * (shape_of(tensors, "pos_embed_f", 4)[2] - 1))
    n_parts = shape_of(tensors, "encoder.0.SDlayer.convs.0.weight", 4)[1]
    return {
        "sources": _sources(config, shape_of(tensors, _last_expansion(tensors), 4)[1] // n_parts),
        "sample_rate": sample_rate,
        "n_channels": agreed(config, "model.audio_channels", n_parts // 2),
        "segment": segment,
        "normalize": normalization(config),
        "transform": {
            "class": "STFT",
            "n_fft": n_fft,
            "hop_length": hop_length,
            "window_size": window_size(config, "model.win_size", "model.hop_size", n_fft),
            "window": "hann" if masked else "rectangular",
            "normalized": required(config, "model.normalized"),
        },
        "network": {
            "class": "SCNet",
            **_sizes(tensors, config),
            "band_shares": list(required(config, "model.band_SR")),
            "band_strides": list(required(config, "model.band_stride")),
            "masked": masked,
            "standardize": bool(standardize),
        },
    }


def convert(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Put tensors under this package's names, and sum weights of maps that the original sees twice.

    Args:
        tensors: under their original names.
        settings: of the Separator.

    Returns:
        The state of the Separator with these settings.

    Raises:
        ValueError: a tensor is missing, of another shape or one too many.
    """
    summed = {name: _summed(name, tensors[name]) for name in tensors}
    return convert_named(summed, settings, lambda name: rename(name, _NAMES))


def _refuse_unofficial(config: Mapping[str, Any]) -> None:
    """Refuse a config of another network of this name, by its first key."""
    key = next((key for key in stated(config, "model") or () if key in _UNOFFICIAL), None)
    if key is not None:
        raise ValueError(
            f"model.{key} of the config is of amanteur's SCNet, another network than that of these weights: give the "
            "config that came with them"
        )


def _summed(name: str, tensor: Tensor) -> Tensor:
    """Sum the halves of a weight that sees maps twice."""
    if not re.fullmatch(r"decoder\.\d+\.0\.conv\.weight", name) or tensor.dim() != 4 or tensor.shape[1] % 2:
        return tensor
    return tensor.float().unflatten(1, (2, -1)).sum(1)


def _last_expansion(tensors: Mapping[str, Tensor]) -> str:
    return f"decoder.{count(tensors, 'decoder.') - 1}.1.convtrs.0.weight"


def _sources(config: Mapping[str, Any], n_sources: int) -> list[str]:
    """Name the sources by the section `training`, or by `model.sources` where there is none."""
    names = listed_names(config, "model.sources")
    agreed(config, "training.instruments", names, "model.sources of the config has it")
    target = stated(config, "training.target_instrument")
    return source_names({"training": {"instruments": names, "target_instrument": target}}, n_sources)


def _sizes(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read arguments of the network from the shapes, and compare them with the config."""
    stages = range(count(tensors, "encoder."))
    bands = range(count(tensors, "encoder.0.SDlayer.convs."))
    n_maps = [shape_of(tensors, f"encoder.{stage}.globalconv.weight", 4)[0] for stage in stages]
    kernels = [shape_of(tensors, f"encoder.0.SDlayer.convs.{band}.weight", 4)[2] for band in bands]
    depths = [count(tensors, f"encoder.0.conv_modules.{band}.layers.") for band in bands]
    deepest = f"encoder.{stages[-1]}.conv_modules.{depths.index(max(depths))}.layers.0."
    n_squeezed, _, kernel_size = shape_of(tensors, f"{deepest}3.weight", 3)
    hidden_size = shape_of(tensors, f"{_PATHS}0.lstm_layers.0.weight_hh_l0", 2)[1]
    agreed(config, "model.dims", [shape_of(tensors, "encoder.0.SDlayer.convs.0.weight", 4)[1], *n_maps])
    return {
        "n_maps": n_maps,
        "band_kernels": agreed(config, "model.band_kernel", kernels),
        "band_convolutions": agreed(config, "model.conv_depths", depths),
        "bottleneck": agreed_divisor(config, "model.compress", n_maps[-1], n_squeezed),
        "kernel_size": agreed(config, "model.conv_kernel", kernel_size),
        "n_layers": agreed(config, "model.num_dplayer", count(tensors, _PATHS)),
        "expand": agreed(config, "model.expand", hidden_size // n_maps[-1]),
    }
