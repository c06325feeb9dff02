"""bandit's band-split recurrent networks, versions 1 and 2: `bsrnn.band_split`, or `band_split` alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sepkit.importing._bandit_second import as_first, is_second, read_transform
from sepkit.importing._config import (
    agreed,
    chunk_samples,
    count,
    listed_names,
    normalization,
    required,
    shape_of,
    stated,
)
from sepkit.importing._tensors import check_names, convert_parts
from sepkit.models._band_layouts import BandLayout
from sepkit.models.band_split_rnn import layout_of

_SPLIT, _LAYERS, _MASKS = "bsrnn.band_split.norm_fc_modules.", "bsrnn.tf_model.seqband.", "bsrnn.mask_estim."
_FIRST = {  # of version 1, whatever its config tells: it does not hand its own on
    "class": "STFT", "n_fft": 2048, "hop_length": 512, "normalized": "window", "pad_mode": "constant",
    "whole_hops": False,
}  # fmt: skip
_PAPER = ("dnr:speech", "dnr:vox7", "musdb:vocals", "musdb:vox7")
_ONLY = {  # of the config, with the only value that bandit's public models have
    "in_channel": 1, "in_channels": 1, "hidden_activation": "Tanh", "complex_mask": True,
    "treat_channel_as_feature": True, "normalize_channel_independently": False, "cond_dim": 0, "use_freq_weights": True,
}  # fmt: skip
_Part = tuple[list[str], Callable[[list[Tensor]], Tensor]]  # original names, what is made of them


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of a network of bandit, of either version."""
    return any(name.removeprefix("bsrnn.").startswith("band_split.norm_fc_modules.") for name in tensors)


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names.
        config: with the sections `audio`, of which `sample_rate`, `num_channels` and `chunk_size` must be there, and
            `model`, of which `band_specs`; of version 2 `model`, or `kwargs`, with `band_type`, `n_fft`, `win_length`,
            `hop_length`, `normalized` and `pad_mode`. Its `stems` tell the order of the sources where they are there.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: tensors and config contradict each other, the config lacks what the tensors cannot tell, or the
            variant is not supported.
    """
    second, section = is_second(tensors), "kwargs" if "kwargs" in config else "model"
    tensors = as_first(tensors)
    for key, value in _ONLY.items():
        agreed(config, f"{section}.{key}", value, "no other is supported")
    stems = list(dict.fromkeys(name.removeprefix(_MASKS).partition(".")[0] for name in tensors if _MASKS in name))
    sources = _read_sources(config, f"{section}.stems", stems)
    sample_rate = int(required(config, "audio.sample_rate"))
    agreed(config, f"{section}.fs", sample_rate, "audio.sample_rate of the config has it")
    transform = read_transform(config, section) if second else _FIRST
    n_rows, hidden_size = shape_of(tensors, f"{_LAYERS}0.rnn.weight_hh_l0", 2)
    cell = "gru" if n_rows == 3 * hidden_size else "lstm"
    bidirectional = f"{_LAYERS}0.rnn.weight_hh_l0_reverse" in tensors
    mask_size, n_features = shape_of(tensors, f"{_MASKS}{sources[0]}.norm_mlp.0.hidden.0.weight", 2)
    found = {"emb_dim": n_features, "rnn_dim": hidden_size, "rnn_type": cell.upper(), "mlp_dim": mask_size}
    found |= {"bidirectional": bidirectional, "n_sqm_modules": count(tensors, _LAYERS) // 2}
    for key, value in found.items():
        agreed(config, f"{section}.{key}", value)
    return {
        "sources": sources,
        "sample_rate": sample_rate,
        "n_channels": int(required(config, "audio.num_channels")),
        "segment": chunk_samples(config, transform["hop_length"]) / sample_rate,
        "normalize": normalization(config),
        "transform": dict(transform),
        "network": {
            "class": "BandSplitRNN",
            "bands": _bands(tensors, config, f"{section}.", second, (transform["n_fft"] // 2 + 1, sample_rate)),
            "n_features": n_features,
            "hidden_size": hidden_size,
            "n_layers": found["n_sqm_modules"],
            "mask_size": mask_size,
            "cell": cell,
            "bidirectional": bidirectional,
        },
    }


def convert(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Put tensors under this package's names.

    Args:
        tensors: under their original names.
        settings: of the Separator, which tell the order of its sources.

    Returns:
        The state of the Separator with these settings.

    Raises:
        ValueError: a tensor is missing, of another shape, one too many, or of a variant that is not supported.
    """
    tensors = as_first(tensors)
    parts, shares = [(own, *part) for own, part in _parts(settings)], _shares(settings)
    wanted = {name for _, originals, _ in parts for name in originals} | {*shares}
    check_names((name for name in tensors if name not in ("stft.window", "istft.window")), sorted(wanted))
    for name, share in shares.items():
        if tensors[name].shape != share.shape or not torch.allclose(tensors[name].double(), share):
            raise ValueError(f"{name} must be 1 / the number of bands of each bin, which alone is supported")
    return convert_parts(tensors, settings, parts)


