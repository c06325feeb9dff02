"""Musical keys by name: one spelling for each."""

import re

_CLASSES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_KEY = re.compile(r"(?P<tonic>[A-Ga-g])(?P<sign>#|♯|b|♭|-sharp|-flat| sharp| flat)?\s*(?P<mode>[A-Za-z]*)")
_SIGNS = {"#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}
_MODES = {"": "major", "M": "major", "maj": "major", "major": "major", "m": "minor", "min": "minor", "minor": "minor"}


def normalize_key(name: str) -> str:
    """Return a musical key in its one spelling: "Db" is "C# major", "am" and "A minor" are "A minor".

    Args:
        name: a tonic, then nothing, "maj", "major", "m", "min" or "minor"; a tonic in small letters alone is minor.

    Raises:
        ValueError: it is none.
    """
    tonic, mode = parse_key(name)
    return f"{_NAMES[tonic]} {mode}"


def parse_key(name: str) -> tuple[int, str]:
    """Split a musical key into its tonic, in semitones above C, and "major" or "minor".

    Args:
        name: as `normalize_key` takes it.

    Raises:
        ValueError: it is none.
    """
    found = _KEY.fullmatch(name.strip())
    mode = found and _MODES.get(found["mode"] if found["mode"] in ("M", "m") else found["mode"].lower())
    if not mode:
        raise ValueError(f"key must be a musical key such as 'C', 'F# minor' or 'Bbm', got {name!r}")
    if not found["mode"] and found["tonic"].islower():
        mode = "minor"
    sign = _SIGNS[found["sign"].lstrip("- ")] if found["sign"] else 0
    return (_CLASSES[found["tonic"].lower()] + sign) % len(_NAMES), mode


def transpose_key(name: str, semitones: int) -> str:
    """Return the key that is a number of semitones above another, in its one spelling.

    Args:
        name: as `normalize_key` takes it.
        semitones: of any sign.

    Raises:
        ValueError: the name is none of a key.
    """
    tonic, mode = parse_key(name)
    return f"{_NAMES[(tonic + semitones) % len(_NAMES)]} {mode}"
