"""benchmarks/open_unmix.py: what Open-Unmix is trained on and for how long, and that its rows are kept and shown."""

import importlib.util
import sys
from argparse import Namespace
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from songs import RATE, noise, write_song
from torch import nn

from sepkit import separate
from sepkit.datasets import open_songs
from sepkit.datasets.folding import check_augmentations

STEMS = ("vocals", "drums", "bass", "other")
PEERS = "openunmix cannot be imported: pip install --no-deps openunmix==1.3.0"


@pytest.fixture
def program(monkeypatch):
    place = Path(__file__).parents[1] / "benchmarks/open_unmix.py"
    spec = importlib.util.spec_from_file_location("open_unmix_benchmark", place)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(place.parent)  # what it shares with others lies beside it
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "prepare", lambda: None)  # of this process, nothing is changed
    return module


@pytest.fixture
def small(program):
    return program.Settings(rate=RATE, n_fft=256, hop=128, hidden=8, bandwidth=3000, seconds=1.0, batch=2)


def write_set(root: Path, rate: int = RATE, silent: tuple[str, ...] = (), seconds: int = 2) -> Path:
    for i, name in enumerate(("train/one", "train/two", "valid/three")):
        stems = {stem: (stem not in silent) * noise(10 * i + k, seconds * rate) for k, stem in enumerate(STEMS)}
        write_song(root / name, stems, rate)
    return root


def songs_of(root: Path):
    return open_songs(root, "train", STEMS, RATE, 2)


def spectra(waveform: torch.Tensor) -> torch.Tensor:
    """Stand in for the encoder: magnitudes (B, C, F, N)."""
    return waveform.unflatten(-1, (-1, 100)).mT.abs()


# What is trained on


def test_gains_are_uniform_as_factors(program):
    check_augmentations([program.Gain()], 4)
    drawn = program.Gain().sample_parameters(np.random.default_rng(0), 20000)
    assert 0.25 <= drawn.min() < 0.26
    assert 1.24 < drawn.max() <= 1.25
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.01)  # in decibels it would be 0.62


def test_folded_gains_scale_as_those_that_are_called(program):
    stems, factors = torch.rand(2, 4, 2, 10), torch.rand(2, 4)
    scale, swapped = program.Gain().fold(factors)
    assert swapped is None
    torch.testing.assert_close(program.Gain()(stems, factors), stems * scale[..., None, None])


def test_batches_hold_a_mixture_of_four_stems_and_its_vocals(program, small, tmp_path):
    songs = songs_of(write_set(tmp_path / "all"))
    dataset = program.make_dataset(songs, 0, small)
    assert dataset.stems[:4] == list(STEMS)
    plans = [dataset.planner.plan((0, i)) for i in range(40)]
    assert all(all(plan.present[:4]) for plan in plans)
    assert any(len(set(plan.songs[:4])) > 1 for plan in plans)
    alone = songs_of(write_set(tmp_path / "vocals", silent=STEMS[1:]))
    for mixture, vocals in islice(program.load(program.make_dataset(alone, 0, small), small), 3):
        assert mixture.shape == vocals.shape == (2, 2, RATE)
        assert vocals.abs().max() > 0.05
        torch.testing.assert_close(mixture, vocals)


def test_batches_never_end_and_depend_on_the_seed_alone(program, small, tmp_path):
    songs = songs_of(write_set(tmp_path))

    def draw(seed: int) -> list[float]:
        return [float(m.sum()) for m, _ in islice(program.load(program.make_dataset(songs, seed, small), small), 7)]

    assert len(draw(0)) == 7  # of 2 in an epoch
    assert draw(0) == draw(0) != draw(1)


def test_the_input_is_measured_bin_by_bin_over_mixtures_of_their_own_level(program, small, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "N_FITTED", 5)
    songs = songs_of(write_set(tmp_path))
    mean, spread = program.fit_input(songs, spectra, 0, small)
    batches = program.load(program.make_dataset(songs, 0, small, augmented=False), small)
    seen = np.concatenate([spectra(next(batches)[0]).mean(1).numpy() for _ in range(3)])  # of 2 each
    np.testing.assert_allclose(mean, seen.mean((0, 2)), rtol=1e-4)
    np.testing.assert_allclose(spread, seen.std((0, 2)), rtol=1e-4)


def test_a_bin_that_hardly_moves_is_not_blown_up(program, small, tmp_path):
    songs = songs_of(write_set(tmp_path))

    def still(waveform: torch.Tensor) -> torch.Tensor:
        found = spectra(waveform)
        found[:, :, 3] = 0.0
        return found

    _, spread = program.fit_input(songs, still, 0, small)
    assert spread[3] == pytest.approx(1e-4 * spread.max())


# For how long


