"""What only SpectrogramNetSimple, SpectrogramNetLSTM and SpectrogramNetVAE have; test_models.py tests every network."""

import pytest
import torch
from judging import costs
from torch import Tensor, nn

from sepkit import models
from sepkit.instantiate import InstantiationError, instantiate
from sepkit.losses import kl_div_loss
from sepkit.models._bands import band_interpolation, triangular_bands
from sepkit.objective import Objective
from sepkit.separator import Separator

NAMES = ("SpectrogramNetSimple", "SpectrogramNetLSTM", "SpectrogramNetVAE")
RECURRENT = NAMES[1:]
MASKS = ("sigmoid", "softmax", "hardtanh", "relu", "tanh", "elu", "selu", "prelu")
every_net = pytest.mark.parametrize("name", NAMES)
every_recurrent_net = pytest.mark.parametrize("name", RECURRENT)
every_mask = pytest.mark.parametrize("mask_act_fn", MASKS)


def make(name: str, **arguments) -> nn.Module:
    torch.manual_seed(0)
    facts = {"n_sources": 2, "n_channels": 2, "n_bins": 65, "sample_rate": 16000, "hidden_channels": 2}
    if name in RECURRENT:
        facts |= {"hidden_size": 4, "recurrent_depth": 1}
    return getattr(models, name)(**{**facts, **arguments}).eval()


def noise(n_items: int = 2, n_channels: int = 2, n_bins: int = 65, n_frames: int = 70) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_items, n_channels, n_bins, n_frames, generator=generator, dtype=torch.complex64)


def mask_of(network: nn.Module, spectrogram: Tensor) -> Tensor:
    outputs = network(spectrogram)
    return outputs["mask"] if isinstance(outputs, dict) else outputs


def loud(name: str, mask_act_fn: str, **arguments) -> nn.Module:
    """Make a network whose last layer asks for extreme masks."""
    network = make(name, mask_act_fn=mask_act_fn, **arguments)
    with torch.no_grad():
        network.core.output.head.weight.mul_(100)
    return network


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Sizes


@every_net
@pytest.mark.parametrize("n_frames", [1, 2, 31, 33, 65])
@pytest.mark.parametrize("n_bins", [2, 33, 50, 129])
def test_any_number_of_bins_and_frames_passes(name, n_bins, n_frames):
    found = mask_of(make(name, n_bins=n_bins), noise(n_bins=n_bins, n_frames=n_frames))
    assert found.shape == (2, 2, 2, n_bins, n_frames)
    assert found.isfinite().all()


@every_net
@pytest.mark.parametrize("length", [1, 100, 3001])
def test_estimates_are_as_long_as_the_mixture(name, length):
    network = {"class": name, "hidden_channels": 1, **({"hidden_size": 2} if name in RECURRENT else {})}
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 16}
    separator = Separator(["vocals", "drums", "bass"], network, 8000, 2, 0.2, transform).eval()
    with torch.no_grad():
        assert separator(torch.randn(1, 2, length)).shape == (1, 3, 2, length)


# Items, levels and frames


@every_net
@pytest.mark.parametrize("training", [False, True])
def test_no_item_depends_on_another_in_training_either(name, training):
    network = make(name, dropout_p=0.0).train(training and name != "SpectrogramNetVAE")
    spectrogram = noise(3)
    changed = spectrogram.clone()
    changed[0] *= 100 * torch.randn(65, 70)
    found, expected = mask_of(network, changed), mask_of(network, spectrogram)
    assert not torch.allclose(found[0], expected[0])
    torch.testing.assert_close(found[1:], expected[1:])


@every_net
@pytest.mark.parametrize("n_bands", [None, 16])
@pytest.mark.parametrize("gain", [0.03, 30.0])
def test_normalised_input_makes_masks_independent_of_the_gain(name, gain, n_bands):
    spectrogram = noise()
    network = make(name, n_bands=n_bands)
    # Rounding of the level, seen through 30 layers.
    torch.testing.assert_close(
        mask_of(network, gain * spectrogram), mask_of(network, spectrogram), rtol=1e-3, atol=1e-4
    )
    network = make(name, n_bands=n_bands, normalize_input=False)
    assert (mask_of(network, gain * spectrogram) - mask_of(network, spectrogram)).abs().max() > 1e-3


@every_net
def test_normalised_input_learns_a_scale_and_a_shift_of_each_row(name):
    normalised, plain = (make(name, normalize_input=value) for value in (True, False))
    assert count(normalised) - count(plain) == 2 * 65
    assert {"core.input.scale", "core.input.shift"} <= set(normalised.state_dict())


