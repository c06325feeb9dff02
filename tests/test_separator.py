"""The Separator: rebuilt from plain data, shapes checked at the door, quantities derived once and only when asked."""

import copy
import json

import pytest
import torch
from judging import costs
from torch import Tensor, nn

from sepkit.instantiate import InstantiationError
from sepkit.objective import Objective
from sepkit.quantities import QUANTITIES
from sepkit.separator import Separator
from sepkit.transforms import STFT


class Scale(nn.Module):
    """Give every source the same constant mask."""

    def __init__(self, n_sources: int, gain: float = 0.5):
        super().__init__()
        self.n_sources = n_sources
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        shape = (len(mixture_spectrogram), self.n_sources, *mixture_spectrogram.shape[1:])
        return self.gain.expand(shape)


class OfMagnitudes(Scale):
    def forward(self, mixture_magnitude: Tensor) -> Tensor:
        return super().forward(mixture_magnitude)


class HalfPrecision(Scale):
    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram).half()


class Spectrum(Scale):
    outputs = ("spectrum",)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram) * mixture_spectrogram.unsqueeze(1)


class Turning(Scale):
    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram) * 1j


class Variational(Scale):
    outputs = {"mask": "source", "mu": "item", "sigma": "item"}  # noqa: RUF012

    def forward(self, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        mu = mixture_spectrogram.abs().mean((1, 2, 3))
        return {"mask": super().forward(mixture_spectrogram), "mu": mu, "sigma": mu + 1}


class Fours(Scale):
    frame_multiple = 4

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        assert mixture_spectrogram.shape[-1] % 4 == 0
        return super().forward(mixture_spectrogram)


class WithoutSources(Scale):
    """Forget the dimension of the sources."""

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return self.gain.expand(mixture_spectrogram.shape)


class Silent(Variational):
    """Return less than is declared."""

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram)["mask"]


class Nameless(Scale):
    outputs = ("mu",)


class Both(Scale):
    outputs = ("mask", "spectrum")


SMALL = {"class": "BLSTM", "hidden_size": 8, "n_layers": 1, "n_bands": 12}
HOPS = {"hop_length": 16, "window_size": 64}
TRANSFORM = {"class": "STFT", "n_fft": 64, "hop_length": 16}


def make(network: type | dict = Scale, n_sources: int = 2, n_channels: int = 2, **changes) -> Separator:
    torch.manual_seed(0)
    network = network if isinstance(network, dict) else {"class": f"{__name__}.{network.__name__}"}
    sources = ["vocals", "drums", "bass", "other"][:n_sources]
    settings = {"sample_rate": 8000, "n_channels": n_channels, "segment": 0.5, "transform": TRANSFORM, **changes}
    return Separator(**{"sources": sources, "network": network, **settings})


