"""Weights of demucs' networks, HTDemucs, HDemucs and Demucs, and of torchaudio's HDemucs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import agreed, agreed_divisor, listed_names, required, shape_of
from sepkit.importing._demucs_checks import RESIDUAL_IN, SEPARATING, check_known, first_layer, segment_length
from sepkit.importing._demucs_names import original_hybrid, rename_torchaudio
from sepkit.importing._demucs_time import convert_time, detect_time, time_settings
from sepkit.importing._tensors import convert_named

_HYBRID = {  # arguments that are read, or do nothing after training
    "sources", "audio_channels", "channels", "growth", "nfft", "depth", "freq_emb", "emb_scale", "kernel_size",
    "stride", "norm_starts", "norm_groups", "dconv_mode", "dconv_depth", "dconv_comp", "samplerate", "segment",
    "rescale", "emb_smooth", "dconv_init", "wiener_iters", "multi_freqs_depth",
}  # fmt: skip
_TRANSFORMER = {
    "bottom_channels", "t_layers", "t_hidden_scale", "t_heads", "t_max_period", "t_weight_pos_embed", "t_cross_first",
    "use_train_segment", "end_iters", "time_stride", "t_dropout", "t_weight_decay", "t_lr", "t_max_positions",
    "t_cape_mean_normalize", "t_cape_augment", "t_cape_glob_loc_scale", "t_mask_type", "t_mask_random_seed",
    "t_sparse_attn_window", "t_global_window", "t_sparsity", "t_auto_sparsity",
}  # fmt: skip
_JOINED = {"cac", "multi_freqs", "dconv_lstm", "dconv_attn", "hybrid_old"}
_NONE, _NO, _YES = (None, []), (None, False, 0), (True,)
_FIXED = {"rewrite": _YES, "wiener_residual": _NO, "context": (1,), "context_enc": (0,), "channels_time": (None,)}
_FIXED_TRANSFORMER = {
    **_FIXED, "cac": _YES, "multi_freqs": _NONE, "t_emb": ("sin",), "t_norm_in": _YES, "t_norm_in_group": _NO,
    "t_group_norm": _NO, "t_norm_first": _YES, "t_norm_out": _YES, "t_layer_scale": _YES, "t_gelu": _YES,
    "t_sin_random_shift": (0,), "t_sparse_self_attn": _NO, "t_sparse_cross_attn": _NO, "num_subbands": (1,),
}  # fmt: skip
_FIXED_JOINED = {**_FIXED, "hybrid": _YES, "end_iters": (0,), "time_stride": (2,)}


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are HTDemucs', HDemucs' or Demucs', by their names."""
    names = rename_torchaudio(tensors)
    return detect_time(names) or ("tencoder.0.conv.weight" in names and "decoder.0.conv_tr.weight" in names)


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names.
        config: arguments of the original's constructor, by its names: `sources`, `samplerate` in Hz and `segment` in
            seconds, best a `Fraction`, must be there. What else it leaves out is told by the tensors, or has the
            original's default.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: the config lacks something, contradicts the tensors, or asks for what is not supported.
    """
    tensors = rename_torchaudio(tensors)
    if detect_time(tensors):
        return time_settings(tensors, config)
    make = _transformer_settings if _has(tensors, r"crosstransformer\.") else _joined_settings
    return make(tensors, config)


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
    tensors = rename_torchaudio(tensors)
    if settings["network"]["class"] == "Demucs":
        return convert_time(tensors, settings)
    return convert_named(tensors, settings, lambda own: original_hybrid(own, tensors))


def _transformer_settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    check_known(config, _HYBRID | _TRANSFORMER, _FIXED_TRANSFORMER)
    network = {"class": "HTDemucs", **_hybrid_network(tensors, config)}
    bottleneck = tensors.get("channel_upsampler.weight")
    n_bottleneck = agreed(config, "bottom_channels", 0 if bottleneck is None else len(bottleneck))
    hidden_size, n_features = shape_of(tensors, "crosstransformer.layers.0.linear1.weight", 2)
    scale = config.get("t_hidden_scale", hidden_size / n_features)
    if int(n_features * scale) != hidden_size:
        agreed(config, "t_hidden_scale", hidden_size / n_features)
    n_heads = config.get("t_heads", 8)
    if n_features % n_heads:
        raise ValueError(f"t_heads must divide {n_features}, the transformer's features in the tensors, got {n_heads}")
    network |= {
        "bottleneck_channels": n_bottleneck or None,
        "n_layers": agreed(config, "t_layers", _count(tensors, r"crosstransformer\.layers\.(\d+)\.")),
        "n_heads": n_heads,
        "feed_forward": float(scale),
        "cross_first": agreed(config, "t_cross_first", _has(tensors, r"crosstransformer\.layers\.0\.cross_attn")),
        "position_gain": float(config.get("t_weight_pos_embed", 1.0)),
        "longest_period": float(config.get("t_max_period", 10000.0)),
    }
    if config.get("use_train_segment", True):
        network["training_length"] = segment_length(config)
    return _separator(tensors, config, network)


def _joined_settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    check_known(config, _HYBRID | _JOINED, _FIXED_JOINED)
    depth = _count(tensors, r"encoder\.(\d+)\.")
    n_maps = shape_of(tensors, _begin(tensors, 0), 4)[1]
    n_channels = shape_of(tensors, "tencoder.0.conv.weight", 3)[1]
    is_complex = agreed(config, "cac", n_maps != n_channels)
    edges, n_bands = list(config.get("multi_freqs") or []), _count(tensors, r"encoder\.0\.layers\.(\d+)\.") or 1
    if len(edges) + 1 != n_bands:
        raise ValueError(f"multi_freqs must part {n_bands} bands, as the tensors have it, got {edges} in the config")
    starts = {
        name: first_layer(
            config, key, (index for index in range(depth) if _has(tensors, rf"encoder\.{index}\..*{part}")), depth
        )
        for name, key, part in (
            ("recurrence_from", "dconv_lstm", r"\.lstm\."),
            ("attention_from", "dconv_attn", r"\.query_decay\."),
        )
    }
    network = {
        "class": "HDemucs",
        **_hybrid_network(tensors, config),
        **{name: first if first < depth else None for name, first in starts.items()},
        "estimates": "spectrum" if is_complex else "magnitude",
        "wiener_iterations": 0 if is_complex else _iterations(config),
    }
    if edges:
        n_banded = _count(tensors, r"encoder\.(\d+)\.layers\.")
        network |= {"band_edges": edges, "n_banded": agreed(config, "multi_freqs_depth", n_banded)}
    return _separator(tensors, config, network)


def _iterations(config: Mapping[str, Any]) -> int:
    n_iterations = config.get("wiener_iters", 0)
    if n_iterations < 0:
        raise ValueError(f"wiener_iters must be at least 0, which alone is supported, got {n_iterations}")
    return n_iterations


def _separator(tensors: Mapping[str, Tensor], config: Mapping[str, Any], network: dict[str, Any]) -> dict[str, Any]:
    embedding = "freq_emb.embedding.weight"
    if embedding in tensors:
        n_fft = agreed(config, "nfft", 2 * network["stride"] * shape_of(tensors, embedding, 2)[0])
    else:
        n_fft = required(config, "nfft")
    transform = {"class": "STFT", "n_fft": n_fft, "hop_length": n_fft // 4, "normalized": True, "framing": "hops"}
    if config.get("hybrid_old", False):
        transform |= {"framing": "late_hops", "pad_mode": "constant"}
    return {
        "sources": listed_names(config, "sources"),
        "sample_rate": required(config, "samplerate"),
        "n_channels": shape_of(tensors, "tencoder.0.conv.weight", 3)[1],
        "segment": segment_length(config) / required(config, "samplerate"),
        **SEPARATING,
        "transform": transform,
        "network": network,
    }


def _hybrid_network(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that both hybrid networks have, and check the channels and sources."""
    hidden, _, kernel_size, _ = shape_of(tensors, _begin(tensors, 0), 4)
    depth = agreed(config, "depth", _count(tensors, r"encoder\.(\d+)\."))
    n_channels = agreed(config, "audio_channels", shape_of(tensors, "tencoder.0.conv.weight", 3)[1])
    last = _count(tensors, r"tdecoder\.(\d+)\.") - 1
    n_sources = shape_of(tensors, f"tdecoder.{last}.conv_tr.weight", 3)[1] // n_channels
    names = listed_names(config, "sources")
    if len(names) != n_sources:
        raise ValueError(f"sources must be {n_sources}, as the tensors have it, got {', '.join(names)} in the config")
    agreed({"stride": 4, **config}, "stride", kernel_size // 2)
    normed = (index for index in range(depth) if f"encoder.{index}.norm1.weight" in tensors)
    gain = float(config.get("freq_emb", 0.2) or 0) * config.get("emb_scale", 10)
    has_embedding = "freq_emb.embedding.weight" in tensors
    if bool(gain) != has_embedding:
        raise ValueError(f"freq_emb must be {'above 0' if has_embedding else 0}, as the tensors have it, got {gain:g}")
    return {
        "hidden_channels": agreed(config, "channels", hidden),
        "growth": agreed(config, "growth", shape_of(tensors, _begin(tensors, 1), 4)[0] // hidden if depth > 1 else 2),
        "depth": depth,
        "kernel_size": agreed(config, "kernel_size", kernel_size),
        "stride": kernel_size // 2,
        "norm_from": first_layer(config, "norm_starts", normed, depth),
        "norm_groups": config.get("norm_groups", 4),
        **_residuals(tensors, config, depth),
        "embedding_gain": gain,
    }


def _residuals(tensors: Mapping[str, Tensor], config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the arguments of the residual branches."""
    mode = _has(tensors, r"encoder\..*dconv") + 2 * _has(tensors, r"decoder\..*dconv")
    if mode not in RESIDUAL_IN:
        raise ValueError("tensors must have residual branches, dconv_mode 1 to 3: others are not supported")
    innermost = "decoder.0" if mode == 2 else f"encoder.{depth - 1}"
    n_narrow, n_features, _ = shape_of(tensors, f"{innermost}.dconv.layers.0.0.weight", 3)
    return {
        "residual_in": RESIDUAL_IN[agreed(config, "dconv_mode", mode)],
        "residual_depth": agreed(config, "dconv_depth", _count(tensors, r".*dconv\.layers\.(\d+)\.")),
        "residual_compression": agreed_divisor(config, "dconv_comp", n_features, n_narrow),
    }


def _begin(tensors: Mapping[str, Tensor], index: int) -> str:
    """Name the weights with which a layer of the encoder begins."""
    banded = f"encoder.{index}.layers.0.conv.weight"
    return banded if banded in tensors else f"encoder.{index}.conv.weight"


def _count(names: Iterable[str], pattern: str) -> int:
    """Count by the highest number that a pattern finds."""
    return max((int(match[1]) + 1 for name in names if (match := re.match(pattern, name))), default=0)


def _has(names: Iterable[str], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in names)
