"""Trainings of several processes, for tests: what torchrun does, without torchrun; and what each of them trained on."""

import multiprocessing
import os
import socket
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from unittest import mock

from sepkit.datasets import loader
from sepkit.training import train

Call = tuple[dict, str, list[str]]  # recipe, run folder, overrides
Number = tuple[int, int]  # epoch, item
LOADED = ["sepkit.training.train", "torch._dynamo", "torch.distributed.fsdp"]  # once, which takes seconds


def train_together(calls: Sequence[Call], world: int = 2) -> list[list[list[Number]]]:
    """Train in one job of several processes, one call after the other; return what each process read, by call."""
    is_loaded_once = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if is_loaded_once else "spawn")
    if is_loaded_once:
        context.set_forkserver_preload(LOADED)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    shares = [({**os.environ, **job, "RANK": rank, "LOCAL_RANK": rank}, calls) for rank in range(world)]
    with context.Pool(world) as pool:
        return pool.starmap_async(_train_share, shares, chunksize=1).get(timeout=300)


def _train_share(environment: Mapping[str, object], calls: Sequence[Call]) -> list[list[Number]]:
    os.environ.update({name: str(value) for name, value in environment.items()})
    return [train_and_record(*call) for call in calls]


def train_and_record(recipe: dict, run: str, overrides: list[str], **more) -> list[Number]:
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