def sound(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Counting(nn.Module):
    """Count what is asked of a transform."""

    def __init__(self, transform: nn.Module):
        super().__init__()
        self.transform, self.calls = transform, []
        self.n_bins, self.padded_length = transform.n_bins, transform.padded_length

    def forward(self, waveform: Tensor) -> Tensor:
        self.calls.append("forward")
        return self.transform(waveform)

    def inverse(self, spectrogram: Tensor, length: int) -> Tensor:
        self.calls.append("inverse")
        return self.transform.inverse(spectrogram, length)


@pytest.fixture
def counted() -> Separator:
    separator = make()
    separator.transform = Counting(separator.transform)
    return separator


# Plain data


@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_separator_is_rebuilt_from_its_settings_and_state(n_channels):
    separator = make(SMALL, 3, n_channels).eval()
    settings = json.loads(json.dumps(separator.settings))
    torch.manual_seed(1)
    rebuilt = Separator(**settings).eval()
    rebuilt.load_state_dict(separator.state_dict())
    assert rebuilt.settings == separator.settings
    mixture = sound(2, n_channels, 300)
    assert torch.equal(rebuilt(mixture), separator(mixture))


def test_settings_are_what_was_given_with_the_defaults_filled_in():
    assert Separator(["vocals"], SMALL).settings == {
        "sources": ["vocals"],
        "sample_rate": 44100,
        "n_channels": 2,
        "segment": 3.0,
        "transform": {"class": "STFT"},
        "network": SMALL,
        "postfilter": None,
        "normalize": None,
        "chunking": None,
        "residual": None,
    }


def test_settings_can_be_changed_without_changing_the_separator():
    given = {"class": f"{__name__}.Scale", "gain": 0.25}
    separator = make(given)
    given["gain"] = 1.0
    separator.settings["network"]["gain"] = 2.0
    separator.settings["sources"].append("more")
    assert separator.settings["network"]["gain"] == 0.25
    assert separator.sources == ["vocals", "drums"]


def test_a_copy_separates_alike_and_shares_nothing():
    separator = make()
    duplicate = copy.deepcopy(separator)
    with torch.no_grad():
        duplicate.network.gain.zero_()
    mixture = sound(1, 2, 100)
    assert separator(mixture).abs().max() > 0
    assert duplicate(mixture).abs().max() == 0
    assert duplicate.n_parameters == separator.n_parameters == 1


def test_all_that_is_wrong_with_sources_and_numbers_is_listed_at_once_with_its_place():
    settings = {"sources": ["bass", 3, "a/b"], "sample_rate": 44.1, "n_channels": True, "segment": float("inf")}
    assert [str(problem) for problem in Separator.problems(settings)] == [
        "sources.1: must be a name, got 3",
        "sources.2: a source must be a name that files can have, got 'a/b'",
        "sample_rate: must be a whole number, at least 1, got 44.1",
        "n_channels: must be a whole number, at least 1, got true",
        "segment: must be a finite number of seconds above 0, got inf",
    ]
    assert Separator.problems({}) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, r"sources: must be a list of names, at least one, got \[\]"),
        ({"sources": "vocals"}, "sources: must be a list of names, at least one, got 'vocals'"),
        ({"sources": ["bass", "bass"]}, r"sources.1: each source must be named once, got 'bass' again"),
        ({"sources": ["../bass"]}, r"sources.0: a source must be a name that files can have, got '../bass'"),
        ({"sources": ["bass/low"]}, "sources.0: a source must be a name that files can have, got 'bass/low'"),
        ({"sources": [" "]}, "sources.0: a source must be a name that files can have, got ' '"),
        ({"sources": ["mixture"]}, "sources.0: 'mixture' is what the sources are separated from"),
        ({"sample_rate": 0}, "sample_rate: must be a whole number, at least 1, got 0"),
        ({"n_channels": 0}, "n_channels: must be a whole number, at least 1, got 0"),
        ({"segment": 0.0}, "segment: must be a finite number of seconds above 0, got 0.0"),
        (
            {"transform": {"class": "sepkit.auralflow.AudioTransform", "num_fft": 64, **HOPS}},
            "transform must have n_bins, n_frames, padded_length, inverse, as STFT has, got AudioTransform",
        ),
        (
            {"network": {"class": f"{__name__}.Nameless"}},
            "network must have either mask or spectrum among its outputs, .* or estimate, got Nameless with mu",
        ),
        (
            {"network": {"class": f"{__name__}.Both"}},
            "network must have either mask or spectrum .* got Both with mask, spec",
        ),
    ],
)
def test_a_separator_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


class Learned(STFT):
    """Complex, as a transform must be; its bins are scaled by what is learned."""

    def __init__(self) -> None:
        super().__init__(64, 16)
        self.scale = nn.Parameter(torch.ones(self.n_bins, 1))

    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(waveform) * self.scale


class LearnedFilters(STFT):
    """Real, as the encoder of a time-domain network gives it."""

    def __init__(self) -> None:
        super().__init__(64, 16)
        self.filters = nn.Conv1d(1, self.n_bins, 16, 16)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.filters(waveform[..., None, :].flatten(0, -3)).unflatten(0, waveform.shape[:-1])


