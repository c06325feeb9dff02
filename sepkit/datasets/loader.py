"""Batches of examples in a few buffers that are used again and again, filled by this process or by others."""

import contextlib
import math
import mmap
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sepkit.datasets.plan import EpochSampler, Number
from sepkit.datasets.song_dataset import SongDataset, augment_and_mix
from sepkit.processes import init_worker

AHEAD = 2  # batches that each process fills in advance


@dataclass(frozen=True)
class Batch:
    """Examples in a buffer of the loader; valid until the loader has handed out as many more as it keeps.

    Attributes:
        stems: (B, K, C, T) on the CPU, the targets first; the augmentations that can be folded are applied, where the
            CPU trains all of them.
        mixture: (B, C, T) on the CPU, the sum of the stems; None where that is left to the device.
        parameters: of each augmentation that is still to be applied, (B, K, ...); none where the CPU trains.
        present: bool (B, S) on the CPU, which targets each example has.
        failures: why examples were drawn anew, a sentence each.
        waited: seconds that its loading was waited for.
        held: seconds that a device was waited for, which was still to read the buffer.
    """

    stems: Tensor
    mixture: Tensor | None
    parameters: tuple[Tensor, ...]
    present: Tensor
    failures: tuple[str, ...]
    waited: float
    held: float
    _loader: "Loader" = field(repr=False)
    _slot: int = field(repr=False)

    def __len__(self) -> int:
        return len(self.stems)

    def mix(self) -> tuple[Tensor, Tensor]:
        """Send it to the loader's device, augment and mix it: mixture (B, C, T) and targets (B, S, C, T)."""
        loader = self._loader
        send = {"device": loader.device, "non_blocking": loader.device.type == "cuda"}
        stems = self.stems.to(**send)
        mixture = None if self.mixture is None else self.mixture.to(**send)
        loader.mark_sent(self._slot)
        if mixture is None:
            return augment_and_mix(stems, self.parameters, loader.dataset.steps, loader.n_targets)
        return mixture, stems[:, : loader.n_targets]


@dataclass
class _Ring:
    """Buffers for batches: stems (R, B, K, C, T) and, where they are summed here, mixtures (R, B, C, T)."""

    stems: Tensor
    mixtures: Tensor | None


class _Filling(Dataset):
    """Fill buffers: the item (slot, numbers) is a batch, of which only numbers are handed on."""

    def __init__(self, dataset: SongDataset, ring: _Ring) -> None:
        self.dataset, self.ring = dataset, ring

    def __getitem__(self, item: tuple[int, Sequence[Number]]) -> tuple[int, int, list, np.ndarray, list[str]]:
        slot, numbers = item
        stems, mixtures, filled = self.ring.stems[slot], self.ring.mixtures, []
        steps = self.dataset.steps
        plans = [self.dataset.plan(number) for number in numbers]  # before samples fill the cache
        for b, number in enumerate(numbers):
            summed = None if mixtures is None or steps else mixtures[slot, b]
            filled.append(self.dataset.read_into(number, stems[b], summed, plans[b]))
            if mixtures is not None and steps:
                drawn = [torch.as_tensor(values, dtype=torch.float32) for values in filled[-1].parameters]
                mixtures[slot, b], stems[b] = augment_and_mix(stems[b], drawn, steps, len(stems[b]))
        left = () if mixtures is not None else (example.parameters for example in filled)
        drawn = zip(*left, strict=True)
        parameters = [np.stack(step).astype(np.float32) for step in drawn]
        present = np.stack([example.present for example in filled])
        return slot, len(numbers), parameters, present, [why for example in filled for why in example.failures]


class _Slots:
    """Give each batch of numbers a buffer, in turns, once the device has read what was in it.

    Buffers that were given in an epoch that was left, but never handed out, are given again.
    """

    def __init__(self, sampler: EpochSampler, n_slots: int, device: torch.device) -> None:
        self.sampler, self.n_slots, self.device = sampler, n_slots, device
        self.last, self.held = -1, 0.0  # the buffer that was handed out last
        self.sent: dict[int, torch.cuda.Event] = {}

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, list[Number]]]:
        for number, numbers in enumerate(self.sampler, self.last + 1):
            slot = number % self.n_slots
            if slot in self.sent:
                asked = time.perf_counter()
                self.sent.pop(slot).synchronize()
                self.held += time.perf_counter() - asked
            yield slot, numbers


