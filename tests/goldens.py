"""Published networks with random weights, and what they gave for an input."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


class Golden(NamedTuple):
    """One case: tensors under their original names, the config that came with them, input and output."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    input: Tensor
    output: Tensor


def read_golden(root: Path, name: str) -> Golden:
    folder = root / "goldens" / "models" / name
    arrays = np.load(folder / "io.npz")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "weights.safetensors")
    return Golden(tensors, config, torch.from_numpy(arrays["input"]), torch.from_numpy(arrays["output"]))


def snr(estimate: Tensor, target: Tensor) -> float:
    """Signal-to-noise ratio of everything at once, dB."""
    assert estimate.shape == target.shape
    estimate, target = estimate.double(), target.double()
    return float(10 * torch.log10(target.square().sum() / (estimate - target).square().sum()))
