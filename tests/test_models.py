"""One battery over every network of `sepkit.models`, and what is BLSTM's own."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import get_args

import pytest
import torch
from networks import SMALL
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from sepkit import models
from sepkit.inference import separate
from sepkit.instantiate import arguments_of, instantiate, resolve_class
from sepkit.models.blstm import triangular_bands
from sepkit.models.facts import describe_network
from sepkit.separator import Separator

TRANSFORMS = {"HDemucs": {"hop_length": 32, "framing": "hops"}}
FACTS = {"n_sources": 2, "n_channels": 2, "n_bins": 65, "sample_rate": 16000}
NO_FLOAT16_ON_CPU = ["BandSplitRNN"]
every_network = pytest.mark.parametrize("name", [*models.__all__, "LoRA"])


def build(name: str, **arguments) -> nn.Module:
    torch.manual_seed(0)
    facts = {fact: arguments.get(fact, value) for fact, value in FACTS.items()}
    own = {argument: value for argument, value in arguments.items() if argument not in FACTS}
    return instantiate({"class": name, **SMALL.get(name, {}), **own}, "sepkit.models", facts).eval()


def noise(network: nn.Module, n_items: int = 2, n_frames: int = 8, n_channels: int = 2, level: float = 1.0) -> Tensor:
    shape = (n_items, n_channels, FACTS["n_bins"], n_frames * describe_network(network).frame_multiple)
    generator = torch.Generator().manual_seed(1)
    return level * torch.randn(*shape, generator=generator, dtype=torch.complex64)


def inputs_of(network: nn.Module, spectrogram: Tensor) -> dict[str, Tensor]:
    """What the network takes: of a waveform 32 samples a frame, which are some of the spectrogram's values."""
    known = {
        "mixture": spectrogram.real.mT.flatten(2)[..., : 32 * spectrogram.shape[-1]],
        "mixture_spectrogram": spectrogram,
        "mixture_magnitude": spectrogram.abs(),
    }
    return {name: known[name] for name in describe_network(network).inputs}


def answers(network: nn.Module, spectrogram: Tensor) -> dict[str, Tensor]:
    """Everything that the network returns, by the names that it declares."""
    outputs = network(**inputs_of(network, spectrogram))
    names = describe_network(network).outputs
    outputs = outputs if isinstance(outputs, Mapping) else {next(iter(names)): outputs}
    assert set(outputs) == set(names)
    return dict(outputs)


def answer(network: nn.Module, spectrogram: Tensor) -> Tensor:
    """The mask, or the spectrum where the network estimates that, or the waveform where it estimates no other."""
    outputs = answers(network, spectrogram)
    (main,) = {"mask", "spectrum"} & set(outputs) or {"waveform", "estimate"} & set(outputs)
    return outputs[main]


@every_network
@pytest.mark.parametrize("n_frames", [1, 2, 7, 20])
@pytest.mark.parametrize(("n_sources", "n_channels"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)])
def test_each_source_has_an_answer_of_the_mixtures_shape(name, n_sources, n_channels, n_frames):
    network = build(name, n_sources=n_sources, n_channels=n_channels)
    spectrogram = noise(network, 3, n_frames, n_channels)
    found = answer(network, spectrogram)
    shape = spectrogram.shape if found.dim() == 5 else inputs_of(network, spectrogram)["mixture"].shape
    assert found.shape == (3, n_sources, *shape[1:])
    assert found.dtype in (torch.float32, torch.complex64)
    assert found.isfinite().all()


@every_network
def test_evaluation_is_repeatable_and_changes_neither_input_nor_state(name):
    network = build(name)
    spectrogram = noise(network)
    before, state = spectrogram.clone(), copy.deepcopy(network.state_dict())
    assert torch.equal(answer(network, spectrogram), answer(network, spectrogram))
    assert torch.equal(spectrogram, before)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


@every_network
def test_items_do_not_depend_on_their_batchmates(name):
    network = build(name)
    spectrogram = noise(network, 3) * torch.tensor([0.01, 1.0, 100.0]).reshape(3, 1, 1, 1)
    alone = torch.cat([answer(network, item[None]) for item in spectrogram])
    # Sums of float32 in another order.
    torch.testing.assert_close(answer(network, spectrogram), alone, rtol=1e-4, atol=1e-5)


@every_network
@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 1e4])
def test_values_and_gradients_are_finite_at_any_level(name, level):
    network = build(name).train()
    spectrogram = noise(network, level=level).requires_grad_()
    outputs = answers(network, spectrogram)
    sum(output.abs().square().mean() for output in outputs.values()).backward()
    assert all(output.isfinite().all() for output in outputs.values())
    assert spectrogram.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.requires_grad)


