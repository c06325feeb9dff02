"""A small training for tests: its recipe, its songs, what it leaves, and a user who stops it."""

import csv
import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from songs import RATE, noise, write_song

from sepkit.observers import TrainingView
from sepkit.training import train
from sepkit.training.checkpoints import Checkpoints, write_checkpoint

SOURCES = ["vocals", "drums"]
N_STEPS = 3  # per epoch: 10 items in batches of 4
RECIPE = {
    "separator": {
        "sources": SOURCES,
        "sample_rate": RATE,
        "segment": 0.5,
        "transform": {"class": "STFT", "n_fft": 256, "hop_length": 128},
        "network": {"class": "BLSTM", "hidden_size": 16, "n_layers": 2, "dropout": 0.1},
    },
    "data": {"items_per_epoch": 10, "remix": 0.5, "augment": [{"class": "Gain"}, {"class": "Sign"}], "workers": 0},
    "losses": [{"class": "RelativeSpectralLoss"}],
    "training": {"epochs": 2, "batch_size": 4, "optimizer": {"class": "AdamW", "lr": 1e-2}, "ema": 0.9, "clip": 1.0},
    "validation": {"excerpt": 2.0},
    "observers": [],
}


def song(seed: int, seconds: float = 4.0) -> dict[str, np.ndarray]:
    """Synthesize a high vibrato for a voice, low bursts for drums."""
    times = np.arange(round(seconds * RATE)) / RATE
    voice = 0.3 * np.sin(2 * np.pi * (1500 + 100 * seed) * times + 5 * np.sin(6 * times))
    bursts = noise(seed, len(times), 1)[:, 0] * np.exp(-8 * (times * 4 % 1))
    low = np.convolve(bursts, np.hanning(64) / 32, mode="same")
    return {"vocals": np.stack([voice, voice], 1), "drums": np.stack([low, 0.5 * low], 1)}


def write_songs(folder: Path) -> Path:
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(folder / name, song(i))
    return folder


def skip_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out report and curves, which take most of the time of so small a training."""
    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "write_report", lambda *_: None)
    monkeypatch.setattr("sepkit.training.run_folder.RunFolder.draw", lambda *_: None)


def make_run(songs: Path, place: Path, default: dict = RECIPE) -> Callable[..., Path]:
    """Return what trains a recipe, changed by overrides, in a folder of a place, and prints nothing."""

    def start(*overrides: str, folder: str = "run", recipe: dict = default, **options) -> Path:
        given = {"data": songs, "device": "cpu", "quiet": True, "log": lambda _: None, **options}
        return train(recipe, place / folder, overrides=overrides, **given)

    return start


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return stored_state(folder)["separator"]


def stored_state(folder: Path) -> dict:
    return Checkpoints(folder / "training").load()


def change_state(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the newest state of a run as another version, or other code, would have written it."""
    checkpoints = Checkpoints(folder / "training")
    state = checkpoints.load()
    change(state)
    write_checkpoint(checkpoints.newest, state)


def assert_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert some.keys() == others.keys()
    assert all(torch.equal(some[name], others[name]) for name in some)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


class StopAfter:
    """Ask for a stop, as a user would, after a step."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.number = step, number

    def on_step(self, view: TrainingView) -> None:
        if view.step == self.step:
            os.kill(os.getpid(), self.number)
