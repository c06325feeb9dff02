"""One battery over every loss of the package: what a training may rely on, whichever loss it takes."""

import copy
import inspect
from itertools import pairwise

import pytest
import torch

from sepkit import losses

B, C, T = 3, 2, 2400
SMALL = {"fft_sizes": [256, 512], "hop_sizes": [64, 128], "win_lengths": [200, 512]}
SMALL_L1SNR = {"n_ffts": [256, 512], "hop_lengths": [64, 128], "win_lengths": [256, 400]}
SMALL_CQT = {"sample_rate": 8000, "fmin": 400.0, "n_bins": 24, "bins_per_semitone": 1, "window": "hann"}
MEL = {"sample_rate": 8000, "fft_size": 512, "hop_size": 128, "win_length": 512}


def _wrapped(reduction):
    return losses.PermutationInvariantLoss(losses.L1SNRLoss(reduction="none"), reduction=reduction)


WAVEFORM = {
    "WaveformL1Loss": losses.WaveformL1Loss,
    "WaveformL2Loss": losses.WaveformL2Loss,
    "DCLoss": losses.DCLoss,
    "ESRLoss": losses.ESRLoss,
    "LogCoshLoss": losses.LogCoshLoss,
    "SNRLoss": losses.SNRLoss,
    "SISDRLoss": losses.SISDRLoss,
    "SDSDRLoss": losses.SDSDRLoss,
    "L1SNRLoss": losses.L1SNRLoss,
    "L2SNRLoss": losses.L2SNRLoss,
    "L1SNRDBLoss": losses.L1SNRDBLoss,
    "STFTL1SNRDBLoss": lambda **kw: losses.STFTL1SNRDBLoss(**SMALL_L1SNR, **kw),
    "STFTL1SNRDBLoss with levels": lambda **kw: losses.STFTL1SNRDBLoss(
        **SMALL_L1SNR, use_regularization=True, l1_weight=0.3, **kw
    ),
    "MultiL1SNRDBLoss": lambda **kw: losses.MultiL1SNRDBLoss(**SMALL_L1SNR, **kw),
    "STFTLoss": lambda **kw: losses.STFTLoss(512, 128, 400, **kw),
    "STFTLoss of all terms": lambda **kw: losses.STFTLoss(
        512,
        128,
        400,
        w_lin_mag=1.0,
        w_phs=0.1,
        phase="cosine",
        mag_distance="L2",
        log_eps=1e-3,
        log_fac=2.0,
        **kw,
    ),
    "STFTLoss per item": lambda **kw: losses.STFTLoss(512, 128, 400, sc_reduction="item", **kw),
    "STFTLoss live": lambda **kw: losses.STFTLoss(512, 128, 400, floor="live", **kw),
    "STFTLoss scaled": lambda **kw: losses.STFTLoss(512, 128, 400, scale_invariance=True, **kw),
    "MelSTFTLoss": lambda **kw: losses.MelSTFTLoss(**MEL, n_mels=40, **kw),
    "ChromaSTFTLoss": lambda **kw: losses.ChromaSTFTLoss(**MEL, **kw),
    "MultiResolutionSTFTLoss": lambda **kw: losses.MultiResolutionSTFTLoss(**SMALL, **kw),
    "MultiResolutionSTFTLoss weighted": lambda **kw: losses.MultiResolutionSTFTLoss(
        **SMALL, perceptual_weighting=True, sample_rate=8000, scale="mel", n_bins=[16, 32], **kw
    ),
    "RandomResolutionSTFTLoss": lambda **kw: losses.RandomResolutionSTFTLoss(min_fft_size=64, max_fft_size=512, **kw),
    "SumAndDifferenceSTFTLoss": lambda **kw: losses.SumAndDifferenceSTFTLoss(**SMALL, **kw),
    "MultiResolutionComplexSTFTLoss": lambda **kw: losses.MultiResolutionComplexSTFTLoss((256, 512), 256, 128, **kw),
    "Wasserstein1DLoss": lambda **kw: losses.Wasserstein1DLoss(fft_size=512, hop_length=128, **kw),
    "Wasserstein1DLoss p=1": lambda **kw: losses.Wasserstein1DLoss(p=1, fft_size=512, hop_length=128, **kw),
    "Wasserstein1DLoss of roots": lambda **kw: losses.Wasserstein1DLoss(
        p=1.5, apply_root=True, square_magnitude=True, fft_size=512, hop_length=128, **kw
    ),
    "Wasserstein1DLoss unbalanced": lambda **kw: losses.Wasserstein1DLoss(
        balanced=False, fft_size=512, hop_length=128, **kw
    ),
    "Wasserstein1DLoss in time": lambda **kw: losses.Wasserstein1DLoss(dim=-2, fft_size=512, hop_length=128, **kw),
    "Wasserstein1DLoss mel": lambda **kw: losses.Wasserstein1DLoss(
        "mel", n_mels=20, sample_rate=8000, fft_size=512, hop_length=128, **kw
    ),
    "Wasserstein1DLoss mel squares": lambda **kw: losses.Wasserstein1DLoss(
        "mel", square_magnitude=True, n_mels=20, sample_rate=8000, fft_size=512, hop_length=128, **kw
    ),
    "Wasserstein1DLoss cqt": lambda **kw: losses.Wasserstein1DLoss("cqt", hop_length=128, **SMALL_CQT, **kw),
    "MultiResolutionSOTLoss": lambda **kw: losses.MultiResolutionSOTLoss(
        fft_sizes=[256, 512], hop_lengths=[64, 128], **kw
    ),
}
MAGNITUDE = {
    name: getattr(losses, name)
    for name in (
        *("MagnitudeL1Loss", "MagnitudeL2Loss", "MagnitudeRMSELoss", "MagnitudeLogL1Loss", "MagnitudeLogL2Loss"),
        *("L1Loss", "L2Loss", "RMSELoss", "LogL1Loss", "LogL2Loss", "SpectralConvergenceLoss"),
    )
} | {
    "STFTMagnitudeLoss": lambda **kw: losses.STFTMagnitudeLoss(log_eps=1e-4, **kw),
    "Wasserstein1DLoss identity": lambda **kw: losses.Wasserstein1DLoss("identity", **kw),
}
OTHERS = {
    "RelativeSpectralLoss": losses.RelativeSpectralLoss,
    "MaskLoss": losses.MaskLoss,
    "ComponentLoss": lambda **kw: losses.ComponentLoss(0.1, 0.8, **kw),
    "ComponentLoss by frame": lambda **kw: losses.ComponentLoss(0.1, 0.3, unit="frame", **kw),
    "ComponentLoss of two": lambda **kw: losses.ComponentLoss(0.3, None, **kw),
    "KLDivergenceLoss": lambda reduction="mean": losses.KLDivergenceLoss(reduction),
    "PermutationInvariantLoss": lambda reduction="mean": _wrapped(reduction),
}
ALL = WAVEFORM | MAGNITUDE | OTHERS