class Loader:
    """Load the batches of a SongDataset, the same ones however many processes load.

    A batch lies in one of a few buffers, which are allocated once. It stays valid until `n_kept` more are handed out:
    who keeps it for longer copies it. Other processes fill buffers in shared memory and hand on numbers alone.

    Args:
        dataset: of the examples.
        sampler: of their numbers.
        n_workers: processes that load, beside this one; 0: none, this one loads.
        device: to which `Batch.mix` sends.
        n_kept: batches that stay valid, the last one handed out among them, >= 1.

    Raises:
        ValueError: `n_kept` is below 1.
    """

    def __init__(
        self,
        dataset: SongDataset,
        sampler: EpochSampler,
        n_workers: int = 0,
        device: torch.device | str = "cpu",
        n_kept: int = 1,
    ) -> None:
        if n_kept < 1:
            raise ValueError(f"a loader keeps at least the batch that it handed out last, got n_kept {n_kept}")
        self.dataset, self.sampler, self.device = dataset, sampler, torch.device(device)
        self.n_targets, self.n_kept = len(dataset.targets), n_kept
        self._begun: Iterator | None = None  # what `begin` began
        n_slots = AHEAD * n_workers + n_kept
        self._ring = self._allocate(n_slots, n_workers > 0)
        self._slots = _Slots(sampler, n_slots, self.device)
        self._loader = DataLoader(
            _Filling(dataset, self._ring),
            batch_size=None,
            sampler=self._slots,
            num_workers=n_workers,
            collate_fn=_hand_on,
            worker_init_fn=init_worker,
            persistent_workers=n_workers > 0,
            generator=torch.Generator(),
            **({"prefetch_factor": AHEAD} if n_workers else {}),
        )

    def __len__(self) -> int:
        """Count the batches that are left of the sampler's epoch."""
        return len(self.sampler)

    def begin(self, epoch: int) -> None:
        """Start to load the first batches of an epoch in other processes, before `batches` asks for them.

        Args:
            epoch: which.
        """
        self.sampler.epoch, self.sampler.first_batch = epoch, 0
        self._begun = iter(self._loader) if self._loader.num_workers else None

    def batches(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Load the batches of an epoch.

        Args:
            epoch: which.
            first_batch: batches to leave out, because they were used before an interruption.
        """
        if (self.sampler.epoch, self.sampler.first_batch) != (epoch, first_batch):
            self._begun = None
        self.sampler.epoch, self.sampler.first_batch = epoch, first_batch
        return iter(self)

    def __iter__(self) -> Iterator[Batch]:
        """Load the batches to which the sampler is set."""
        filled, self._begun = self._begun, None
        while True:
            asked, self._slots.held = time.perf_counter(), 0.0
            filled = iter(self._loader) if filled is None else filled
            item = self._next(filled)
            if item is None:
                return
            if self.dataset.store:
                self.dataset.store.start()  # its thread begins after other processes, which are forks of this one
                self.dataset.store.raise_error()
            held = self._slots.held
            yield self._make_batch(*item, time.perf_counter() - asked - held, held)

    def close(self) -> None:
        """End the decoding of files that goes on beside the loading."""
        if self.dataset.store:
            self.dataset.store.stop()

    def _next(self, filled: Iterator) -> Any:
        """Return what was filled next; the error of a worker, which tells its own traceback, holds no frames here.

        They would hold torch's iterator in a cycle, in which its workers are waited for seconds once it is collected.
        """
        try:
            return next(filled, None)
        except Exception as error:
            if self._loader.num_workers:
                raise error.with_traceback(None) from error.__cause__
            raise

    def mark_sent(self, slot: int) -> None:
        """Record that a device is asked to read a buffer, which is not filled again before it has."""
        if self.device.type == "cuda":
            self._slots.sent[slot] = event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self.device))

    def _make_batch(
        self, slot: int, n_items: int, parameters: list, present: np.ndarray, failures: list, waited: float, held: float
    ) -> Batch:
        mixture = None if self._ring.mixtures is None else self._ring.mixtures[slot, :n_items]
        self._slots.last = slot
        drawn = tuple(map(torch.from_numpy, parameters))
        stems = self._ring.stems[slot, :n_items]
        return Batch(stems, mixture, drawn, torch.from_numpy(present), tuple(failures), waited, held, self, slot)

    def _allocate(self, n_slots: int, shared: bool) -> _Ring:
        """Make the buffers; where the CPU trains, examples are augmented and summed by who reads them."""
        dataset = self.dataset
        size = -(-min(self.sampler.batch_size, len(dataset)) // self.sampler.world)
        shape = (n_slots, size, len(dataset.stems), dataset.n_channels, dataset.n_samples)
        pinned = self.device.type == "cuda"
        stems = _allocate(shape, shared, pinned)
        summed = self.device.type == "cpu"
        return _Ring(stems, _allocate((*shape[:2], *shape[3:]), shared, pinned) if summed else None)


def _hand_on(item: Any) -> Any:
    return item


def _allocate(shape: Sequence[int], shared: bool, pinned: bool) -> Tensor:
    """Make memory, which other processes can write into or a GPU can read from while this one goes on."""
    if not shared:
        return torch.empty(shape, pin_memory=True) if pinned else _allocate_pages(shape)
    memory = torch.empty(shape).share_memory_()
    if pinned:
        _pin(memory)
    return memory


def _allocate_pages(shape: Sequence[int]) -> Tensor:
    """Make memory of this process, on Linux in large pages, whose places the processor finds faster."""
    n_bytes = 4 * math.prod(shape)
    if not hasattr(mmap, "MADV_HUGEPAGE") or not n_bytes:
        return torch.empty(shape)
    pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # of a system without them
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.float32).view(shape)


def _pin(memory: Tensor) -> None:
    """Lock shared memory in its place; where the system does not allow that, copies are only slower."""
    runtime, address = torch.cuda.cudart(), memory.data_ptr()
    if int(runtime.cudaHostRegister(address, memory.numel() * memory.element_size(), 0)) == 0:
        weakref.finalize(memory, _unpin, address)


def _unpin(address: int) -> None:
    with contextlib.suppress(Exception):  # the interpreter may be ending
        torch.cuda.cudart().cudaHostUnregister(address)
