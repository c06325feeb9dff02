"""MDX23C gives what the published one gives, from its weights, and says what does not fit."""

import copy

import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported

from sepkit.importing import mdx23c
from sepkit.models import MDX23C

SMALL = {"n_maps": 4, "growth": 2, "n_stages": 2, "n_blocks": 2}


@pytest.fixture
def golden(reference_root):
    golden = read_golden(reference_root, "mdx23c")
    return golden._replace(config=copy.deepcopy(golden.config["config"]))


def build(**arguments) -> MDX23C:
    torch.manual_seed(0)
    return MDX23C(**{"n_sources": 2, "n_channels": 2, "n_bins": 65, **SMALL, **arguments})


def noise(n_frames: int = 8, n_bins: int = 65) -> torch.Tensor:
    return torch.randn(1, 2, n_bins, n_frames, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))


def put(config: dict, key: str, value: object) -> None:
    section, _, name = key.partition(".")
    if value is None:
        config[section].pop(name, None)
    else:
        config[section][name] = value


@torch.no_grad()
def test_it_gives_what_the_published_network_gives(golden):
    separator = build_imported(mdx23c, golden.tensors, golden.config)
    assert snr(separator(golden.input), golden.output) > 90
    short = golden.input[..., :20001]
    padded = torch.nn.functional.pad(short, (0, 256 * (10 * 8 - 1) - 20001))  # the least of 8, 16, 24, ... frames
    assert separator(short).shape == (1, 2, 2, 20001)
    torch.testing.assert_close(separator(short), separator(padded)[..., :20001], rtol=0, atol=1e-6)


def test_settings_are_those_of_the_tensors_and_the_config(golden):
    settings = mdx23c.settings(golden.tensors, golden.config)
    assert settings["sources"] == ["vocals", "other"]
    assert settings["segment"] * settings["sample_rate"] == 28416
    put(golden.config, "audio.chunk_size", None)
    assert mdx23c.settings(golden.tensors, golden.config) == settings
    for key in ("num_channels", "growth", "num_scales", "num_blocks_per_scale", "num_subbands", "scale"):
        put(golden.config, f"model.{key}", None)
    assert mdx23c.settings(golden.tensors, golden.config) == settings
    put(golden.config, "model.act", "elu1.0")
    assert mdx23c.settings(golden.tensors, golden.config)["network"]["activation"] == "elu"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.num_channels", 16, "model.num_channels must be 8, as the tensors have it, got 16 in the config"),
        ("model.growth", 8, "model.growth must be 4, as the tensors have it, got 8"),
        ("model.num_scales", 5, "model.num_scales must be 3, as the tensors have it, got 5"),
        ("model.num_blocks_per_scale", 2, "model.num_blocks_per_scale must be 1, as the tensors have it, got 2"),
        ("model.num_subbands", 2, "model.num_subbands must be 4, as the tensors have it, got 2"),
        ("model.bottleneck_factor", 2, "model.bottleneck_factor must be 4, as the tensors have it, got 2"),
        ("model.scale", (2, 4), r"model.scale must be \[2, 2\], as the tensors have it, got \[2, 4\]"),
        ("audio.dim_f", 1024, "audio.dim_f must be 512, as the tensors have it, got 1024"),
        ("audio.num_channels", 3, "audio.num_channels must divide the 16 parts of all subbands .* got 3"),
        ("training.target_instrument", "vocals", "training must name 2 sources, as the tensors have it, got vocals"),
        ("model.norm", "BatchNorm", "model.norm must be InstanceNorm, the only one that is supported, got BatchNorm"),
        ("model.act", "elu0.5", "model.act must be one of gelu, relu, elu1, elu1.0, which are supported, got elu0.5"),
        ("audio.hop_length", None, "config must state audio.hop_length, which the tensors cannot tell"),
        ("audio.n_fft", None, "config must state audio.n_fft"),
        ("audio.sample_rate", None, "config must state audio.sample_rate"),
        ("training.instruments", None, "config must state training.instruments"),
    ],
)
def test_a_config_that_does_not_fit_is_told(golden, key, value, message):
    put(golden.config, key, value)
    with pytest.raises(ValueError, match=message):
        mdx23c.settings(golden.tensors, golden.config)


