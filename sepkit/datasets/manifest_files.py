"""Manifests as files: CSV or JSON."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sepkit.arguments import check_path
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import COLUMNS, NEEDED, NUMBERS, Manifest, Row, find_contradictions
from sepkit.disk import writing
from sepkit.files import atomic_file
from sepkit.plain import TOO_DEEP
from sepkit.problems import did_you_mean, show

FILES = ("manifest.csv", "manifest.json")  # that the root of a set may have
_SPACE = " \t\r\n"
_SURROGATE = re.compile("[\ud800-\udfff]")  # what stands for a byte that is not UTF-8
Line = tuple[int, Mapping[str, Any]]  # number, and values by column


def read_manifest(path: str | os.PathLike) -> Manifest:
    """Read a manifest: CSV whose first line names the columns, or JSON, a list of objects with these names.

    The columns are those of `Row`; path, stem, track and split must be there. Relative paths are relative to the
    folder of the manifest, which is its root.

    Args:
        path: `.csv` or `.json`.

    Raises:
        DatasetError: with the line of everything that is wrong, and what to do.
    """
    check_path(path, "path")
    path = Path(path)
    read = {".csv": _read_csv, ".json": _read_json}.get(path.suffix.lower())
    if read is None:
        raise DatasetError(path, ["a manifest must be a .csv or a .json file; save it as one"])
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DatasetError(path, [f"it cannot be read: {error.strerror or error}"]) from error
    if "\0" in text:
        raise DatasetError(path, ["it is not text in UTF-8; save it as that"])
    findings: list[str] = []
    rows, lines = [], []
    for number, values in read(path, text, findings):
        row = _make_row(path.absolute().parent, number, values, findings)
        if row is not None:
            rows.append(row)
            lines.append(number)
    if not rows and not findings:
        findings.append("it lists no file; add rows")
    findings += [f"line {lines[i]}: contradicts line {lines[j]}: {why}" for i, j, why in find_contradictions(rows)]
    if findings:
        raise DatasetError(path, sorted(findings, key=_line_of))
    return Manifest(path.parent, "manifest", tuple(rows))


def _line_of(finding: str) -> int:
    number = finding.removeprefix("line ").partition(":")[0]
    return int(number) if number.isdecimal() else 0


def _read_csv(path: Path, text: str, findings: list[str]) -> Iterator[Line]:
    """Yield the lines of a CSV with their values."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    header: list[str] = []
    number = 1
    try:
        for cells in reader:
            if not header and any(cells):
                header = [cell.strip().casefold() for cell in cells]
                _check_columns(path, number, header)
            elif any(cell.strip() for cell in cells):
                if len(cells) == len(header):
                    yield number, dict(zip(header, cells, strict=True))
                else:
                    wanted = f"it has {len(cells)} values, wanted are {len(header)}"
                    findings.append(f"line {number}: {wanted}; put values with commas into quotes")
            number = reader.line_num + 1
    except csv.Error as error:
        findings.append(f"line {max(1, reader.line_num)}: it is no CSV: {error}; put values with commas into quotes")


def _check_columns(path: Path, number: int, header: list[str]) -> None:
    """Refuse a first line that does not name the columns.

    Raises:
        DatasetError: with all that is wrong with it.
    """
    example = f"wanted is a first line such as {','.join(NEEDED)}"
    if not set(header) & set(COLUMNS):
        split = next((sign for sign in (";", "\t", "|") if sign in "".join(header)), None)
        hint = f"the columns are divided by {split!r}, not by commas" if split else "it does not name the columns"
        raise DatasetError(path, [f"line {number}: {hint}; {example}"])
    findings = [
        f"line {number}: there is no column {name!r} in a manifest"
        + (did_you_mean(name, COLUMNS) or f"; remove it (there are: {', '.join(COLUMNS)})")
        for name in dict.fromkeys(header)
        if name not in COLUMNS
    ]
    findings += [
        f"line {number}: the column {name!r} is there twice; keep one" for name in COLUMNS if header.count(name) > 1
    ]
    findings += [f"line {number}: the column {name!r} is missing; {example}" for name in NEEDED if name not in header]
    if findings:
        raise DatasetError(path, findings)


