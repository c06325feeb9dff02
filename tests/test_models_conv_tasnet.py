"""ConvTasNet gives what asteroid's gives, and its weights are taken over tensor by tensor."""

import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported
from torch import Tensor

from sepkit import models
from sepkit.importing import conv_tasnet
from sepkit.models.conv_tasnet import _NORMS
from sepkit.models.facts import describe_network

SIZES = {"n_filters": 8, "n_features": 4, "hidden_size": 6, "n_skip": 5, "n_blocks": 2, "n_repeats": 2}
CONFIG = {"sample_rate": 8000, "stride": 8, "n_blocks": 2, "norm_type": "gLN", "mask_act": "sigmoid", "segment": 3}
CONFIG |= {"sources": ["one", "two"]}


def build(**arguments) -> models.ConvTasNet:
    torch.manual_seed(0)
    return models.ConvTasNet(2, **{**SIZES, **arguments}).eval()


def sound(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tensors_of(network: models.ConvTasNet) -> dict[str, Tensor]:
    """The weights of a network in asteroid's names."""
    causal, found = network.core.blocks[0].convolve.padding == (0,), {}
    for name, tensor in network.core.state_dict().items():
        _, number, part, leaf = name.split(".") if name.startswith("blocks") else ("", "", "", "")
        if not number:
            found[conv_tasnet._NAMES[name]] = tensor
            continue
        place = ("shared_block.3.0" if causal else "shared_block.3") if part == "convolve" else conv_tasnet._PARTS[part]
        leaf = conv_tasnet._LEAVES[leaf] if part.endswith("norm") else leaf
        found[f"masker.TCN.{number}.{place}.{leaf}"] = tensor
    return found


# As published


@pytest.fixture(scope="module")
def golden(reference_root):
    return read_golden(reference_root, "conv_tasnet")


def test_it_gives_the_waveforms_of_asteroid(golden):
    config = {**golden.config["kwargs"], "segment": 3.0, "sources": ["one", "two"]}
    separator = build_imported(conv_tasnet, golden.tensors, config)
    with torch.no_grad():
        found = separator(golden.input)
    assert snr(found[:, :, 0], golden.output) > 90


def test_a_whole_number_of_hops_is_separated_alike_whatever_follows(golden):
    config = {**golden.config["kwargs"], "segment": 3.0, "sources": ["one", "two"]}
    separator = build_imported(conv_tasnet, golden.tensors, config)
    longer = torch.nn.functional.pad(golden.input, (0, 5), value=0.1)  # which fill no hop
    with torch.no_grad():
        found = separator(longer)
    assert snr(found[:, :, 0, :20000], golden.output) > 90
    assert not found[..., 20000:].any()


# Its own


def test_channels_are_separated_one_by_one():
    network, mixture = build(), sound(2, 3, 500)
    alone = torch.cat([network(channel) for channel in mixture.split(1, 1)], 2)
    torch.testing.assert_close(network(mixture), alone)


@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 24, 100])
def test_estimates_are_as_long_as_the_mixture(length):
    found = build()(sound(1, 1, length))
    assert found.shape == (1, 2, 1, length)
    assert found.isfinite().all()


@pytest.mark.parametrize("norm", ["frame", "cumulative"])
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_a_causal_network_knows_nothing_of_what_comes_later(norm, kernel_size):
    network, mixture = build(causal=True, norm=norm, kernel_size=kernel_size), sound(1, 1, 400)
    changed = mixture.clone()
    changed[..., 200:] *= 2
    differs = (network(changed) - network(mixture)).abs().amax((0, 1, 2))
    assert differs[:185].max() < 1e-6  # frames of 16 samples
    assert differs[200:].max() > 1e-3


