"""Read every file once, and remember what it sounds like in figures."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from time import monotonic
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from sepkit import audio
from sepkit.datasets.measurement import BLOCK_SECONDS, Measurement, Meter, pack, unpack
from sepkit.datasets.remembered import Remembered, file_key
from sepkit.devices import available_cores
from sepkit.disk import OutputError
from sepkit.processes import thread_pool
from sepkit.terminal import bar_option

VERSION = 6  # of what is measured
_KEPT_EVERY = 2.0  # s after which what was measured is written
_Item, _Result = TypeVar("_Item"), TypeVar("_Result")


def measure(
    infos: Iterable[audio.AudioInfo], workers: int | None = None, progress: bool = True
) -> dict[Path, Measurement]:
    """Measure files, each read once; those that were measured before, and are the same, are not read.

    What was measured is kept in the cache from time to time, so that a call that was stopped goes on where it was.

    Args:
        infos: what `sepkit.audio.probe` found; damaged files are measured as far as they decode.
        workers: threads; None: the cores.
        progress: show a bar.

    Returns:
        By path, in the order of `infos`. A file that cannot be read is missing.
    """
    infos = _by_path(infos)
    known = {path: unpack(*columns) for path, columns in _recall(infos, None).items()}
    known.update(_measure_missing(infos, known, workers, progress))
    return {path: known[path] for path in infos if path in known}


def measure_levels(
    infos: Iterable[audio.AudioInfo], workers: int | None = None, progress: bool = True
) -> dict[Path, np.ndarray]:
    """Measure the levels of files as `measure` does, and load nothing else: (N,) each, mean square of each 100 ms.

    Args:
        infos: what `sepkit.audio.probe` found.
        workers: threads; None: the cores.
        progress: show a bar.

    Returns:
        By path, in the order of `infos`. A file that cannot be read is missing.
    """
    infos = _by_path(infos)
    known = {path: np.frombuffer(levels, "<f4") for path, (levels,) in _recall(infos, "levels").items()}
    new = _measure_missing(infos, known, workers, progress)
    known.update((path, measurement.levels) for path, measurement in new.items())
    return {path: known[path] for path in infos if path in known}


def measure_file(info: audio.AudioInfo) -> Measurement:
    """Measure one file, from its beginning to its end.

    Raises:
        AudioError: it cannot be read.
    """
    meter = Meter(info.sample_rate, info.n_channels)
    with audio.AudioReader(info.path, allow_truncated=True, info=info, allow_nonfinite=True) as reader:
        for block in reader.blocks(BLOCK_SECONDS * info.sample_rate):
            meter.push(block.numpy())
        return meter.finish(audio.describe_damage(reader.damage, info.sample_rate))


def _by_path(infos: Iterable[audio.AudioInfo]) -> dict[Path, audio.AudioInfo]:
    return {Path(info.path): info for info in infos}


def _store() -> Remembered:
    return Remembered(f"files-{VERSION}", ("levels", "rest"))


def _recall(infos: dict[Path, audio.AudioInfo], column: str | None) -> dict[Path, tuple[bytes, ...]]:
    keys = {file_key(info, VERSION): path for path, info in infos.items()}
    return {keys[key]: values for key, values in _store().read(keys, column).items()}


def _measure_missing(
    infos: dict[Path, audio.AudioInfo], known: Mapping[Path, object], workers: int | None, progress: bool
) -> dict[Path, Measurement]:
    """Measure what is not known, and remember it."""
    missing = [info for path, info in infos.items() if path not in known]
    found = {}
    for batch in in_batches(_measure_readable, missing, workers, "measuring files", "file", progress):
        batch = [(info, measurement) for info, measurement in batch if measurement is not None]
        keep_measured({info.path: (info, measurement) for info, measurement in batch})
        found.update((Path(info.path), measurement) for info, measurement in batch)
    return found


def _measure_readable(info: audio.AudioInfo) -> Measurement | None:
    try:
        return measure_file(info)
    except audio.AudioError:  # which the probe, or whoever reads it, reports
        return None


def keep_measured(measured: Mapping[str, tuple[audio.AudioInfo, Measurement]]) -> None:
    """Write measurements of files, by path, to the cache."""
    remember(_store(), {file_key(info, VERSION): pack(measurement) for info, measurement in measured.values()})


def remember(store: Remembered, values: dict[bytes, Sequence[bytes]]) -> None:
    """Write values to the cache; where it cannot be written to, warn, since they can be found again."""
    try:
        store.write(values)
    except OutputError as error:
        warnings.warn(f"what was found in the songs is not remembered: {error}", stacklevel=2)


def in_batches(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int | None,
    title: str,
    unit: str,
    progress: bool,
) -> Iterator[list[tuple[_Item, _Result]]]:
    """Run a function on many items in threads, and yield items and results as they come, every few seconds.

    Args:
        function: called with each.
        items: of which few are held at once.
        workers: threads; None: the cores.
        title: before the bar.
        unit: of what is counted.
        progress: show a bar.
    """
    queue, running = iter(items), {}
    bar = tqdm(desc=title, total=len(items), unit=unit, leave=False, disable=bar_option(progress), delay=1)
    with bar, thread_pool(workers or available_cores()) as pool:
        try:
            batch, last = [], monotonic()
            while True:
                for item in queue:
                    running[pool.submit(function, item)] = item
                    if len(running) >= 2 * (workers or available_cores()):
                        break
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                batch += [(running.pop(future), future.result()) for future in done]
                bar.update(len(done))
                if monotonic() - last > _KEPT_EVERY:
                    yield batch
                    batch, last = [], monotonic()
            if batch:
                yield batch
        finally:
            for future in running:
                future.cancel()