class Magnitudes(STFT):
    def forward(self, waveform: Tensor) -> Tensor:
        return super().forward(waveform).abs()


class Halved(STFT):
    """Declares other bins than it gives."""

    n_bins = 17


class Analytic(STFT):
    def inverse(self, spectrogram: Tensor, length: int | None = None) -> Tensor:
        return super().inverse(spectrogram, length) + 0j


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (LearnedFilters, r"transform must turn \(2, T\) into complex \(2, 33, N\), as STFT does, got torch.float32"),
        (Magnitudes, r"transform must turn \(2, T\) into complex \(2, 33, N\), .* got torch.float32 \(2, 33, 2\)"),
        (Halved, r"transform must turn \(2, T\) into complex \(2, 17, N\), .* got torch.complex64 \(2, 33, 2\)"),
        (Analytic, r"inverse\(spectrogram, T\) must give a real \(2, T\), got torch.complex64 \(2, 1\)"),
    ],
)
def test_a_transform_that_could_not_be_trained_with_is_refused(transform, message):
    options = {} if transform is LearnedFilters else {"n_fft": 64, "hop_length": 16}
    with pytest.raises(ValueError, match=message):
        make(transform={"class": f"{__name__}.{transform.__name__}", **options})


def test_a_learned_complex_transform_is_trained():
    separator = make(transform={"class": f"{__name__}.Learned"})
    separator.analyze(sound(1, 2, 300)).estimate.square().sum().backward()
    assert separator.transform.scale.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_weights_of_another_type_than_the_mixture_are_named(dtype):
    separator = make(SMALL)
    mixture = sound(1, 2, 300).to(torch.float64) if dtype == torch.float64 else sound(1, 2, 300)
    if dtype == torch.float16:
        separator.half()
    with pytest.raises(ValueError, match=r"must be of the weights' type and on their device, torch\.float"):
        separator(mixture)


def test_a_numpy_mixture_is_refused_with_the_remedy():
    with pytest.raises(TypeError, match=r"mixture must be a tensor, got ndarray: convert it with torch\.from_numpy"):
        make()(sound(1, 2, 300).numpy())


def test_classes_from_elsewhere_need_trust():
    with pytest.raises(InstantiationError, match="is not one of sepkit's own networks, transforms and filters"):
        make(trusted=False)


# Shapes


@pytest.mark.parametrize("network", [Scale, Spectrum, Variational, Fours, HalfPrecision, SMALL], ids=str)
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 100, 1000])
@pytest.mark.parametrize(("n_items", "n_sources", "n_channels"), [(1, 1, 1), (2, 2, 2), (3, 2, 1)])
def test_estimates_are_as_long_as_the_mixture(network, length, n_items, n_sources, n_channels):
    separator = make(network, n_sources, n_channels)
    estimate = separator(sound(n_items, n_channels, length))
    assert estimate.shape == (n_items, n_sources, n_channels, length)
    assert estimate.dtype is torch.float32
    assert estimate.isfinite().all()


