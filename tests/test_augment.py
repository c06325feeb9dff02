"""Augmentations: what they draw, and what that does to the stems."""

import numpy as np
import pytest
import torch

from sepkit.augment import Filter, Gain, Sign, Speed, SwapChannels


def drawn_by(step, n_stems: int = 10000, seed: int = 0) -> np.ndarray:
    return step.sample_parameters(np.random.default_rng(seed), n_stems)


def stems(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_gains_are_uniform_in_decibels_between_the_bounds():
    levels = 20 * np.log10(drawn_by(Gain(-10, 4)))
    assert (levels.min(), levels.max()) == pytest.approx((-10, 4), abs=0.02)  # 10000 draws over 14 dB
    assert np.histogram(levels, 7, (-10, 4))[0] == pytest.approx(1429, rel=0.1)  # 4 standard deviations


@pytest.mark.parametrize(("step", "value"), [(Sign(0.25), -1.0), (SwapChannels(0.25), 1.0)])
def test_signs_and_swaps_are_as_frequent_as_wanted(step, value):
    assert np.mean(drawn_by(step) == value) == pytest.approx(0.25, abs=0.02)  # 4 standard deviations


@pytest.mark.parametrize("step", [Gain(), Sign(), SwapChannels(), Speed(), Filter()])
def test_the_same_generator_draws_the_same(step):
    assert np.array_equal(drawn_by(step), drawn_by(step))
    assert not np.array_equal(drawn_by(step), drawn_by(step, seed=1))


@pytest.mark.parametrize("step", [Gain(), Sign()])
def test_each_stem_is_scaled_by_its_factor(step):
    waveforms, parameters = stems(3, 4, 2, 50), torch.tensor([[0.5, -1.0, 2.0, 1.0]] * 3)
    before = waveforms.clone()
    scaled = step(waveforms, parameters)
    torch.testing.assert_close(scaled, torch.einsum("bkct,bk->bkct", waveforms, parameters))
    assert torch.equal(waveforms, before)


def test_left_and_right_are_swapped_where_drawn():
    waveforms = stems(2, 2, 2, 50)
    swapped = SwapChannels()(waveforms, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert torch.equal(swapped[0, 0], waveforms[0, 0].flip(0))
    assert torch.equal(swapped[0, 1], waveforms[0, 1])
    assert torch.equal(swapped[1], waveforms[1])


def _folded(step, waveforms: torch.Tensor, parameters) -> torch.Tensor:
    """Scale and swap as a loader does that folds a step into its conversion."""
    factors, swapped = step.fold(parameters)
    for k, waveform in enumerate(waveforms := waveforms.clone()):
        waveforms[k] = waveform.flip(0) if swapped is not None and swapped[k] else waveform
        waveforms[k] *= 1.0 if factors is None else float(factors[k])
    return waveforms


@pytest.mark.parametrize("step", [Gain(), Sign(), SwapChannels()])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_what_a_step_folds_into_the_conversion_is_what_it_does(step, n_channels):
    waveforms, parameters = stems(6, n_channels, 50), drawn_by(step, 6)
    expected = step(waveforms, torch.from_numpy(parameters))
    for drawn in (parameters, torch.from_numpy(parameters).float()):
        torch.testing.assert_close(_folded(step, waveforms, drawn), expected)


def test_a_faster_stem_rises_in_pitch_and_ends_in_silence():
    time = torch.arange(44100) / 44100
    tones = torch.sin(2 * torch.pi * 1000 * time).expand(2, 2, -1)
    played = Speed()(tones, torch.tensor([1.25, 0.8]))
    for stem, frequency, length in zip(played, (1250, 800), (35280, 44100), strict=True):
        peaks = torch.fft.rfft(stem[:, :35280]).abs().argmax(-1) * 44100 / 35280
        assert peaks.tolist() == [frequency, frequency]
        assert stem[:, length:].abs().sum() == 0
        assert stem[:, length - 100 : length].abs().max() > 0.9


def test_a_filter_adds_its_copies_at_their_delays_and_keeps_the_energy_of_noise():
    click = torch.zeros(1, 2, 8)
    click[..., 2] = 1.0
    filtered = Filter(2)(click, torch.tensor([[[1.0, 3.0], [0.5, -0.5]]]))
    expected = torch.tensor([0, 0, 1, 0.5, 0, -0.5, 0, 0]) / 1.5**0.5
    torch.testing.assert_close(filtered, expected.expand(1, 2, -1))


@pytest.mark.parametrize(("step", "unchanged"), [(Speed(probability=0.25), 1.0), (Filter(probability=0.25), 0.0)])
def test_only_a_share_of_the_stems_is_played_otherwise(step, unchanged):
    decided = drawn_by(step).reshape(10000, -1)[:, -1]
    assert np.mean(decided != unchanged) == pytest.approx(0.25, abs=0.02)  # 4 standard deviations
    waveforms = stems(4, 2, 50)
    never = type(step)(probability=0.0)
    assert torch.equal(never(waveforms, torch.from_numpy(drawn_by(never, 4))), waveforms)


@pytest.mark.parametrize("step", [Speed(0.5, 2.0, 1.0), Filter(reach=60, probability=1.0)])
def test_stems_shorter_than_a_change_stay_finite_and_as_long(step):
    waveforms = stems(3, 2, 1)
    changed = step(waveforms, torch.from_numpy(drawn_by(step, 3)))
    assert changed.shape == waveforms.shape
    assert changed.isfinite().all()


@pytest.mark.parametrize("step", [Gain(), Sign(), SwapChannels(), Speed(), Filter()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_stems_is_kept_with_and_without_a_batch(step, dtype):
    parameters = torch.from_numpy(drawn_by(step, 3))
    single = step(stems(3, 2, 50).to(dtype), parameters)
    batched = step(stems(3, 2, 50).to(dtype)[None], parameters[None])
    assert single.dtype == dtype
    assert torch.equal(single, batched[0])


@pytest.mark.parametrize(
    ("step", "arguments", "message"),
    [
        (Gain, (3, -3), "low_db must not exceed high_db, got 3 and -3"),
        (Sign, (1.5,), r"probability must lie in \[0, 1\], got 1.5"),
        (Speed, (1.2, 0.8), "low and high must be factors, 0 < low <= high, got 1.2 and 0.8"),
        (Filter, (0,), "n_taps and reach must be at least 1 and depth at least 0, got 0, 24 and 0.4"),
        (SwapChannels, (-0.1,), r"probability must lie in \[0, 1\], got -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(step, arguments, message):
    with pytest.raises(ValueError, match=message):
        step(*arguments)
