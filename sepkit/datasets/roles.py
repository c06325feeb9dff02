"""What the files of a song are, by their names alone: parts, sums of parts, the mixture."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

_VOCALS = "vocals"
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_TAGGED = re.compile(r"(?:\d+_)?(?P<track>.+?)_\((?P<stem>[^()]*[^()\d][^()]*)\)(?:_.*)?")
_ORNAMENT = {
    "bit", "both", "clean", "final", "full", "k", "khz", "linear", "main", "max", "min", "mono", "original",
    "raw", "rough", "single", "song", "stereo", "the", "track", "v", "ver", "version",
}  # fmt: skip
_MIX = {
    "fullmix", "gesamtmix", "mezcla", "mischung", "mistura", "mix", "mixdown", "mixed", "mixture", "mélange",
    "микс", "混音", "ミックス",
}  # fmt: skip
_MASTER = {"master", "mastered", "mastering", "premaster"}
_ACCOMPANIMENT = {
    "accompagnement", "accompaniment", "accompaniments", "accomp", "acompanhamento", "acompañamiento", "begleitung",
    "inst", "instr", "instru", "instrum", "instrumental", "instrumentals", "karaoke", "minusovka", "минусовка", "伴奏",
    "オフボーカル", "カラオケ",
}  # fmt: skip
_JOINED = {
    "backingtrack", "backingtracks", "minusone", "musicminusone", "playback", "offvocal", "offvocals", "offvocalver",
    "vocalsoff",
}  # fmt: skip
_BEFORE, _AFTER = {"no", "non", "minus", "sans", "without"}, {"free", "less", "removed"}
_ATTACHED = re.compile(
    r"(?:no|non)(?P<a>vocals?|voices?|drums?|bass|guitars?|piano|keys|others?)|(?P<b>vocal|voice|drum|bass|guitar)s?less"
)
_SUNG = {
    "acapella", "acappella", "adlib", "adlibs", "bgv", "bgvs", "bv", "choir", "rap", "singer", "singing",
    "speech", "vocal", "vocals", "voice", "voices", "vox",
}  # fmt: skip


class Roles(NamedTuple):
    """The files of a song, by the names of their stems.

    Attributes:
        mixture: the recorded mixture; None: there is none.
        parts: whose sum is the mixture, but for the residual of a recorded one.
        sums: what holds parts that are there, and is not added to them.
        finer: parts that a wanted sum holds, and are not added to it.
    """

    mixture: str | None
    parts: tuple[str, ...]
    sums: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()


def sort_stems(names: Iterable[str], wanted: Collection[str] = ()) -> Roles:
    """Sort the stems of a song into the mixture, the parts and the sums.

    A sum that is wanted takes the place of the parts that it holds: vocals, accompaniment and drums
    are vocals and accompaniment. One that is not wanted is a part only where its parts are not there: vocals and
    instrumental, drums and accompaniment. A recorded mixture is what is called so or `mix`; a `master` only where else
    one part alone were left. What names do not show, `sepkit.datasets.inspection` finds in the sound.

    Args:
        names: of all stems, without suffix.
        wanted: the targets; a mixture that is a target is a part.
    """
    names = list(dict.fromkeys(names))
    wholes = [name for name in names if name not in wanted and is_mixture(name)]
    wholes.sort(key=lambda name: (_whole(name), len(name), name))
    sums = [name for name in names if name not in wholes and missing_part(name) is not None]
    plain = [name for name in names if name not in wholes and name not in sums]
    chosen = next((name for name in [*wanted, *sums] if name in sums), None)
    held = (
        [] if chosen is None or len(plain) < 2 else [name for name in plain if not is_like(name, missing_part(chosen))]
    )
    if chosen is None or (held and chosen not in wanted):
        parts, finer = plain, []
    else:
        parts, finer = [name for name in names if name == chosen or name in set(plain) - set(held)], held
    best = wholes[0] if wholes and (_whole(wholes[0]) < 2 or len(parts) < 2) else None
    left = [name for name in names if name in (*sums, *wholes) and name not in parts and name != best]
    return Roles(best, tuple(parts), tuple(left), tuple(finer))


def missing_part(name: str) -> str | None:
    """Name what a sum leaves out, "vocals" of `accompaniment`, "drums" of `no_drums`; None: by its name it is none."""
    words = _words(name)
    bare = [word for word in words if word not in _ORNAMENT | _MIX | _MASTER and not word.isdecimal()]
    joined = "".join(words)
    attached = _ATTACHED.fullmatch(joined)
    if (bare and set(bare) <= _ACCOMPANIMENT) or joined in _JOINED:
        return _VOCALS
    if attached:
        return attached["a"] or attached["b"]
    rest = words[1:] if words[:1] and words[0] in _BEFORE else words[:-1] if words[-1:] and words[-1] in _AFTER else []
    return None if all(word.isdecimal() for word in rest) else " ".join(rest)


def is_all_but_vocals(name: str) -> bool:
    """Return whether a name is that of a sum without the vocals: `accompaniment`, `no_vocals`, `karaoke`."""
    return missing_part(name) is not None and is_like(missing_part(name), _VOCALS)


def untag(name: str) -> tuple[str, str] | None:
    """Split a name as audio-separator and UVR give it, `Song_(Vocals)_model`, into track and stem; None: it is none."""
    tagged = _TAGGED.fullmatch(name)
    return (tagged["track"], tagged["stem"].lower()) if tagged else None


def is_like(name: str, part: str) -> bool:
    """Return whether a stem belongs to a part by its name: `lead_vocals` to vocals, `drums_left` to drums."""
    words, wanted = ({word.removesuffix("s") for word in _words(each)} for each in (name, part))
    return bool(words & wanted) or (_is_sung(name) and _is_sung(part))


def _is_sung(name: str) -> bool:
    return bool(set(_words(name)) & _SUNG)


def _words(name: str) -> list[str]:
    tagged = untag(name)
    text = _CAMEL.sub(" ", unicodedata.normalize("NFKC", tagged[1] if tagged else name))
    return _WORD.findall(text.casefold())


def is_sum(name: str) -> bool:
    """Return whether a name is that of a file with several parts, or all."""
    return is_mixture(name) or missing_part(name) is not None


def is_mixture(name: str) -> bool:
    """Return whether a name is that of a file with all of a song."""
    return _whole(name) is not None


def _whole(name: str) -> int | None:
    """Rank names of all of a song: 0 the documented one, 1 mixes, 2 what may be mastered; None: it is none."""
    words = [word for word in _words(name) if not word.isdecimal()]
    bare = set(words) - _ORNAMENT
    if words == ["mixture"]:
        return 0
    if bare and bare <= _MIX | _MASTER:
        return 2 if bare & _MASTER else 1
    return 2 if not bare and set(words) & {"full", "original"} else None


def describe_roles(roles: Sequence[Roles]) -> list[str]:
    """Describe in a line each what names decided: which stems are not added, and which is taken for the mixture."""
    counts: dict[str, int] = {}
    for song in roles:
        lines = []
        if song.mixture not in (None, "mixture"):
            lines.append(f"{song.mixture} is taken for the mixture")
        if song.sums:
            are = "is a sum" if len(song.sums) == 1 else "are sums"
            lines.append(f"{', '.join(song.sums)} {are} of other stems by name, and not added to the mixture")
        if song.finer:
            lines.append(f"{', '.join(song.finer)} not added to the mixture: the target that is a sum holds them")
        for line in lines:
            counts[line] = counts.get(line, 0) + 1
    return [f"{line} ({n} of {len(roles)} songs)" for line, n in counts.items()]
