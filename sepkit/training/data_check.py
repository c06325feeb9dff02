"""Check the songs of a folder or of a recipe, all of them from beginning to end."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sepkit.datasets.checking import SoundCheck, check_sound, sort_findings
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.gathering import Gathered, gather
from sepkit.datasets.several import Source
from sepkit.disk import writing
from sepkit.files import in_a_line
from sepkit.recipe import load_recipe
from sepkit.report import report_check, shorten_path
from sepkit.report.page import check_page
from sepkit.training.opening import list_sources

_SHOWN = 40  # findings that are printed; the page has all
_NAMES = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
_RECIPES = (".yaml", ".yml")


def check_data(
    source: str | Path,
    overrides: Sequence[str] = (),
    output: str | Path = "check.html",
    workers: int | None = None,
    log: Callable[[str], object] = print,
) -> int:
    """Read all songs of a folder or a recipe once, print what is wrong with them, and write a page.

    Args:
        source: folder of songs, manifest, or recipe: name or path.
        overrides: `key.sub=value` each, applied to the recipe.
        output: the page.
        workers: threads that read; None: one a core.
        log: called with each line meant for the user.

    Returns:
        1 where a finding is an error, else 0.

    Raises:
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: there are no songs.
        ValueError: `workers` is below 1, overrides are given without a recipe, or `output` is a folder.
        sepkit.disk.OutputError: the page cannot be written.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}: leave it out for one a core")
    check_page(output)
    gathered, targets = _gather(str(source), overrides, workers)
    for line in gathered.lines:
        log(line)
    found = check_sound(gathered.songs, targets, workers)
    findings = sort_findings([*gathered.findings, *found.findings])
    for line in describe_check(str(source), findings, found):
        log(line)
    with writing(Path(output).parent, "make room, or choose another --output"):
        log(f"page       {report_check(output, str(source), findings, found)}")
    return int(any(finding.severity == Severity.ERROR for finding in findings))


def _gather(source: str, overrides: Sequence[str], workers: int | None) -> tuple[Gathered, tuple[str, ...]]:
    """Find the songs of a folder or manifest, or those of a recipe with its sources as targets."""
    place = Path(source)
    is_recipe = place.suffix.lower() in _RECIPES or not (place.exists() or source == "demo" or place.name != source)
    if not is_recipe:
        if overrides:
            raise ValueError(f"{overrides[0]} changes a recipe, and {source} is none: leave it out, or name a recipe")
        return gather([Source(source)], workers=workers), ()
    recipe = load_recipe(source, overrides)
    separator = recipe.separator
    targets = tuple(separator.sources)
    wanted = (targets, separator.sample_rate, separator.n_channels, recipe.data.resample, workers)
    return gather(list_sources(recipe), *wanted), targets


def describe_check(source: str, findings: Sequence[Finding], found: SoundCheck) -> list[str]:
    """Describe a check in lines: how many findings of each kind, the worst ones, hours of activity.

    Args:
        source: what was checked.
        findings: the worst first.
        found: what was read.
    """
    lines = [f"{found.n_songs} songs, {found.hours:.2f} h", *_describe_activity(found.activity), ""]
    counts = Counter((finding.severity, finding.kind) for finding in findings)
    lines += [f"{_NAMES[severity]:<10} {kind:<16} {n:>6}" for (severity, kind), n in counts.items()]
    lines += [""] if findings else ["nothing was found", ""]
    for finding in findings[:_SHOWN]:
        shown = finding if finding.file is None else replace(finding, file=Path(shorten_path(finding.file, source)))
        lines.append(f"{_NAMES[finding.severity]:<10} {finding.kind:<16} {shown}")
    if len(findings) > _SHOWN:
        lines.append(f"and {len(findings) - _SHOWN} more, on the page")
    return [in_a_line(line) for line in lines]


def _describe_activity(activity: Mapping[tuple[str, str], tuple[float, float, int]]) -> list[str]:
    head = f"{'split':<8} {'stem':<16} {'songs':>6} {'hours':>8} {'sounding':>9}"
    rows = [
        f"{split:<8} {stem:<16} {songs:>6} {total:>8.2f} {sounding / max(total, 1e-9):>9.0%}"
        for (split, stem), (sounding, total, songs) in activity.items()
    ]
    return [head, *rows] if rows else []