# The closed list of losses that do not fall all the way from noise to the target, and why.
NOT_FALLING = {
    "DCLoss": "hears the means alone",
    "KLDivergenceLoss": "compares no signal",
}
BATCH_POOLED = {
    "STFTLoss", "STFTLoss of all terms", "STFTLoss live", "STFTLoss scaled", "MelSTFTLoss", "ChromaSTFTLoss",
    "MultiResolutionSTFTLoss", "MultiResolutionSTFTLoss weighted", "RandomResolutionSTFTLoss",
    "SumAndDifferenceSTFTLoss", "SpectralConvergenceLoss",
}  # fmt: skip
DRAWING = {"RandomResolutionSTFTLoss"}  # which goes on from its state
# The order of sources is chosen by data, and by scipy beyond three; resolutions by Python's random numbers.
NOT_COMPILED = {"RandomResolutionSTFTLoss"}


def _waveforms(seed=0, n=B):
    generator = torch.Generator().manual_seed(seed)
    noise, target = 0.2 * torch.randn(2, n, C, T, generator=generator)
    times = torch.arange(T) / 8000
    tones = torch.stack([torch.sin(2 * torch.pi * (300 + 170 * k) * times) for k in range(n * C)])
    target = 0.05 * target.cumsum(-1).diff(dim=-1, prepend=torch.zeros(n, C, 1)) + 0.3 * tones.view(n, C, T)
    return noise, target + 0.02


def _spectrogram(waveform):
    window = torch.hann_window(256, dtype=waveform.dtype)
    spectrogram = torch.stft(waveform.flatten(0, -2), 256, 64, window=window, return_complex=True)
    return spectrogram.unflatten(0, waveform.shape[:-1])


