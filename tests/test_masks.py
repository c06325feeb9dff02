"""Ideal masks restore the sources, and the Wiener filter gives Open-Unmix's estimates and adds up to the mixture."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sepkit import metrics
from sepkit.masks import (
    apply_mask,
    ideal_binary_mask,
    ideal_complex_mask,
    ideal_ratio_mask,
    phase_sensitive_mask,
    wiener,
)
from sepkit.separator import Separator
from sepkit.transforms import STFT

RATIO = pytest.param(lambda targets, _mixture: ideal_ratio_mask(targets), id="ratio")
AGAINST_MIXTURE = [ideal_binary_mask, phase_sensitive_mask, ideal_complex_mask]


def _spectrograms(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128).to(dtype)


@pytest.fixture
def targets() -> Tensor:
    return _spectrograms(2, 3, 2, 9, 5)


@pytest.fixture
def disjoint() -> Tensor:
    """Sources of which one sounds at a time, as binary masks want them."""
    owners = torch.arange(9 * 5).reshape(9, 5) % 3
    return _spectrograms(2, 3, 2, 9, 5) * (owners == torch.arange(3)[:, None, None])[None, :, None]


def test_the_complex_mask_restores_overlapping_sources(targets):
    mixture = targets.sum(1)
    restored = ideal_complex_mask(targets, mixture) * mixture[:, None]
    torch.testing.assert_close(restored, targets, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ideal", [RATIO, *AGAINST_MIXTURE])
def test_every_ideal_mask_restores_sources_that_do_not_overlap(ideal, disjoint):
    mixture = disjoint.sum(1)
    torch.testing.assert_close(ideal(disjoint, mixture) * mixture[:, None], disjoint, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_shares_of_a_ratio_mask_add_up_to_one_with_the_residual(targets, power):
    residual = _spectrograms(2, 2, 9, 5, seed=1)
    without, masks = ideal_ratio_mask(targets, power=power), ideal_ratio_mask(targets, residual, power)
    torch.testing.assert_close(without.sum(1), torch.ones(2, 2, 9, 5))
    share = residual.abs() ** power / (targets.abs() ** power).sum(1).add(residual.abs() ** power)
    torch.testing.assert_close(masks.sum(1) + share, torch.ones(2, 2, 9, 5))


@pytest.mark.parametrize("ideal", [RATIO, ideal_binary_mask, phase_sensitive_mask])
def test_real_masks_lie_between_0_and_1(ideal, targets):
    mask = ideal(targets, targets.sum(1))
    assert mask.shape == targets.shape
    assert mask.dtype is torch.float32
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_the_binary_mask_gives_each_bin_to_the_louder_of_two_sources():
    targets = _spectrograms(2, 2, 2, 9, 5)
    mask = ideal_binary_mask(targets, targets.sum(1))
    assert torch.equal(mask.argmax(1), targets.abs().argmax(1))
    assert torch.equal(mask.sum(1), torch.ones(2, 2, 9, 5))


def test_the_phase_sensitive_mask_is_the_best_real_one(targets):
    mixture = targets.sum(1)
    best = phase_sensitive_mask(targets, mixture)
    error = (best * mixture[:, None] - targets).abs()
    for change in (0.01, -0.01):
        worse = ((best + change).clamp(0, 1) * mixture[:, None] - targets).abs()
        assert (worse >= error - 1e-6).all()


@pytest.mark.parametrize(
    ("ideal", "value"),
    [(ideal_ratio_mask, 0.5), (ideal_binary_mask, 0.0), (phase_sensitive_mask, 0.0), (ideal_complex_mask, 0.0)],
)
def test_masks_of_silence_are_finite(ideal, value):
    silence = torch.zeros(1, 2, 1, 9, 5, dtype=torch.complex64)
    mask = ideal(silence) if ideal is ideal_ratio_mask else ideal(silence, silence[:, 0])
    assert torch.equal(mask, torch.full_like(mask, value))


def test_silent_sources_and_rest_have_equal_shares():
    silence = torch.zeros(1, 2, 1, 9, 5, dtype=torch.complex64)
    mask = ideal_ratio_mask(silence, silence[:, 0])
    torch.testing.assert_close(mask, torch.full_like(mask, 1 / 3))


@pytest.mark.parametrize("ideal", [*AGAINST_MIXTURE, wiener, ideal_ratio_mask])
def test_a_mixture_that_would_only_broadcast_is_refused(ideal):
    targets = torch.zeros(2, 2, 2, 9, 5, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"(mixture|residual) must be \(2, 2, 9, 5\), got \(2, 2, 2, 9, 5\)"):
        ideal(targets, targets)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ideal_ratio_mask(torch.zeros(1, 2, 1, 9, 5)), "sources must be complex .* got torch.float32"),
        (lambda: ideal_ratio_mask(_spectrograms(2, 1, 9, 5)), r"complex \(B, S, C, F, N\), got .*\(2, 1, 9, 5\)"),
        (lambda: ideal_ratio_mask(_spectrograms(1, 2, 1, 9, 5), power=0), "power must be above 0, got 0"),
        (lambda: wiener(_spectrograms(1, 1, 1, 9, 5), _spectrograms(1, 1, 9, 5)), "wiener needs at least two sources"),
        (
            lambda: wiener(_spectrograms(1, 2, 1, 9, 5), _spectrograms(1, 1, 9, 5), 0),
            "iterations and window must be at least 1, got 0 and 300",
        ),
        (
            lambda: wiener(_spectrograms(1, 2, 1, 9, 5), _spectrograms(1, 1, 9, 5), 1, 0),
            "iterations and window must be at least 1, got 1 and 0",
        ),
    ],
)
def test_what_has_no_mask_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Wiener filter


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("window", [None, 4, 300])
def test_filtered_estimates_add_up_to_the_mixture(n_channels, window):
    estimates = _spectrograms(2, 3, n_channels, 9, 10, dtype=torch.complex128)
    mixture = estimates.sum(1) + 0.3 * _spectrograms(2, n_channels, 9, 10, seed=1, dtype=torch.complex128)
    filtered = wiener(estimates, mixture, 2, window)
    # The regularisation, 1e-5 beside powers of about 1, keeps that share of the mixture back.
    torch.testing.assert_close(filtered.sum(1), mixture, rtol=0, atol=1e-3)


def test_the_filter_uses_the_directions_of_the_sources():
    """Sources at different places, each estimated with some of the other, are pulled apart."""
    sources = _spectrograms(1, 2, 1, 17, 60, dtype=torch.complex128)
    steering = torch.tensor([[1.0, 0.2], [0.2, 1.0]], dtype=torch.complex128).reshape(1, 2, 2, 1, 1)
    targets = steering * sources
    rough = targets + 0.4 * targets.flip(1)
    before, after = (rough - targets).abs().mean(), (wiener(rough, targets.sum(1), 3) - targets).abs().mean()
    assert after < 0.5 * before


@pytest.mark.parametrize("level", [0.0, 1e-12, 1e6])
def test_the_filter_is_finite_at_any_level(level):
    estimates = level * _spectrograms(1, 2, 2, 9, 10)
    assert wiener(estimates, estimates.sum(1), 2).isfinite().all()


def test_items_and_windows_are_filtered_one_by_one():
    estimates = _spectrograms(2, 2, 2, 9, 10, dtype=torch.complex128)
    mixture = estimates.sum(1)
    whole = wiener(estimates, mixture, 2, 4)
    torch.testing.assert_close(whole[1:], wiener(estimates[1:], mixture[1:], 2, 4))
    torch.testing.assert_close(whole[..., 4:8], wiener(estimates[..., 4:8], mixture[..., 4:8], 2, None))


def _open_unmix(weights: dict[str, Tensor], magnitude: Tensor) -> Tensor:
    """Estimate a source's magnitudes (1, C, F, N) by a small Open-Unmix in evaluation, written down in full."""

    def norm(features: Tensor, name: str) -> Tensor:
        part = [weights[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return nn.functional.batch_norm(features, *part)

    n_used_bins, hidden = len(weights["input_mean"]), weights["fc1.weight"].shape[0]
    frames = magnitude[0].permute(2, 0, 1)  # (N, C, F)
    scaled = (frames[..., :n_used_bins] + weights["input_mean"]) * weights["input_scale"]
    encoded = torch.tanh(norm(scaled.flatten(1) @ weights["fc1.weight"].T, "bn1"))
    recurrence = nn.LSTM(hidden, hidden // 2, 3, bidirectional=True).eval()
    recurrence.load_state_dict({key[5:]: value for key, value in weights.items() if key.startswith("lstm.")})
    features = torch.cat([encoded, recurrence(encoded)[0]], -1) @ weights["fc2.weight"].T
    features = torch.relu(norm(features, "bn2")) @ weights["fc3.weight"].T
    mask = norm(features, "bn3").unflatten(1, frames.shape[1:])
    mask = torch.relu(mask * weights["output_scale"] + weights["output_mean"])
    return (mask * frames).permute(1, 2, 0)[None]


@pytest.fixture(scope="module")
def reference(reference_root) -> dict[str, Tensor]:
    """Input and outputs of openunmix 1.3.0's Separator, and the spectrograms that it hands to its filter."""
    folder = reference_root / "goldens" / "models" / "umx_separator"
    if not folder.is_dir():
        pytest.skip("the reference values of Open-Unmix are not there")
    with np.load(folder / "io.npz") as file:
        found = {name: torch.from_numpy(file[name]) for name in file.files}
    weights = load_file(folder / "weights.safetensors")
    window = torch.hann_window(1024)
    mixture = torch.stft(found["input"][0], 1024, 256, window=window, return_complex=True)[None]
    magnitudes = []
    for source in ("vocals", "drums"):
        prefix = f"target_models.{source}."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        magnitudes.append(_open_unmix(own, mixture.abs()))
    magnitude = torch.stack(magnitudes, 1).detach()
    shares = magnitude / (1e-10 + magnitude.sum(1, keepdim=True))
    found["mixture"] = mixture
    found["turned"] = torch.polar(magnitude, mixture.angle()[:, None].expand_as(magnitude))
    found["soft"] = shares * mixture[:, None]
    return found


def _waveforms(spectrogram: Tensor) -> Tensor:
    flat = torch.istft(spectrogram.flatten(0, 2), 1024, 256, window=torch.hann_window(1024), length=12000)
    return flat.unflatten(0, spectrogram.shape[:3])


@pytest.mark.parametrize(
    ("output", "start", "iterations", "window", "with_residual"),
    [
        ("output_niter0", "turned", 0, None, False),
        ("output_niter1", "turned", 1, 300, False),
        ("output_niter2", "turned", 2, 300, False),
        ("output_niter1_win40", "turned", 1, 40, False),
        ("output_niter1_soft", "soft", 1, 300, False),
        ("output_niter1_residual", "turned", 1, 300, True),
        ("output_niter2_winNone_residual", "turned", 2, None, True),
    ],
)
def test_the_filter_gives_the_estimates_of_open_unmix(reference, output, start, iterations, window, with_residual):
    estimates, mixture = reference[start], reference["mixture"]
    if with_residual:
        estimates = torch.cat([estimates, (mixture - estimates.sum(1)).unsqueeze(1)], 1)
    if iterations:
        estimates = wiener(estimates, mixture, iterations, window)
    # The reference's own float32 is 1.5e-5 from its float64 after two rounds, of estimates of 0.04 rms.
    torch.testing.assert_close(_waveforms(estimates), reference[output], rtol=0, atol=3e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("frames_first", [False, True], ids=["bins lie together", "frames lie together"])
def test_a_mask_is_applied_to_every_source_with_gradients_to_both(dtype, frames_first):
    generator = torch.Generator().manual_seed(0)
    mask = torch.randn(2, 3, 2, 4, 5, dtype=dtype, generator=generator)
    mixture = torch.randn(2, 2, 4, 5, dtype=torch.complex128, generator=generator)
    if frames_first:
        mask, mixture = (quantity.mT.contiguous().mT for quantity in (mask, mixture))
    torch.testing.assert_close(apply_mask(mask, mixture), mask * mixture[:, None])
    quantities = mask.detach().requires_grad_(), mixture.detach().requires_grad_()
    torch.autograd.gradcheck(apply_mask, quantities)


def test_a_masked_mixture_lies_in_memory_as_its_inverse_reads_it():
    mask, mixture = torch.rand(1, 1, 1, 4, 5).expand(2, 3, 2, 4, 5), torch.randn(2, 2, 4, 5, dtype=torch.complex64)
    assert apply_mask(mask, mixture).mT.is_contiguous()


def test_a_mask_in_half_precision_is_applied_in_the_precision_of_the_mixture():
    mask = torch.rand(2, 3, 2, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    masked = apply_mask(mask, torch.randn(2, 2, 4, 5, dtype=torch.complex64))
    assert masked.dtype == torch.complex64
    masked.abs().sum().backward()
    assert mask.grad.dtype == torch.bfloat16


class Panned(nn.Module):
    """Give the first source most of what is louder at the left, and the second of what is louder at the right."""

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        tilt = 0.5 * (mixture_spectrogram.abs() + 1e-6).log().diff(dim=1)  # (B, 1, F, N)
        return torch.stack([-tilt, tilt], 1).sigmoid().expand(-1, -1, 2, -1, -1)


def panned_sources(transform: STFT, length: int = 16384) -> Tensor:
    """One source at the left and one at the right, each in three of ten bins: (1, 2, 2, T)."""
    generator = torch.Generator().manual_seed(0)
    noise = transform(0.1 * torch.randn(2, length, generator=generator))
    sources = transform.inverse(noise * (torch.rand(noise.shape, generator=generator) < 0.3), length)
    return sources[None, :, None] * torch.tensor([[1.0, 0.3], [0.3, 1.0]])[None, :, :, None]


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_estimates_of_a_separation_improve_and_still_add_up_to_the_mixture(iterations):
    separator = Separator(
        ["left", "right"],
        {"class": "test_masks.Panned"},
        sample_rate=8000,
        transform={"class": "STFT", "n_fft": 512, "hop_length": 256},
    ).eval()
    targets = panned_sources(separator.transform)
    mixture = targets.sum(1)
    separation = separator.analyze(mixture, targets)
    refined = wiener(separation.estimate_spectrogram, separation.mixture_spectrogram, iterations)
    estimate = separator.transform.inverse(refined, mixture.shape[-1])
    assert (estimate.sum(1) - mixture).norm() < 1e-3 * mixture.norm()  # the models' constant takes of what is quiet
    before, after = (metrics.sdr(each, targets) for each in (separation.estimate, estimate))
    assert (after > before + 3 * iterations).all()