def _read_json(path: Path, text: str, findings: list[str]) -> Iterator[Line]:
    """Yield the objects of a JSON list, with the line on which each begins."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        raise DatasetError(path, [f"line 1: a list of objects is wanted, each with {', '.join(NEEDED)}"])
    position, number, counted = _skip(text, position + 1), 1, 0
    while text[position : position + 1] != "]":
        number, counted = number + text.count("\n", counted, position), position
        try:
            values, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            reason = TOO_DEEP if isinstance(error, RecursionError) else str(error).partition("; use sys.")[0]
            at = text.count("\n", 0, error.pos) + 1 if isinstance(error, json.JSONDecodeError) else number
            findings.append(f"line {at}: it is no JSON: {getattr(error, 'msg', reason)}")
            return
        if isinstance(values, dict):
            yield from _check_names(number, values, findings)
        else:
            findings.append(f"line {number}: an object with {', '.join(NEEDED)} is wanted, got {show(values)}")
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            findings.append(f"line {text.count(chr(10), 0, position) + 1}: it is no JSON: a comma or ] is wanted")
            return
    if _skip(text, position + 1) < len(text):
        findings.append(f"line {text.count(chr(10), 0, position) + 1}: the list ends here; remove what follows it")


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] and text[position] in _SPACE:
        position += 1
    return position


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        name = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise ValueError(f"{name!r} is there twice; keep one")
    return values


def _check_names(number: int, values: Mapping[str, Any], findings: list[str]) -> Iterator[Line]:
    """Yield an object of JSON whose names are in order."""
    wrong = [
        f"line {number}: there is no {name!r} in a manifest"
        + (did_you_mean(name, COLUMNS) or f"; remove it (there are: {', '.join(COLUMNS)})")
        for name in values
        if name not in COLUMNS
    ]
    wrong += [f"line {number}: {name!r} is missing; add it" for name in NEEDED if name not in values]
    findings += wrong
    if not wrong:
        yield number, values


def _make_row(folder: Path, number: int, values: Mapping[str, Any], findings: list[str]) -> Row | None:
    """Make the row of a line; None, and what is wrong with it, where that cannot be."""
    try:
        given = {name: value for name, text in values.items() if (value := _convert(name, text)) is not None}
        lacking = [name for name in NEEDED if name not in given]
        if lacking:
            raise ValueError(f"{lacking[0]} is empty; fill it in")
        if not isinstance(given["path"], str):
            raise ValueError(f"path must be text, got {show(given['path'])}")
        row = Row(**{**given, "path": Path(os.path.normpath(folder / given["path"]))})
    except ValueError as error:
        findings.append(f"line {number}: {error}")
        return None
    if not os.path.isfile(row.path):
        what = "is a folder, wanted is a file" if os.path.isdir(row.path) else "is not there"
        remedy = "relative paths are relative to the manifest's folder; correct it, or remove the line"
        if os.path.isfile(folder / given["path"].strip()):
            remedy = "without the spaces around its path it is: remove them"
        findings.append(f"line {number}: {given['path']} {what}; {remedy}")
    return row


def _convert(name: str, value: Any) -> Any:
    """Turn the text of a cell into a value; of JSON, only a rate such as 44100.0 changes. None: it is empty."""
    if not isinstance(value, str):
        return int(value) if name == "rate" and isinstance(value, float) and value.is_integer() else value
    text = value if name == "path" else value.strip()
    if name != "path" and _SURROGATE.search(text):
        raise ValueError(f"{name} is not text in UTF-8; save the manifest as that")
    if not text or name not in NUMBERS:
        return text or None
    try:
        number = float(text)
    except ValueError:
        number = None
    if number is None or (name == "rate" and not number.is_integer()):
        wanted = "a whole number of Hz" if name == "rate" else "a number"
        raise ValueError(f"{name} must be {wanted}, got {show(text)}")
    return int(number) if name == "rate" else number  # tables write 44100.0 where a column has empty cells


def write_manifest(manifest: Manifest, path: str | os.PathLike) -> None:
    """Write a manifest, with the columns that any row needs.

    Args:
        manifest: what is written; paths below the folder of the file become relative to it.
        path: `.csv` or `.json`.

    Raises:
        ValueError: it is neither.
        sepkit.disk.OutputError: it cannot be written.
    """
    check_path(path, "path")
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".json"):
        raise ValueError(f"a manifest must be a .csv or a .json file, got {path.name}")
    defaults = dict(zip(COLUMNS[4:], (0.0, None, None, 0.0, None, None, None, None), strict=True))
    used = [name for name in COLUMNS[4:] if any(getattr(row, name) != defaults[name] for row in manifest.rows)]
    lines = [
        {"path": _relative(row.path, path.absolute().parent)}
        | {name: getattr(row, name) for name in (*NEEDED[1:], *used)}
        for row in manifest.rows
    ]
    text = _format_csv(lines, (*NEEDED, *used)) if path.suffix.lower() == ".csv" else _format_json(lines)
    with writing(path.parent, "make room, or choose another place"), atomic_file(path) as written:
        written.write_bytes(text.encode("utf-8", "surrogateescape"))


def _relative(path: Path, folder: Path) -> str:
    """Return a path as it stands in a manifest of a folder."""
    path = path.absolute()
    text = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return text if text == text.lstrip() else f"./{text}"


def _format_csv(lines: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _format_json(lines: Iterable[Mapping[str, Any]]) -> str:
    """Write a row a line, so that the numbers of lines say something."""
    return "[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]\n"