def test_tensors_that_do_not_fit_are_told_by_their_original_names(golden):
    settings = mdx23c.settings(golden.tensors, golden.config)
    lacking = {name: tensor for name, tensor in golden.tensors.items() if name != "final_conv.0.weight"}
    with pytest.raises(ValueError, match=r"one for one: final_conv\.0\.weight is missing, mean is too many$"):
        mdx23c.convert({**lacking, "mean": torch.ones(1)}, settings)
    with pytest.raises(ValueError, match=r"final_conv.0.weight must be \(8, 24, 1, 1\), .* got \(1,\)"):
        mdx23c.convert({**lacking, "final_conv.0.weight": torch.ones(1)}, settings)
    lacking = {name: tensor for name, tensor in golden.tensors.items() if name != "first_conv.weight"}
    assert not mdx23c.detect(lacking)
    with pytest.raises(ValueError, match=r"tensors must hold first_conv\.weight, which is missing"):
        mdx23c.settings(lacking, golden.config)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("first_conv.weight", (8,), r"first_conv\.weight must have 4 dimensions with values, got \(8,\)"),
        (
            "first_conv.weight",
            (8, 0, 1, 1),
            r"first_conv\.weight must have 4 dimensions with values, got \(8, 0, 1, 1\)",
        ),
        ("final_conv.2.weight", (), r"final_conv\.2\.weight must have 4 dimensions with values, got \(\)"),
    ],
)
def test_a_tensor_of_other_dimensions_is_told(golden, name, shape, message):
    with pytest.raises(ValueError, match=message):
        mdx23c.settings({**golden.tensors, name: torch.zeros(shape)}, golden.config)


def test_half_precision_is_converted(golden):
    halves = {name: tensor.half() for name, tensor in golden.tensors.items()}
    state = mdx23c.convert(halves, mdx23c.settings(halves, golden.config))
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize(("n_used_bins", "expected"), [(None, 64), (32, 32)])
def test_unused_bins_are_neither_looked_at_nor_estimated(n_used_bins, expected):
    network, spectrogram = build(n_used_bins=n_used_bins, bottleneck=2), noise()
    found = network(spectrogram)
    assert found[:, :, :, :expected].abs().min() > 0
    assert not found[:, :, :, expected:].any()
    changed = spectrogram.clone()
    changed[:, :, expected:] = 0
    assert torch.equal(network(changed), found)


def test_frames_and_frequencies_are_scaled_apart():
    network = build(scale=(1, 4), n_stages=1, n_blocks=1)
    assert network.frame_multiple == 1
    assert network(noise(n_frames=3)).shape == (1, 2, 2, 65, 3)


def test_autocast_in_float16_is_near():
    network, spectrogram = build(), noise()
    with torch.autocast("cpu", torch.float16):
        found = network(spectrogram)
    torch.testing.assert_close(found, network(spectrogram), rtol=0, atol=0.005)  # 11 bits are 0.0005 at 1


def test_frames_that_the_stages_cannot_halve_are_refused():
    with pytest.raises(ValueError, match="spectrogram must have a multiple of 4 frames, as a Separator pads it, got 6"):
        build()(noise(n_frames=6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_maps": 0}, "n_maps must be at least 1, got 0"),
        ({"n_stages": 0}, "n_stages must be at least 1, got 0"),
        ({"n_blocks": 0}, "n_blocks must be at least 1, got 0"),
        ({"n_subbands": 0}, "n_subbands must be at least 1, got 0"),
        ({"scale": (2, 0)}, "scale must be at least 1, got 0"),
        ({"bottleneck": 0}, "bottleneck must be at least 1, got 0"),
        ({"growth": -1}, "growth must be at least 0, got -1"),
        ({"activation": "tanh"}, "activation must be one of gelu, relu, elu, got 'tanh'"),
        ({"n_used_bins": 24}, r"n_used_bins must be a multiple of n_subbands \* .*, 16, up to n_bins 65, got 24"),
        ({"n_used_bins": 80}, "up to n_bins 65, got 80"),
        ({"n_bins": 9}, "up to n_bins 9, got 0"),
        ({"bottleneck": 8}, "bottleneck must be at most the frequencies of the lowest stage, 4, got 8"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.mark.parametrize(("section", "value", "wanted"), [("inference", True, "recording"), ("data", False, None)])
def test_a_config_says_whether_recordings_are_normalised(golden, section, value, wanted):
    config = {**golden.config, section: {"normalize": value}}
    assert mdx23c.settings(golden.tensors, config)["normalize"] == wanted


def test_a_config_that_says_nothing_clear_about_it_is_refused(golden):
    config = {**golden.config, "inference": {"normalize": "peak"}}
    with pytest.raises(ValueError, match=r"inference\.normalize must be true or false, got 'peak'"):
        mdx23c.settings(golden.tensors, config)
