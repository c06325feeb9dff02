"""Energy ratios of whole recordings, and the framewise SDR."""

import math

import numpy as np
import pytest
import torch

from sepkit.metrics import framewise_sdr, improvement, sd_sdr, sdr, si_sar, si_sdr, si_sir, snr
from sepkit.metrics.frames import frame_bounds, is_silent

RATIOS = {"sdr": sdr, "snr": snr, "si_sdr": si_sdr, "sd_sdr": sd_sdr}
each_ratio = pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS)
GOLDENS = (
    "mono_2src_1s",
    "mono_4src_win.25_hop.1",
    "stereo_2src_one_frame",
    "stereo_2src_quiet",
    "stereo_2src_silent_frames",
    "stereo_2src_v3",
    "stereo_3src_win2s_hop1.5s",
    "stereo_4src_1s",
)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthogonal_pair():
    """Make a target of energy 8 and an error of energy 2 that is orthogonal to it."""
    target = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
    error = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]]])
    return target, error


@each_ratio
def test_ratio_of_orthogonal_noise_is_the_energy_ratio(ratio):
    target, error = orthogonal_pair()
    assert ratio(target + error, target).item() == pytest.approx(10 * math.log10(4), abs=1e-5)


def test_sdr_is_that_of_the_music_demixing_challenge():
    target, error = noise(3, 2, 500), noise(3, 2, 500, seed=1)
    expected = 10 * np.log10(((target**2).sum((1, 2)) + 1e-7).numpy() / ((error**2).sum((1, 2)) + 1e-7).numpy())
    np.testing.assert_allclose(sdr(target - error, target).numpy(), expected, atol=1e-4)  # float32


@pytest.mark.parametrize("gain", [1e-3, 0.5, 7.0])
def test_si_sdr_does_not_depend_on_gain(gain):
    target, error = noise(2, 300), noise(2, 300, seed=1)
    expected = si_sdr(target + error, target)
    torch.testing.assert_close(si_sdr(gain * (target + error), target), expected, atol=1e-4, rtol=0)


def test_si_snr_does_not_depend_on_an_offset():
    target, error = noise(2, 300), noise(2, 300, seed=1)
    expected = si_sdr(target + error, target, zero_mean=True)
    shifted = si_sdr(target + error + 0.3, target, zero_mean=True)
    torch.testing.assert_close(shifted, expected, atol=1e-4, rtol=0)


def test_sd_sdr_is_snr_plus_the_square_of_the_scale():
    target, error = orthogonal_pair()
    estimate = 0.5 * target + error
    expected = snr(estimate, target) + 20 * math.log10(0.5)
    torch.testing.assert_close(sd_sdr(estimate, target), expected)


@each_ratio
def test_ratio_is_infinite_for_a_perfect_estimate_without_eps(ratio):
    target = noise(2, 100).round()  # integers, so that the projection is exact
    assert ratio(target, target, eps=0.0).item() == math.inf


@each_ratio
def test_ratio_is_finite_for_a_perfect_estimate_with_eps(ratio):
    estimate = noise(2, 100).requires_grad_()
    score = ratio(estimate, estimate.detach())
    score.backward()
    assert 80 < score.item() < math.inf
    assert estimate.grad.isfinite().all()


@each_ratio
def test_ratio_of_a_silent_target_is_nan_and_its_gradient_zero(ratio):
    estimate = noise(2, 2, 100).requires_grad_()
    target = torch.stack([torch.zeros(2, 100), noise(2, 100, seed=1)])
    score = ratio(estimate, target)
    torch.nansum(score).backward()
    assert score.isnan().tolist() == [True, False]
    assert estimate.grad.isfinite().all()
    assert estimate.grad[0].count_nonzero() == 0


@each_ratio
def test_ratio_of_a_silent_estimate_is_finite_with_its_gradient(ratio):
    estimate = torch.zeros(2, 100, requires_grad=True)
    score = ratio(estimate, noise(2, 100))
    score.backward()
    assert score.isfinite()
    assert estimate.grad.isfinite().all()


@each_ratio
def test_ratio_of_half_precision_is_computed_in_single(ratio):
    target, error = 30 * noise(2, 1000), 3 * noise(2, 1000, seed=1)
    half = ratio((target + error).half(), target.half())
    torch.testing.assert_close(half, ratio(target + error, target), atol=0.01, rtol=0)  # rounded inputs


