"""Whole songs through every network: the same for any batch size, no seams, nothing lost, in bounded memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import SMALL
from torch import Tensor
from torch.nn.functional import pad

from sepkit import audio, models
from sepkit.bag import join_members
from sepkit.chunking import Chunking
from sepkit.inference import separate
from sepkit.normalization import measure_mixture, normalize, restore
from sepkit.separator import Separator

RATE, LENGTH = 8000, 4000  # LENGTH: samples of a chunk
TRANSFORM = {"class": "STFT", "n_fft": 128, "hop_length": 64}
HOPS = {**TRANSFORM, "hop_length": 32, "framing": "hops"}
DEMUCS = {"window": "triangle", "last": "short"}
NAMES = [*models.__all__, "LoRA", "Bag"]
WAYS = {  # how recordings are cut and normalised where the original does it in a way of its own
    "Demucs": {"normalize": "recording", "chunking": DEMUCS},
    "HDemucs": {"normalize": "recording", "chunking": DEMUCS, "transform": HOPS},
    "HTDemucs": {"normalize": "recording", "chunking": DEMUCS, "transform": HOPS},
    "SCNet": {"normalize": "recording"},
    "OpenUnmix": {"postfilter": {"class": "WienerFilter", "iterations": 1, "window": 30}},
}


def settings_of(name: str) -> dict:
    network = {"class": name, **SMALL.get(name, {})}
    if name == "HTDemucs":
        network["training_length"] = LENGTH
    return {
        "sources": ["vocals", "drums"], "network": network, "sample_rate": RATE, "segment": LENGTH / RATE,
        "transform": TRANSFORM, **WAYS.get(name, {}),
    }  # fmt: skip


def make(name: str) -> Separator:
    torch.manual_seed(0)
    if name == "Bag":
        members = [settings_of(each) for each in ("HTDemucs", "HDemucs")]
        return Separator(**join_members(members, [[1.0, 0.0], [0.5, 1.0]])).eval()
    return Separator(**settings_of(name)).eval()


def song(seconds: float) -> Tensor:
    """Noise that comes and goes, with silence within."""
    n_samples = round(seconds * RATE)
    generator = torch.Generator().manual_seed(0)
    level = torch.sin(torch.arange(n_samples) / RATE).clamp(min=0)
    return 0.3 * level * torch.randn(2, n_samples, generator=generator)


def stacked(model: Separator, mixture: Tensor, **options) -> Tensor:
    return torch.stack(list(separate(model, mixture, **options).values()))


def by_hand(model: Separator, mixture: Tensor) -> Tensor:
    """Separate a song in memory chunk by chunk, each on its own, and cross-fade."""
    statistics = {"statistics": measure_mixture(mixture[None])} if model.normalize else {}
    mixture = normalize(mixture[None], statistics["statistics"])[0] if statistics else mixture
    n_samples, hop, window = mixture.shape[-1], model.chunking.hop(LENGTH), model.chunking.weights(LENGTH)
    summed, weight = torch.zeros(2, *mixture.shape), torch.zeros(n_samples)
    starts = range(0, n_samples, hop)
    if model.chunking.last == "filled":
        starts = starts[: -(-max(0, n_samples - LENGTH) // hop) + 1]
    for start in starts:
        length = min(LENGTH, n_samples - start)
        given = LENGTH if model.chunking.last == "filled" else length
        size = model.valid_length(given)
        first = start - (size - given) // 2
        around = pad(mixture, (size, size))[:, first + size : first + 2 * size]
        with torch.no_grad():
            plain = {"statistics": (0, 1)} if statistics else {}
            estimate = model(around[None], **plain)[0][..., start - first :][..., :length]
        summed[..., start : start + length] += estimate * window[:length]
        weight[start : start + length] += window[:length]
    mean = summed / weight
    return restore(mean[None], statistics["statistics"])[0] if statistics else mean


def check_song(name: str, seconds: float) -> None:
    model, mixture = make(name), song(seconds)
    one, three = (stacked(model, mixture, batch_size=size, residual=True) for size in (1, 3))
    torch.testing.assert_close(three, one, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.sum(0), mixture, rtol=0, atol=1e-5)
    if name != "Bag":
        torch.testing.assert_close(one[:2], by_hand(model, mixture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_song_is_that_of_its_chunks_in_any_batches_and_nothing_of_it_is_lost(name):
    check_song(name, seconds=1.7)  # chunks, and samples, over


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_so_is_a_longer_song(name):
    check_song(name, seconds=20)


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("window", ["trapezoid", "triangle"])
def test_a_chunk_comes_and_goes_without_a_step(window, overlap):
    chunking = Chunking(overlap=overlap, window=window)
    hop, weights = chunking.hop(LENGTH), chunking.weights(LENGTH)
    everywhere = sum(pad(weights, (k * hop, (20 - k) * hop)) for k in range(21))
    share = pad(weights, (10 * hop, 10 * hop)) / everywhere  # of one chunk among its neighbours
    steps = share.diff().abs()
    assert steps.max() < 2 / (overlap * LENGTH) + 1e-6


MEASURED = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from sepkit.inference import separate_file
from sepkit.processes import retain_freed_memory
from test_whole_songs import make
retain_freed_memory()
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
model = make({name!r})
separate_file(model, {short!r}, {out!r}, existing="overwrite")
before = peak()
separate_file(model, {long!r}, {out!r}, shifts={shifts}, existing="overwrite")
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "shifts"), [("OpenUnmix", 0), ("Demucs", 0), ("HDemucs", 2), ("Bag", 1), ("SCNet", 0)]
)
def test_memory_does_not_grow_with_the_song(tmp_path, name, shifts):
    found = {}
    audio.write(tmp_path / "short.wav", song(10), RATE)
    for seconds in (60, 240):
        audio.write(tmp_path / "long.wav", song(seconds), RATE)
        paths = {place: str(tmp_path / f"{place}.wav") for place in ("short", "long")}
        program = MEASURED.format(
            tests=str(Path(__file__).parent), name=name, shifts=shifts, out=str(tmp_path / "out"), **paths
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        found[seconds] = float(run.stdout)
    print(f"{name}, {shifts} shifts: {found} MB above 10 s")
    assert max(found.values()) <= 32
    assert found[240] - found[60] <= 8
