"""What is found in a song by reading all of it, remembered by its files."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from sepkit.audio import AudioError
from sepkit.datasets.comparison import SongComparison, compare_song
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.inspection import Inspection
from sepkit.datasets.leakage import Leak
from sepkit.datasets.measurement import Measurement
from sepkit.datasets.mixing import fit_mixture
from sepkit.datasets.songs import Song
from sepkit.datasets.sound.songs import differs_from_sum, find_copies, find_mixing_faults

VERSION = 2  # of what is found


@dataclass(frozen=True)
class Examination:
    """What is found in a song.

    Attributes:
        comparison: of its files; None: they cannot be read.
        findings: about the song.
        error: why it cannot be read; "": it can.
    """

    comparison: SongComparison | None
    findings: tuple[Finding, ...]
    error: str = ""


def examine_song(song: Song, targets: Collection[str] = ()) -> tuple[Examination, dict[str, Measurement]]:
    """Read a song from its beginning to its end, and find what is wrong with how its files belong together.

    Args:
        song: which.
        targets: stems that are wanted; empty: all.

    Returns:
        What is found, and the measurements of files that were measured on the way, by path.
    """
    try:
        comparison, measured = compare_song(song)
        findings = [*find_copies(song, song.inspection, targets)] if song.aligned else []
        comparison = replace(comparison, leaks=_own_leaks(comparison, song.inspection)) if findings else comparison
        if differs_from_sum(song, comparison):
            findings += find_mixing_faults(song, comparison, fit_mixture(song, comparison))
    except AudioError as error:
        return Examination(None, (), str(error)), {}
    return Examination(comparison, tuple(findings)), measured


def _own_leaks(comparison: SongComparison, inspection: Inspection) -> tuple[Leak, ...]:
    """Drop leaks between parts that are copies, or the sum of each other."""
    alike = [{copy.first, copy.second} for copy in inspection.copies]
    alike += [
        {name, part} for sums in (inspection.doubles, inspection.nearly) for name, of in sums.items() for part in of
    ]
    names = comparison.parts
    return tuple(leak for leak in comparison.leaks if {names[leak.source], names[leak.holder]} not in alike)


def pack_examination(found: Examination) -> tuple[bytes, bytes]:
    """Convert what was found to bytes: the comparison, and the findings."""
    comparison = found.comparison
    leaks = np.array([tuple(leak) for leak in comparison.leaks], np.float64).reshape(-1, len(Leak._fields))
    arrays = {
        "shape": np.array([comparison.sample_rate, comparison.n_samples]),
        "fingerprint": comparison.fingerprint,
        "residual": comparison.residual,
        "mixture": comparison.mixture,
        "leaks": leaks,
    }
    findings = [
        [int(f.severity), f.kind, f.message, f.file and str(f.file), f.position, f.remedy] for f in found.findings
    ]
    return save(arrays), json.dumps([list(comparison.parts), findings]).encode()


def unpack_examination(comparison: bytes, findings: bytes) -> Examination:
    """Rebuild what was found from its bytes."""
    arrays, (parts, rows) = load(comparison), json.loads(findings)
    rate, n_samples = arrays["shape"].tolist()
    leaks = tuple(Leak(int(row[0]), int(row[1]), *row[2:]) for row in arrays["leaks"].tolist())
    joined = SongComparison(
        rate, n_samples, arrays["fingerprint"], arrays["residual"], arrays["mixture"], leaks, tuple(parts)
    )
    return Examination(joined, tuple(_rebuild(*row) for row in rows))


def _rebuild(severity: int, kind: str, message: str, file: str | None, *rest: Any) -> Finding:
    return Finding(Severity(severity), kind, message, None if file is None else Path(file), *rest)