@pytest.mark.parametrize("network", [Scale, Spectrum, Variational, Fours, HalfPrecision])
@pytest.mark.parametrize("length", [1, 17, 1000])
def test_a_constant_mask_scales_the_mixture(network, length):
    mixture = sound(2, 2, length)
    expected = 0.5 * mixture[:, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(make(network)(mixture), expected, rtol=0, atol=1e-5)


def test_double_precision_is_kept():
    mixture = sound(2, 2, 100).double()
    torch.testing.assert_close(make()(mixture)[:, 0], 0.5 * mixture, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_sources", [1, 2])
def test_a_mask_without_sources_is_refused_even_where_it_would_broadcast(n_sources):
    with pytest.raises(ValueError, match=rf"must return a mask \(2, {n_sources}, 2, 33, 8\), got \(2, 2, 33, 8\)"):
        make(WithoutSources, n_sources)(sound(2, 2, 100))


def test_a_network_that_returns_less_than_it_declares_is_refused():
    with pytest.raises(ValueError, match="must return what it declares in `outputs`, mask, mu, sigma, got mask"):
        make(Silent)(sound(1, 2, 100))


@pytest.mark.parametrize(
    ("mixture", "targets", "message"),
    [
        ((2, 100), None, r"mixture must be \(B, 2, T >= 1\), got \(2, 100\)"),
        ((2, 1, 100), None, r"mixture must be \(B, 2, T >= 1\), got \(2, 1, 100\)"),
        ((2, 2, 0), None, r"mixture must be \(B, 2, T >= 1\), got \(2, 2, 0\)"),
        ((2, 2, 100), (2, 2, 100), r"targets must be \(2, 2, 2, 100\) for this mixture, got \(2, 2, 100\)"),
        ((2, 2, 100), (2, 1, 2, 100), r"targets must be \(2, 2, 2, 100\) .* got \(2, 1, 2, 100\)"),
        ((2, 2, 100), (2, 2, 2, 99), r"targets must be \(2, 2, 2, 100\) .* got \(2, 2, 2, 99\)"),
    ],
)
def test_other_shapes_are_refused(mixture, targets, message):
    with pytest.raises(ValueError, match=message):
        make().analyze(sound(*mixture), None if targets is None else sound(*targets))


# Quantities


@pytest.mark.parametrize("network", [Scale, Turning, SMALL], ids=str)
@pytest.mark.parametrize("name", QUANTITIES)
def test_every_quantity_is_there_with_its_shape(network, name):
    separation = make(network).analyze(sound(3, 2, 100), sound(3, 2, 2, 100, seed=1))
    leading = (3, 2, 2) if QUANTITIES[name] == "source" else (3, 2)
    trailing = (100,) if name in ("mixture", "estimate", "target") else (33, 8)
    assert getattr(separation, name).shape == (*leading, *trailing)


def test_nothing_is_transformed_twice_or_without_need(counted):
    mixture, targets = sound(2, 2, 100), sound(2, 2, 2, 100, seed=1)
    separation = counted.analyze(mixture, targets)
    assert counted.transform.calls == ["forward"]
    for name in ("mask", "mixture_magnitude", "estimate_magnitude", "estimate_spectrogram"):
        assert getattr(separation, name) is getattr(separation, name)
    assert counted.transform.calls == ["forward"]
    for name in ("target_magnitude", "target_spectrogram", "interference_magnitude"):
        assert getattr(separation, name) is getattr(separation, name)
    assert counted.transform.calls == ["forward", "forward"]
    assert separation.estimate is separation.estimate
    assert counted.transform.calls == ["forward", "forward", "inverse"]


@pytest.mark.parametrize(("losses", "calls"), [(["L1Loss"], ["forward"] * 2), (["L1SNRLoss"], ["forward", "inverse"])])
def test_losses_pay_only_for_the_domain_that_they_compare(counted, losses, calls):
    objective = Objective([{"class": name} for name in losses], counted)
    costs(objective, counted.analyze(sound(2, 2, 100), sound(2, 2, 2, 100, seed=1)))
    assert counted.transform.calls == calls


@pytest.mark.parametrize("judged", [[0], [1], [0, 1]], ids=str)
def test_the_gradient_of_single_sources_is_put_together(judged):
    separation = make(SMALL).analyze(sound(3, 2, 100), sound(3, 2, 2, 100, seed=1))
    whole = separation.estimate_spectrogram
    gradients = []
    whole.register_hook(gradients.append)
    sum(separation.by_source("estimate_spectrogram")[i].abs().square().sum() for i in judged).backward()
    expected = torch.zeros_like(whole)
    expected[:, judged] = 2 * whole.detach()[:, judged]
    assert len(gradients) == 1
    torch.testing.assert_close(gradients[0], expected)


@pytest.mark.parametrize("network", [Scale, Turning, Spectrum, HalfPrecision, SMALL], ids=str)
@pytest.mark.parametrize("first", ["estimate", "estimate_spectrogram"])
def test_estimates_without_gradient_source_by_source_are_those_with_gradient(network, first):
    separator, mixture = make(network, n_sources=3), sound(2, 2, 100)
    with torch.no_grad():
        separation = separator.analyze(mixture)
        getattr(separation, first)
        found = separation.estimate
    torch.testing.assert_close(found, separator.analyze(mixture).estimate.detach())


WANTED = [
    ("estimate_magnitude", "target_magnitude"),
    ("interference_magnitude",),
    ("estimate",),
    ("target_spectrogram",),
]


@pytest.mark.parametrize("network", [Scale, OfMagnitudes, Turning, Spectrum, HalfPrecision, SMALL], ids=str)
@pytest.mark.parametrize("wanted", WANTED, ids=" ".join)
@pytest.mark.parametrize("differentiated", [False, True])
def test_quantities_are_the_same_whichever_are_wanted(network, wanted, differentiated):
    separator, targets = make(network), sound(3, 2, 2, 100, seed=1)
    mixture = sound(3, 2, 100).requires_grad_(differentiated)
    kept, found = separator.analyze(mixture, targets), separator.analyze(mixture, targets, wanted=wanted)
    for quantity in (*wanted, *QUANTITIES):
        if quantity != "mask" or "mask" in separator.facts.outputs:
            torch.testing.assert_close(getattr(found, quantity), getattr(kept, quantity))


@pytest.mark.parametrize("network", [OfMagnitudes, Scale])
def test_a_spectrogram_is_not_kept_where_its_magnitude_is_all_that_is_wanted(network):
    found = make(network).analyze(sound(2, 2, 100), sound(2, 2, 2, 100, seed=1), wanted=["target_magnitude"])
    assert found.bins == found.mixture_magnitude.shape[1:]
    assert found.target_magnitude.mT.is_contiguous()  # as a spectrogram lies
    assert ("mixture_spectrogram" in vars(found)) == (network is Scale)  # which takes it
    assert "target_spectrogram" not in vars(found)


@pytest.mark.parametrize("gain", [-0.5, 0.0, 2.0])
def test_the_gradient_of_a_masked_magnitude_is_that_of_the_product(gain):
    network, mixture = {"class": f"{__name__}.OfMagnitudes", "gain": gain}, sound(2, 2, 100)
    gradients = []
    for given in (mixture, mixture.clone().requires_grad_()):
        separator = make(network)
        found = separator.analyze(given)
        weights = sound(*found.estimate_magnitude.shape, seed=2)
        (found.estimate_magnitude * weights).sum().backward()
        expected = (separator.network.gain.detach().sgn() * found.mixture_magnitude.unsqueeze(1) * weights).sum()
        torch.testing.assert_close(separator.network.gain.grad, expected.detach())
        gradients.append(given.grad)
    weights = weights.sum(1).detach() * abs(gain)
    again = mixture.clone().requires_grad_()
    (make(network).transform(again).abs() * weights).sum().backward()
    torch.testing.assert_close(gradients[1], again.grad)


def test_quantities_are_what_their_names_say():
    mixture, targets = sound(2, 2, 100), sound(2, 2, 2, 100, seed=1)
    separator = make()
    found = separator.analyze(mixture, targets)
    torch.testing.assert_close(found.mixture_magnitude, separator.transform(mixture).abs())
    torch.testing.assert_close(found.target_magnitude, separator.transform(targets).abs())
    torch.testing.assert_close(
        found.estimate_spectrogram, 0.5 * separator.transform(mixture)[:, None].expand(-1, 2, -1, -1, -1)
    )
    torch.testing.assert_close(found.estimate_magnitude, found.estimate_spectrogram.abs())
    torch.testing.assert_close(found.estimate, separator(mixture))


def test_the_residual_is_signed():
    mixture = sound(1, 2, 100)
    targets = torch.stack([2 * mixture, 0 * mixture], 1)
    found = make().analyze(mixture, targets)
    torch.testing.assert_close(found.interference_magnitude[:, 0], -found.mixture_magnitude)
    torch.testing.assert_close(found.interference_magnitude[:, 1], found.mixture_magnitude)


def test_a_negative_mask_turns_the_sign_but_not_the_magnitude():
    found = make({"class": f"{__name__}.Scale", "gain": -0.5}).analyze(sound(1, 2, 100))
    torch.testing.assert_close(found.estimate[:, 0], -0.5 * found.mixture)
    torch.testing.assert_close(found.estimate_magnitude[:, 0], 0.5 * found.mixture_magnitude)


def test_a_complex_mask_turns_the_phase():
    found = make(Turning).analyze(sound(1, 2, 100))
    torch.testing.assert_close(found.estimate_spectrogram[:, 0], 0.5j * found.mixture_spectrogram)


def test_a_network_may_estimate_spectra():
    found = make(Spectrum).analyze(sound(1, 2, 100))
    torch.testing.assert_close(found.estimate_spectrogram[:, 0], 0.5 * found.mixture_spectrogram)
    torch.testing.assert_close(found.estimate_magnitude[:, 0], 0.5 * found.mixture_magnitude)
    assert not hasattr(found, "mask")


def test_a_network_may_return_auxiliary_outputs():
    found = make(Variational).analyze(sound(3, 2, 100))
    assert found.mu.shape == found.sigma.shape == (3,)


def test_frames_are_padded_to_what_the_network_asks_for():
    separator = make(Fours)
    mixture = sound(1, 2, 100)
    assert separator.spectrogram(mixture).shape[-1] == 8
    assert separator.spectrogram(sound(1, 2, 113)).shape[-1] == 12
    assert separator.analyze(mixture, sound(1, 2, 2, 100)).target_spectrogram.shape[-1] == 8


def test_targets_are_asked_for_by_name():
    with pytest.raises(ValueError, match="this separation has no targets: give them to analyze"):
        _ = make().analyze(sound(1, 2, 100)).target


# Learning


@pytest.mark.parametrize("mask", ["sigmoid", "complex"])
def test_a_few_steps_of_training_reduce_the_loss(mask):
    """A low and a high tone are told apart by a network of 3000 weights."""
    separator = make({**SMALL, "mask": mask}, transform={"class": "STFT", "n_fft": 256, "hop_length": 128})
    objective = Objective([{"class": "L1Loss"}, {"class": "SISDRLoss", "weight": 0.05}], separator)
    generator = torch.Generator().manual_seed(0)
    time, levels = torch.arange(2000) / 8000, torch.rand(4, 2, 2, 1, generator=generator) + 0.2
    tones = torch.stack([torch.sin(2 * torch.pi * frequency * time) for frequency in (300, 2500)])
    targets = levels * tones[None, :, None]
    optimizer = torch.optim.Adam(separator.parameters(), 0.01)
    losses = []
    for _ in range(25):
        report = costs(objective, separator.analyze(targets.sum(1), targets))
        optimizer.zero_grad()
        report["loss"].backward()
        optimizer.step()
        losses.append(report["L1Loss"].item())
    assert losses[-1] < 0.5 * losses[0]


class Pair(Scale):
    def forward(self, mixture_spectrogram):
        return super().forward(mixture_spectrogram), mixture_spectrogram


def test_what_is_no_mapping_of_tensors_is_refused():
    with pytest.raises(ValueError, match="network must return a tensor, or tensors by name, got tuple"):
        make(Pair)(torch.randn(1, 2, 100))


@pytest.mark.parametrize("name", ["network", "transform", "postfilter"])
def test_a_part_that_is_no_mapping_is_refused(name):
    parts = {"network": {"class": "BLSTM"}, name: "STFT"}
    with pytest.raises(InstantiationError, match=f"{name}: must be a mapping with `class:`, got 'STFT'"):
        Separator(["vocals"], **parts)
