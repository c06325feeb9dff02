"""Stems of one file or several: parts of files, gains, factors and swapped channels, at any rate."""

import dataclasses
import os
import pickle
import re

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, noise

from sepkit import audio
from sepkit.datasets.stems import Stem, StemFile, single

FORMATS = {"pcm16": (".wav", "PCM_16"), "flac": (".flac", "PCM_16"), "float": (".wav", "FLOAT")}


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    """Write (T, C) in each format, and probe it."""
    suffix, subtype = FORMATS[request.param]

    def build(name: str, waveform: np.ndarray, rate: int = RATE) -> audio.AudioInfo:
        soundfile.write(tmp_path / f"{name}{suffix}", waveform, rate, subtype=subtype)
        return audio.probe(tmp_path / f"{name}{suffix}")

    return build


def wave(waveform: np.ndarray) -> torch.Tensor:
    return torch.tensor(waveform.T).float()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("factor", [1.0, -0.7])
@pytest.mark.parametrize(("present", "wanted"), [(1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (5, 1)])
def test_factor_and_swap_are_what_they_are_afterwards(write, factor, swap, present, wanted):
    waveform = noise(0, n_channels=present)
    stem = single(write("a", waveform), RATE, wanted)
    plain, out = stem.read(10, 1000), torch.empty(wanted, 1000)
    stem.read_into(out, 10, factor, swap)
    expected = plain.flip(0) * factor if swap else plain * factor
    if present == wanted or present == 1:
        assert torch.equal(out, expected)
    else:
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-7)  # the mean of channels is scaled


def test_the_end_of_a_stem_is_followed_by_silence(write):
    stem = single(write("a", noise(0, 100)), RATE, 2)
    out = torch.full((2, 50), torch.nan)
    stem.read_into(out, 90, -2.0, True)
    assert torch.equal(out[:, :10], -2 * wave(noise(0, 100))[:, 90:].flip(0))
    assert not out[:, 10:].any()
    out.fill_(torch.nan)
    stem.read_into(out, 100)
    assert not out.any()


def test_several_files_are_summed_each_at_its_gain_from_its_start_to_its_end(write):
    first, second = (write(name, noise(seed, 1000)) for seed, name in enumerate("ab"))
    stem = Stem((StemFile(first, gain=0.5), StemFile(second, 200, 500, -2.0)), RATE, 2)
    assert stem.n_samples == 1000
    expected = 0.5 * wave(noise(0, 1000))
    expected[:, :300] -= 2 * wave(noise(1, 1000))[:, 200:500]
    torch.testing.assert_close(stem.read(0, 1000), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(stem.read(250, 100), expected[:, 250:350], rtol=0, atol=1e-6)
    torch.testing.assert_close(stem.read(990, 100)[:, :10], expected[:, 990:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("file_rate", [RATE, 12000, 4000])
def test_what_lies_beside_the_part_of_a_file_is_not_heard(write, file_rate):
    waveform = noise(0, 3000)
    waveform[:1000], waveform[2000:] = 0.9, -0.9
    stem = Stem((StemFile(write("a", waveform, file_rate), 1000, 2000),), RATE, 2)
    assert stem.n_samples == 1000 * RATE // file_rate
    alone = audio.resample(wave(waveform[1000:2000]), file_rate, RATE)[:, : stem.n_samples]
    torch.testing.assert_close(stem.read(0, stem.n_samples), alone, rtol=0, atol=1e-5)


def test_files_of_several_rates_are_summed_where_positions_suit_all(write):
    files = tuple(StemFile(write(str(rate), np.full((rate, 1), 0.25), rate)) for rate in (8000, 12000, 6000))
    stem = Stem(files, 8000, 1)
    assert (stem.position_step, stem.n_samples) == (4, 8000)
    torch.testing.assert_close(stem.read(4000, 100), torch.full((1, 100), 0.75), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "part", [{"start": -1}, {"end": 101}, {"start": 60, "end": 50}, {"start": 101}, {"gain": float("nan")}]
)
def test_a_part_that_is_not_in_its_file_is_refused(tmp_path, part):
    soundfile.write(tmp_path / "a.wav", noise(0, 100), RATE)
    with pytest.raises(ValueError, match=r"a\.wav has 100 samples: a part of it wants 0 <= start <= end"):
        StemFile(audio.probe(tmp_path / "a.wav"), **part)


def test_a_stem_without_files_is_refused():
    with pytest.raises(ValueError, match="a stem needs at least one file"):
        Stem((), RATE, 2)


def test_a_file_longer_than_one_piece_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("sepkit.datasets.readers._PIECE", 300)
    soundfile.write(tmp_path / "a.wav", noise(0, 1000), RATE)
    stem = single(audio.probe(tmp_path / "a.wav"), RATE, 2)
    assert torch.equal(stem.read(7, 993), wave(noise(0, 1000))[:, 7:])


@pytest.mark.parametrize("action", ["replaced", "removed"])
def test_a_file_that_is_another_one_or_gone_is_named(write, action):
    info = write("a", noise(0))
    stem = single(info, RATE, 2)
    stem.read(0, 10)
    if action == "removed":
        os.remove(info.path)
    else:
        write("a", noise(1, 100))
    with pytest.raises(audio.AudioError, match=re.escape(info.path)):
        stem.read(0, 10)


def test_a_stem_is_the_same_value_after_it_was_handed_over(write):
    stem = single(write("a", noise(0)), RATE, 2)
    stem.read(0, 10)
    assert dataclasses.replace(stem) == stem
    assert torch.equal(pickle.loads(pickle.dumps(stem)).read(5, 10), stem.read(5, 10))