def _quantities(name, estimate, target):
    """Give what a loss compares, made of an estimate and a target (B, C, T)."""
    if name in WAVEFORM:
        return estimate, target
    if name == "PermutationInvariantLoss":
        return torch.stack((estimate, -target), 1), torch.stack((-target, target), 1)
    mixture = _spectrogram(target + _waveforms(9, len(target))[0].to(target))
    spectra = _spectrogram(estimate), _spectrogram(target)
    if name == "RelativeSpectralLoss":
        return *spectra, mixture
    magnitudes = [spectrum.abs() for spectrum in spectra]
    if name in MAGNITUDE:
        return tuple(magnitudes)
    if name == "KLDivergenceLoss":
        return estimate, target.abs() + 0.1
    mask = magnitudes[0] / mixture.abs().clamp(min=0.1)
    if name == "MaskLoss":
        return mask, mixture.abs(), magnitudes[1]
    ideal = magnitudes[1] / mixture.abs().clamp(min=0.1)
    return (mask - ideal).abs().mul(-1).exp(), magnitudes[1], mixture.abs() - magnitudes[1]


def _every(names=ALL):
    return pytest.mark.parametrize("name", sorted(names))


@_every(set(ALL) - set(NOT_FALLING) - {"MaskLoss", "ComponentLoss", "ComponentLoss by frame", "ComponentLoss of two"})
def test_a_loss_falls_all_the_way_from_noise_to_the_target(name):
    noise, target = _waveforms()
    loss = ALL[name]()
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    values = [float(loss(*_quantities(name, (1 - share) * noise + share * target, target))) for share in shares]
    assert all(later < earlier for earlier, later in pairwise(values)), values


@pytest.mark.parametrize("name", ["MaskLoss", "ComponentLoss", "ComponentLoss by frame", "ComponentLoss of two"])
def test_a_mask_loss_falls_from_noise_to_the_ideal_mask(name):
    noise, target = _waveforms()
    _, mixture, magnitude = _quantities("MaskLoss", noise, target)
    ideal = magnitude / mixture.clamp(min=1e-6)
    if name != "MaskLoss":
        mixture = magnitude + _quantities("MaskLoss", target, noise)[2]
        ideal = (magnitude > mixture - magnitude).float()
    start = 0.5 + 0.5 * torch.rand(ideal.shape, generator=torch.Generator().manual_seed(1))
    rest = (mixture, magnitude) if name == "MaskLoss" else (magnitude, mixture - magnitude)
    masks = [(1 - share) * start + share * ideal for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    values = [float(ALL[name]()(mask, *rest)) for mask in masks]
    assert all(later < earlier for earlier, later in pairwise(values)), values


@pytest.mark.filterwarnings("ignore:component loss")
def test_the_component_loss_rewards_silence_at_its_defaults():
    _, target, residual = _quantities("ComponentLoss", *_waveforms())
    silent, ideal = torch.full_like(target, 1e-3), target / (target + residual.abs())
    assert losses.ComponentLoss()(silent, target, residual) < losses.ComponentLoss()(ideal, target, residual)


@_every(BATCH_POOLED - {"SpectralConvergenceLoss"})
def test_a_loss_that_pools_its_batch_judges_items_alone_where_it_is_asked_to(name):
    quantities = _quantities(name, *_waveforms())
    options = {"reduction": "none", "sc_reduction": "item"}
    together = ALL[name](**options)(*quantities)
    alone = ALL[name](**options)(*(quantity[1:2] for quantity in quantities))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-6)


@_every(set(ALL) - BATCH_POOLED | {"SpectralConvergenceLoss"})
def test_the_value_of_an_item_does_not_depend_on_the_others(name):
    quantities = _quantities(name, *_waveforms())
    together = ALL[name](reduction="none")(*quantities)
    alone = ALL[name](reduction="none")(*(quantity[1:2] for quantity in quantities))
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-6)


@_every()
def test_values_without_a_reduction_come_one_per_item_or_one_per_channel(name):
    quantities = _quantities(name, *_waveforms())
    values = ALL[name](reduction="none")(*quantities)
    assert tuple(values.shape) in {(B,), (B, C)}
    mean = ALL[name](reduction="mean")(*quantities)
    if name not in {"SpectralConvergenceLoss"}:  # one ratio over the batch
        torch.testing.assert_close(values.mean(), mean, rtol=1e-5, atol=1e-6)


