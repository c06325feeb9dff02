"""BS-RoFormer and Mel-Band RoFormer: weights in the names of lucidrains and ZFTurbo."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sepkit.importing._config import (
    agreed,
    chunk_samples,
    count,
    normalization,
    required,
    shape_of,
    source_names,
    stated,
    window_size,
)
from sepkit.importing._tensors import check_names, convert_parts
from sepkit.models._attention import Places
from sepkit.models._band_layouts import group_by_width, overlapping_mel_bands

_REFUSED = {  # what a part of a name gives away
    r"\.branch\.": "hyper-connections",
    r"learned_value_residual_mix": "value residuals of the linear attention",
    r"\.segm\.": "HyperACE masks",
    r"mask_estimators\.\d+\.(layers|norm)\.": "transformers in the mask estimators",
}
_USED = {
    "dim", "depth", "stereo", "num_stems", "time_transformer_depth", "freq_transformer_depth", "dim_head", "heads",
    "linear_transformer_depth", "freqs_per_bands", "num_bands", "sample_rate", "attn_dropout", "ff_dropout",
    "stft_n_fft", "stft_hop_length", "stft_win_length", "stft_normalized", "zero_dc", "use_pope", "skip_connection",
    "mask_estimator_depth", "mlp_expansion_factor",
}  # fmt: skip
_UNUSED = {  # they change no result, or the loss alone
    "flash_attn", "dim_freqs_in", "sage_attention", "use_torch_checkpoint", "match_input_audio_length",
    "multi_stft_resolution_loss_weight", "multi_stft_resolutions_window_sizes", "multi_stft_hop_size",
    "multi_stft_normalized",
}  # fmt: skip
_ZEROS = re.compile(r"shared_(qkv|out)_bias|layers\..*\.(to_qkv|to_out\.0)\.bias")  # that some files hold
_ATTENTION = {
    "norm.gain": "norm.gamma",
    "to_heads.weight": "to_qkv.weight",
    "gate.weight": "to_gates.weight",
    "gate.bias": "to_gates.bias",
    "output.0.weight": "to_out.0.weight",
}
_SHARE = {f"share.{kind}": f"to_value_residual_mix.{kind}" for kind in ("weight", "bias")}
_CHANNELS = {
    "norm.gain": "norm.gamma",
    "to_heads.weight": "to_qkv.0.weight",
    "log_scale": "temperature",
    "output.weight": "to_out.1.weight",
}
_FEED_FORWARD = {"0.gain": "0.gamma", **{name: name for name in ("1.weight", "1.bias", "4.weight", "4.bias")}}
_Part = tuple[str, list[str], Callable[[list[Tensor]], Tensor]]  # own name, original names, what is made of them


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a RoFormer over bands, be it one that is supported or not."""
    return "band_split.to_features.0.0.gamma" in tensors and any(name.startswith("layers.0.") for name in tensors)


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    What the published code has always taken where a config is silent is taken: no `stft_normalized`, no
    `skip_connection`. `zero_dc` is not among it: it was off, and on from 2025-09-23 on.

    Args:
        tensors: under their original names.
        config: with the sections `audio`, `model` and `training`.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: tensors and config contradict each other, the config lacks what the tensors cannot tell, or the
            variant is not supported.
    """
    _refuse(tensors)
    model = stated(config, "model") or {}
    stating = (str(key) for key in model if key not in _USED | _UNUSED and model[key] is not None)
    unknown = sorted(key for key in stating if not (key.startswith("use_") and model[key] is False))  # switched off
    if unknown:
        raise ValueError(f"model.{unknown[0]} of the config is of a variant that is not supported")
    sizes, sample_rate = _sizes(tensors), required(config, "audio.sample_rate")
    _compare(config, sizes)
    n_sources, widths = sizes.pop("n_sources"), sizes.pop("widths")
    n_fft = required(config, "model.stft_n_fft")
    is_mel = sizes["norm"] == "each"
    n_channels, bands = _bands(config, widths, is_mel, n_fft // 2 + 1, sample_rate)
    hop_length = required(config, "model.stft_hop_length")
    dropout = 0.1 if is_mel else 0.0
    return {
        "sources": source_names(config, n_sources),
        "sample_rate": sample_rate,
        "n_channels": n_channels,
        "segment": chunk_samples(config, hop_length) / sample_rate,
        "normalize": normalization(config),
        "transform": {
            "class": "STFT",
            "n_fft": n_fft,
            "hop_length": hop_length,
            "window_size": window_size(config, "model.stft_win_length", "model.stft_hop_length", n_fft),
            "normalized": _stated_or(config, "stft_normalized", False),
            "whole_hops": False,
        },
        "network": {
            "class": "BandSplitRoFormer",
            "bands": bands,
            **sizes,
            "skip_connections": _stated_or(config, "skip_connection", False),
            # The version with value residuals knew no other.
            "zero_dc": _stated_or(config, "zero_dc", False)
            if sizes["value_residual"]
            else required(config, "model.zero_dc"),
            "attention_dropout": _stated_or(config, "attn_dropout", dropout),
            "dropout": _stated_or(config, "ff_dropout", dropout),
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
        ValueError: a tensor is missing, of another shape, one too many, or of a variant that is not supported.
    """
    _refuse(tensors)
    for name in filter(_ZEROS.fullmatch, tensors):
        if tensors[name].any():
            raise ValueError(f"{name} must be zero, as in the files that are supported, got other values")
    sizes = _sizes(tensors)
    parts = list(_parts(tensors, sizes))
    wanted = {original for _, originals, _ in parts for original in originals}
    check_names((name for name in tensors if not _ZEROS.fullmatch(name)), sorted(wanted))
    return convert_parts(tensors, settings, [(f"core.{own}", *part) for own, *part in parts])


