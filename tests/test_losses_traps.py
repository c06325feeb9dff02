"""What other packages' losses stumble over: here it is repaired, or an option, or said in the documentation."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from sepkit import losses

SIZES = {"fft_size": 512, "hop_size": 128, "win_length": 512}
SOT = {"fft_size": 512, "hop_length": 128}


def noise(*shape, seed=0, scale=0.2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def gradient(loss, estimate, *others):
    estimate = estimate.clone().requires_grad_()
    loss(estimate, *others).backward()
    return estimate.grad


def test_a_silent_estimate_has_no_gradient_unless_the_floor_is_live():
    target, silence = noise(2, 1, 4000), torch.zeros(2, 1, 4000)
    assert gradient(losses.STFTLoss(**SIZES), silence, target).abs().max() == 0
    live = gradient(losses.STFTLoss(**SIZES, floor="live"), silence, target)
    assert live.abs().max() > 0
    assert (live * target).sum() < 0  # a step against it goes towards the target


def test_spectral_convergence_per_item_is_not_ruled_by_a_silent_target():
    estimate, target = noise(2, 1, 4000), noise(2, 1, 4000, seed=1)
    target[1] = 0
    convergence = {"w_log_mag": 0.0, "reduction": "none", **SIZES}
    per_item = losses.STFTLoss(sc_reduction="item", **convergence)(estimate, target)
    alone = losses.STFTLoss(sc_reduction="batch", **convergence)(estimate[:1], target[:1])
    torch.testing.assert_close(per_item[:1], alone)
    assert per_item[1].isfinite()
    assert losses.ESRLoss(eps=1.0, reduction="none")(estimate, target)[1] < 1e3


def test_spectral_convergence_over_the_batch_differs_from_that_per_item():
    estimate, target = noise(2, 1, 4000), noise(2, 1, 4000, seed=1) * torch.tensor([1.0, 0.01])[:, None, None]
    pooled, per_item = (
        losses.STFTLoss(w_log_mag=0.0, sc_reduction=which, **SIZES)(estimate, target) for which in ("batch", "item")
    )
    assert per_item > 5 * pooled


def test_the_difference_of_a_mono_target_rules_the_loss_of_sum_and_difference():
    target = noise(2, 1, 4000).expand(2, 2, 4000)
    sizes = {"fft_sizes": [512], "hop_sizes": [128], "win_lengths": [512]}
    estimate = target + 0.1 * noise(2, 2, 4000, seed=1)
    parts = losses.SumAndDifferenceSTFTLoss(**sizes).parts(estimate, target)
    assert parts["difference"] > 50 * parts["sum"]
    assert losses.SumAndDifferenceSTFTLoss(**sizes, w_diff=0.0)(estimate, target) == parts["sum"]


def test_empty_mel_bands_are_announced_and_count_as_equal():
    with pytest.warns(UserWarning, match="bands hold no bin"):
        loss = losses.MelSTFTLoss(44100, 512, 128, 512, n_mels=128)
    estimate, target = noise(2, 2, 4000), noise(2, 2, 4000, seed=1)
    assert loss(estimate, target).isfinite()
    assert gradient(loss, estimate, target).isfinite().all()


def test_chroma_folds_octaves():
    loss = losses.ChromaSTFTLoss(44100, 4096, 1024, 4096)
    times = torch.arange(16384) / 44100
    tone, octave, fifth = (torch.sin(2 * math.pi * f * times)[None, None] for f in (440.0, 880.0, 660.0))
    assert loss(octave, tone) < loss(fifth, tone)


def test_the_chroma_bank_has_the_values_of_librosa():
    from sepkit.losses._bank import chroma_bank

    bank = chroma_bank(22050, 512, 12)
    assert bank.shape == (257, 12)
    # librosa 0.11: filters.chroma(sr=22050, n_fft=512), bins 10 and 100 of classes 0, 5, 9.
    expected = {(10, 0): LIBROSA[0], (10, 5): LIBROSA[1], (100, 9): LIBROSA[2]}
    assert {place: pytest.approx(value, rel=1e-5, abs=1e-9) for place, value in expected.items()} == {
        place: bank[place] for place in expected
    }


LIBROSA = (1.7149304e-4, 4.5642555e-5, 1.55e-11)


@pytest.mark.parametrize("n_fft", [254, 255, 511, 512])
def test_mel_bands_lie_where_the_bins_of_any_size_are(n_fft):
    from sepkit.losses._bank import mel_bank

    bank = mel_bank(16000, n_fft, 64).astype(np.float64)
    frequencies = np.fft.rfftfreq(n_fft, 1 / 16000)[:, None]
    # 64 bands up to 8 kHz, Slaney's mel: straight to 1 kHz, then 27 a factor of 6.4; triangles of unit area.
    mel = np.linspace(0.0, 15.0 + 27.0 * math.log(8.0) / math.log(6.4), 66)
    edges = np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clip(0.0)
    np.testing.assert_allclose(bank, triangles * 2.0 / (high - low), rtol=0, atol=1e-8)


def test_the_mel_bank_has_the_values_of_librosa():
    librosa = pytest.importorskip("librosa", reason="librosa makes the bank that ours is to equal")
    from sepkit.losses._bank import mel_bank

    for n_fft in (255, 512):
        expected = librosa.filters.mel(sr=16000, n_fft=n_fft, n_mels=64)
        np.testing.assert_allclose(mel_bank(16000, n_fft, 64).T, expected, rtol=0, atol=1e-8)


def test_scale_invariance_fits_every_channel_by_itself():
    loss = losses.STFTLoss(scale_invariance=True, w_log_mag=0.0, sc_reduction="item", reduction="none", **SIZES)
    target = noise(2, 2, 4000)
    gains = torch.tensor([[0.5, 2.0], [1.0, 3.0]])[..., None]
    torch.testing.assert_close(loss(gains * target, target), torch.zeros(2, 2), atol=1e-3, rtol=0)


def test_no_reduction_gives_one_value_per_channel_at_several_resolutions():
    loss = losses.MultiResolutionSTFTLoss([256, 512], [64, 128], [256, 512], reduction="none")
    assert loss(noise(3, 2, 4000), noise(3, 2, 4000, seed=1)).shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"w_sc": 0.0, "w_log_mag": 0.0}, "one of w_sc"),
        ({"output": "bad"}, "output must be one of 'loss', 'full'"),
        ({"w_sc": -1.0}, "w_sc must be at least 0"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"mag_distance": "L3"}, "mag_distance must be one of"),
        ({"scale": "bark"}, "scale must be one of"),
        ({"scale": "mel"}, "needs sample_rate and n_bins"),
        ({"scale": "mel", "sample_rate": 44100, "n_bins": 5000}, "n_bins must be 1 to the FFT size"),
        ({"perceptual_weighting": True}, "perceptual_weighting needs sample_rate"),
        ({"window": "glass"}, "window must be one of torch or scipy"),
        ({"win_length": 2048}, "win_length must be at most fft_size, 1024, got 2048"),
        ({"hop_size": 0}, "hop_size must be a whole number, at least 1"),
        ({"scale_invariance": True, "floor": "live"}, "floor must be"),
        ({"perceptual_weighting": "yes"}, "perceptual_weighting must be true or false"),
    ],
)
def test_a_wrong_argument_of_the_stft_loss_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        losses.STFTLoss(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.MultiResolutionSTFTLoss([512], [128, 64], [512]), "lists of one length"),
        (lambda: losses.MultiResolutionSOTLoss(fft_sizes=[512]), "lists of one length"),
        (lambda: losses.STFTL1SNRDBLoss(n_ffts=[512]), "lists of one length"),
        (lambda: losses.STFTL1SNRDBLoss(window_fn="sine"), "window_fn must be one of"),
        (lambda: losses.STFTL1SNRDBLoss(mps_cpu_fallback=False), "mps_cpu_fallback must be True"),
        (lambda: losses.MultiL1SNRDBLoss(time_loss_module=losses.L1SNRLoss), "must be a loss object"),
        (
            lambda: losses.MultiL1SNRDBLoss(time_loss_module=losses.L1SNRLoss(), time_loss_params={"eps": 1.0}),
            "time_loss_params must be left out",
        ),
        (
            lambda: losses.MultiL1SNRDBLoss(time_loss_module=losses.L1SNRLoss(), reduction="none"),
            "time_loss_module must be built with",
        ),
        (lambda: losses.Wasserstein1DLoss(log=True), "log must be False"),
        (lambda: losses.Wasserstein1DLoss(circular=True), "circular needs transform"),
        (
            lambda: losses.Wasserstein1DLoss("identity", circular=True, apply_root=True),
            "circular must be alone",
        ),
        (
            lambda: losses.Wasserstein1DLoss("mel", bin_position_scaling="absolute"),
            "bin_position_scaling must be",
        ),
        (lambda: losses.Wasserstein1DLoss(reduce=False, reduction="none"), "reduction must be left"),
        (lambda: losses.Wasserstein1DLoss("cqt", fmin=400.0), "the top bin must be"),
        (lambda: losses.FIRFilter("band"), "filter_type must be one of"),
        (lambda: losses.FIRFilter("aw", ntaps=100), "ntaps must be odd"),
        (lambda: losses.FIRFilter(plot=True), "plot must be False"),
        (lambda: losses.STFTMagnitudeLoss(True, 0.0, 1.0, "L1", "mean"), "distance must be one of 'L1', 'L2', got 0.0"),
        (lambda: losses.MultiResolutionSTFTLoss(scale="mel", sample_rate=8000, n_bins=[8]), "a list of 3"),
        (lambda: losses.RelativeSpectralLoss(1e6), "floor_db must be at least -300 and at most 300"),
        (lambda: losses.Wasserstein1DLoss(dim=True), "dim must be one of"),
        (lambda: losses.RandomResolutionSTFTLoss(windows=()), "windows must be a list"),
        (lambda: losses.ComponentLoss(0.5, 0.6), "alpha \\+ beta must be at most 1"),
        (lambda: losses.ComponentLoss(unit="batch"), "unit must be one of"),
        (lambda: losses.MaskLoss("l3"), "loss_fn must be one of"),
        (lambda: losses.PermutationInvariantLoss(losses.L1Loss()), "loss must be a loss object built with"),
        (lambda: losses.MultiResolutionComplexSTFTLoss(()), "window_sizes must name"),
    ],
)
def test_a_wrong_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"without the penalty on levels \(use_time_regularization\) of L1SNRDBLoss"),
        ({"l1_weight": 0.2}, r"use_time_regularization\) and the share of a plain L1 error \(l1_weight\)"),
        ({"l1_weight": 1.0, "use_time_regularization": False}, r"without the share of a plain L1 error"),
    ],
)
def test_what_a_loss_of_waveforms_of_ones_own_does_not_do_is_said(options, message):
    with pytest.warns(UserWarning, match=message):
        losses.MultiL1SNRDBLoss(time_loss_module=losses.L1SNRLoss(reduction="none"), **options)


def test_a_loss_of_waveforms_of_ones_own_is_taken_without_a_word_where_nothing_is_dropped():
    shared = {"use_time_regularization": False, "reduction": "none"}
    own = losses.MultiL1SNRDBLoss(time_loss_module=losses.L1SNRLoss(reduction="none"), **shared)
    signals = noise(2, 1, 4000), noise(2, 1, 4000, seed=1)
    torch.testing.assert_close(own(*signals), losses.MultiL1SNRDBLoss(**shared)(*signals))


def test_values_in_a_transposed_layout_are_those_of_a_contiguous_one():
    stems = noise(2, 4, 2, 4000)
    for loss in (losses.STFTLoss(**SIZES), losses.Wasserstein1DLoss(**SOT)):
        assert loss(stems[:, 0], stems[:, 1]) == loss(stems[:, 0].contiguous(), stems[:, 1].contiguous())


@pytest.mark.parametrize("loss", [losses.SISDRLoss(), losses.STFTLoss(**SIZES), losses.L1SNRLoss()])
def test_shapes_are_never_broadcast(loss):
    with pytest.raises(ValueError, match="target must have the shape of estimate"):
        loss(noise(1, 1, 4000), noise(2, 1, 4000))


@pytest.mark.parametrize(
    ("loss", "length"),
    [
        (losses.STFTLoss(**SIZES), 256),
        (losses.Wasserstein1DLoss(**SOT), 256),
        (losses.Wasserstein1DLoss("cqt", sample_rate=8000, fmin=400.0, n_bins=24, bins_per_semitone=1), 256),
        (losses.RandomResolutionSTFTLoss(max_fft_size=1024), 512),
    ],
)
def test_a_signal_too_short_for_a_transform_is_refused(loss, length):
    with pytest.raises(ValueError, match="needs more than"):
        loss(noise(1, 1, length), noise(1, 1, length))


@pytest.mark.parametrize(("a", "difference"), [(1.0, 200.0), (1.0, 1e-4), (1e-3, 0.15), (50.0, 3.0)])
def test_logcosh_is_right_where_cosh_overflows_or_rounds(a, difference):
    estimate = torch.full((1, 64), difference, requires_grad=True)
    loss = losses.LogCoshLoss(a, eps=0.0)(estimate, torch.zeros(1, 64))
    loss.backward()
    z = a * difference
    far = z - math.log(2) + math.log1p(math.exp(-2 * z))
    exact = far if z > 1 else math.log1p(2 * math.sinh(z / 2) ** 2)
    assert loss.item() == pytest.approx(exact / a, rel=1e-5)
    assert estimate.grad.sum().item() == pytest.approx(math.tanh(z), rel=1e-5)


def test_a_silent_target_gives_the_snr_losses_their_ceiling_without_a_gradient():
    estimate, silence = noise(1, 4000), torch.zeros(1, 4000)
    assert losses.SNRLoss()(estimate, silence).item() == pytest.approx(80.0, abs=1e-3)
    assert gradient(losses.SNRLoss(), estimate, silence).abs().max() == 0


def test_a_smaller_eps_keeps_the_si_sdr_of_quiet_signals():
    estimate, target = noise(1, 4000), noise(1, 4000) + noise(1, 4000, seed=1, scale=0.1)
    loud = losses.SISDRLoss()(estimate, target)
    assert losses.SISDRLoss()(1e-5 * estimate, 1e-5 * target) > loud + 5
    torch.testing.assert_close(losses.SISDRLoss(eps=1e-20)(1e-5 * estimate, 1e-5 * target), loud, rtol=1e-3, atol=0)


@pytest.mark.parametrize("loss", [losses.ESRLoss(), losses.SNRLoss(), losses.SISDRLoss()])
def test_long_half_precision_signals_neither_overflow_nor_vanish(loss):
    estimate, target = noise(1, 264600, scale=0.5).half(), noise(1, 264600, seed=1, scale=0.5).half()
    torch.testing.assert_close(loss(estimate, target), loss(estimate.float(), target.float()), rtol=1e-4, atol=0)


def test_autocast_does_not_round_filter_banks_or_filters():
    loss = losses.MelSTFTLoss(44100, n_mels=32, perceptual_weighting=True)
    estimate, target = noise(1, 1, 4000), noise(1, 1, 4000, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            loss(estimate, target),
            losses.MelSTFTLoss(44100, n_mels=32, perceptual_weighting=True)(estimate, target),
        )


@pytest.mark.parametrize(
    "loss",
    [
        losses.MelSTFTLoss(44100, n_mels=32, perceptual_weighting=True),
        losses.Wasserstein1DLoss("mel", n_mels=32),
        losses.Wasserstein1DLoss("cqt", sample_rate=8000, fmin=400.0, n_bins=24, bins_per_semitone=1),
    ],
)
def test_tables_follow_double_precision(loss):
    assert loss(noise(1, 4000, dtype=torch.float64), noise(1, 4000, dtype=torch.float64, seed=1)).dtype == torch.float64


def test_phases_by_cosine_hear_no_noise_and_have_a_smaller_gradient_near_the_target():
    target = noise(1, 1, 4000)
    near = target + 1e-5 * noise(1, 1, 4000, seed=1)
    only = {"w_sc": 0.0, "w_log_mag": 0.0, "w_phs": 1.0, **SIZES}
    by_angle, by_cosine = losses.STFTLoss(**only), losses.STFTLoss(**only, phase="cosine")
    quiet = 1e-7 * noise(1, 1, 4000, seed=2), 1e-7 * noise(1, 1, 4000, seed=3)
    assert by_angle(*quiet) > 5
    assert by_cosine(*quiet).item() == pytest.approx(1.0, abs=1e-3)
    assert gradient(by_cosine, near, target).norm() < gradient(by_angle, near, target).norm()


@pytest.mark.parametrize("kind", ["hp", "fd", "aw"])
def test_filters_keep_shape_and_take_any_channels(kind):
    estimate, target = losses.FIRFilter(kind)(noise(2, 3, 4000), noise(2, 3, 4000, seed=1))
    assert estimate.shape == target.shape == (2, 3, 4000)


def test_a_long_filter_by_blocks_equals_the_convolution():
    filter_, signal = losses.FIRFilter("aw"), noise(2, 1, 9000)
    expected = torch.nn.functional.conv1d(signal, filter_.taps(signal)[None, None], padding=50)
    torch.testing.assert_close(filter_.filter(signal), expected, rtol=0, atol=1e-6)


def test_random_resolutions_are_the_mean_of_what_was_drawn_and_leave_global_randomness_alone():
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    loss = losses.RandomResolutionSTFTLoss(max_fft_size=1024, seed=3, mag_distance="L2", perceptual_weighting=False)
    estimate, target = noise(1, 1, 4000), noise(1, 1, 4000, seed=1)
    value = loss(estimate, target)
    torch.testing.assert_close(value, torch.stack([one(estimate, target) for one in loss.stft_losses]).mean())
    assert loss(estimate, target) != value
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(legacy, np.random.get_state()[1])


def test_random_resolutions_reach_the_largest_size_and_take_mel_bands():
    loss = losses.RandomResolutionSTFTLoss(20, 16, 64, scale="mel", n_mels=64, sample_rate=44100, randomize_rate=10**9)
    assert {one.resolution.n_fft for one in loss.stft_losses} == {16, 32, 64}
    assert loss(noise(1, 1, 500), noise(1, 1, 500, seed=1)).isfinite()


@pytest.mark.parametrize("loss", [losses.L1SNRLoss(), losses.MultiL1SNRDBLoss()])
def test_the_l1_snr_losses_hand_nan_on(loss):
    broken = torch.full((1, 1, 4000), math.nan)
    assert loss(broken, noise(1, 1, 4000)).isnan()
    assert loss(noise(1, 1, 4000), broken).isnan()


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("cls", [losses.STFTL1SNRDBLoss, losses.MultiL1SNRDBLoss])
def test_sanitizing_hides_nan_and_infinity_where_it_is_asked_for(cls, broken):
    estimate, target = torch.full((1, 1, 4000), broken), noise(1, 1, 4000)
    assert cls(check_finite=True)(estimate, target).isfinite()
    assert not cls()(estimate, target).isfinite()


def test_an_out_of_memory_error_is_not_swallowed(monkeypatch):
    def fails(*_, **__):
        raise torch.cuda.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch.fft, "rfft", fails)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="no memory"):
        losses.STFTL1SNRDBLoss()(noise(1, 1, 4000), noise(1, 1, 4000))


def test_the_share_of_l1_jumps_at_one():
    estimate, target = noise(1, 1, 4000), noise(1, 1, 4000, seed=1)
    nearly, fully = (gradient(losses.L1SNRLoss(l1_weight=w), estimate, target).norm() for w in (0.999, 1.0))
    assert nearly > 50 * fully


def test_a_quiet_target_is_hardly_heard_at_the_default_eps():
    target = noise(1, 1, 4000, scale=1.25e-3)
    assert losses.L1SNRLoss()(target, target).item() == pytest.approx(-3.0, abs=0.1)
    assert losses.L1SNRLoss(eps=1e-6)(target, target).item() < -29


def test_levels_of_very_loud_signals_stay_finite_as_long_as_their_squares_do():
    assert losses.dbrms(torch.full((1, 8), 1e18)).item() == pytest.approx(360.0, abs=1e-3)


def test_short_signals_leave_resolutions_out_and_then_the_spectrum():
    estimate, target = noise(1, 1, 700), noise(1, 1, 700, seed=1)
    only_short = losses.STFTL1SNRDBLoss(n_ffts=[512, 1024], hop_lengths=[128, 256], win_lengths=[512, 1024])
    assert losses.STFTL1SNRDBLoss()(estimate, target) == only_short(estimate, target)
    in_time = losses.L1SNRDBLoss(use_regularization=False)
    assert losses.STFTL1SNRDBLoss()(estimate[..., :300], target[..., :300]) == in_time(
        estimate[..., :300], target[..., :300]
    )


def test_the_identity_transform_takes_spectra_with_positions():
    x_spec, y_spec = noise(4, 65, 10).abs(), noise(4, 65, 10, seed=1).abs()
    positions = torch.linspace(0, 1, 65)
    loss = losses.Wasserstein1DLoss(transform="identity", balanced=True, normalize=True)
    given = loss(x_spec, y_spec, x_positions=positions, y_positions=positions)
    assert given == loss(x_spec, y_spec)
    channels = losses.Wasserstein1DLoss("identity", reduction="none")(x_spec[:, None], y_spec[:, None])
    torch.testing.assert_close(channels.mean(), given)


def test_spectra_on_a_circle_are_close_across_the_seam():
    low, high, middle = (torch.zeros(1, 12, 1).index_fill(1, torch.tensor([k]), 1.0) for k in (0, 11, 6))
    loss = losses.Wasserstein1DLoss("identity", circular=True)
    positions = torch.arange(12) / 12
    assert loss(low, high, positions, positions).item() == pytest.approx(1 / 12, rel=1e-4)
    assert loss(low, middle, positions, positions).item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("options", [{"p": 3}, {"p": 1.5}, {"p": 2}])
def test_roots_of_transport_have_a_zero_gradient_at_the_target_and_a_finite_one_on_silence(options):
    loss, target = losses.Wasserstein1DLoss(apply_root=True, **options, **SOT), noise(1, 4000)
    assert gradient(loss, target, target).abs().max() == 0
    assert gradient(loss, torch.zeros(1, 4000), target).isfinite().all()


def test_the_gradient_of_transport_is_exactly_zero_at_the_target():
    target = noise(1, 4000)
    assert gradient(losses.Wasserstein1DLoss(p=1, **SOT), target, target).abs().max() == 0
    assert gradient(losses.Wasserstein1DLoss(**SOT), target, target).abs().max() == 0


def test_a_silent_frame_of_the_target_counts_as_energy_at_the_top():
    low = torch.sin(torch.arange(4000) * 0.1)[None]
    value = losses.Wasserstein1DLoss(**SOT)(low, torch.zeros(1, 4000)).item()
    assert 0.8 < value < 1.0


def test_a_silent_estimate_has_no_shape_to_transport_and_a_bounded_cost():
    target, silence = noise(1, 4000), torch.zeros(1, 4000)
    loss = losses.Wasserstein1DLoss(**SOT)
    assert loss(silence, target) < 1
    assert gradient(loss, silence, target).abs().max() == 0
    unbalanced = losses.Wasserstein1DLoss(normalize=False, balanced=False, **SOT)
    assert unbalanced(silence, target) > 1e-3  # its total is the target's


def test_single_costs_keep_items_channels_and_frames_apart():
    loss = losses.Wasserstein1DLoss(reduce=False, **SOT)
    assert loss(noise(2, 3, 4000), noise(2, 3, 4000, seed=1)).shape == (2, 3, 32)
    quantiles = losses.Wasserstein1DLoss(return_quantiles=True, **SOT)(noise(2, 3, 4000), noise(2, 3, 4000, seed=1))
    assert [tuple(part.shape) for part in quantiles] == [(2, 3, 32, 514)] * 3 + [(2, 3, 32, 257)] * 2


def test_equal_silence_costs_nothing():
    silence = torch.zeros(2, 1, 4000)
    assert losses.STFTLoss(**SIZES)(silence, silence) == 0
    assert losses.Wasserstein1DLoss(**SOT)(silence, silence) == 0
    assert losses.L1SNRLoss()(silence, silence) == 0


def test_permutations_are_undone():
    target = noise(2, 3, 1, 4000)
    loss = losses.PermutationInvariantLoss(losses.L1SNRLoss(reduction="none"))
    assert loss.order(target[:, [2, 0, 1]], target).tolist() == [[2, 0, 1]] * 2
    torch.testing.assert_close(loss(target[:, [2, 0, 1]], target), losses.L1SNRLoss()(target, target), atol=0.1, rtol=0)


POOLED = [
    lambda: losses.STFTLoss(**SIZES, reduction="none"),
    lambda: losses.MultiResolutionSTFTLoss(reduction="none"),
    lambda: losses.SumAndDifferenceSTFTLoss([512], [128], [512], reduction="none"),
]


@pytest.mark.parametrize("make", POOLED)
def test_an_order_that_would_depend_on_other_items_is_refused(make):
    with pytest.raises(ValueError, match=r'must judge each item alone, got sc_reduction "batch".* sc_reduction="item"'):
        losses.PermutationInvariantLoss(make())


@pytest.mark.parametrize("more", [{"sc_reduction": "item"}, {"w_sc": 0.0}])
def test_an_order_by_spectra_is_found(more):
    target = noise(2, 3, 1, 4000)
    loss = losses.PermutationInvariantLoss(losses.STFTLoss(**SIZES, reduction="none", **more))
    assert loss.order(target[:, [2, 0, 1]], target).tolist() == [[2, 0, 1]] * 2
    assert loss(target[:, [2, 0, 1]], target) == 0


def test_an_order_is_found_by_losses_of_two_tensors():
    with pytest.raises(ValueError, match=r"compares two tensors, got ComponentLoss, which takes mask, .*: choose"):
        losses.PermutationInvariantLoss(losses.ComponentLoss(0.1, 0.8, reduction="none"))


@pytest.mark.parametrize(
    "loss",
    [
        losses.STFTLoss(**SIZES, reduction="none", sc_reduction="item"),
        losses.SNRLoss(reduction="none"),
        losses.L2SNRLoss(reduction="none"),
        torch.nn.L1Loss(reduction="none"),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("shape", [(2, 2, 4000), (3, 2, 4000), (1, 1, 4000)], ids=str)
def test_a_loss_of_waveforms_of_any_form_of_values_counts_by_items(loss, shape):
    estimate, target = noise(*shape), noise(*shape, seed=1)
    mixed = losses.MultiL1SNRDBLoss(time_loss_module=loss, use_time_regularization=False, reduction="none")
    spectra = losses.STFTL1SNRDBLoss(reduction="none")(estimate, target)
    expected = 0.5 * loss(estimate, target).reshape(len(estimate), -1).mean(1) + 0.5 * spectra
    torch.testing.assert_close(mixed(estimate, target), expected)
    assert mixed.parts(estimate, target)["time"].shape == (len(estimate),)


class _OfChannels(torch.nn.Module):
    reduction = "none"

    def forward(self, estimate, target):
        return (estimate - target).abs().mean((0, 2))


def test_a_loss_of_waveforms_must_give_a_value_for_each_item():
    loss = losses.MultiL1SNRDBLoss(time_loss_module=_OfChannels(), use_time_regularization=False)
    with pytest.raises(ValueError, match=r"time_loss_module must give one value per item, 3, got shape \(2,\)"):
        loss(noise(3, 2, 4000), noise(3, 2, 4000, seed=1))


def test_five_sources_are_ordered_like_three():
    target = noise(1, 5, 1, 500)
    loss = losses.PermutationInvariantLoss(losses.SISDRLoss(reduction="none"))
    assert loss.order(target[:, [4, 2, 0, 1, 3]], target).tolist() == [[4, 2, 0, 1, 3]]


def test_the_first_call_of_the_component_loss_names_its_weights_once():
    from sepkit.losses import mask

    mask._warn_without_separation.cache_clear()
    tensors = [noise(2, 4, 5).abs() for _ in range(3)]
    with pytest.warns(UserWarning, match=r"separation 0, attenuation 0.2, quality 0.8"):
        losses.component_loss(*tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.component_loss(*tensors)


@pytest.mark.parametrize("loss", [losses.ComponentLoss(0.1, 0.8), losses.MaskLoss()])
def test_complex_masks_are_refused(loss):
    mask = torch.zeros(1, 1, 4, 5, dtype=torch.complex64)
    with pytest.raises(ValueError, match="mask must be real"):
        loss(mask, mask.abs(), mask.abs())


def test_kl_is_finite_without_spread_and_zero_at_the_standard_normal():
    assert losses.kl_div_loss(torch.zeros(2, 3), torch.ones(2, 3)) == 0
    sigma = torch.zeros(2, 3, requires_grad=True)
    value = losses.kl_div_loss(torch.zeros(2, 3), sigma)
    value.backward()
    assert value.isfinite()
    assert sigma.grad.isfinite().all()


@pytest.mark.parametrize("value", [1e-4, 0.01, 0.5, 1.0, 3.0])
def test_the_divergence_pulls_every_deviation_towards_one(value):
    sigma = torch.full((2, 3), value, requires_grad=True)
    losses.kl_div_loss(torch.zeros(2, 3), sigma).backward()
    torch.testing.assert_close(sigma.grad, torch.full((2, 3), value - 1 / value))


def test_importing_a_loss_needs_torch_alone():
    code = (
        "import sys; from sepkit.losses import MultiResolutionSTFTLoss, Wasserstein1DLoss, component_loss;"
        "others = {'scipy', 'torchaudio', 'librosa', 'pydantic', 'soundfile', 'matplotlib', 'yaml'};"
        "print(sorted(others & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_second_derivatives_are_refused():
    estimate = noise(1, 1, 4000).requires_grad_()
    value = losses.STFTLoss(**SIZES)(estimate, noise(1, 1, 4000, seed=1))
    with pytest.raises(ValueError, match="must be differentiated once"):
        torch.autograd.grad(value, estimate, create_graph=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.L1SNRLoss()(noise(4), noise(4)), r"estimate must be \(B, ..., T\)"),
        (lambda: losses.ESRLoss()(noise(2, 0), noise(2, 0)), "with at least one element"),
        (lambda: losses.ESRLoss()(torch.ones(2, 8).int(), torch.ones(2, 8).int()), "must be floating point"),
        (lambda: losses.ESRLoss()(noise(2, 8), noise(2, 8).to(torch.complex64)), "target must be real"),
        (lambda: losses.ESRLoss()(noise(2, 8), noise(2, 8).to("meta")), "target must be on the device of estimate"),
        (lambda: losses.SumAndDifference()(noise(2, 3, 8)), "waveform must be stereo"),
        (lambda: losses.SumAndDifferenceSTFTLoss([64], [16], [64])(noise(2, 1, 99), noise(2, 1, 99)), "must be stereo"),
        (lambda: losses.wasserstein_1d(noise(4), noise(4)), r"u_values must be \(batch, n\)"),
        (lambda: losses.RelativeSpectralLoss()(*[noise(2, 1, 4, 5)] * 3), "must be a complex spectrogram"),
        (lambda: losses.kl_div_loss(noise(2), noise(2), "median"), "reduction must be one of"),
        (lambda: losses.dbrms(noise(2, 8), -1.0), "eps must be at least 0"),
        (lambda: losses.FIRFilter().filter([0.5]), "waveform must be a tensor, got list"),
        (lambda: losses.wasserstein_1d(noise(2, 4), noise(3, 4)), r"v_values must be \(batch, n\)"),
        (lambda: losses.wasserstein_1d(noise(2, 4), noise(2, 4), noise(2, 3)), "u_weights must have the shape of"),
        (lambda: losses.wasserstein_1d(noise(2, 4), noise(2, 4), require_sort=1), "require_sort must be true or false"),
        (lambda: losses.quantile_function(noise(3, 4), noise(2, 5), noise(2, 5)), r"qs must be \(..., k\)"),
        (lambda: losses.Wasserstein1DLoss("identity")(noise(2, 9, 4), noise(2, 8, 4)), "target must have the shape"),
        (
            lambda: losses.Wasserstein1DLoss("identity")(noise(2, 9, 4), noise(2, 8, 4), noise(9)),
            "must both be given for spectra of 9 and 8 bins",
        ),
        (
            lambda: losses.Wasserstein1DLoss("identity")(noise(2, 9, 4), noise(2, 9, 4), noise(8), noise(9)),
            r"x_positions must be \(9,\), one for each bin, got \(8,\)",
        ),
        (
            lambda: losses.Wasserstein1DLoss("identity").loss(noise(2, 4), noise(2, 4)),
            r"x_spec must be \(batch, frames, bins\)",
        ),
    ],
)
def test_wrong_signals_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_stft_loss_and_its_gradients_are_those_of_its_definition_in_plain_torch():
    from sepkit.losses._magnitude_terms import reference

    signals = [noise(3, 4000, seed=seed).double().requires_grad_() for seed in (0, 1)]
    parts = losses.STFTLoss(512, 128, 400, w_lin_mag=1.0, w_phs=1.0).parts(*signals)
    window = torch.hann_window(400).double()
    expected = reference(*signals, n_fft=512, hop_length=128, window=window)
    for part, term in zip(parts.values(), expected, strict=True):
        torch.testing.assert_close(part, term, rtol=1e-9, atol=0)
        gradients = (torch.autograd.grad(value, signals, retain_graph=True) for value in (part, term))
        torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-12)
