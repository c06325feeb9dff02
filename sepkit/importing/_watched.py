"""Configs that write down what is read of them, and refuse values of a wrong kind where they are read."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from sepkit.problems import show

_SECTIONS = {
    "audio",
    "model",
    "kwargs",
    "training",
    "inference",
    "data",
    "htdemucs",
    "hdemucs",
    "demucs",
}  # at the top alone
_NAMED = {"htdemucs", "hdemucs", "demucs"}  # to which "model" may point


class _Kind(NamedTuple):
    """What values of a key are."""

    wanted: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, Fraction) and abs(value) < 1e12  # False for what is no number


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_full(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


_SECTION = _Kind("a section of the config, with keys of its own", lambda value: isinstance(value, Mapping))
_BOOL = _Kind("true or false", lambda value: type(value) is bool or (_is_whole(value) and value in (0, 1)))
_KINDS = {
    key: kind
    for kind, keys in {
        _Kind("an even number, at least 2", lambda value: _is_whole(value) and value >= 2 and value % 2 == 0): (
            "stft_n_fft n_fft nfft"
        ),
        _Kind("a whole number, at least 1", lambda value: _is_whole(value) and value >= 1): (
            "stft_hop_length stft_win_length hop_length win_length hop_size win_size n_hop nhop num_channels stride "
            "n_blocks t_heads norm_groups segment_length sample_rate samplerate num_bands"
        ),
        _Kind("a whole number, at least 0", lambda value: _is_whole(value) and value >= 0): (
            "norm_starts dconv_lstm dconv_attn niter wiener_win_len"
        ),
        _Kind("a whole number", _is_whole): "wiener_iters",
        _Kind("a number", _is_number): "freq_emb emb_scale t_weight_pos_embed",
        _Kind("a number above 0", lambda value: _is_number(value) and value > 0): (
            "segment t_hidden_scale t_max_period"
        ),
        _Kind("a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1): (
            "attn_dropout ff_dropout"
        ),
        _BOOL: (
            "stft_normalized normalized zero_dc skip_connection standardize normalize gelu resample use_train_segment "
            "hybrid_old softmask residual"
        ),
        _Kind("a word", lambda value: isinstance(value, str) and value != ""): (
            "norm act norm_type mask_act pad_mode encoder_activation band_specs band_type"
        ),
        _Kind(
            "a list of numbers above 0",
            lambda value: isinstance(value, list | tuple) and all(_is_number(one) and one > 0 for one in value),
        ): "multi_freqs",
        _Kind(
            "a list of numbers above 0, one a band",
            lambda value: _is_full(value) and all(_is_number(one) and one > 0 for one in value),
        ): "band_SR",
        _Kind(
            "a list of whole numbers, at least 1, one a band",
            lambda value: _is_full(value) and all(_is_whole(one) and one >= 1 for one in value),
        ): "band_stride freqs_per_bands",
    }.items()
    for key in keys.split()
}


class Watched(Mapping):
    """A config that writes down what is read of it.

    Args:
        values: the config.
        read: gets the dotted keys of values that are read.
        place: dotted key of this mapping.

    Raises:
        ValueError: a value is read that is not of the kind of its key.
    """

    def __init__(self, values: Mapping[str, Any], read: set[str], place: str = "") -> None:
        self._values, self._read, self._place = values, read, place

    def __getitem__(self, key: str) -> Any:
        value, place = self._values[key], f"{self._place}{key}"
        _check_kind(place, value)
        if isinstance(value, Mapping):
            return Watched(value, self._read, f"{place}.")
        self._read.add(place)
        return bool(value) if _KINDS.get(key) is _BOOL and value is not None else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _check_kind(place: str, value: Any) -> None:
    """Refuse a value that is not of the kind of its key; null states nothing anywhere."""
    is_section = place in _SECTIONS and not (place == "model" and isinstance(value, str) and value in _NAMED)
    kind = _SECTION if is_section else _KINDS.get(place.rpartition(".")[2])
    if value is not None and kind is not None and not kind.fits(value):
        remedy = "give the model's own config" if is_section else f"correct it by --set {place}=VALUE"
        raise ValueError(f"{place} must be {kind.wanted}, got {show(value)}: {remedy}")