@each_ratio
def test_ratio_keeps_leading_dimensions(ratio):
    target = noise(3, 4, 2, 50)
    score = ratio(target + noise(3, 4, 2, 50, seed=1), target)
    assert score.shape == (3, 4)
    torch.testing.assert_close(score[2, 1], ratio((target + noise(3, 4, 2, 50, seed=1))[2, 1], target[2, 1]))


@each_ratio
@pytest.mark.parametrize(
    ("estimate", "target", "message"),
    [
        (torch.ones(2, 5), torch.ones(2, 6), r"both be \(\.\.\., C, T\), got \(2, 5\) and \(2, 6\)"),
        (torch.ones(5), torch.ones(5), r"both be \(\.\.\., C, T\), got \(5,\)"),
        (torch.ones(2, 0), torch.ones(2, 0), r"at least one sample, got \(2, 0\)"),
    ],
)
def test_ratio_refuses_shapes(ratio, estimate, target, message):
    with pytest.raises(ValueError, match=message):
        ratio(estimate, target)


def test_improvement_subtracts_the_score_of_the_mixture():
    assert improvement(torch.tensor([5.0]), torch.tensor([-2.0])).item() == 7.0


def test_improvement_refuses_shapes():
    with pytest.raises(ValueError, match=r"one shape, got \(1,\) and \(2,\)"):
        improvement(torch.ones(1), torch.ones(2))


@pytest.mark.parametrize("name", GOLDENS)
def test_framewise_sdr_is_musevals(reference_root, name):
    case = np.load(reference_root / "goldens" / "bss" / f"{name}.npz")
    target, estimate = (torch.tensor(case[key].swapaxes(1, 2) / 32768.0) for key in ("refs", "ests"))
    score = framewise_sdr(estimate, target, float(case["window"]), float(case["hop"]), silent="museval")
    np.testing.assert_allclose(score.numpy(), case["SDR"], atol=1e-9, rtol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("length", "window", "hop", "expected"),
    [
        (10, 4, 4, [(0, 4), (4, 8)]),
        (10, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (10, 2, 5, [(0, 2), (5, 7)]),
        (10, 2.5, 3.5, [(0, 2), (3, 6), (7, 9)]),
        (10, 10, 1, [(0, 10)]),
        (10, 11, 1, [(0, 10)]),
        (10, math.inf, math.inf, [(0, 10)]),
    ],
)
def test_frames_are_musevals(length, window, hop, expected):
    assert frame_bounds(length, window, hop) == expected


def test_framewise_sdr_is_nan_for_all_sources_where_one_is_silent():
    target, estimate = noise(2, 2, 40), noise(2, 2, 40, seed=1)
    target[1, :, 10:20] = 0
    estimate[0, :, 30:] = 0
    unscored = framewise_sdr(estimate, target, 10, 10).isnan()
    assert unscored.tolist() == [[False, True, False, True]] * 2


def test_framewise_sdr_leaves_out_a_reference_that_is_silent_throughout():
    target, estimate = noise(3, 2, 40), noise(3, 2, 40, seed=1)
    target[1] = 0
    estimate[1, :, :10] = 0
    score = framewise_sdr(estimate, target, 10, 10)
    assert score[1].isnan().all()
    torch.testing.assert_close(score[[0, 2]], framewise_sdr(estimate[[0, 2]], target[[0, 2]], 10, 10))


def test_framewise_sdr_of_an_estimate_that_is_silent_throughout_is_zero():
    target, estimate = noise(2, 2, 40), noise(2, 2, 40, seed=1)
    estimate[1] = 0
    score = framewise_sdr(estimate, target, 10, 10)
    assert score[1].tolist() == [0.0] * 4
    assert score.isfinite().all()


@pytest.mark.parametrize("silent", ["museval", "error"])
@pytest.mark.parametrize("kind", ["reference", "estimate"])
def test_framewise_sdr_refuses_silence_throughout(silent, kind):
    target, estimate = noise(2, 2, 40), noise(2, 2, 40, seed=1)
    (target if kind == "reference" else estimate)[1] = 0
    with pytest.raises(ValueError, match=f"every {kind} must sound .* silence in source 1"):
        framewise_sdr(estimate, target, 10, 10, silent=silent)


def test_framewise_sdr_refuses_a_silent_frame_in_error_mode():
    target, estimate = noise(2, 2, 40), noise(2, 2, 40, seed=1)
    target[1, :, 10:20] = 0
    with pytest.raises(ValueError, match="got silence in frame 1"):
        framewise_sdr(estimate, target, 10, 10, silent="error")


def test_framewise_sdr_of_a_perfect_estimate_is_infinite():
    target = noise(1, 2, 40)
    assert framewise_sdr(target, target, 10, 10).tolist() == [[math.inf] * 4]


def test_framewise_sdr_takes_integers_as_they_are():
    target, estimate = (1000 * noise(2, 2, 40)).short(), (1000 * noise(2, 2, 40, seed=1)).short()
    score = framewise_sdr(estimate, target, 10, 10)
    torch.testing.assert_close(score, framewise_sdr(estimate.double(), target.double(), 10, 10))


def test_silence_means_that_the_channels_cancel():
    left = noise(1, 400)
    sounding_late = torch.cat([torch.zeros(2, 399), torch.ones(2, 1)], dim=1)
    waveforms = torch.stack([torch.zeros(2, 400), torch.cat([left, -left]), sounding_late])
    assert is_silent(waveforms).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "must be > 0 samples, got 0 and 10"),
        ({"hop": -1}, "must be > 0 samples, got 10 and -1"),
        ({"hop": math.inf}, "hop must be finite"),
        ({"silent": "skip"}, "silent must be one of nan, museval, error, got 'skip'"),
        ({"target": torch.ones(2, 2, 39)}, r"both be \(S, C, T\), got \(2, 2, 40\) and \(2, 2, 39\)"),
        ({"estimate": torch.ones(2, 0, 40), "target": torch.ones(2, 0, 40)}, "at least one sample"),
    ],
)
def test_framewise_sdr_refuses(arguments, message):
    given = {"estimate": noise(2, 2, 40), "target": noise(2, 2, 40), "window": 10, "hop": 10} | arguments
    with pytest.raises(ValueError, match=message):
        framewise_sdr(**given)


