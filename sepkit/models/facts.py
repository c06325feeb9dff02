"""Facts that a network declares by its signature and attributes, read and checked in one place."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from sepkit.arguments import is_whole
from sepkit.quantities import NETWORK_INPUTS, QUANTITIES, list_input_problems, match_inputs

_WAYS = ({"mask"}, {"spectrum"}, {"mask", "waveform"}, {"spectrum", "waveform"}, {"waveform"}, {"estimate"})
_KNOWN = frozenset().union(*_WAYS)  # outputs of which estimates are made, each per source


@dataclass(frozen=True)
class NetworkFacts:
    """What a network declares; attributes of its class, all of which may be left out.

    Attributes:
        inputs: quantities that `forward` takes, by their names; that of its `wrapped` where it is around a network.
        outputs: what `forward` returns: name -> "source", (B, S, ...), or "item", (B, ...). "mask", "spectrum",
            "waveform" or a sum of them, or "estimate" makes the estimate; others are for losses. Those four may be
            declared as a tuple of names. Default: the mask alone.
        frame_multiple: the number of frames is padded to a multiple of it; default 1.
        least_length: samples to which what is transformed is filled with zeros at the end; default 0.
        has_valid_length: it has `valid_length(n_samples)`, the samples to which it fills up a mixture of so many.
        lookahead: frames after its own that a frame of the output depends on; None, the default: all.
        blocks: module types that are repeated in it; default: none.
        has_fit: it has `fit(spectrograms)`, called once before the first step.
        core: its real-valued submodule `core`, which is compiled; the whole network where there is none.
    """

    inputs: tuple[str, ...]
    outputs: dict[str, str]
    frame_multiple: int
    least_length: int
    has_valid_length: bool
    lookahead: int | None
    blocks: tuple[type[nn.Module], ...]
    has_fit: bool
    core: nn.Module


def describe_network(network: nn.Module) -> NetworkFacts:
    """Read what a network declares.

    Raises:
        ValueError: a declaration is not of its kind, an input is no quantity, or no estimate follows from the outputs.
    """
    name, blocks = type(network).__name__, getattr(network, "blocks", ())
    frame_multiple, lookahead = getattr(network, "frame_multiple", 1), getattr(network, "lookahead", None)
    if not is_whole(frame_multiple) or frame_multiple < 1:
        raise ValueError(f"frame_multiple of {name} must be a whole number, at least 1, got {frame_multiple!r}")
    least_length = getattr(network, "least_length", 0)
    if not is_whole(least_length) or least_length < 0:
        raise ValueError(f"least_length of {name} must be a whole number of samples, got {least_length!r}")
    if lookahead is not None and (not is_whole(lookahead) or lookahead < 0):
        raise ValueError(f"lookahead of {name} must be a whole number of frames, or None for all, got {lookahead!r}")
    if not isinstance(blocks, tuple) or not all(isinstance(b, type) and issubclass(b, nn.Module) for b in blocks):
        raise ValueError(f"blocks of {name} must be a tuple of module types, got {blocks!r}")
    taking = type(getattr(network, "wrapped", network))
    for problem in list_input_problems(taking, {}, NETWORK_INPUTS, "name the arguments of its forward after these"):
        raise ValueError(problem.message)
    return NetworkFacts(
        inputs=tuple(match_inputs(taking, {}, NETWORK_INPUTS)),
        outputs=read_outputs(network),
        frame_multiple=frame_multiple,
        least_length=least_length,
        has_valid_length=_has_valid_length(network),
        lookahead=lookahead,
        blocks=blocks,
        has_fit=hasattr(network, "fit"),
        core=getattr(network, "core", network),
    )


def _has_valid_length(network: nn.Module) -> bool:
    valid_length = getattr(network, "valid_length", None)
    if valid_length is None:
        return False
    found = valid_length(1) if callable(valid_length) else valid_length
    if not callable(valid_length) or not is_whole(found) or found < 1:
        name = type(network).__name__
        raise ValueError(f"valid_length of {name} must turn a number of samples into one not smaller, got {found!r}")
    return True


def read_outputs(network: nn.Module | type[nn.Module]) -> dict[str, str]:
    """Read the outputs that a network, or a class of them, declares, "source" each or "item".

    Raises:
        ValueError: they are not of their kind, or no estimate follows from them.
    """
    declared = getattr(network, "outputs", ("mask",))
    name = network.__name__ if isinstance(network, type) else type(network).__name__
    names = list(declared) if isinstance(declared, tuple | list | Mapping) else []
    if not names or not all(isinstance(output, str) and output.isidentifier() for output in names):
        raise ValueError(f"outputs of {name} must be names, or map names to 'source' or 'item', got {declared!r}")
    ways = _KNOWN.intersection(names)
    if ways not in _WAYS:
        raise ValueError(
            f"network must have either mask or spectrum among its outputs, alone or with waveform, or waveform, or "
            f"estimate, got {name} with {', '.join(names)}"
        )
    taken = {*QUANTITIES, "by_source", "set_outputs"} - _KNOWN
    for output in names:
        if output in taken or output.startswith("_"):
            raise ValueError(f"outputs of {name} must have names of their own, got {output!r}, another quantity's")
        kind = declared[output] if isinstance(declared, Mapping) else "source" if output in _KNOWN else None
        if kind not in ("source", "item") or (output in _KNOWN and kind != "source"):
            wanted = "'source'" if output in _KNOWN else "'source', (B, S, ...), or 'item', (B, ...)"
            raise ValueError(f"outputs of {name} must declare {output!r} as {wanted}, as in {{{output!r}: 'source'}}")
    return dict(declared) if isinstance(declared, Mapping) else dict.fromkeys(names, "source")


def derive_sizes(
    transform: nn.Module, n_sources: int, n_channels: int, sample_rate: int, segment: float
) -> dict[str, int]:
    """Return the sizes that a network and a postfilter are given where their constructors name them.

    Args:
        transform: of the separator.
        n_sources: S.
        n_channels: C.
        sample_rate: Hz.
        segment: seconds.
    """
    n_frames = transform.n_frames(round(segment * sample_rate))
    sizes = {"n_sources": n_sources, "n_channels": n_channels, "n_bins": transform.n_bins, "n_frames": n_frames}
    return {**sizes, "sample_rate": sample_rate}
