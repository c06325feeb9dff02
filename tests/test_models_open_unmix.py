"""OpenUnmix gives what openunmix gives, and its weights are taken over tensor by tensor."""

import numpy as np
import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported
from safetensors.torch import load_file
from torch import Tensor

from sepkit import models
from sepkit.importing import open_unmix
from sepkit.separator import Separator
from sepkit.transforms import absolute

SEPARATOR = {"sample_rate": 44100, "n_fft": 1024, "n_hop": 256, "nb_channels": 2, "segment": 6.0}


@pytest.fixture(scope="module")
def whole(reference_root) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of openunmix' Separator, and its input and outputs."""
    folder = reference_root / "goldens" / "models" / "umx_separator"
    if not folder.is_dir():
        pytest.skip("the reference values of Open-Unmix are not there")
    with np.load(folder / "io.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    return load_file(folder / "weights.safetensors"), arrays


def build(**arguments) -> models.OpenUnmix:
    torch.manual_seed(0)
    return models.OpenUnmix(2, 2, 33, 16000, **{"hidden_size": 8, **arguments})


def noise(n_items: int = 2, n_frames: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_items, 2, 33, n_frames, generator=generator, dtype=torch.complex64).abs()


def tensors_of(*targets: str, **arguments) -> dict[str, Tensor]:
    """Weights of a small network in openunmix' names, of one target where none is named."""
    state = build(n_layers=2, **arguments).core[0].state_dict()
    original = {
        name: ".".join([open_unmix._ORIGINAL[part], *rest]) for name in state for part, *rest in [name.split(".")]
    }
    starts = [f"target_models.{target}." for target in targets] or [""]
    return {f"{start}{original[name]}": tensor for start in starts for name, tensor in state.items()}


CONFIG = {"sample_rate": 16000, "n_hop": 32, "segment": 1, "sources": ["vocals"]}


# As published


def test_a_target_gives_the_magnitudes_of_openunmix(reference_root):
    golden = read_golden(reference_root, "umx")
    config = {**golden.config["kwargs"], "sample_rate": 44100, "n_hop": 1024, "segment": 6.0, "sources": ["vocals"]}
    separator = build_imported(open_unmix, golden.tensors, config)
    magnitude = golden.input
    with torch.no_grad():
        mask = separator.network(magnitude)[:, 0]
    assert snr(mask * magnitude, golden.output) > 90


def test_a_separator_gives_the_waveforms_of_openunmix(whole):
    tensors, arrays = whole
    separator = build_imported(open_unmix, tensors, {**SEPARATOR, "sources": ["vocals", "drums"]})
    with torch.no_grad():
        found = separator(arrays["input"])  # 46.9 hops
    assert snr(found, arrays["output_niter0"]) > 90


def test_sources_are_taken_in_the_order_of_the_config(whole):
    tensors, arrays = whole
    separator = build_imported(open_unmix, tensors, {**SEPARATOR, "sources": ["drums", "vocals"]})
    with torch.no_grad():
        assert snr(separator(arrays["input"]).flip(1), arrays["output_niter0"]) > 90


# Its own


def test_what_is_above_the_bandwidth_is_not_used_but_estimated():
    network, spectrogram = build(bandwidth=4000).eval(), noise()
    changed = spectrogram.clone()
    changed[:, :, 17:] = 0
    assert torch.equal(network(spectrogram), network(changed))
    assert network(spectrogram)[:, :, :, 17:].any()


@pytest.mark.parametrize(("bidirectional", "lookahead"), [(True, None), (False, 0)])
def test_it_looks_ahead_as_far_as_it_says(bidirectional, lookahead):
    network, spectrogram = build(bidirectional=bidirectional).eval(), noise()
    changed = spectrogram.clone()
    changed[..., 6:] = 0
    differs = (network(changed) - network(spectrogram)).abs().amax((0, 1, 2, 3)) > 0
    assert network.lookahead == lookahead
    assert bool(differs[:6].any()) is (lookahead is None)
    assert differs[6:].any()


def test_fit_standardises_each_bin():
    network = build(bandwidth=4000)
    levels = torch.linspace(0.1, 3, 33)[:, None]
    spectrograms = [level * levels * noise().to(torch.complex64) for level in (0.5, 1.0)]
    network.fit(spectrograms)
    magnitudes = torch.cat([spectrogram.abs().mean(1)[:, :17] for spectrogram in spectrograms])
    for source in network.core:
        standardised = (magnitudes - source.mean[:, None]) * source.scale[:, None]
        torch.testing.assert_close(standardised.mean((0, 2)), torch.zeros(17), rtol=0, atol=1e-5)
        torch.testing.assert_close(standardised.std((0, 2), unbiased=False), torch.ones(17), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spectrograms", [[], [torch.zeros(1, 2, 33, 4, dtype=torch.complex64)]])
def test_fit_on_nothing_or_silence_stays_finite(spectrograms):
    network = build()
    network.fit(spectrograms)
    assert network.eval()(noise()).isfinite().all()


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_magnitudes_are_absolute_values(level, with_gradient):
    spectrogram = level * torch.randn(2, 33, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    found = absolute(spectrogram.requires_grad_(with_gradient))
    torch.testing.assert_close(found, spectrogram.abs())
    assert found.requires_grad is with_gradient


def test_bins_are_standardised_and_mean_and_scale_learn():
    source = build(dropout=0.0).core[0].eval()
    bins = noise().permute(0, 3, 1, 2).flatten(2)
    mean, scale = torch.linspace(0.5, 1.5, 33), torch.linspace(2, 0.5, 33)
    expected = source((bins - mean.repeat(2)) * scale.repeat(2))
    wanted = torch.autograd.functional.jacobian(lambda x: source((bins - x.repeat(2)) * scale.repeat(2)).sum(), mean)
    source.mean.data, source.scale.data = mean, scale
    found = source(bins)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.sum(), source.mean)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("magnitude", "message"),
    [
        (
            torch.zeros(1, 2, 33, 4, dtype=torch.complex64),
            r"magnitude must be real \(B, 2, 33, N\) .* got torch.complex64",
        ),
        (
            torch.zeros(1, 2, 33, 0),
            r"magnitude must be real .* with at least one frame, got torch.float32 \(1, 2, 33, 0\)",
        ),
        (
            torch.zeros(1, 2, 33, 4).double(),
            "magnitude must be of the weights' type .* got torch.float64 on cpu: convert",
        ),
    ],
)
def test_a_magnitude_that_does_not_fit_is_refused(magnitude, message):
    with pytest.raises(ValueError, match=message):
        build()(magnitude)


def test_a_batch_is_counted_in_training_alone():
    network = build()
    network(noise())
    assert all(source.decode_norm.num_batches_tracked == 1 for source in network.core)
    assert all(source.decode_norm.running_mean.any() for source in network.core)
    network.eval()(noise())
    assert all(source.decode_norm.num_batches_tracked == 1 for source in network.core)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 7}, "hidden_size must be even and at least 2, got 7"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"n_layers": 1}, r"dropout must lie in \[0, 1\), and be 0 where n_layers is 1, got 0.4"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), .* got 1.0"),
        ({"bandwidth": 100}, "bandwidth must be at least a bin's, 250 Hz, got 100"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


# Import


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("bandwidth", [None, 4000])
def test_settings_follow_from_the_weights_of_a_target(bidirectional, bandwidth):
    tensors = tensors_of(bidirectional=bidirectional, bandwidth=bandwidth)
    separator = build_imported(open_unmix, tensors, CONFIG)
    assert separator.network.n_used_bins == (33 if bandwidth is None else 17)
    assert separator.settings["transform"]["n_fft"] == 64
    assert (separator.network.lookahead is None) is bidirectional


def test_what_old_files_hold_besides_is_left_out():
    tensors = {**tensors_of(), "sample_rate": torch.tensor(16000.0), "transform.0.window": torch.ones(64)}
    assert build_imported(open_unmix, tensors, CONFIG).sources == ["vocals"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_hop": None}, "config must state n_hop, which the tensors cannot tell"),
        ({"sample_rate": None}, "config must state sample_rate, which"),
        ({"segment": None}, "config must state segment, which"),
        ({"sources": None}, "config must state sources, which"),
        ({"sources": ["vocals", "drums"]}, "sources must be one, as the tensors have it, got vocals, drums"),
        ({"hidden_size": 16}, "hidden_size must be 8, as the tensors have it, got 16 in the config"),
        ({"nfft": 128}, "nfft must be 64, as the tensors have it, got 128"),
        ({"nb_channels": 1}, "nb_channels must be 2, as the tensors have it, got 1"),
        ({"unidirectional": True}, "unidirectional must be False, as the tensors have it, got True"),
        ({"max_bin": 20}, "max_bin must be 33, as the tensors have it, got 20"),
    ],
)
def test_a_config_that_does_not_go_with_the_weights_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        open_unmix.settings(tensors_of(), {**CONFIG, **config})