@every_network
def test_gradients_reach_every_parameter(name):
    network = build(name).train()
    if name == "LoRA":
        with torch.no_grad():  # a product with zeros has no gradient
            network.load_state_dict({key: value + 0.1 for key, value in network.state_dict().items()})
    spectrogram = noise(network, n_frames=70)  # so many that a recurrence over groups of frames has several steps
    sum(output.abs().square().mean() for output in answers(network, spectrogram).values()).backward()
    dead = [
        key
        for key, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not dead


@every_network
@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode, torch.no_grad], ids=lambda each: each.__name__)
def test_a_network_that_separated_can_be_trained(name, context):
    separator = make_separator({"class": name, **SMALL.get(name, {})})
    check_that_it_separates_and_trains(separator, context)


class Tabled(nn.Module):
    """Build a table when it is first used, one for each number of frames, and keep it."""

    def __init__(self, n_sources: int):
        super().__init__()
        self.n_sources = n_sources
        self.gain = nn.Parameter(torch.ones(()))
        self.tables: dict[int, Tensor] = {}

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        n_frames = mixture_spectrogram.shape[-1]
        if n_frames not in self.tables:
            self.tables[n_frames] = torch.linspace(0.1, 0.9, n_frames)
        mask = torch.sigmoid(self.gain * self.tables[n_frames])
        return mask.expand(len(mixture_spectrogram), self.n_sources, *mixture_spectrogram.shape[1:])


@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode, torch.no_grad], ids=lambda each: each.__name__)
def test_a_table_that_was_built_while_separating_serves_training(context):
    check_that_it_separates_and_trains(make_separator({"class": f"{__name__}.Tabled"}), context)


def make_separator(network: dict) -> Separator:
    torch.manual_seed(0)
    transform = {"class": "STFT", "n_fft": 128, "hop_length": 64, **TRANSFORMS.get(network["class"], {})}
    return Separator(["vocals", "drums"], network, FACTS["sample_rate"], 2, 0.1, transform)


def check_that_it_separates_and_trains(separator: Separator, context: type) -> None:
    waveform = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))
    with context():
        estimates = separate(separator, waveform)
    separator.train()
    n_samples = round(separator.segment * separator.sample_rate)
    separator(waveform[None, :, :n_samples]).square().mean().backward()
    assert all(part.grad.isfinite().all() for part in separator.parameters() if part.requires_grad)
    assert not estimates["vocals"].requires_grad
    assert context is torch.inference_mode or not estimates["vocals"].is_inference()


