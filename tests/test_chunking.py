"""Recordings are cut and put together as the model asks for, like Demucs does it where it asks for that."""

import json

import numpy as np
import pytest
import torch
from goldens import snr
from networks import SMALL
from torch import Tensor

from sepkit.chunking import Chunking
from sepkit.inference import StreamSeparator, choose_chunking, separate
from sepkit.inference.overlap_add import OverlapAdd
from sepkit.inference.passes import draw_delays
from sepkit.model_folder import load_model, save_model
from sepkit.separator import Separator

DEMUCS = {"window": "triangle", "last": "short"}
RATE = 50


def make(fills: int = 1, n_samples: int = 100, **settings) -> Separator:
    network = {"class": "networks.Placed", "fills": fills}
    transform = {"class": "STFT", "n_fft": 16, "hop_length": 8}
    return Separator(["a", "b"], network, RATE, 2, n_samples / RATE, transform, **settings).eval()


def noise(n_samples: int) -> Tensor:
    return torch.rand(2, n_samples, generator=torch.Generator().manual_seed(n_samples)) - 0.5


def stacked(model: Separator, mixture: Tensor, **options) -> Tensor:
    return torch.stack(list(separate(model, mixture, **options).values()))


# Like demucs


@pytest.fixture(scope="module")
def goldens(reference_root):
    folder = reference_root / "goldens" / "models" / "demucs_apply"
    return json.loads((folder / "config.json").read_text())["cases"], np.load(folder / "io.npz")


def _read(goldens, number: int) -> tuple[dict, Tensor, Tensor]:
    cases, arrays = goldens
    return cases[number], *(torch.from_numpy(arrays[f"{name}_{number}"])[0] for name in ("input", "output"))


