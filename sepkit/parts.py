"""What a separator is made of, checked: names of the sources, transform, postfilter, how recordings are cut."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from sepkit.arguments import is_number, is_whole
from sepkit.chunking import Chunking
from sepkit.files import is_safe_name, same_file_key
from sepkit.instantiate import check_arguments
from sepkit.problems import Problem, show


def list_source_problems(sources: object) -> Iterator[Problem]:
    """List what is wrong with names of sources: files are called after them."""
    if isinstance(sources, str) or not isinstance(sources, Sequence) or not sources:
        yield Problem((), f"must be a list of names, at least one, got {show(sources)}")
        return
    keys: set[str] = set()
    for position, name in enumerate(sources):
        if not isinstance(name, str):
            yield Problem((position,), f"must be a name, got {show(name)}")
            continue
        key = same_file_key(name)
        if key in keys:
            yield Problem((position,), f"each source must be named once, got {show(name)} again")
        elif key == "mixture":
            yield Problem((position,), f"{show(name)} is what the sources are separated from; it cannot be one of them")
        elif name.startswith(".") or not is_safe_name(name, ".flac"):
            yield Problem((position,), f"a source must be a name that files can have, got {show(name)}")
        keys.add(key)


def list_number_problems(settings: Mapping[str, object]) -> Iterator[Problem]:
    """List what is wrong with the numbers among the arguments of a Separator."""
    for name in ("sample_rate", "n_channels"):
        number = settings.get(name, 1)
        if not (is_whole(number) and number >= 1):
            yield Problem((name,), f"must be a whole number, at least 1, got {show(number)}")
    segment = settings.get("segment", 1.0)
    if not (is_number(segment) and 0 < segment < math.inf):
        yield Problem(("segment",), f"must be a finite number of seconds above 0, got {show(segment)}")


def list_rule_problems(settings: Mapping[str, object]) -> Iterator[Problem]:
    """List what is wrong with the rules of separating among the arguments of a Separator."""
    normalize, residual = settings.get("normalize"), settings.get("residual")
    if normalize not in (None, "recording"):
        yield Problem(("normalize",), f"must be recording, or null for none, got {show(normalize)}")
    if settings.get("chunking") is not None:
        yield from (problem.below("chunking") for problem in list_chunking_problems(settings["chunking"]))
    sources = settings.get("sources", ())
    if residual is not None and not any(list_source_problems(sources)):
        problem = next(list_source_problems([*sources, residual]), None)
        if problem is not None:
            yield Problem(("residual",), f"must be a name like those of sources, and another: {problem.message}")


def list_chunking_problems(chunking: object) -> list[Problem]:
    """List what is wrong with arguments of `Chunking`."""
    if not isinstance(chunking, Mapping):
        return [Problem((), f"must be a mapping of Chunking's arguments, got {show(chunking)}")]
    problems = check_arguments(Chunking, chunking)
    if "class" in chunking:  # which mappings of a class have, and this is none
        problems = [Problem(("class",), "must be left out: there is one Chunking alone", at_key=True), *problems]
    if problems:
        return problems
    try:
        Chunking(**chunking)
    except ValueError as error:
        name, _, message = str(error).partition(" ")
        return [Problem((name,), message)]
    return []


@torch.no_grad()
def try_transform(transform: nn.Module, n_channels: int) -> None:
    """Refuse a transform that gives no complex spectrogram, or whose inverse gives no waveform: training would fail."""
    device = next(chain(transform.parameters(), transform.buffers()), torch.zeros(())).device
    spectrogram = transform(torch.zeros(n_channels, transform.padded_length(1), device=device))
    shape = tuple(spectrogram.shape)
    if not spectrogram.is_complex() or len(shape) != 3 or shape[:2] != (n_channels, transform.n_bins):
        wanted = f"complex ({n_channels}, {transform.n_bins}, N), as STFT does"
        raise ValueError(f"transform must turn ({n_channels}, T) into {wanted}, got {spectrogram.dtype} {shape}")
    waveform = transform.inverse(spectrogram, 1)
    if waveform.is_complex() or waveform.shape != (n_channels, 1):
        found = f"{waveform.dtype} {tuple(waveform.shape)}"
        raise ValueError(f"transform's inverse(spectrogram, T) must give a real ({n_channels}, T), got {found}")


@torch.no_grad()
def try_postfilter(postfilter: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse a postfilter that does not turn complex (B, S, C, F, N) and the mixture's spectrogram into the same."""
    device = next(chain(postfilter.parameters(), postfilter.buffers()), torch.zeros(())).device
    silence = torch.zeros(shape, dtype=torch.complex64, device=device)
    filtered = postfilter(silence, silence[:, 0])
    if not isinstance(filtered, Tensor) or not filtered.is_complex() or filtered.shape != shape:
        found = f"{filtered.dtype} {tuple(filtered.shape)}" if isinstance(filtered, Tensor) else type(filtered).__name__
        raise ValueError(f"postfilter must turn estimates, complex {shape}, into as many, got {found}")