def _refuse(tensors: Mapping[str, Tensor]) -> None:
    for pattern, variant in _REFUSED.items():
        for name in tensors:
            if re.search(pattern, name):
                raise ValueError(f"a RoFormer with {variant} is not supported; {name} is of one")


def _stated_or(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = stated(config, f"model.{key}")
    return default if value is None else value


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the arguments of the network from names and shapes, and `widths`, the values of each band."""
    n_axes = count(tensors, "layers.0.")  # features, if there are three; frames; bands
    if n_axes not in (2, 3):
        raise ValueError(f"layers.0 must have transformers over frames and over bands, got {n_axes}")
    attention = f"layers.0.{n_axes - 2}.layers.0.0."
    n_heads, hidden_size = shape_of(tensors, f"{attention}to_gates.weight", 2)
    mask = "mask_estimators.0.to_freqs.0.0."
    n_mask_layers = len([name for name in tensors if name.startswith(mask) and name.endswith(".weight")])
    n_hidden = shape_of(tensors, f"{mask}0.weight", 2)[0] if n_mask_layers > 1 else 4 * hidden_size
    if n_hidden % hidden_size:
        raise ValueError(f"{mask}0.weight must have a multiple of {hidden_size} rows, got {n_hidden}")
    n_rows = shape_of(tensors, f"{attention}to_qkv.weight", 2)[0]
    if n_rows % (6 * n_heads):
        raise ValueError(f"{attention}to_qkv.weight must have a multiple of {6 * n_heads} rows, got {n_rows}")
    n_bands = count(tensors, "band_split.to_features.")
    return {
        "widths": [shape_of(tensors, f"band_split.to_features.{band}.0.gamma", 1)[0] for band in range(n_bands)],
        "n_sources": count(tensors, "mask_estimators."),
        "hidden_size": hidden_size,
        "n_layers": count(tensors, "layers."),
        "n_heads": n_heads,
        "head_size": n_rows // (3 * n_heads),
        "n_time_layers": count(tensors, f"layers.0.{n_axes - 2}.layers."),
        "n_band_layers": count(tensors, f"layers.0.{n_axes - 1}.layers."),
        "n_channel_layers": count(tensors, "layers.0.0.layers.") if n_axes > 2 else 0,
        "n_mask_layers": n_mask_layers,
        "mask_expansion": n_hidden // hidden_size,
        "norm": "last" if "final_norm.gamma" in tensors else "each",
        "positions": "polar" if any(".pope_embed." in name for name in tensors) else "rotary",
        "value_residual": any(".to_value_residual_mix." in name for name in tensors),
    }


def _compare(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Compare a config with what the tensors say."""
    for key, name in {
        "dim": "hidden_size",
        "depth": "n_layers",
        "num_stems": "n_sources",
        "heads": "n_heads",
        "dim_head": "head_size",
        "time_transformer_depth": "n_time_layers",
        "freq_transformer_depth": "n_band_layers",
        "linear_transformer_depth": "n_channel_layers",
    }.items():
        agreed(config, f"model.{key}", sizes[name])
    agreed(config, "model.use_pope", sizes["positions"] == "polar")
    if sizes["n_mask_layers"] > 1:
        agreed(config, "model.mlp_expansion_factor", sizes["mask_expansion"])
    # Hidden layers are counted for the mel bands since 2023-11-19, all but those of the gates else.
    if stated(config, "model.mask_estimator_depth") != sizes["n_mask_layers"] - (sizes["norm"] == "each"):
        agreed(config, "model.mask_estimator_depth", sizes["n_mask_layers"])


def _bands(
    config: Mapping[str, Any], widths: list[int], is_mel: bool, n_bins: int, sample_rate: int
) -> tuple[int, int | list[int]]:
    """Read the channels, and the bands as the network takes them."""
    other = "freqs_per_bands" if is_mel else "num_bands"
    if stated(config, f"model.{other}") is not None:
        wanted = "Mel-Band RoFormer's, normed after each transformer" if is_mel else "BS-RoFormer's, normed at the end"
        raise ValueError(f"model.{other} must not be stated, since the tensors are {wanted}")
    if is_mel:
        agreed(config, "model.num_bands", len(widths))
        agreed(config, "model.sample_rate", sample_rate, "audio.sample_rate of the config has it")
    n_values = sum(overlapping_mel_bands(len(widths), n_bins, sample_rate).widths) if is_mel else n_bins
    n_channels = sum(widths) // (2 * n_values)
    bands = [width // max(1, 2 * n_channels) for width in widths]
    expected = overlapping_mel_bands(len(widths), n_bins, sample_rate).widths if is_mel else bands
    if not n_channels or [2 * n_channels * width for width in expected] != widths or sum(bands) != n_values:
        wanted = f"fit the bands of the tensors, {', '.join(map(str, widths))} values"
        raise ValueError(f"model.stft_n_fft must {wanted}, got {2 * (n_bins - 1)} at {sample_rate} Hz")
    agreed(config, "model.stereo", n_channels == 2)
    agreed(config, "audio.num_channels", n_channels)
    if is_mel:
        return n_channels, len(widths)
    return n_channels, agreed(config, "model.freqs_per_bands", bands)


def _parts(tensors: Mapping[str, Tensor], sizes: Mapping[str, Any]) -> Iterator[_Part]:
    """List the network's tensors below `core`, the original ones they are made of, and how."""
    for group, bands in enumerate(group_by_width(sizes["widths"])):
        starts = [f"band_split.to_features.{band}." for band in bands]
        yield f"split.norms.{group}.gain", [f"{start}0.gamma" for start in starts], lambda t: torch.stack(t)[:, None]
        yield from _linear(f"split.layers.{group}.", [f"{start}1." for start in starts])
        for source, layer in product(range(sizes["n_sources"]), range(0, 2 * sizes["n_mask_layers"], 2)):
            starts = [f"mask_estimators.{source}.to_freqs.{band}.0.{layer}." for band in bands]
            yield from _linear(f"masks.{source}.layers.{group}.{layer}.", starts)
    axes = [name for name in ("channels", "time", "bands") if name != "channels" or sizes["n_channel_layers"]]
    for (axis, name), block in product(enumerate(axes), range(sizes["n_layers"])):
        yield from _transformer(f"layers.{block}.{name}.", f"layers.{block}.{axis}.", block, sizes)
    if sizes["norm"] == "last":
        yield "norm.gain", ["final_norm.gamma"], _only
    key = "pope_embed.inv_freqs" if sizes["positions"] == "polar" else "rotary_embed.freqs"
    for axis, name in ((len(axes) - 2, "time"), (len(axes) - 1, "band")):
        layers = product(range(sizes["n_layers"]), range(sizes[f"n_{name}_layers"]))
        names = [f"layers.{block}.{axis}.layers.{layer}.0.{key}" for block, layer in layers]
        if sizes["positions"] == "rotary" and not set(names) & set(tensors):
            names = []  # a file without them means the usual ones
        yield f"{name}_places.frequencies.values", names, _same_or(Places(sizes["head_size"], sizes["positions"]))


def _linear(own: str, starts: list[str]) -> Iterator[_Part]:
    yield f"{own}weight", [f"{start}weight" for start in starts], lambda tensors: torch.stack(tensors).mT
    yield f"{own}bias", [f"{start}bias" for start in starts], torch.stack


def _transformer(own: str, original: str, block: int, sizes: Mapping[str, Any]) -> Iterator[_Part]:
    name = own.split(".")[-2]
    is_channels = name == "channels"
    n_layers = sizes[f"n_{name.removesuffix('s') if not is_channels else 'channel'}_layers"]
    attention = dict(_CHANNELS if is_channels else _ATTENTION)
    if not is_channels:
        attention |= _SHARE if sizes["value_residual"] and block else {}
        attention |= {"phases": "pope_embed.bias"} if sizes["positions"] == "polar" else {}
    for layer in range(n_layers):
        start = f"{own}{layer}." if is_channels else f"{own}layers.{layer}."
        for part, theirs in attention.items():
            yield f"{start}attention.{part}", [f"{original}layers.{layer}.0.{theirs}"], _only
        for part, theirs in _FEED_FORWARD.items():
            yield f"{start}feed_forward.{part}", [f"{original}layers.{layer}.1.net.{theirs}"], _only
    if sizes["norm"] == "each":
        yield f"{own}{n_layers if is_channels else 'norm'}.gain", [f"{original}norm.gamma"], _only


def _only(tensors: list[Tensor]) -> Tensor:
    return tensors[0]


def _same_or(places: Places) -> Callable[[list[Tensor]], Tensor]:
    """Take the frequencies of an axis, of which each of its layers has a copy, or the usual ones."""

    def combine(tensors: list[Tensor]) -> Tensor:
        if any(not torch.equal(tensor, tensors[0]) for tensor in tensors):
            raise ValueError("frequencies of positions must be the same in all layers of an axis, got different ones")
        return tensors[0] if tensors else places.frequencies.values

    return combine