LENGTHS = {4: 60}  # of chunks, where they are shorter than the model's segment


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("number", range(8))
def test_a_stream_is_separated_as_demucs_separates_the_whole(goldens, monkeypatch, number, block):
    case, mixture, wanted = _read(goldens, number)
    options, offsets = case["options"], case["offsets_drawn"]
    n_samples = LENGTHS.get(number, 97 if case["model"] == "htdemucs" else 100)
    model = make({"plain": 1, "valid": 0, "htdemucs": n_samples}[case["model"]], n_samples)
    delays = [RATE // 2 - offset for offset in offsets] or [0]
    monkeypatch.setattr("sepkit.inference.passes.draw_delays", lambda *_: delays)
    overlap = options["overlap"] if options["split"] else 0  # no piece begins within the first, which is the whole
    chunking = Chunking(overlap=overlap, power=options["transition_power"], shifts=len(offsets), **DEMUCS)
    stream = StreamSeparator(model, RATE, 2, ["a", "b"], chunking)
    found = torch.cat(list(stream.run(mixture.split(block, -1))), -1)
    assert snr(found, wanted) > 120
    assert sorted(model.network.lengths) == sorted(case["lengths_seen_by_the_network"])


@pytest.mark.parametrize("fills", [0, 1, 30, 77, 150])
@pytest.mark.parametrize("chunking", [{}, DEMUCS, {**DEMUCS, "shifts": 2}], ids=str)
@pytest.mark.parametrize("n_samples", [1, 40, 99, 100, 101, 333])
def test_neither_blocks_nor_batches_matter(fills, chunking, n_samples):
    mixture, model = noise(n_samples), make(fills, chunking=chunking)
    whole = stacked(model, mixture)
    stream = StreamSeparator(model, RATE, 2, ["a", "b"], choose_chunking(model, batch_size=3))
    parts = list(stream.run(mixture.split(13, -1)))
    torch.testing.assert_close(torch.cat(parts, -1), whole, rtol=0, atol=1e-6)


# Settings


def test_the_model_says_how_it_separates_where_nothing_else_is_asked_for():
    model = make(chunking={"overlap": 0.5, "batch_size": 2, **DEMUCS})
    assert choose_chunking(model) == Chunking(2, 0.5, **DEMUCS)
    assert choose_chunking(model, overlap=0.1, batch_size=None) == Chunking(2, 0.1, **DEMUCS)
    mixture = noise(300)
    assert torch.equal(stacked(model, mixture), stacked(model, mixture, overlap=0.5))
    assert not torch.equal(stacked(model, mixture), stacked(model, mixture, overlap=0.25))


def test_a_model_folder_keeps_it(tmp_path):
    transform = {"class": "STFT", "n_fft": 16, "hop_length": 8}
    network = {"class": "ConvTasNet", "n_filters": 2, "n_features": 2, "hidden_size": 2, "n_skip": 2, "n_blocks": 1}
    rules = {"normalize": "recording", "chunking": {"overlap": 0.5, **DEMUCS}}
    model = Separator(["a"], network, RATE, 2, 1.0, transform, **rules).eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert {name: loaded.settings[name] for name in rules} == rules
    assert choose_chunking(loaded) == Chunking(overlap=0.5, **DEMUCS)
    assert torch.equal(stacked(loaded, noise(99)), stacked(model, noise(99)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": "hann"}, "window must be trapezoid or triangle, got 'hann'"),
        ({"last": None}, "last must be filled or short, got None"),
        ({"window": "triangle", "power": 0.5}, r"power must lie in \[1, 4\], got 0.5"),
        ({"power": 2}, "power must be 1 with a trapezoid, got 2: choose window triangle"),
        ({"shifts": -1}, "shifts must be >= 0, got -1"),
        ({"seed": 0.5}, "seed must be a whole number >= 0, got 0.5"),
    ],
)
def test_a_chunking_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Chunking(**arguments)


@pytest.mark.parametrize(
    ("chunking", "message"),
    [
        ({"overlap": 1.0}, r"chunking.overlap: must lie in \[0, 0.9\], got 1.0"),
        ({"overlaps": 0.5}, "chunking.overlaps: Chunking has no such argument; did you mean 'overlap'"),
        ({"window": "hann"}, "chunking.window: must be 'trapezoid' or 'triangle', got 'hann'"),
        ({"class": 3}, "chunking.class: must be left out: there is one Chunking alone"),
        ([0.5], "chunking: must be a mapping of Chunking's arguments, got"),
    ],
)
def test_a_separator_refuses_it_at_its_place(chunking, message):
    with pytest.raises(ValueError, match=message):
        make(chunking=chunking)


# Weights and shifts


@pytest.mark.parametrize("length", [1, 2, 5, 100])
@pytest.mark.parametrize("power", [1, 2])
def test_a_triangle_rises_to_the_middle_and_falls_from_there(length, power):
    weights = Chunking(window="triangle", power=power).weights(length)
    steps = [min(place + 1, length - place) for place in range(length)]
    assert weights.tolist() == pytest.approx([(step / max(steps)) ** power for step in steps])


def test_shifts_are_the_mean_of_delayed_recordings_and_repeat_by_their_seed():
    model, mixture = make(chunking=DEMUCS), noise(260)
    found = stacked(model, mixture, shifts=3, seed=5)
    delays = draw_delays(Chunking(shifts=3), RATE, torch.Generator().manual_seed(5))
    shifted = [stacked(model, torch.nn.functional.pad(mixture, (delay, 0)))[..., delay:] for delay in delays]
    torch.testing.assert_close(found, sum(shifted) / 3)
    assert len(set(delays)) == 3
    assert all(0 <= delay <= RATE // 2 for delay in delays)
    assert torch.equal(found, stacked(model, mixture, shifts=3, seed=5))
    assert not torch.equal(found, stacked(model, mixture, shifts=3, seed=6))


def test_no_more_is_held_than_the_chunks_and_what_is_around_them():
    model = make(fills=97, n_samples=97, chunking=DEMUCS)
    chunks = OverlapAdd(model, 2, model.chunking)
    sizes = set()
    for _ in range(100):
        chunks.push(noise(100))
        sizes.add(chunks._held.buffer.shape[-1])
    assert max(sizes) < 1000


def test_what_is_adapted_fills_chunks_up_as_before():
    network, transform = {"class": "Demucs", **SMALL["Demucs"]}, {"class": "STFT", "n_fft": 16, "hop_length": 8}
    networks = (network, {"class": "LoRA", "network": network})
    plain, adapted = (Separator(["a", "b"], each, RATE, 2, 2.0, transform) for each in networks)
    assert [adapted.valid_length(n) for n in (1, 99)] == [plain.valid_length(n) for n in (1, 99)]
    assert plain.valid_length(99) > 99