@every_net
@pytest.mark.parametrize("n_bands", [None, 16])
def test_what_is_learned_starts_from_the_statistics_of_the_first_songs(name, n_bands):
    network = make(name, n_bands=n_bands)
    songs = [noise() * torch.logspace(-2, 1, 65)[:, None], 10 * noise(3)]
    network.fit(songs)
    rows = torch.cat([network.core.input(song.abs()) for song in songs])
    n_rows = n_bands or 65
    torch.testing.assert_close(rows.mean((0, 1, 3)), torch.zeros(n_rows), rtol=0, atol=1e-4)
    torch.testing.assert_close(rows.std((0, 1, 3), unbiased=False), torch.ones(n_rows), rtol=0, atol=1e-4)


@every_net
@pytest.mark.parametrize("normalize_input", [True, False])
@pytest.mark.parametrize("n_songs", [0, 1])
def test_nothing_is_measured_where_there_is_nothing_to_set_or_hear(name, normalize_input, n_songs):
    network = make(name, normalize_input=normalize_input)
    expected = mask_of(network, noise())
    network.fit([torch.zeros(1, 2, 65, 8, dtype=torch.complex64)] * n_songs)
    found = mask_of(network, noise())
    assert found.isfinite().all()
    assert torch.equal(found, expected) == (not (normalize_input and n_songs))


@every_net
def test_normalised_output_learns_a_scale_and_a_shift_of_each_source_and_bin(name):
    normalised, plain = (make(name, n_sources=3, normalize_output=value) for value in (True, False))
    assert count(normalised) - count(plain) == 2 * 3 * 65 - 3 * 2  # less the biases that the shift replaces
    with torch.no_grad():
        normalised.core.output.shift[1, :, 7] = 100
    found = mask_of(normalised, noise())
    assert (found[:, 1, :, 7] == 1).all()
    assert (found[:, [0, 2]] < 1).all()


@every_recurrent_net
def test_the_recurrence_runs_over_the_frames_in_both_directions(name):
    network = make(name)
    seen = []
    network.core.get_submodule("lowest").register_forward_hook(lambda _module, _inputs, found: seen.append(found[0]))
    spectrogram = noise(n_frames=320)
    changed = spectrogram.clone()
    changed[..., 160:164] *= torch.randn(4)
    network(spectrogram)
    network(changed)
    differs = (seen[0] - seen[1]).abs().amax((0, 1, 2))
    assert differs.shape == (10,)
    assert (differs > 0).all()


@every_recurrent_net
def test_a_single_item_is_recurred_over_as_long_as_it_lasts(name):
    network = make(name)
    recurrences = [module for module in network.modules() if isinstance(module, nn.LSTM)]
    shapes = []
    recurrences[0].register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape[:2]))
    network(noise(1, n_frames=320))
    assert len(recurrences) == 1
    assert recurrences[0].batch_first
    assert shapes == [(1, 10)]


# Arguments


@every_net
@every_mask
def test_every_mask_activation_is_its_own_and_learns(name, mask_act_fn):
    network = make(name, mask_act_fn=mask_act_fn, dropout_p=0.0).train()
    mask_of(network, noise()).square().mean().backward()
    dead = {
        key
        for key, parameter in network.named_parameters()
        if (parameter.grad is None or not parameter.grad.any()) and not key.endswith("activation.weight")
    }
    assert not dead


BOUNDS = {
    "sigmoid": (0, 1),
    "softmax": (0, 1),
    "hardtanh": (0, 1),
    "relu": (0, None),
    "tanh": (-1, 1),
    "elu": (-1, None),
    "selu": (-1.7581, None),
    "prelu": (None, None),
}


@pytest.mark.parametrize(("mask_act_fn", "bounds"), BOUNDS.items())
def test_masks_keep_within_their_bounds_and_use_them(mask_act_fn, bounds):
    found = mask_of(loud("SpectrogramNetSimple", mask_act_fn), noise())
    lowest, highest = bounds
    assert found.min() < (-2 if lowest is None else lowest + 0.01)
    assert found.max() > (2 if highest is None else highest - 0.01)
    assert lowest is None or found.min() >= lowest
    assert highest is None or found.max() <= highest


@pytest.mark.parametrize("mask_act_fn", ["relu", "elu", "selu", "prelu"])
def test_masks_above_one_are_not_clipped_and_still_learn(mask_act_fn):
    network = make("SpectrogramNetSimple", mask_act_fn=mask_act_fn)
    with torch.no_grad():
        network.core.output.shift.fill_(5.0)
        network.core.output.head.weight.zero_()
    found = network(noise())
    assert found.min() > 1
    found.sum().backward()
    assert network.core.output.shift.grad.all()


