"""How a recording is cut into chunks for a network, and how the estimates of the chunks are weighted."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sepkit.arguments import check_count, check_range

_CHOICES = {"window": ("trapezoid", "triangle"), "last": ("filled", "short")}


@dataclass(frozen=True)
class Chunking:
    """How a recording is cut into chunks of the model's segment, and put together again.

    Chunks begin at multiples of the whole part of (1 - overlap) times their length. Where a network fills a chunk up,
    as those of Demucs do, it is given what stands around the chunk in the recording.

    Attributes:
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        window: weights of a chunk's samples where chunks overlap: "trapezoid", ramps over what overlaps, or "triangle",
            which rises to the middle of the chunk and falls from there, as in Demucs.
        power: to which the triangle is raised, in [1, 4]; 1 with a trapezoid.
        last: "filled": the last chunk is the first that reaches the end of the recording, filled with zeros to its
            length; "short": chunks begin wherever there are samples, and end with the recording, as in Demucs.
        shifts: separations of the recording, each delayed at random by up to half a second, whose mean is returned;
            0: one without delay.
        seed: of these delays.

    Raises:
        ValueError: one is out of range, or no such choice.

    Source:
        demucs 4.1, `apply_model`, for "triangle", "short" and shifts.
    """

    batch_size: int = 1
    overlap: float = 0.25
    window: Literal["trapezoid", "triangle"] = "trapezoid"
    power: float = 1.0
    last: Literal["filled", "short"] = "filled"
    shifts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_range("overlap", self.overlap, 0, 0.9)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(choices)}, got {getattr(self, name)!r}")
        check_range("power", self.power, 1, 4)
        if self.power != 1 and self.window != "triangle":
            raise ValueError(f"power must be 1 with a {self.window}, got {self.power!r}: choose window triangle")
        check_count("shifts", self.shifts, 0)
        check_count("seed", self.seed, 0)

    def hop(self, length: int) -> int:
        """Return the samples from the start of a chunk of `length` samples to that of the next."""
        return max(1, int((1 - self.overlap) * length))

    def weights(self, length: int) -> Tensor:
        """Return the weights of the samples of a chunk, (length,), all above 0."""
        ramp = torch.arange(1, length + 1)
        if self.window == "triangle":
            rising = (length + 1) // 2
            return (torch.minimum(ramp, ramp.flip(0)) / rising) ** self.power
        overlap = min(length - self.hop(length), length // 2)
        return (torch.minimum(ramp, ramp.flip(0)) / (overlap + 1)).clamp(max=1.0)
