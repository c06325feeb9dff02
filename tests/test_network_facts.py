"""Networks name their inputs and declare their outputs: every kind is trained, saved, loaded and separated with."""

import copy
from dataclasses import FrozenInstanceError

import pytest
import torch
from judging import costs
from networks import Constant, Filterbank, Hybrid, Talkative
from torch import Tensor, nn

from sepkit.inference import separate
from sepkit.model_folder import load_model, save_model
from sepkit.models.facts import describe_network
from sepkit.objective import Objective
from sepkit.quantities import QUANTITIES
from sepkit.separator import Separator

SOURCES = ["vocals", "drums"]
LOSSES = [
    {"class": "torch.nn.L1Loss", "inputs": {"input": "estimate"}, "name": "waveform"},
    {"class": "torch.nn.MSELoss", "inputs": {"input": "estimate_magnitude", "target": "target_magnitude"}},
]
OWN_LOSSES = {Talkative: [{"class": "networks.LevelLoss"}, {"class": "networks.FeatureLoss"}]}
every_kind = pytest.mark.parametrize("network", [Filterbank, Hybrid, Talkative])


def make(network: type, **arguments) -> Separator:
    torch.manual_seed(0)
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 16}
    spec = {"class": f"{network.__module__}.{network.__name__}", **arguments}
    return Separator(SOURCES, spec, 8000, 2, 0.1, transform)