@pytest.mark.parametrize("n_sources", [1, 3])
def test_a_softmax_is_over_the_sources_and_a_rest_also_where_there_is_one_source_and_channel(n_sources):
    network = loud("SpectrogramNetSimple", "softmax", n_sources=n_sources, n_channels=1)
    shares = mask_of(network, noise(n_channels=1)).sum(1)
    assert shares.max() <= 1 + 1e-6
    assert shares.min() < 0.01


@every_net
def test_without_dropout_training_answers_as_evaluation(name):
    network = make(name, dropout_p=0.0, **({"recurrent_depth": 2} if name in RECURRENT else {}))
    expected = mask_of(network, noise())
    found = mask_of(network.train(), noise())
    if name == "SpectrogramNetVAE":
        assert not torch.equal(found, expected)  # the latent is drawn
    else:
        torch.testing.assert_close(found, expected)


@every_net
def test_dropout_acts_in_training_only(name):
    network = make(name, dropout_p=0.5)
    assert torch.equal(mask_of(network, noise()), mask_of(network, noise()))
    network.train()
    assert not torch.equal(mask_of(network, noise()), mask_of(network, noise()))
    rates = {module.p for module in network.modules() if isinstance(module, nn.Dropout2d)}
    assert rates == {0.0, 0.5}


@every_recurrent_net
def test_dropout_also_acts_between_recurrent_layers(name):
    (recurrence,) = (
        module for module in make(name, recurrent_depth=2, dropout_p=0.3).modules() if isinstance(module, nn.LSTM)
    )
    assert recurrence.dropout == 0.3


@every_net
@pytest.mark.parametrize(("leak_factor", "kind"), [(0.0, nn.SELU), (0.2, nn.LeakyReLU)])
def test_the_leak_chooses_the_activation_and_its_slope(name, leak_factor, kind):
    inner = [
        module for module in make(name, leak_factor=leak_factor).core.down.modules() if not list(module.children())
    ]
    activations = [module for module in inner if not isinstance(module, nn.Conv2d | nn.GroupNorm)]
    assert {type(module) for module in activations} == {kind}
    assert not leak_factor or {module.negative_slope for module in activations} == {leak_factor}


@every_net
def test_hidden_channels_are_the_maps_of_the_first_stage_and_double_downwards(name):
    network = make(name, hidden_channels=3)
    convolutions = [stage[0].out_channels for stage in network.core.down]
    assert convolutions == [3, 6, 12, 24, 48]


@every_recurrent_net
@pytest.mark.parametrize(("hidden_size", "recurrent_depth"), [(4, 1), (9, 3)])
def test_hidden_size_and_depth_are_the_recurrences(name, hidden_size, recurrent_depth):
    network = make(name, hidden_size=hidden_size, recurrent_depth=recurrent_depth)
    (recurrence,) = (module for module in network.modules() if isinstance(module, nn.LSTM))
    assert (recurrence.hidden_size, recurrence.num_layers) == (hidden_size, recurrent_depth)
    assert recurrence.bidirectional


@every_net
@pytest.mark.parametrize("n_bands", [None, 16])
def test_nothing_above_the_bandwidth_is_used_or_estimated(name, n_bands):
    network = make(name, bandwidth=4000, n_bands=n_bands)
    found = mask_of(network, noise())
    assert not found[:, :, :, 33:].any()
    assert found[:, :, :, :33].all()
    changed = noise()
    changed[:, :, 33:] = 0
    assert torch.equal(mask_of(network, changed), found)


@every_net
def test_bands_make_the_rows(name):
    sizes = []
    network = make(name, n_bands=16)
    network.core.down[0].register_forward_pre_hook(lambda _module, inputs: sizes.append(inputs[0].shape[2]))
    network(noise())
    assert sizes == [16]
    assert not [name for name in network.state_dict() if "bands" in name]


