"""benchmarks/training.py: both train on the same batches, rows compare them, and what is wanted decides the exit."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training import RATE, write_songs

from sepkit.importing import open_unmix

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


@pytest.fixture
def program(monkeypatch, tmp_path):
    place = Path(__file__).parents[1] / "benchmarks/training.py"
    spec = importlib.util.spec_from_file_location("training_benchmark", place)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(place.parent)  # what it shares with others lies beside it
    spec.loader.exec_module(module)
    network = {"class": "OpenUnmix", "hidden_size": 8, "n_layers": 2, "bandwidth": 3000.0, "dropout": 0.2}
    transform = {"class": "STFT", "n_fft": 256, "hop_length": 128, "whole_hops": False}
    small = {**module.RECIPE["separator"], "sample_rate": RATE, "network": network, "transform": transform}
    data = {**module.RECIPE["data"], "root": str(write_songs(tmp_path / "songs"))}
    monkeypatch.setattr(module, "RECIPE", {**module.RECIPE, "separator": small, "data": data})
    for name, value in {"RATE": RATE, "SECONDS": 2, "SHORT": 1}.items():
        monkeypatch.setattr(module, name, value)
    compared = {
        task: how._replace(n_steps=12, seconds=1 if task == "float64" else 2) for task, how in module.LOSSES.items()
    }
    monkeypatch.setattr(module, "LOSSES", compared)
    monkeypatch.setattr(open_unmix, "convert", lambda tensors, _settings: tensors)  # they have our names already
    return module


def test_steps_are_taken_on_the_batches_of_the_file(program, tmp_path):
    program.write_batches(tmp_path)
    torch.save(program.make_trainer(2).separator.state_dict(), tmp_path / "weights.pt")
    found = {task: program.run("sepkit", task, tmp_path, 2) for task in ("cost", "float32", "float64")}
    again = program.run("recomputed", "float32", tmp_path, 0)
    assert len(found["cost"]["costs"]) == 2
    assert found["cost"]["peak"] > found["cost"]["above"] >= 0
    np.testing.assert_allclose(again["losses"], found["float32"]["losses"], rtol=1e-6)
    assert len(found["float64"]["losses"]) == 12
    assert all(np.isfinite(found["float64"]["losses"]))


@pytest.mark.parametrize(("seconds", "peak", "reached"), [(0.5, 70, True), (0.9, 70, False), (0.5, 90, False)])
def test_a_row_compares_cost_and_memory_with_what_is_wanted(program, seconds, peak, reached):
    rows = {"openunmix": [{"costs": [1.0, 1.0], "peak": 100, "above": 50}]}
    rows |= {
        engine: [{"costs": [seconds, seconds], "peak": peak, "above": 25}]
        for engine in ("sepkit", "kept", "recomputed")
    }
    lines, found = program.compare_costs(rows)
    assert found == reached
    cells = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert cells == [
        "sepkit",
        f"{seconds:.3f}",
        f"{seconds:.3f}",
        f"{4 / seconds:.2f}",
        f"{1 / seconds:.2f}",
        f"{peak}",
        f"{peak / 100:.2f}",
        "25",
        "0.50",
    ]


@pytest.mark.parametrize(("factor", "near"), [(1 + 1e-12, True), (1 + 1e-6, False)])
def test_losses_are_compared_step_by_step(program, factor, near):
    theirs, ours = {"losses": [2.0, 1.0]}, {"losses": [2.0, factor]}
    pairs = {task: {"openunmix": theirs, "sepkit": ours} for task in program.LOSSES}
    lines, found = program.compare_losses(pairs)
    assert found == near
    assert [line.strip("|").split("|")[-1].strip() for line in lines[2:]] == ["1e-04", "any", "1e-09"]