@every_network
def test_the_state_makes_another_network_the_same(name):
    network, other = build(name), build(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    spectrogram = noise(network)
    assert not torch.equal(answer(network, spectrogram), answer(other, spectrogram))
    other.load_state_dict(network.state_dict())
    assert torch.equal(answer(network, spectrogram), answer(other, spectrogram))


@every_network
def test_a_copy_answers_the_same_and_shares_nothing(name):
    network = build(name)
    duplicate = copy.deepcopy(network)
    spectrogram = noise(network)
    expected = answer(network, spectrogram).clone()
    assert torch.equal(answer(duplicate, spectrogram), expected)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.zero_()
    assert torch.equal(answer(network, spectrogram), expected)


@every_network
def test_it_moves_to_another_precision_as_a_whole(name):
    network = build(name)
    spectrogram = noise(network)
    expected = answer(network, spectrogram)
    found = answer(network.double(), spectrogram.to(torch.complex128))
    assert found.dtype is (torch.complex128 if expected.is_complex() else torch.float64)
    torch.testing.assert_close(found.to(expected.dtype), expected, rtol=1e-3, atol=1e-4)


@every_network
def test_every_constant_moves_with_it(name):
    network = build(name).to("meta")
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    assert answer(network, noise(network).to("meta")).is_meta


@every_network
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision_is_finite_and_near(name, precision):
    if precision is torch.float16 and name in NO_FLOAT16_ON_CPU:
        pytest.skip("torch has no float16 of one of its operations on a CPU")
    network = build(name)
    spectrogram = noise(network)
    with torch.autocast("cpu", precision):
        found = answer(network, spectrogram)
    assert found.isfinite().all()
    # bfloat16 has 8 bits: 0.004 at 1, a few of which add up.
    torch.testing.assert_close(
        found.to(torch.complex64), answer(network, spectrogram).to(torch.complex64), rtol=0, atol=0.05
    )


class _RealOnly(TorchDispatchMode):
    """Refuse every operation that takes or gives a complex tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [
            value for value in torch.utils._pytree.tree_leaves((args, kwargs, found)) if isinstance(value, Tensor)
        ]
        assert not any(tensor.is_complex() for tensor in tensors), f"{function} is complex"
        return found


COMPLEX_BETWEEN = ["SCNet"]  # Fourier transforms of its maps, between layers that are real


def inputs_of_core(network: nn.Module) -> tuple[Tensor, ...]:
    seen = []
    handle = network.core.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    answers(network, noise(network))
    handle.remove()
    assert len(seen) == 1
    return seen[0]


@every_network
def test_the_core_is_real_throughout_and_holds_all_parameters(name):
    network = build(name)
    inputs = inputs_of_core(network)
    with nullcontext() if name in COMPLEX_BETWEEN else _RealOnly():
        network.core(*inputs)
    assert {id(parameter) for parameter in network.parameters()} == {id(p) for p in network.core.parameters()}


@every_network
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own look, where it leaves out an LSTM
def test_the_core_compiles(name):
    network = build(name)
    inputs = inputs_of_core(network)
    torch._dynamo.reset()
    found = torch.compile(network.core, backend="aot_eager")(*inputs)
    expected = network.core(*inputs)
    torch.testing.assert_close(found, expected)


@every_network
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning", "ignore:The tensor attribute:UserWarning")
def test_the_core_is_exported(name):
    network = build(name)
    inputs = inputs_of_core(network)
    found = torch.export.export(network.core, inputs, strict=False).module()(*inputs)
    torch.testing.assert_close(found, network.core(*inputs))


@every_network
def test_another_length_is_answered_as_by_a_fresh_network(name):
    network = build(name)
    answer(network, noise(network, n_frames=12))
    assert torch.equal(answer(network, noise(network, n_frames=5)), answer(build(name), noise(network, n_frames=5)))


@every_network
def test_recomputing_its_blocks_changes_nothing(name):
    network = build(name).train()
    blocks = [module for module in network.modules() if isinstance(module, describe_network(network).blocks)]
    assert blocks
    gradients = []
    for recomputes in (False, True):
        if recomputes:
            for block in blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        torch.manual_seed(2)  # dropout
        network.zero_grad()
        answer(network, noise(network)).abs().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*gradients)


@every_network
def test_a_network_that_fits_answers_finitely_afterwards(name):
    network = build(name)
    if not describe_network(network).has_fit:
        pytest.skip("it measures nothing before the first step")
    expected = answer(network, noise(network))
    network.fit(noise(network, level=level) for level in (1.0, 0.1))
    found = answer(network, noise(network))
    assert found.isfinite().all()
    assert not torch.equal(found, expected)


# BLSTM


BOUNDS = {
    "sigmoid": (0, 1),
    "relu": (0, float("inf")),
    "softmax": (0, 1),
    "tanh": (-1, 1),
    "hardtanh": (0, 1),
}


def loud_blstm(mask: str, **arguments) -> tuple[nn.Module, Tensor]:
    """Build a BLSTM whose last layer asks for extreme masks."""
    network = build("BLSTM", mask=mask, n_sources=3, **arguments)
    with torch.no_grad():
        network.core.decode[-1].weight.mul_(100)
    return network, noise(network)


@pytest.mark.parametrize(("mask", "bounds"), BOUNDS.items())
def test_masks_keep_within_their_bounds_and_use_them(mask, bounds):
    network, spectrogram = loud_blstm(mask)
    found = network(spectrogram)
    assert not found.is_complex()
    assert found.min() >= bounds[0]
    assert found.max() <= bounds[1]
    assert found.min() < bounds[0] + 0.01
    assert found.max() > min(bounds[1], 1) - 0.01


def test_a_softmax_leaves_a_share_to_the_residual():
    network, spectrogram = loud_blstm("softmax")
    shares = network(spectrogram).sum(1)
    assert shares.max() <= 1 + 1e-6
    assert shares.min() < 0.01


def test_a_complex_mask_turns_the_phase():
    network, spectrogram = loud_blstm("complex")
    found = network(spectrogram)
    assert found.dtype is torch.complex64
    assert found.real.min() < -1
    assert found.imag.abs().max() > 1


@pytest.mark.parametrize("mask", ["sigmoid", "softmax", "complex"])
def test_nothing_above_the_bandwidth_is_used_or_estimated(mask):
    network = build("BLSTM", mask=mask, bandwidth=4000)
    spectrogram = noise(network)
    found = network(spectrogram)
    assert not found[:, :, :, 33:].any()
    assert found[:, :, :, :33].all()
    changed = spectrogram.clone()
    changed[:, :, 33:] = 0
    assert torch.equal(network(changed), found)


@pytest.mark.parametrize(("bandwidth", "n_used_bins"), [(None, 65), (8000, 65), (7999, 64), (4000, 33), (125, 2)])
def test_the_bandwidth_takes_in_its_own_bin(bandwidth, n_used_bins):
    assert build("BLSTM", bandwidth=bandwidth).core.n_used_bins == n_used_bins


def test_fit_standardises_the_bands():
    network = build("BLSTM")
    levels = torch.logspace(-2, 1, 5).tolist()
    network.fit(noise(network, level=level) for level in levels)
    compressed = torch.cat([network.core.compress(noise(network, level=level).abs()) for level in levels])
    bands = (compressed - network.core.mean) * network.core.scale
    torch.testing.assert_close(bands.mean((0, 1, 3)), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(bands.std((0, 1, 3), unbiased=False), torch.ones(12), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [[], [0.0]])
def test_fit_on_nothing_or_silence_stays_finite(levels):
    network = build("BLSTM")
    network.fit(noise(network, level=level) for level in levels)
    assert network.core.scale.max() <= 10
    assert network(noise(network)).isfinite().all()


def test_what_was_fitted_is_saved_and_the_bands_are_not():
    state = build("BLSTM").state_dict()
    assert {"core.mean", "core.scale"} <= set(state)
    assert not [name for name in state if "bands" in name]


def test_dropout_acts_in_training_only():
    network = build("BLSTM", n_layers=2, dropout=0.5)
    spectrogram = noise(network)
    assert torch.equal(network(spectrogram), network(spectrogram))
    network.train()
    assert not torch.equal(network(spectrogram), network(spectrogram))


def test_a_frame_depends_on_the_whole_recording():
    network = build("BLSTM")
    spectrogram = noise(network, n_frames=20)
    changed = spectrogram.clone()
    changed[..., 10] *= 10
    difference = (network(changed) - network(spectrogram)).abs().amax((0, 1, 2, 3))
    assert difference[0] > 0
    assert difference[-1] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": "abs"}, "mask must be one of sigmoid, relu, softmax, tanh, hardtanh, complex, got 'abs'"),
        ({"hidden_size": 7}, "hidden_size must be even and at least 2, got 7"),
        ({"hidden_size": 0}, "hidden_size must be even and at least 2, got 0"),
        ({"n_layers": 0}, "n_layers and n_bands must be at least 1, got 0 and 12"),
        ({"n_bands": 0}, "n_layers and n_bands must be at least 1, got 1 and 0"),
        ({"bandwidth": 124}, r"bandwidth must lie in \[125, 8000\] Hz, got 124"),
        ({"bandwidth": 8001}, r"bandwidth must lie in \[125, 8000\] Hz, got 8001"),
        ({"dropout": 0.1}, r"dropout must lie in \[0, 1\), and be 0 where n_layers is 1, got 0.1"),
        ({"dropout": 1.0, "n_layers": 2}, r"dropout must lie in \[0, 1\), .* got 1.0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.BLSTM(**{**FACTS, **SMALL["BLSTM"], **arguments})


@pytest.mark.parametrize("n_bands", [1, 12, 128, 400])
@pytest.mark.parametrize("highest", [500, 8000, 22050])
def test_every_band_averages_at_least_one_bin(highest, n_bands):
    bands = triangular_bands(torch.linspace(0, highest, 257, dtype=torch.float64), n_bands)
    torch.testing.assert_close(bands.sum(1), torch.ones(n_bands))
    assert bands.min() >= 0
    assert (bands.argmax(1).diff() >= 0).all()


CHOICES = [
    (f"sepkit.{name}", argument, choice)
    for name, argument in (
        ("models.BLSTM", "mask"),
        ("models.MDX23C", "activation"),
        ("models.SpectrogramNetSimple", "mask_act_fn"),
    )
    for choice in get_args(arguments_of(resolve_class(f"sepkit.{name}", "sepkit"))[argument].annotation)
]


@pytest.mark.parametrize(("path", "argument", "choice"), CHOICES)
def test_every_choice_that_a_recipe_is_checked_against_is_built(path, argument, choice):
    name = path.rpartition(".")[2]
    network = build(name, **{argument: choice})
    spectrogram = noise(network)
    assert answer(network, spectrogram).shape == (len(spectrogram), FACTS["n_sources"], *spectrogram.shape[1:])