def decomposed():
    """Make two targets, and estimates made of 2 s, orthogonal noise of energy 1 and a twentieth of the other target."""
    basis = torch.linalg.qr(noise(200, 4, dtype=torch.float64))[0].T.reshape(4, 2, 100)
    target = 3 * basis[:2]
    return 2 * target + basis[2:] + 0.05 * target.flip(0), target


def test_si_sir_and_si_sar_split_the_residual():
    estimate, target = decomposed()
    torch.testing.assert_close(si_sir(estimate, target), torch.full((2,), 20 * math.log10(40), dtype=torch.float64))
    torch.testing.assert_close(si_sar(estimate, target), torch.full((2,), 20 * math.log10(6), dtype=torch.float64))


def test_si_sdr_holds_interference_and_artifacts():
    estimate, target = (waveform + 0.1 * waveform.flip(0) for waveform in decomposed())
    inverse = sum(10 ** (-ratio(estimate, target) / 10) for ratio in (si_sir, si_sar))
    torch.testing.assert_close(si_sdr(estimate, target), -10 * torch.log10(inverse))


@pytest.mark.parametrize("ratio", [si_sir, si_sar])
def test_si_sir_and_si_sar_bear_silent_and_equal_targets(ratio):
    estimate = noise(2, 4, 2, 100).requires_grad_()
    target = noise(2, 4, 2, 100, seed=1)
    target[:, 1] = 0
    target[:, 3] = target[:, 2]
    target[1] = 0
    score = ratio(estimate, target)
    torch.nansum(score).backward()
    assert score.isnan().tolist() == [[False, True, False, False], [True] * 4]
    assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("ratio", [si_sir, si_sar])
def test_si_sir_and_si_sar_need_sources(ratio):
    with pytest.raises(ValueError, match=r"both be \(\.\.\., S, C, T\), got \(2, 5\)"):
        ratio(torch.ones(2, 5), torch.ones(2, 5))