@_every()
def test_the_sum_of_a_loss_is_finite_and_no_other_reduction_is_taken(name):
    quantities = _quantities(name, *_waveforms())
    assert ALL[name](reduction="sum")(*quantities).isfinite()
    with pytest.raises(ValueError, match="reduction must be one of"):
        ALL[name](reduction="median")


def _with_silence(kind, noise, target):
    silence = torch.zeros_like(target)
    return {
        "both": (silence, silence),
        "estimate": (silence, target),
        "target": (noise, silence),
        "equal": (target, target),
        "one item": (noise, torch.cat((target[:1], silence[1:]))),
        "one channel": (noise * torch.tensor([1.0, 0.0])[:, None], target),
        "second half": (noise, torch.cat((target[..., : T // 2], silence[..., T // 2 :]), -1)),
    }[kind]


@pytest.mark.parametrize("kind", ["both", "estimate", "target", "equal", "one item", "one channel", "second half"])
@_every()
def test_value_and_gradient_are_finite_on_silence_and_on_equal_inputs(name, kind):
    quantities = _quantities(name, *_with_silence(kind, *_waveforms()))
    quantities = [quantity.clone().requires_grad_() for quantity in quantities]
    value = ALL[name]()(*quantities)
    value.backward()
    assert value.isfinite()
    assert all(quantity.grad.isfinite().all() for quantity in quantities if quantity.grad is not None)


@pytest.mark.parametrize("which", ["first", "second"])
@_every()
def test_nan_in_gives_nan_out(name, which):
    quantities = [quantity.contiguous().clone() for quantity in _quantities(name, *_waveforms())]
    quantities[which == "second"].view(-1)[T // 2] = float("nan")
    assert ALL[name]()(*quantities).isnan()


@_every()
def test_a_loss_computes_in_the_precision_of_its_inputs(name):
    quantities = _quantities(name, *_waveforms())
    wide = [quantity.to(torch.complex128 if quantity.is_complex() else torch.float64) for quantity in quantities]
    loss = ALL[name]()
    value = loss(*quantities)
    loss = ALL[name]()
    precise = loss(*wide)
    assert precise.dtype == torch.float64
    torch.testing.assert_close(value.double(), precise, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@_every(set(ALL) - {"RelativeSpectralLoss"})  # there is no complex bfloat16
def test_half_precision_inputs_and_autocast_give_the_value_in_float32_on_the_same_numbers(name, dtype):
    halves = [quantity.to(dtype) for quantity in _quantities(name, *_waveforms())]
    expected = ALL[name]()(*(half.float() for half in halves))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ALL[name]()(*halves)
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_spectra_give_the_value_in_float32_on_the_same_numbers():
    halves = [quantity.to(torch.complex32) for quantity in _quantities("RelativeSpectralLoss", *_waveforms())]
    expected = losses.RelativeSpectralLoss()(*(half.to(torch.complex64) for half in halves))
    torch.testing.assert_close(losses.RelativeSpectralLoss()(*halves), expected, rtol=1e-3, atol=1e-6)


@_every()
def test_nothing_of_a_loss_enters_a_checkpoint(name):
    loss = ALL[name]()
    loss(*_quantities(name, *_waveforms()))
    assert set(loss.state_dict()) == ({"_extra_state"} if name in DRAWING else set())


@_every()
def test_a_loss_goes_on_from_its_state_as_if_it_had_not_stopped(name):
    quantities = _quantities(name, *_waveforms())
    whole, stopped, other = (ALL[name]() for _ in range(3))
    for _ in range(3):
        whole(*quantities), stopped(*quantities)
    other.load_state_dict(stopped.state_dict())
    assert [float(other(*quantities)) for _ in range(3)] == [float(whole(*quantities)) for _ in range(3)]


@_every()
def test_a_loss_moves_with_its_module_and_is_never_rounded(name):
    quantities = _quantities(name, *_waveforms())
    expected = ALL[name]()(*quantities)
    assert torch.equal(ALL[name]().half()(*quantities), expected)
    moved = copy.deepcopy(ALL[name]()).to("meta")
    assert {buffer.device.type for buffer in moved.buffers()} <= {"meta"}


@_every()
def test_unequal_shapes_are_refused(name):
    first, *others = _quantities(name, *_waveforms())
    with pytest.raises(ValueError, match=r"^[^\n]*must (have the shape of|be)[^\n]*$"):
        ALL[name]()(first, *(other[:1] for other in others))


@_every()
def test_strided_inputs_give_the_same_value_and_stay_as_they_are(name):
    quantities = _quantities(name, *_waveforms())
    strided = [quantity.transpose(0, -1).contiguous().transpose(0, -1) for quantity in quantities]
    before = [quantity.clone() for quantity in strided]
    torch.testing.assert_close(ALL[name]()(*strided), ALL[name]()(*quantities), rtol=1e-6, atol=1e-7)
    assert all(torch.equal(quantity, old) for quantity, old in zip(strided, before, strict=True))


PER_CHANNEL = {
    name for name in WAVEFORM if "SNRL" not in name and "SNRDB" not in name and "Difference" not in name
    and "Complex" not in name and "Waveform" not in name
} | {"SNRLoss"}  # fmt: skip


@pytest.mark.parametrize("lead", [(), (3,), (3, 2), (3, 4, 2)])
@_every(PER_CHANNEL)
def test_losses_per_channel_take_any_leading_dimensions_and_give_one_value_for_each(name, lead):
    generator = torch.Generator().manual_seed(0)
    signals = 0.2 * torch.randn(2, *lead, T, generator=generator)
    values = ALL[name](reduction="none")(*signals)
    assert values.shape == lead
    torch.testing.assert_close(values.mean(), ALL[name]()(*signals), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lead", [(3, 2), (3, 4, 2)])
@_every(set(WAVEFORM) - PER_CHANNEL)
def test_losses_per_item_take_any_dimensions_behind_the_first_and_give_one_value_per_item(name, lead):
    generator = torch.Generator().manual_seed(0)
    signals = 0.2 * torch.randn(2, *lead, T, generator=generator)
    values = ALL[name](reduction="none")(*signals)
    assert values.shape == (lead[:-1] if name == "SumAndDifferenceSTFTLoss" else lead[:1])
    torch.testing.assert_close(values.mean(), ALL[name]()(*signals), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_samples", [513, 801, 2401, 50021])
@_every(WAVEFORM)
def test_a_loss_takes_odd_short_and_long_signals(name, n_samples):
    noise, target = (0.2 * torch.randn(2, 1, C, n_samples, generator=torch.Generator().manual_seed(0))).unbind()
    noise = noise.requires_grad_()
    value = ALL[name]()(noise, target)
    value.backward()
    assert value.isfinite()
    assert noise.grad.isfinite().all()
    assert noise.grad.abs().sum() > 0


@_every({name for name in WAVEFORM if "STFT" not in name and "Wasserstein" not in name and "SOT" not in name})
def test_a_loss_in_the_time_domain_takes_a_single_sample(name):
    if name == "MultiL1SNRDBLoss":
        pytest.skip("it has a spectral side, which is left out below 512 samples")
    estimate, target = torch.full((1, 1, 1), 0.3, requires_grad=True), torch.full((1, 1, 1), 0.2)
    value = ALL[name]()(estimate, target)
    value.backward()
    assert value.isfinite()
    assert estimate.grad.isfinite().all()


# What a host waits for a device in: numbers that Python asks for, and shapes that depend on values.
WAITING = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@_every()
def test_no_operation_makes_the_host_wait_for_a_device(name):
    quantities = [quantity.clone().requires_grad_() for quantity in _quantities(name, *_waveforms())]
    loss = ALL[name]()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss(*quantities).backward()
    assert not WAITING & {event.key for event in profile.key_averages()}


@_every()
def test_the_same_inputs_give_the_same_value(name):
    quantities = _quantities(name, *_waveforms())
    assert torch.equal(ALL[name]()(*quantities), ALL[name]()(*quantities))


# What has to stay put for the gradient to be that of the value: weights that pass none by design, drawn resolutions.
HELD = {
    "L1SNRDBLoss": {"delta_lambda": 0.0},
    "MultiL1SNRDBLoss": {"delta_lambda": 0.0},
    "STFTL1SNRDBLoss with levels": {"delta_lambda": 0.0},
    "RandomResolutionSTFTLoss": {"randomize_rate": 1000},
}


@_every(name for name in ALL if hasattr(ALL[name](), "parts"))
def test_the_parts_of_a_loss_add_up_to_it(name):
    quantities = _quantities(name, *_waveforms())
    loss = ALL[name](reduction="none", **HELD.get(name, {}))
    parts = loss.parts(*quantities)
    assert inspect.signature(loss.parts).parameters.keys() == inspect.signature(loss.forward).parameters.keys()
    torch.testing.assert_close(sum(parts.values()), loss(*quantities), rtol=1e-5, atol=1e-6)


@_every()
def test_gradients_to_estimate_and_target_are_those_of_finite_differences(name):
    noise, target = (signal.double() for signal in _waveforms(4, 2))
    quantities = _quantities(name, 0.7 * target + 0.3 * noise, target)
    quantities = [quantity.detach().clone().requires_grad_() for quantity in quantities]
    loss = ALL[name](reduction="none", **HELD.get(name, {}))
    # The fast mode compares along random directions of every input and output; kinks of |.| leave 1e-3.
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(loss, quantities, eps=1e-7, atol=1e-7, rtol=1e-3, fast_mode=True)


# Every way through the kernels, whose slopes are written by hand.
TRANSPORTS = [
    {"transform": transform, "p": p, "square_magnitude": square, "apply_root": root, **held}
    for transform in ("stft", "mel")
    for p in (1, 1.5, 2)
    for square in (False, True)
    for root in (False, True)
    for held in ({}, {"normalize": False, "balanced": False}, {"dim": -2})
]
SPECTRA = [
    {"mag_distance": distance, "phase": phase, **bands}  # below a floor that is "live" the slope is another by intent
    for distance in ("L1", "L2")
    for phase in ("mse", "cosine")
    for bands in ({}, {"scale": "mel", "n_bins": 20}, {"scale": "chroma", "n_bins": 12})
]


def _slope_is_that_of_the_value(loss):
    noise, target = (signal[:, :1, :900].double() for signal in _waveforms(4, 1))
    signals = [signal.clone().requires_grad_() for signal in (0.7 * target + 0.3 * noise, target)]
    torch.manual_seed(0)
    return torch.autograd.gradcheck(loss, signals, eps=1e-7, atol=1e-7, rtol=1e-3, fast_mode=True)


@pytest.mark.parametrize("options", TRANSPORTS, ids=lambda options: " ".join(map(str, options.values())))
def test_the_slope_of_transport_is_that_of_its_value_whatever_the_options(options):
    sizes = {"n_mels": 20, "sample_rate": 8000, "fft_size": 256, "hop_length": 64}
    assert _slope_is_that_of_the_value(losses.Wasserstein1DLoss(**sizes, **options))


@pytest.mark.parametrize("options", SPECTRA, ids=lambda options: " ".join(map(str, options.values())))
def test_the_slope_of_spectra_is_that_of_their_value_whatever_the_options(options):
    terms = {"w_lin_mag": 0.7, "w_phs": 0.01, "log_eps": 1e-3, "log_fac": 2.0, "sample_rate": 8000}
    assert _slope_is_that_of_the_value(losses.STFTLoss(256, 64, 200, **terms, **options))


@_every(set(WAVEFORM) - {"DCLoss"} | set(MAGNITUDE))
def test_any_loss_finds_the_order_of_sources(name):
    sources = torch.stack([_waveforms(seed, 2)[0] + 0.01 * seed for seed in range(3)], 1)  # (B, S, C, T)
    if name in MAGNITUDE:
        sources = _spectrogram(sources).abs()
    order = [[2, 0, 1], [1, 0, 2]]
    shuffled = torch.stack([item[places] for item, places in zip(sources, order, strict=True)])
    pooled = any(getattr(part, "sc_reduction", "item") == "batch" for part in ALL[name]().modules())
    alone = {"sc_reduction": "item"} if pooled else {}  # an order that other items decide is refused
    loss = losses.PermutationInvariantLoss(ALL[name](reduction="none", **{**alone, **HELD.get(name, {})}))
    assert loss.order(shuffled, sources).tolist() == order


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@_every(set(ALL) - NOT_COMPILED)
def test_a_loss_compiles_into_one_graph(name):
    quantities = [quantity.clone().requires_grad_() for quantity in _quantities(name, *_waveforms())]
    torch._dynamo.reset()
    loss = ALL[name]()
    expected = torch.autograd.grad(loss(*quantities), quantities[0])[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(*quantities), quantities[0])[0], expected)


def test_the_battery_covers_every_loss():
    covered = {name.split()[0] for name in ALL}
    public = {name for name in losses.__all__ if name.endswith("Loss")} - {"CompositeLoss"}
    assert public == covered