def sound(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Every kind of network


@every_kind
def test_it_learns_in_a_step_through_the_objective(network):
    separator = make(network)
    objective = Objective([*LOSSES, *OWN_LOSSES.get(network, [])], separator)
    optimizer = torch.optim.SGD(separator.parameters(), 0.01)
    targets = 0.1 * sound(3, 2, 2, 500)
    losses = []
    for _ in range(2):
        report = costs(objective, separator.analyze(targets.sum(1), targets))
        optimizer.zero_grad()
        report["loss"].backward()
        optimizer.step()
        losses.append(report["loss"].item())
    assert losses[1] < losses[0]
    assert all(parameter.grad.any() for parameter in separator.parameters())


@every_kind
def test_it_is_saved_and_loaded_and_separates_the_same(network, tmp_path):
    separator = make(network).eval()
    save_model(separator, tmp_path)
    waveform = sound(2, 3000)
    loaded = load_model(tmp_path, trust=True)
    assert loaded.facts.outputs == separator.facts.outputs
    expected, found = (separate(model, waveform) for model in (separator, loaded))
    assert list(found) == SOURCES
    assert all(torch.equal(found[name], expected[name]) and found[name].any() for name in SOURCES)


@every_kind
@pytest.mark.parametrize("length", [1, 17, 500])
def test_every_quantity_is_there_with_its_shape(network, length):
    separator = make(network)
    separation = separator.analyze(sound(3, 2, length), sound(3, 2, 2, length, seed=1))
    n_frames = separation.mixture_spectrogram.shape[-1]
    assert set(QUANTITIES) - {"mask"} <= set(separator.quantities)
    for name, kind in separator.quantities.items():
        leading = (3, 2) if kind == "source" else (3,)
        value = getattr(separation, name)
        assert value.shape[: len(leading)] == leading
        if name in QUANTITIES:
            trailing = (33, n_frames) if name.endswith(("spectrogram", "magnitude", "mask")) else (length,)
            assert value.shape == (*leading, 2, *trailing)


@every_kind
def test_a_copy_has_facts_of_its_own(network):
    separator = make(network)
    duplicate = copy.deepcopy(separator)
    assert duplicate.facts.core is getattr(duplicate.network, "core", duplicate.network)
    with pytest.raises(FrozenInstanceError):
        duplicate.facts.frame_multiple = 2


@every_kind
def test_a_wrapped_network_is_run_in_place_of_the_own(network):
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module, self.n_calls = module, 0

        def forward(self, *args, **kwargs):
            self.n_calls += 1
            return self.module(*args, **kwargs)

    separator, mixture = make(network), sound(1, 2, 300)
    wrapped = Wrapped(copy.deepcopy(separator.network))
    expected = separator.analyze(mixture).estimate
    with torch.no_grad():
        for parameter in separator.network.parameters():
            parameter.zero_()
    assert torch.equal(separator.analyze(mixture, network=wrapped).estimate, expected)
    assert wrapped.n_calls == 1


# Estimates


@pytest.mark.parametrize("grad", [True, False])
def test_estimates_of_a_network_on_the_waveform_are_what_it_returns(grad):
    separator, mixture = make(Filterbank), sound(1, 2, 300)
    with torch.set_grad_enabled(grad):
        separation = separator.analyze(mixture)
        assert "mixture_spectrogram" not in vars(separation)
        assert torch.equal(separation.estimate, separator.network(mixture))
        assert torch.equal(separation.estimate_spectrogram, separator.spectrogram(separation.estimate))
        torch.testing.assert_close(separation.estimate_magnitude, separation.estimate_spectrogram.abs())


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("outputs", [("mask", "waveform"), ("spectrum", "waveform"), ("waveform",)])
def test_waveforms_are_added_to_what_masks_or_spectra_give(monkeypatch, grad, outputs):
    class Mixed(Hybrid):
        def forward(self, mixture: Tensor, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
            shape = (len(mixture), 2, *mixture_spectrogram.shape[1:])
            known = super().forward(mixture, mixture_spectrogram)
            known["mask"] = self.gains[:, None, None, None].expand(shape)
            return {name: known[name] for name in self.outputs}

    Mixed.outputs = outputs
    monkeypatch.setitem(globals(), "Mixed", Mixed)
    Mixed.__module__, Mixed.__qualname__ = __name__, "Mixed"
    separator, mixture = make(Mixed), sound(1, 2, 300)
    with torch.set_grad_enabled(grad):
        separation = separator.analyze(mixture)
        waveform = separator.network.filterbank(mixture)
        masked = separator.network.gains[:, None, None] * mixture.unsqueeze(1)
        expected = waveform if outputs == ("waveform",) else waveform + masked
        torch.testing.assert_close(separation.estimate, expected)
        assert torch.equal(separation.estimate_spectrogram, separator.spectrogram(separation.estimate))


@pytest.mark.parametrize("network", [Filterbank, Hybrid])
def test_waveforms_of_a_network_in_half_precision_are_compared_in_that_of_the_mixture(network):
    separator, mixture = make(network), sound(1, 2, 300)
    with torch.autocast("cpu", torch.bfloat16):
        separation = separator.analyze(mixture)
    assert separation.waveform.dtype is torch.float32 if network is Hybrid else "waveform" not in vars(separation)
    assert separation.estimate.dtype is torch.float32
    torch.testing.assert_close(separation.estimate, separator.analyze(mixture).estimate, rtol=0, atol=0.05)


def test_outputs_are_folded_as_they_are_declared():
    separator = make(Talkative)
    separation = separator.analyze(sound(3, 2, 500), sound(3, 2, 2, 500, seed=1))
    report = costs(Objective(OWN_LOSSES[Talkative], separator), separation)
    levels = separation.target.abs().mean((2, 3))
    torch.testing.assert_close(report["LevelLoss"], (separation.level[..., 0] - levels).square().mean().detach())
    torch.testing.assert_close(report["FeatureLoss"], separation.features.square().sum(1).mean())


# Declarations


def test_facts_are_what_a_network_declares():
    separator = make(Talkative)
    facts = separator.facts
    assert facts.inputs == ("mixture_magnitude", "mixture")
    assert facts.outputs == {"mask": "source", "level": "source", "features": "item"}
    assert (facts.frame_multiple, facts.lookahead, facts.blocks) == (4, 0, (nn.Linear,))
    assert facts.core is separator.network.core
    assert not facts.has_fit
    assert separator.network.n_frames == separator.transform.n_frames(800)


def test_a_spectrogram_is_that_of_the_least_length_a_network_declares(monkeypatch):
    monkeypatch.setattr(Constant, "least_length", 300, raising=False)
    separator, mixture = make(Constant, gains=[0.5, 0.5]), sound(1, 2, 200)
    filled = nn.functional.pad(mixture, (0, 100))
    assert torch.equal(separator.spectrogram(mixture), separator.spectrogram(filled))
    assert separator.spectrogram(sound(1, 2, 320)).shape[-1] > separator.spectrogram(mixture).shape[-1]
    assert separator(mixture).shape == (1, 2, 2, 200)


def test_facts_that_are_not_declared_have_defaults():
    facts = describe_network(Constant([0.5]))
    assert facts.outputs == {"mask": "source"}
    assert (facts.frame_multiple, facts.lookahead, facts.blocks, facts.has_fit) == (1, None, (), False)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("outputs", (), r"outputs of Constant must be names, or map names to 'source' or 'item', got \(\)"),
        ("outputs", "mask", "outputs of Constant must be names, .* got 'mask'"),
        ("outputs", ("mask", 3), "outputs of Constant must be names, .* got"),
        ("outputs", ("mask", "mu"), r"must declare 'mu' as 'source', \(B, S, ...\), or 'item', \(B, ...\), as in"),
        ("outputs", {"mask": "source", "mu": "stem"}, "must declare 'mu' as 'source'"),
        ("outputs", {"mask": "item"}, "must declare 'mask' as 'source', as in {'mask': 'source'}"),
        ("outputs", ("mask", "spectrum"), "either mask or spectrum among its outputs, .* Constant with mask, spectrum"),
        ("outputs", ("mask", "estimate"), "either mask or spectrum among its outputs, .* Constant with mask, estimate"),
        ("outputs", ("waveform", "estimate"), "got Constant with waveform, estimate"),
        ("outputs", {"mu": "item"}, "got Constant with mu"),
        (
            "outputs",
            {"mask": "source", "mixture": "item"},
            "must have names of their own, got 'mixture', another",
        ),
        ("outputs", {"mask": "source", "target": "source"}, "must have names of their own, got 'target'"),
        ("outputs", {"mask": "source", "_outputs": "item"}, "must have names of their own, got '_outputs'"),
        ("frame_multiple", 0, "frame_multiple of Constant must be a whole number, at least 1, got 0"),
        ("frame_multiple", 2.5, "frame_multiple of Constant must be a whole number, at least 1, got 2.5"),
        ("least_length", -1, "least_length of Constant must be a whole number of samples, got -1"),
        ("lookahead", -1, "lookahead of Constant must be a whole number of frames, or None for all, got -1"),
        ("blocks", ["Linear"], r"blocks of Constant must be a tuple of module types, got \['Linear'\]"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(monkeypatch, attribute, value, message):
    monkeypatch.setattr(Constant, attribute, value, raising=False)
    with pytest.raises(ValueError, match=message):
        make(Constant, gains=[0.5, 0.5])


class OldName(Constant):
    def forward(self, spectrogram: Tensor) -> Tensor:
        return super().forward(spectrogram)


class Anonymous(Constant):
    def forward(self, *quantities: Tensor) -> Tensor:
        return super().forward(*quantities)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            OldName,
            "OldName takes 'spectrogram', which is none of mixture, mixture_spectrogram, .*: name the arg",
        ),
        (Anonymous, "Anonymous has no forward that names what it takes"),
    ],
)
def test_an_input_that_is_no_quantity_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        make(network, gains=[0.5, 0.5])


class Misshapen(Hybrid):
    def forward(self, mixture: Tensor, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        known = super().forward(mixture, mixture_spectrogram)
        return {**known, "waveform": known["waveform"][..., :-1]}


class Swapped(Talkative):
    def forward(self, mixture_magnitude: Tensor, mixture: Tensor) -> dict[str, Tensor]:
        known = super().forward(mixture_magnitude, mixture)
        return {**known, "level": known["features"][0], "features": known["level"]}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Misshapen, r"network must return a waveform \(3, 2, 2, 300\), got \(3, 2, 2, 299\)"),
        (Swapped, r"network must return a level \(3, 2\), got \(2,\)"),
    ],
)
def test_an_output_of_another_shape_than_declared_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        make(network).analyze(sound(3, 2, 300))