@pytest.mark.parametrize("norm", _NORMS)
def test_features_are_normalised_over_what_is_said(norm):
    layer, features = _NORMS[norm](6), 3 + 2 * sound(2, 6, 40)
    found = layer(features)
    over = {"global": features.flatten(1), "frame": features, "cumulative": features.flatten(1)}[norm]
    spread, mean = torch.var_mean(over, 1, correction=0, keepdim=True)
    expected = (features - mean.reshape(2, 1, -1)) / (spread.reshape(2, 1, -1) + 1e-8).sqrt()
    last = slice(-1, None) if norm == "cumulative" else slice(None)  # before which all frames are
    torch.testing.assert_close(found[..., last], expected[..., last], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", _NORMS)
@pytest.mark.parametrize("level", [0.0, 1e3])
def test_norms_of_silence_and_constants_are_finite(norm, level):
    features = torch.full((2, 6, 40), level, requires_grad=True)
    found = _NORMS[norm](6)(features)
    found.square().sum().backward()
    assert found.isfinite().all()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("mask", ["relu", "softmax"])
@pytest.mark.parametrize("rectify", [False, True])
def test_masks_and_filters_are_those_that_are_asked_for(mask, rectify):
    found, plain = build(mask=mask, rectify=rectify)(sound(1, 1, 400)), build()(sound(1, 1, 400))
    assert not torch.equal(found, plain)
    if mask == "softmax":
        network = build(mask=mask, rectify=rectify)
        frames = network.core.encode(sound(1, 1, 400))
        whole = network.core.decode(frames.relu() if rectify else frames)
        torch.testing.assert_close(found.sum(1), whole, rtol=1e-4, atol=1e-5)  # divided among the sources


def test_without_skips_the_last_block_makes_the_masks():
    network = build(n_skip=0)
    network(sound(1, 1, 400)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())
    assert all(block.skip is None for block in network.core.blocks)


def test_its_blocks_are_declared():
    network = build()
    assert {type(block) for block in network.core.blocks} == {*describe_network(network).blocks}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_filters": 0}, "n_filters must be at least 1, got 0"),
        ({"n_repeats": 0}, "n_repeats must be at least 1, got 0"),
        ({"hop_length": 17}, "hop_length must be between 1 and filter_size 16, got 17"),
        ({"n_skip": -1}, "n_skip must be at least 0, got -1"),
        ({"kernel_size": 4}, "kernel_size must be odd without causal, got 4"),
        ({"norm": "batch"}, "norm must be one of global, frame, cumulative, got 'batch'"),
        ({"causal": True}, "norm must be frame or cumulative with causal, got 'global'"),
        ({"mask": "tanh"}, "mask must be one of sigmoid, relu, softmax, got 'tanh'"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_a_mixture_of_another_type_is_refused():
    with pytest.raises(ValueError, match=r"mixture must be of the weights' type .* torch.float64 on cpu: convert one"):
        build()(sound(1, 1, 400).double())


# Import


@pytest.mark.parametrize(
    ("arguments", "told", "norm"),
    [
        ({}, {}, "global"),
        ({"n_skip": 0}, {"skip_chan": 0}, "global"),
        ({"norm": "frame", "causal": True}, {"norm_type": "gLN"}, "frame"),
        ({"norm": "cumulative", "causal": True}, {"norm_type": "cgLN"}, "cumulative"),
        ({"mask": "relu", "rectify": True}, {"mask_act": "relu", "encoder_activation": "relu"}, "global"),
    ],
)
def test_settings_follow_from_the_weights_and_the_config(arguments, told, norm):
    network = build(**arguments)
    separator = build_imported(conv_tasnet, tensors_of(network), {**CONFIG, **told})
    assert separator.settings["network"]["norm"] == norm
    mixture = sound(2, 1, 500)
    assert torch.equal(separator(mixture), network(mixture))


def test_what_the_last_block_would_hand_on_is_left_out():
    tensors = tensors_of(build())
    tensors |= {f"masker.TCN.3.res_conv.{leaf}": torch.zeros(1) for leaf in ("weight", "bias")}
    assert build_imported(conv_tasnet, tensors, CONFIG).network.core.blocks[3].narrow is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stride": None}, "config must state stride, which the tensors cannot tell"),
        ({"n_blocks": None}, "config must state n_blocks, which"),
        ({"norm_type": None}, "config must state norm_type, which"),
        ({"mask_act": None}, "config must state mask_act, which"),
        ({"sample_rate": None}, "config must state sample_rate, which"),
        ({"sources": None}, "config must state sources, which"),
        ({"segment": None}, "config must state segment, which"),
        ({"sources": ["one"]}, "sources must be 2, as the tensors have it, got one"),
        ({"n_blocks": 3}, "n_blocks must divide 4, the blocks of the tensors, got 3"),
        ({"n_repeats": 1}, "n_repeats must be 2, as the tensors have it, got 1"),
        ({"n_filters": 16}, "n_filters must be 8, as the tensors have it, got 16"),
        ({"kernel_size": 8}, "kernel_size must be 16, as the tensors have it, got 8"),
        ({"causal": True}, "causal must be False, as the tensors have it, got True"),
        ({"norm_type": "BN"}, "norm_type must be one of gLN, cLN, cgLN, which are supported, got BN"),
        ({"mask_act": "tanh"}, "mask_act must be one of sigmoid, relu, softmax, which are supported, got tanh"),
        ({"encoder_activation": "tanh"}, "encoder_activation must be null, linear or relu, which are supported, got t"),
    ],
)
def test_a_config_that_does_not_go_with_the_weights_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        conv_tasnet.settings(tensors_of(build()), {**CONFIG, **config})


def test_a_tensor_too_many_or_too_few_is_named():
    tensors = tensors_of(build())
    settings = conv_tasnet.settings(tensors, CONFIG)
    tensors["masker.TCN.9.skip_conv.weight"] = tensors.pop("masker.TCN.1.skip_conv.weight")
    with pytest.raises(ValueError, match=r"1\.skip_conv\.weight is missing, masker\.TCN\.9\.skip_conv\.weight is too"):
        conv_tasnet.convert(tensors, settings)


def test_other_weights_are_not_taken_for_conv_tasnet():
    assert not conv_tasnet.detect({"encoder.filterbank._filters": torch.ones(1)})


def test_a_tensor_of_other_dimensions_is_named():
    tensors = {**tensors_of(build()), "masker.mask_net.1.weight": torch.ones(2, 2, 2, 2)}
    with pytest.raises(
        ValueError, match=r"masker\.mask_net\.1\.weight must have 3 dimensions with values, got \(2, 2, 2, 2\)"
    ):
        conv_tasnet.settings(tensors, CONFIG)