@pytest.mark.parametrize("n_bands", [2, 12, 128, 400])
@pytest.mark.parametrize("highest", [500, 8000, 22050])
def test_masks_between_bands_lie_on_straight_lines_between_their_centres(highest, n_bands):
    frequencies = torch.linspace(0, highest, 257, dtype=torch.float64)
    lines = band_interpolation(frequencies, n_bands)
    torch.testing.assert_close(lines.sum(1), torch.ones(257))
    assert lines.min() >= 0
    assert ((lines > 0).sum(1) <= 2).all()
    assert (lines.argmax(1).diff() >= 0).all()
    centres = triangular_bands(frequencies, n_bands).double() @ frequencies
    if n_bands == 12:  # wide bands, whose means are near their centres
        error = (lines.double() @ centres - frequencies.clamp(centres[0], centres[-1])).abs()
        assert (error <= 0.1 * frequencies + 0.02 * highest).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_act_fn": "abs"}, "mask_act_fn must be one of sigmoid, softmax, .*, got 'abs'"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"leak_factor": 1.0}, r"leak_factor must lie in \[0, 1\), got 1.0"),
        ({"leak_factor": -0.1}, r"leak_factor must lie in \[0, 1\), got -0.1"),
        ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\), got 1.0"),
        ({"bandwidth": 124}, r"bandwidth must lie in \[125, 8000\] Hz, got 124"),
        ({"bandwidth": 8001}, r"bandwidth must lie in \[125, 8000\] Hz, got 8001"),
        ({"n_bands": 1}, "n_bands must be at least 2, got 1"),
    ],
)
@every_net
def test_a_network_that_cannot_be_is_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(name, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recurrent_depth": 0}, "recurrent_depth and hidden_size must be at least 1, got 0 and 4"),
        ({"hidden_size": 0}, "recurrent_depth and hidden_size must be at least 1, got 1 and 0"),
        ({"input_axis": 1}, "input_axis must be 0, because the recurrence runs over the frames; .* got 1"),
        ({"input_axis": -1}, "input_axis must be 0, because the recurrence runs over the frames; .* got -1"),
    ],
)
@every_recurrent_net
def test_a_recurrence_that_cannot_be_is_refused_with_the_reason(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(name, **arguments)


@every_net
def test_an_unknown_argument_is_refused(name):
    facts = {"n_sources": 1, "n_channels": 1, "n_bins": 33, "sample_rate": 8000}
    with pytest.raises(InstantiationError, match=r"hiden_channels.*did you mean 'hidden_channels'"):
        instantiate({"class": name, "hiden_channels": 99}, "sepkit.models", facts)


# The latent


def test_evaluation_takes_the_latents_mean_and_training_draws_from_torchs_generator():
    network = make("SpectrogramNetVAE", dropout_p=0.0)
    assert torch.equal(mask_of(network, noise()), mask_of(network, noise()))
    network.train()
    torch.manual_seed(3)
    first, second = mask_of(network, noise()), mask_of(network, noise())
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(mask_of(network, noise()), first)


def test_the_latent_is_of_each_item_and_step_of_32_frames():
    outputs = make("SpectrogramNetVAE", hidden_size=5)(noise(3, n_frames=70))
    assert outputs["mu"].shape == outputs["sigma"].shape == (3, 3, 5)
    assert (outputs["sigma"] > 0).all()


@pytest.mark.parametrize("bias", [-1e6, 1e6])
def test_the_variance_is_clamped_so_that_nothing_overflows(bias):
    network = make("SpectrogramNetVAE").train()
    with torch.no_grad():
        network.core.lowest.log_variance.bias.fill_(bias)
    outputs = network(noise())
    assert outputs["sigma"].log().abs().max() <= 5 + 1e-5
    loss = outputs["mask"].mean() + kl_div_loss(outputs["mu"], outputs["sigma"])
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.fixture
def variational() -> Separator:
    torch.manual_seed(0)
    network = {"class": "SpectrogramNetVAE", "hidden_channels": 2, "hidden_size": 4, "recurrent_depth": 1}
    return Separator(["vocals", "drums"], network, 8000, 2, 0.2, {"class": "STFT", "n_fft": 64, "hop_length": 16})


TERMS = [
    {"class": "RelativeSpectralLoss", "name": "spectra"},
    {"class": "KLDivergenceLoss", "name": "kl", "weight": {"from": 0, "to": 0.1, "epochs": 10}},
]


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.0), (5, 0.05), (20, 0.1)])
def test_the_divergence_counts_each_item_once_and_warms_up(variational, epoch, weight):
    separation = variational.analyze(torch.randn(3, 2, 1600), torch.randn(3, 2, 2, 1600))
    present = torch.tensor([[True, True], [True, False], [False, False]])
    report = costs(Objective(TERMS, variational), separation, present, epoch)
    expected = kl_div_loss(separation.mu, separation.sigma, reduction="none")[:2].mean()
    torch.testing.assert_close(report["kl"], expected.detach())
    torch.testing.assert_close(report["loss"].detach(), report["spectra"] + weight * report["kl"])


def test_the_divergence_falls_in_training(variational):
    objective = Objective([{**TERMS[1], "weight": 1.0}], variational)
    optimizer = torch.optim.AdamW(variational.network.core.lowest.parameters(), lr=1e-3)
    mixture, targets = torch.randn(2, 2, 1600), torch.randn(2, 2, 2, 1600)
    found = []
    for _ in range(30):
        report = costs(objective, variational.analyze(mixture, targets))
        optimizer.zero_grad()
        report["loss"].backward()
        optimizer.step()
        found.append(report["kl"].item())
    assert found[-1] < 0.5 * found[0]