@pytest.mark.parametrize(("minutes", "steps"), [(0.5, 3), (1.0, 6)])
def test_steps_are_taken_while_there_is_time(program, small, tmp_path, monkeypatch, minutes, steps):
    clock = count(100, 10)  # s; each look takes 10
    network = nn.Linear(RATE // 100, RATE // 100)
    before = network.weight.detach().clone()
    monkeypatch.setattr(program, "time", SimpleNamespace(process_time=lambda: next(clock)))
    monkeypatch.setattr(program, "make_encoder", lambda _: spectra)
    monkeypatch.setattr(program, "make_network", lambda *_: network)
    _, taken, spent = program.train(songs_of(write_set(tmp_path)), minutes, 0, small)
    assert taken == steps - 1  # the look that began the time has taken 10, too
    assert spent >= 60 * minutes
    assert not network.training
    assert not network.weight.equal(before)


# The package itself


@pytest.mark.parametrize("iterations", [0, 1])
def test_what_is_scored_separates_as_openunmix_does(program, small, iterations):
    model = pytest.importorskip("openunmix.model", reason=PEERS)
    torch.manual_seed(0)
    network = program.make_network(small, np.full(129, 0.1, np.float32), np.full(129, 0.3, np.float32)).eval()
    sizes = {"sample_rate": float(RATE), "n_fft": 256, "n_hop": 128, "niter": iterations, "residual": iterations > 0}
    original = model.Separator({"vocals": network}, **sizes).eval()
    mixture = torch.from_numpy(noise(0, 3 * RATE).T).float()
    with torch.inference_mode():
        expected = original(mixture[None])[0, 0]
        found = separate(program.convert(network.state_dict(), iterations, small), mixture)["vocals"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)  # float32 within the filter


def test_a_training_ends_in_rows_of_both_filters(program, tmp_path):
    pytest.importorskip("openunmix.model", reason=PEERS)
    tiny = program.Settings(n_fft=512, hop=256, hidden=8, seconds=0.5, batch=2)
    root = write_set(tmp_path / "songs", tiny.rate, seconds=3)
    options = Namespace(judge=root, root=[str(root)], minutes=0.001, split="valid", runs=tmp_path / "runs")
    rows = program.score_theirs(options, 3, tiny)
    assert [row["network"] for row in rows] == ["Open-Unmix", "Open-Unmix, Wiener"]
    assert {(row["minutes"], row["seed"], row["songs"]) for row in rows} == {("0.001", "3", "songs 1")}
    assert all(np.isfinite(float(row[name])) for row in rows for name in ("SDR", "SI-SDRi"))
    assert all(int(row["steps"]) >= 1 for row in rows)


# Rows


OPTIONS = Namespace(minutes=8.0, root=["demo"], split="valid")


@pytest.fixture
def row(program):
    def make(network: str, seed: int, sdr: float, options: Namespace = OPTIONS) -> dict[str, str]:
        facts = {"parameters": "1.00 M", "steps": f"{100 + seed}", "CPU min": "8.0"}
        return {**program.identity(options, network, seed), **facts, "SDR": f"{sdr}", "SI-SDRi": "2.00"}

    return make


@pytest.fixture
def begin(program, row, monkeypatch, tmp_path):
    """Call the program with trainings that only note their side and seed; return what was trained, and the table."""
    trained: list[tuple[str, int]] = []

    def note(side: str):
        def score(options: Namespace, seed: int) -> list[dict[str, str]]:
            trained.append((side, seed))
            return [row(network, seed, 1.0, options) for network in program.SIDES[side]]

        return score

    def start(*arguments: str) -> tuple[list[tuple[str, int]], Path]:
        table = tmp_path / "table.csv"
        monkeypatch.setattr(sys, "argv", ["open_unmix.py", str(tmp_path), "--table", str(table), *arguments])
        trained.clear()
        program.main()
        return trained, table

    monkeypatch.setattr(program, "store_data", lambda *_: None)
    monkeypatch.setattr(program, "find_openunmix", lambda _: None)
    for side in program.SIDES:
        monkeypatch.setattr(program, f"score_{side}", note(side))
    return start


def test_a_stopped_run_goes_on_where_it_was(begin):
    assert begin("--seeds", "0", "--only", "theirs")[0] == [("theirs", 0)]
    trained, table = begin("--seeds", "0", "1")
    assert trained == [("theirs", 1), ("ours", 0), ("ours", 1)]
    assert begin("--seeds", "0", "1")[0] == []
    assert len(table.read_text(encoding="utf-8").splitlines()) == 1 + 2 * 3


@pytest.mark.parametrize("other", [("--minutes", "4"), ("--root", "demo", "demo"), ("--split", "test")], ids=" ".join)
def test_another_time_other_songs_or_another_split_are_another_training(begin, other):
    begin("--seeds", "0", "--only", "ours")
    assert begin("--seeds", "0", "--only", "ours", *other)[0] == [("ours", 0)]


def test_the_page_has_means_and_ranges_the_best_first(program, row, tmp_path):
    table = tmp_path / "table.csv"
    rows = [row("Open-Unmix", 0, 1.0), row("Open-Unmix", 1, 2.0), row("ours", 0, 3.0)]
    program.search.write(table, rows)
    program.write_page(table)
    lines = table.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    assert lines[2:] == [
        "| 8 | demo 1 | valid | ours | 1.00 M | 1 | 100 | 3.0 | 2.0 |",
        "| 8 | demo 1 | valid | Open-Unmix | 1.00 M | 2 | 100 | 1.5 (1.0 to 2.0) | 2.0 (2.0 to 2.0) |",
    ]


def test_the_page_in_the_docs_is_that_of_the_table(program, tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes(program.TABLE.read_bytes())
    program.write_page(table)
    written, kept = (place.with_suffix(".md").read_text(encoding="utf-8") for place in (table, program.TABLE))
    assert written == kept


def test_a_missing_package_is_named_with_the_remedy(program, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "openunmix", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["open_unmix.py", str(tmp_path), "--peers", "elsewhere"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    told = " ".join(capsys.readouterr().err.split())
    assert "openunmix cannot be imported" in told
    assert "--peers is elsewhere" in told
    assert "pip install --target PEERS --no-deps openunmix==1.3.0" in told
