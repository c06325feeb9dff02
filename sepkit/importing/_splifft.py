"""splifft's JSON configs, put into the words of the community's yaml."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from sepkit.importing._config import stated
from sepkit.problems import show

_TYPES = {"bs_roformer": "BS-RoFormer", "mel_roformer": "Mel-Band RoFormer", "mdx23c": "MDX23C"}
_SAME = (  # of RoFormers
    "dim depth stereo time_transformer_depth freq_transformer_depth linear_transformer_depth dim_head heads "
    "attn_dropout ff_dropout mask_estimator_depth mlp_expansion_factor skip_connection"
)
_OF_MDX23C = {
    "num_subbands": "num_subbands", "num_scales": "num_scales", "scale": "scale", "growth": "growth",
    "num_blocks_per_scale": "num_blocks_per_scale", "hidden_channels": "num_channels",
    "bottleneck_factor": "bottleneck_factor",
}  # fmt: skip
_UNREAD = {  # that change no result, or how stems are written, added up and left out alone
    "identifier", "masking", "derived_stems", "output", "$schema", "audio_io.force_channels",
    "inference.force_weights_dtype", "inference.use_autocast_dtype", "inference.compile_model",
    "inference.requested_stems", "waveform_chunking.method", "waveform_chunking.padding_mode",
    "waveform_chunking.window_shape", "model.flash_attn", "model.sage_attention", "model.use_torch_checkpoint",
    "model.use_shared_bias", "model.debug", "stft.conv_dtype", "stft.kind",
}  # fmt: skip
_PRECISION = ("rms_norm_eps", "rotary_embed_dtype", "transformer_residual_dtype")


def is_splifft(config: Mapping[str, Any]) -> bool:
    """Return whether a config is one of splifft."""
    return "waveform_chunking" in config or "output_stem_names" in (stated(config, "model") or ())


def translate(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config of splifft as one of the community, with what splifft's code takes where it is silent.

    Args:
        config: as splifft's `Config` has it, with a section `transform` or, in its newer files, `stft`.

    Returns:
        The config, and what else there is to say about it.

    Raises:
        ValueError: the network is not supported, or a key is not known.
    """
    left = deepcopy(dict(config))
    if "transform" in left:
        left["stft"] = left.pop("transform")
    kind = _take(left, "model_type")
    if kind not in _TYPES:
        raise ValueError(f"model_type must be one of {', '.join(_TYPES)}, which are supported, got {show(kind)}")
    stft = {key: _take(left, f"stft.{key}", size) for key, size in _STFT.items()}
    for key, wanted in {"stft.normalized": False, "stft.window_shape": "hann"}.items():
        _agree(key, _take(left, key), wanted)
    audio = {"sample_rate": _take(left, "audio_io.target_sample_rate", 44100)}
    audio["chunk_size"] = _take(left, "model.chunk_size")
    made = {"training": {"instruments": _take(left, "model.output_stem_names")}, "audio": audio}
    made["inference"] = dict(_separating(left))
    if kind == "mdx23c":
        said = ["norm, act, rate, channels and overlap as splifft's code has them where its config is silent"]
        audio |= {"num_channels": 2 if _take(left, "model.stereo", True) else 1, "dim_f": _take(left, "model.dim_f")}
        audio |= {"n_fft": stft["n_fft"], "hop_length": stft["hop_length"]}
        _agree("stft.win_length", stft["win_length"], stft["n_fft"])
        made["model"] = _mdx23c(left)
    else:
        made["model"], said = _roformer(left, stft)
    _refuse_left(left)
    return made, said


_STFT = {"n_fft": 2048, "hop_length": 512, "win_length": 2048}


def _take(left: dict[str, Any], key: str, default: Any = None) -> Any:
    """Take a value at a dotted key out of a config; null states nothing."""
    *sections, last = key.split(".")
    for section in sections:
        left = left.get(section)
        if not isinstance(left, dict):
            return default
    value = left.pop(last, None)
    return default if value is None else value


def _agree(key: str, value: Any, wanted: Any) -> None:
    if value not in (None, wanted):
        raise ValueError(f"{key} must be {show(wanted)}, which alone is supported here, got {show(value)}")


def _separating(left: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """List how recordings are separated."""
    ratio = _take(left, "waveform_chunking.overlap_ratio", 0.5)
    if type(ratio) not in (int, float) or not 0 <= ratio < 1:
        raise ValueError(f"waveform_chunking.overlap_ratio must be a number from 0 to below 1, got {show(ratio)}")
    yield "num_overlap", 1 / (1 - ratio)
    yield "batch_size", _take(left, "inference.batch_size")
    yield "normalize", _take(left, "normalization.enabled", False)


def _mdx23c(left: dict[str, Any]) -> dict[str, Any]:
    model = {theirs: _take(left, f"model.{own}") for own, theirs in _OF_MDX23C.items()}
    norm, activation = _take(left, "model.norm_type", "InstanceNorm"), _take(left, "model.act_type", "gelu")
    return {**model, "norm": norm, "act": activation}


def _roformer(left: dict[str, Any], stft: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    model = {key: _take(left, f"model.{key}") for key in _SAME.split()}
    model |= {f"stft_{key}": value for key, value in stft.items()}
    _agree("model.stft_hop_length", _take(left, "model.stft_hop_length"), stft["hop_length"])
    bands = _take(left, "model.band_config.kind")
    if bands not in ("fixed", "mel"):
        raise ValueError(f"model.band_config.kind must be fixed or mel, which are supported, got {show(bands)}")
    _agree("model.norm_output", _take(left, "model.norm_output"), bands == "mel")
    _agree("model.ff_mult", _take(left, "model.ff_mult"), 4)
    _agree("model.mask_estimator.kind", _take(left, "model.mask_estimator.kind"), "baseline")
    if bands == "mel":
        _agree("model.band_config.stft_n_fft", _take(left, "model.band_config.stft_n_fft"), stft["n_fft"])
        model |= {key: _take(left, f"model.band_config.{key}") for key in ("num_bands", "sample_rate")}
    else:
        model["freqs_per_bands"] = _take(left, "model.band_config.freqs_per_bands")
    model["zero_dc"] = False  # of which splifft knows nothing
    said = ["transform, rate, overlap and no zero_dc as splifft's code has them where its config is silent"]
    said += [
        f"{key} {value} left out, which rounds or matters in silence alone"
        for key in _PRECISION
        if (value := _take(left, f"model.{key}")) is not None
    ]
    return model, said


def _refuse_left(left: Mapping[str, Any], place: str = "") -> None:
    """Refuse keys that were not taken, and could change the result."""
    for key, value in left.items():
        if value is None or f"{place}{key}" in _UNREAD:
            continue
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{place}{key} of the config is not understood, as one of splifft's, and could change what the model "
                "gives: give the yaml that came with the weights, or take the key out"
            )
        _refuse_left(value, f"{place}{key}.")
