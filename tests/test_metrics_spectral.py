"""l1_freq, bleedless and fullness against their published formulas."""

import pytest
import torch
import torchaudio

from sepkit.mel import mel_bands
from sepkit.metrics import bleedless, fullness, l1_freq

SCORES = {"l1_freq": l1_freq, "bleedless": bleedless, "fullness": fullness}
each_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def published_l1_freq(estimate, target):
    magnitudes = [
        torch.stft(waveform, 2048, 1024, window=torch.ones(2048), return_complex=True).abs()
        for waveform in (estimate, target)
    ]
    return 100 / (1 + 10 * torch.nn.functional.l1_loss(*magnitudes))


def published_levels(waveform, filters):
    window = torch.hann_window(4096)
    spectra = torch.stft(waveform, 4096, 1024, window=window, return_complex=True, pad_mode="constant")
    return torchaudio.transforms.AmplitudeToDB(stype="magnitude", top_db=80)(filters @ spectra.abs())


def slaney_filters(n_fft, n_mels, rate):
    frequencies = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    return mel_bands(frequencies, n_mels, lowest=0, highest=rate / 2, scale="slaney", area=True)


def published_bleed_and_fullness(estimate, target):
    filters = slaney_filters(4096, 512, 44100)
    difference = published_levels(estimate, filters) - published_levels(target, filters)
    return (
        100 / (1 + difference[difference > 0].mean()),
        100 / (1 - difference[difference < 0].mean()),
    )


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize(("n_fft", "n_mels", "rate"), [(4096, 512, 44100), (2048, 40, 16000), (1024, 8, 1600)])
def test_mel_filters_are_slaneys(n_fft, n_mels, rate):
    expected = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, rate / 2, n_mels, rate, norm="slaney", mel_scale="slaney"
    )
    # the reference is computed in float32
    torch.testing.assert_close(slaney_filters(n_fft, n_mels, rate), expected.T, atol=3e-6, rtol=1e-3)


def test_l1_freq_is_the_published_formula():
    target, estimate = noise(2, 9000), noise(2, 9000, seed=1)
    torch.testing.assert_close(l1_freq(estimate, target), published_l1_freq(estimate, target))


def test_bleedless_and_fullness_are_the_published_formulas():
    target, estimate = noise(2, 30000), noise(2, 30000, seed=1)
    target[:, 10000:20000] = 0  # there the 80 dB range matters
    scores = torch.stack([bleedless(estimate, target), fullness(estimate, target)])
    torch.testing.assert_close(scores, torch.stack(published_bleed_and_fullness(estimate, target)), rtol=1e-4, atol=0)


def test_noise_added_bleeds_and_a_band_removed_is_missed():
    target = noise(2, 30000)
    spectrum = torch.fft.rfft(target)
    spectrum[:, 5000:8000] = 0
    assert bleedless(target + noise(2, 30000, seed=1), target) < 40
    assert fullness(torch.fft.irfft(spectrum), target) < 20


@each_score
def test_a_perfect_estimate_scores_100_with_a_finite_gradient(score):
    estimate = noise(2, 9000).requires_grad_()
    value = score(estimate, estimate.detach())
    value.backward()
    assert value.item() == 100.0
    assert estimate.grad.isfinite().all()


@each_score
def test_a_silent_target_has_a_finite_score_and_gradient(score):
    estimate = noise(2, 9000).requires_grad_()
    value = score(estimate, torch.zeros(2, 9000))
    value.backward()
    assert 0 < value <= 100
    assert estimate.grad.isfinite().all()


@each_score
def test_leading_dimensions_are_kept(score):
    estimate, target = noise(3, 2, 2, 9000), noise(3, 2, 2, 9000, seed=1)
    values = score(estimate, target)
    assert values.shape == (3, 2)
    torch.testing.assert_close(values[2, 1], score(estimate[2, 1], target[2, 1]))


@each_score
def test_half_precision_is_scored_in_single(score):
    estimate, target = noise(2, 9000).half(), noise(2, 9000, seed=1).half()
    torch.testing.assert_close(score(estimate, target), score(estimate.float(), target.float()))


@each_score
@pytest.mark.parametrize(
    ("estimate", "target", "message"),
    [
        (torch.ones(2, 9000), torch.ones(2, 9001), r"both be \(\.\.\., C, T\), got \(2, 9000\) and \(2, 9001\)"),
        (torch.ones(0, 9000), torch.ones(0, 9000), "at least one sample"),
    ],
)
def test_shapes_are_refused(score, estimate, target, message):
    with pytest.raises(ValueError, match=message):
        score(estimate, target)


def test_l1_freq_refuses_what_cannot_be_reflected():
    with pytest.raises(ValueError, match="must be longer than 1024 samples, got 1024"):
        l1_freq(torch.ones(1, 1024), torch.ones(1, 1024))
