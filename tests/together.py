"""Trainings of several processes, for tests: what torchrun does, without torchrun; and what each of them trained on."""

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from sepkit.datasets import loader
from sepkit.training import train

Call = tuple[dict, str, list[str]]  # recipe, run folder, overrides


def train_together(calls: Sequence[Call], folder: Path, world: int = 2) -> list[list]:
    """Train in one job of several processes, one call after the other; return what each process read, by call."""
    given = folder / "calls.json"
    given.write_text(json.dumps(calls))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        job = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "localhost"}
        job["MASTER_PORT"] = free.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(given)],
            env={**os.environ, **{name: str(v) for name, v in {**job, "RANK": rank, "LOCAL_RANK": rank}.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    ended = [(*process.communicate(timeout=300), process.returncode) for process in running]
    assert [code for _, _, code in ended] == [0] * world, ended
    return [json.loads(out.splitlines()[-1]) for out, _, _ in ended]


def train_and_record(recipe: dict, run: str, overrides: list[str], **more) -> list[tuple[int, int]]:
    """Train, and return the numbers of the examples that this process read, in their order."""
    numbers, fill = [], loader._Filling.__getitem__

    def record(filling, item):
        numbers.extend(map(tuple, item[1]))
        return fill(filling, item)

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*(stands alone|lack it)")  # songs that are meant to
        stack.enter_context(mock.patch.object(loader._Filling, "__getitem__", record))
        for name in ("draw_curves", "write_report"):  # which take longer than the training
            stack.enter_context(mock.patch(f"sepkit.training.afterwards.{name}"))
        train(recipe, run, overrides=overrides, device="cpu", quiet=True, log=str, **more)
    return numbers


if __name__ == "__main__":
    read = [train_and_record(*call) for call in json.loads(Path(sys.argv[1]).read_text())]
    print(json.dumps(read))
