"""Open-Unmix: the weights of one target, or of a whole separator, in openunmix' names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sepkit.importing._config import agreed, listed_names, required, shape_of, stated
from sepkit.importing._tensors import convert_named

_TARGETS = "target_models."
_ORIGINAL = {
    "mean": "input_mean",
    "scale": "input_scale",
    "output_mean": "output_mean",
    "output_scale": "output_scale",
    "encode": "fc1",
    "join": "fc2",
    "decode": "fc3",
    "encode_norm": "bn1",
    "join_norm": "bn2",
    "decode_norm": "bn3",
    "recurrence": "lstm",
}
BESIDES = ("sample_rate", "stft.", "istft.", "transform.")  # what separators, and old files of one target, hold too


def detect(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are Open-Unmix's, of one target or of a separator."""
    return any(f"{_start(target)}fc1.weight" in tensors for target in _targets(tensors))


def settings(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings of the Separator that takes these tensors.

    Args:
        tensors: under their original names; those of several targets each begin with `target_models.`.
        config: `sample_rate` in Hz, `n_hop` (or `nhop`) in samples, `segment` in seconds; with one target's weights
            also `sources`, its name in a list. `n_fft`, `nb_channels`, `hidden_size` and such are compared. `niter`,
            `softmask`, `residual` and `wiener_win_len` (0 for all frames) tell the Wiener filter, none by default.

    Returns:
        The arguments of `Separator`.

    Raises:
        ValueError: the config lacks something, or contradicts the tensors.
    """
    targets = _targets(tensors)
    named = targets != [""]
    sources = targets if named and stated(config, "sources") is None else listed_names(config, "sources")
    if len(sources) != len(targets) or (named and {*sources} != {*targets}):
        wanted = ", ".join(targets) if named else "one"
        raise ValueError(f"sources must be {wanted}, as the tensors have it, got {', '.join(sources)}")
    start = _start(sources[0] if named else "")
    (n_bins,), (n_used_bins,) = (shape_of(tensors, f"{start}{way}put_mean", 1) for way in ("out", "in"))
    n_layers = sum(f"{start}lstm.weight_ih_l{layer}" in tensors for layer in range(len(tensors)))
    bidirectional = f"{start}lstm.weight_ih_l0_reverse" in tensors
    sample_rate, n_fft = _sample_rate(tensors, config), 2 * (n_bins - 1)
    agreed(config, "unidirectional", not bidirectional)
    for key, found in {"nb_bins": n_bins, "max_bin": n_used_bins, "n_fft": n_fft, "nfft": n_fft}.items():
        agreed(config, key, found)
    return {
        "sources": sources,
        "sample_rate": sample_rate,
        "n_channels": agreed(config, "nb_channels", shape_of(tensors, f"{start}fc3.weight", 2)[0] // n_bins),
        "segment": float(required(config, "segment")),
        "transform": {
            "class": "STFT",
            "n_fft": n_fft,
            "hop_length": int(required(config, "nhop" if "nhop" in config else "n_hop")),
            "whole_hops": False,
        },
        "network": {
            "class": "OpenUnmix",
            "hidden_size": agreed(config, "hidden_size", shape_of(tensors, f"{start}fc1.weight", 2)[0]),
            "n_layers": agreed(config, "nb_layers", n_layers),
            # Between the last bin that is listened to and the next.
            "bandwidth": None if n_used_bins == n_bins else (n_used_bins - 0.5) * sample_rate / n_fft,
            "bidirectional": bidirectional,
            "dropout": 0.4 if n_layers > 1 else 0.0,
        },
        **_filter(config),
    }


def convert(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Put tensors under this package's names.

    Args:
        tensors: under their original names.
        settings: of the Separator, which tell the order of its sources.

    Returns:
        The state of the Separator with these settings.

    Raises:
        ValueError: a tensor is missing, of another shape or one too many.
    """
    starts = [_start(source if _targets(tensors) != [""] else "") for source in settings["sources"]]
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(BESIDES)}

    def original(name: str) -> str:
        _, source, part, *rest = name.split(".")
        return ".".join([f"{starts[int(source)]}{_ORIGINAL[part]}", *rest])

    state = convert_named(own, settings, original)
    return {name: -tensor if name.endswith(".mean") else tensor for name, tensor in state.items()}


def _sample_rate(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> int:
    """Read the sample rate, which some files hold."""
    held = tensors.get("sample_rate")
    if held is None or held.numel() != 1:
        return int(required(config, "sample_rate"))
    return agreed(config, "sample_rate", int(held))


def _filter(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter of a Separator that openunmix' separator has with these arguments."""
    iterations, softmask = stated(config, "niter") or 0, bool(stated(config, "softmask"))
    residual, window = bool(stated(config, "residual")), stated(config, "wiener_win_len")
    if not (iterations or softmask):
        return {}
    window = 300 if window is None else window or None
    arguments = {"iterations": iterations, "window": window, "softmask": softmask, "residual": residual}
    return {"postfilter": {"class": "WienerFilter", **arguments}}


def _targets(tensors: Mapping[str, Tensor]) -> list[str]:
    """List the targets in the order of the tensors; an empty name where they are one target's."""
    found = (_target(name) for name in tensors if name.endswith("input_mean"))
    return list(dict.fromkeys(target for target in found if f"{_start(target)}input_mean" in tensors))


def _start(target: str) -> str:
    return f"{_TARGETS}{target}." if target else ""


def _target(name: str) -> str:
    return name.removeprefix(_TARGETS).partition(".")[0] if name.startswith(_TARGETS) else ""
