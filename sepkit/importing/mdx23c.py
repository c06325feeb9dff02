"""MDX23C, as the toolkits of the community write it: `first_conv`, `encoder_blocks`, `bottleneck_block`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import (
    agreed,
    agreed_divisor,
    chunk_samples,
    count,
    normalization,
    required,
    shape_of,
    source_names,
)
from sepkit.importing._tensors import convert_named, rename

_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "elu1": "elu", "elu1.0": "elu"}
_BLOCK = ((r"\.before\.", ".tfc1."), (r"\.across\.", ".tdf."), (r"\.after\.", ".tfc2."))
_NAMES = (
    (r"^core\.lift\.", "first_conv."),
    (r"^core\.decide\.", "final_conv."),
    (r"^core\.lowest\.", "bottleneck_block.blocks."),
    (r"^core\.down\.(\d+)\.", r"encoder_blocks.\1.tfc_tdf.blocks."),
    (r"^core\.shrink\.(\d+)\.", r"encoder_blocks.\1.downscale.conv."),
    (r"^core\.up\.(\d+)\.", r"decoder_blocks.\1.tfc_tdf.blocks."),
    (r"^core\.enlarge\.(\d+)\.", r"decoder_blocks.\1.upscale.conv."),
    *_BLOCK,
)


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of an MDX23C."""
    return "first_conv.weight" in tensors and any(name.startswith("bottleneck_block.") for name in tensors)


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names.
        config: with the sections `audio`, `model` and `training`.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: tensors and config contradict each other, the config lacks what the tensors cannot tell, or the
            variant is not supported.
    """
    norm, activation = required(config, "model.norm"), required(config, "model.act")
    if norm != "InstanceNorm":
        raise ValueError(f"model.norm must be InstanceNorm, the only one that is supported, got {norm}")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"model.act must be one of {', '.join(_ACTIVATIONS)}, which are supported, got {activation}")
    sizes = _sizes(tensors, config)
    n_parts, n_rows = sizes.pop("n_parts"), sizes.pop("n_rows")
    n_channels = required(config, "audio.num_channels")
    if n_parts % (2 * n_channels):
        wanted = f"divide the {n_parts} parts of all subbands that the tensors have into real and imaginary ones"
        raise ValueError(f"audio.num_channels must {wanted}, got {n_channels}")
    n_subbands = agreed(config, "model.num_subbands", n_parts // (2 * n_channels))
    hop_length, sample_rate = required(config, "audio.hop_length"), required(config, "audio.sample_rate")
    return {
        "sources": source_names(config, sizes.pop("n_sources")),
        "sample_rate": sample_rate,
        "n_channels": n_channels,
        "segment": chunk_samples(config, hop_length) / sample_rate,
        "normalize": normalization(config),
        "transform": {"class": "STFT", "n_fft": required(config, "audio.n_fft"), "hop_length": hop_length},
        "network": {
            "class": "MDX23C",
            **sizes,
            "n_subbands": n_subbands,
            "activation": _ACTIVATIONS[activation],
            "n_used_bins": agreed(config, "audio.dim_f", n_subbands * n_rows),
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
    return convert_named(tensors, settings, lambda name: rename(name, _NAMES))


def _sizes(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read arguments of the network, and the parts and rows of a subband, and compare them with the config."""
    n_maps, n_parts = shape_of(tensors, "first_conv.weight", 4)[:2]
    block = "encoder_blocks.0.tfc_tdf.blocks."
    n_rows, n_squeezed = shape_of(tensors, f"{block}0.tdf.5.weight", 2)
    n_grown, _, *scale = shape_of(tensors, "encoder_blocks.0.downscale.conv.2.weight", 4)
    return {
        "n_sources": shape_of(tensors, "final_conv.2.weight", 4)[0] // n_parts,
        "n_parts": n_parts,
        "n_rows": n_rows,
        "n_maps": agreed(config, "model.num_channels", n_maps),
        "growth": agreed(config, "model.growth", n_grown - n_maps),
        "n_stages": agreed(config, "model.num_scales", count(tensors, "encoder_blocks.")),
        "n_blocks": agreed(config, "model.num_blocks_per_scale", count(tensors, block)),
        "scale": agreed(config, "model.scale", scale),
        "bottleneck": agreed_divisor(config, "model.bottleneck_factor", n_rows, n_squeezed),
    }