def _read_sources(config: Mapping[str, Any], key: str, stems: list[str]) -> list[str]:
    """Read the sources in their order, and compare all that names them with the tensors.

    Training goes by the order of `training.instruments`, and the network by that of its stems.
    """
    keys = [one for one in (key, "training.instruments") if stated(config, one) is not None]
    named = {one: listed_names(config, one) for one in keys}
    for one, names in named.items():
        if sorted(names) != sorted(stems):
            raise ValueError(f"{one} must be {', '.join(stems)}, as the tensors have it, got {', '.join(names)}")
    if len(named) == 2:
        agreed(config, "training.instruments", named[key], f"{key} of the config has it")
    return named[keys[0]] if keys else stems


def _bands(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], place: str, second: bool, sizes: tuple[int, int]
) -> int | str:
    """Read which bands there are, and compare them with the widths in the tensors, for so many bins at a rate."""
    key, n_bands = f"{place}{'band_type' if second else 'band_specs'}", count(tensors, _SPLIT)
    specs, known = required(config, key), ("musical",) if second else ("musical", *_PAPER)
    if specs not in known:
        raise ValueError(f"{key} must be one of {', '.join(known)}, which are supported, got {specs}")
    bands = agreed(config, f"{place}n_bands", n_bands) if specs == "musical" else "paper"
    found = [shape_of(tensors, f"{_SPLIT}{band}.norm.weight", 1)[0] // 2 for band in range(n_bands)]
    if layout_of(bands, *sizes).widths != found:
        came = f"{n_bands} bands of {', '.join(map(str, found[:8]))} .. {found[-1]} bins"
        raise ValueError(f"{key} {specs} at {sizes[1]} Hz must fit the tensors, got {came}")
    return bands


def _layout(settings: Mapping[str, Any]) -> BandLayout:
    n_bins = settings["transform"]["n_fft"] // 2 + 1
    return layout_of(settings["network"]["bands"], n_bins, settings["sample_rate"])


def _parts(settings: Mapping[str, Any]) -> Iterator[tuple[str, _Part]]:
    """List the network's tensors, the original ones they are made of, and how."""
    network = settings["network"]
    layout = _layout(settings)
    for group, bands in enumerate(layout.groups):
        starts = [f"{_SPLIT}{band}." for band in bands]
        norm, linear = f"core.split.norms.{group}.", f"core.split.layers.{group}."
        yield from _stacked(norm, [f"{start}norm." for start in starts], _in_pairs, _in_pairs)
        yield from _stacked(linear, [f"{start}fc." for start in starts], lambda weight: _in_pairs(weight).mT)
        for number, source in enumerate(settings["sources"]):
            starts = [f"{_MASKS}{source}.norm_mlp.{band}." for band in bands]
            own = f"core.masks.{number}.layers.{group}."
            yield from _stacked(f"{own}0.", [f"{start}norm." for start in starts])
            yield from _stacked(f"{own}1.", [f"{start}hidden.0." for start in starts], lambda weight: weight.mT)
            yield from _stacked(f"{own}3.", [f"{start}output.0." for start in starts], lambda weight: weight.mT)
    ways = ("", "_reverse") if network["bidirectional"] else ("",)
    cells = [f"{kind}_l0{way}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") for way in ways]
    names = {f"recurrence.{leaf}": f"rnn.{leaf}" for leaf in cells}
    names |= {
        f"{own}.{leaf}": f"{part}.{leaf}" for own, part in (("norm", "norm"), ("output", "fc")) for leaf in _LEAVES
    }
    for layer in range(2 * network["n_layers"]):
        for own, original in names.items():
            yield f"core.layers.{layer}.{own}", ([f"{_LAYERS}{layer}.{original}"], lambda tensors: tensors[0])


_LEAVES = ("weight", "bias")


def _stacked(
    own: str,
    starts: list[str],
    turn_weight: Callable[[Tensor], Tensor] = lambda weight: weight,
    turn_bias: Callable[[Tensor], Tensor] = lambda bias: bias,
) -> Iterator[tuple[str, _Part]]:
    for leaf, turn in zip(_LEAVES, (turn_weight, turn_bias), strict=True):
        names = [f"{start}{leaf}" for start in starts]
        yield f"{own}{leaf}", (names, lambda tensors, turn=turn: torch.stack([turn(tensor) for tensor in tensors]))


def _in_pairs(values: Tensor) -> Tensor:
    """Put the imaginary part of each bin behind its real part, where all real parts stood before all others."""
    return values.unflatten(-1, (2, -1)).mT.flatten(-2)


def _shares(settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """List what files of overlapping bands say of them: for each bin of a band, 1 / the number of its bands."""
    layout = _layout(settings)
    counts = Counter(one for band in layout.bands for one in band)
    if settings["network"]["bands"] == "paper":
        return {}
    shares = [torch.tensor([1 / counts[one] for one in band], dtype=torch.float64) for band in layout.bands]
    return {f"{_MASKS}{s}.freq_weights/{band}": share for s in settings["sources"] for band, share in enumerate(shares)}