def test_sources_that_the_weights_do_not_have_are_refused():
    with pytest.raises(ValueError, match="sources must be drums, vocals, as the tensors have it, got bass, v"):
        open_unmix.settings(tensors_of("drums", "vocals"), {**CONFIG, "sources": ["bass", "vocals"]})


def test_a_tensor_too_many_or_too_few_is_named():
    tensors = tensors_of()
    settings = open_unmix.settings(tensors, CONFIG)
    tensors["fc4.weight"] = tensors.pop("fc2.weight")
    with pytest.raises(ValueError, match=r"one for one: fc2\.weight is missing, fc4\.weight is too many"):
        open_unmix.convert(tensors, settings)


@pytest.mark.parametrize("tensors", [{}, {"fc1.weight": torch.ones(1)}, {"input_mean": torch.ones(1)}])
def test_other_weights_are_not_taken_for_open_unmix(tensors):
    assert not open_unmix.detect(tensors)


def test_it_learns():
    torch.manual_seed(0)
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 32}
    network = {"class": "OpenUnmix", "hidden_size": 8, "n_layers": 1, "dropout": 0.0}
    separator = Separator(["voice"], network, 16000, 1, 0.1, transform)
    optimizer = torch.optim.Adam(separator.parameters(), 1e-2)
    target = torch.sin(torch.arange(1600) / 5).expand(4, 1, 1, -1)
    mixture = target[:, 0] + torch.randn(4, 1, 1600)
    losses = []
    for _ in range(20):
        separation = separator.analyze(mixture, target)
        losses.append((separation.estimate_magnitude - separation.target_magnitude).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_tensor_of_other_dimensions_is_named():
    tensors = {**tensors_of(), "input_mean": torch.ones(2, 2, 2, 2)}
    with pytest.raises(ValueError, match=r"input_mean must have 1 dimensions with values, got \(2, 2, 2, 2\)"):
        open_unmix.settings(tensors, CONFIG)
