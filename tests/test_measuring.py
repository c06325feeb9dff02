"""What files are measured to hold, and that it is remembered."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from sepkit import audio
from sepkit.datasets import measuring
from sepkit.datasets.measuring import measure, measure_levels
from sepkit.datasets.remembered import Remembered


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))


def noise(n_channels, n_samples, seed=0):
    return 0.2 * torch.randn(n_channels, n_samples, generator=torch.Generator().manual_seed(seed))


def probe(path, waveform, sample_rate, **options):
    audio.write(path, waveform, sample_rate, **options)
    return audio.probe(path)


@pytest.mark.parametrize(("rate", "n_samples"), [(8000, 1), (8000, 8000), (11025, 150_001), (44100, 4411), (22050, 99)])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_levels_are_the_mean_squares_of_100_ms(tmp_path, rate, n_samples, n_channels):
    waveform = noise(n_channels, n_samples)
    info = probe(tmp_path / "a.wav", waveform, rate, subtype="FLOAT")
    levels = measure([info], progress=False)[tmp_path / "a.wav"].levels
    edges = [min(n * rate // 10, n_samples) for n in range(-(-n_samples * 10 // rate) + 1)]
    expected = [waveform[:, a:b].square().mean() for a, b in pairwise(edges)]
    assert levels.dtype == np.float32
    np.testing.assert_allclose(levels, expected, rtol=1e-4)


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    info = probe(tmp_path / "a.wav", noise(2, 9000), 8000)
    path = tmp_path / "a.wav"
    first = measure([info], progress=False)[path]
    monkeypatch.setattr(measuring, "measure_file", lambda _: pytest.fail("it was read again"))
    again = measure([info], progress=False)[path]
    for name in ("levels", "peaks", "spectrum", "offset", "n_samples", "product"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(measure_levels([info], progress=False)[path], again.levels)
    monkeypatch.undo()
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    other = probe(tmp_path / "a.wav", noise(2, 9001), 8000)
    assert measure([other], progress=False)[tmp_path / "a.wav"].n_samples == 9001


def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch):
    infos = [probe(tmp_path / f"{n}.wav", noise(1, 800, n), 8000) for n in range(6)]
    measured, real = [], measuring.measure_file

    def stop_at_the_fourth(info):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(info)
        return real(info)

    monkeypatch.setattr(measuring, "_KEPT_EVERY", 0.0)
    monkeypatch.setattr(measuring, "measure_file", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        measure(infos, workers=1, progress=False)
    kept = len(measured)
    monkeypatch.setattr(measuring, "measure_file", lambda info: measured.append(info) or real(info))
    assert len(measure(infos, workers=1, progress=False)) == 6
    assert kept == 3
    assert len(measured) < 9


def test_nan_counts_as_zero_and_is_placed(tmp_path):
    waveform = noise(2, 20_000)
    soundfile = pytest.importorskip("soundfile")
    waveform[1, 12_345:12_350] = float("nan")
    soundfile.write(tmp_path / "a.wav", waveform.T.numpy(), 8000, subtype="FLOAT")
    found = measure([audio.probe(tmp_path / "a.wav")], progress=False)[tmp_path / "a.wav"]
    assert (found.n_nonfinite, found.first_nonfinite) == (5, 12_345)
    assert np.isfinite(found.levels).all()


def test_a_damaged_memory_is_forgotten_with_a_warning(tmp_path):
    info = probe(tmp_path / "a.wav", noise(1, 800), 8000)
    store = Remembered(f"files-{measuring.VERSION}")
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b"no database" * 1000)
    with pytest.warns(UserWarning, match="cannot be read .*: what it holds is found again"):
        assert measure([info], progress=False)
    assert measure([info], progress=False)


def test_measuring_goes_on_where_the_cache_cannot_be_written_to(tmp_path, monkeypatch):
    info = probe(tmp_path / "a.wav", noise(1, 800), 8000)
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "taken"))
    with pytest.warns(UserWarning, match="not remembered: .* set SEPKIT_CACHE"):
        assert measure([info], progress=False)
