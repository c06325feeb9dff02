"""Names of the stems that are returned, and of the residual beside them."""

from collections.abc import Iterable, Sequence

from sepkit.files import same_file_key

_ACCOMPANIMENT = "accompaniment"  # the residual where vocals alone are estimated


def residual_name(sources: Sequence[str], own: str | None = None) -> str:
    """Name the mixture minus all estimates: "accompaniment" of vocals alone, else "residual", or `residual_` ...

    Args:
        sources: of a model.
        own: the name that the model gives it, which comes first; None: it gives none.
    """
    if own is not None:
        return own
    if list(sources) == ["vocals"]:
        return _ACCOMPANIMENT
    taken = set(map(same_file_key, sources))
    return next(name for name in (f"residual{n * '_'}" for n in range(len(taken) + 1)) if name not in taken)


def choose_stems(
    sources: Sequence[str], stems: Sequence[str] | None, residual: bool, own: str | None = None
) -> list[str]:
    """List the stems to return.

    Args:
        sources: of the model.
        stems: those that are wanted; None: all, and a residual that has a name of its own.
        residual: return the residual, too.
        own: the name that the model gives it; None: it gives none.

    Raises:
        ValueError: `stems` is no list, a name in it is neither a source's nor the residual's, or there is no name.
    """
    if isinstance(stems, str) or not isinstance(stems, Iterable | None):
        raise ValueError(f"stems must be a list of names, got {stems!r}")
    stems = None if stems is None else list(map(str, stems))
    if isinstance(residual, str):
        raise ValueError(f"residual must be true or false, got {residual!r}")
    available = [*sources, residual_name(sources, own)]
    unknown = [name for name in stems or () if name not in available]
    if unknown or (stems is not None and not stems):
        raise ValueError(f"stems must be among {', '.join(available)}, got {', '.join(unknown) or 'none'}")
    chosen = [name for name in sources if stems is None or name in stems]
    if residual or available[-1] in (stems or ()) or (stems is None and available[-1] in (_ACCOMPANIMENT, own)):
        chosen.append(available[-1])
    return chosen
