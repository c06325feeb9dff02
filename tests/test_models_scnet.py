"""SCNet gives what the published ones give, from their weights, and says what does not fit."""

from types import SimpleNamespace

import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported

from sepkit.importing import scnet
from sepkit.models import SCNet
from sepkit.models._bands_of_stages import Band, split_stages

SMALL = {"n_maps": (4, 6), "band_convolutions": (1, 1, 0), "bottleneck": 2, "n_layers": 2}


@pytest.fixture
def golden(reference_root):
    """Read a case, with a config in the community's shape or, of the official one, in the authors'."""

    def read(name: str = "scnet") -> SimpleNamespace:
        case = read_golden(reference_root, name)
        model, rate = dict(case.config["kwargs"]), case.config["sample_rate"]
        audio = {"sample_rate": rate, "chunk_size": case.input.shape[-1]}
        training = {"instruments": list(model["sources"]), "target_instrument": None}
        config = {"model": model, "audio": audio, "training": training}
        if name == "scnet_official":
            config = {"model": {**model, "standardize": True}, "data": {"samplerate": rate, "segment": 1}}
        return SimpleNamespace(tensors=case.tensors, config=config, input=case.input, output=case.output)

    return read


def build(**arguments) -> SCNet:
    torch.manual_seed(0)
    return SCNet(**{"n_sources": 2, "n_channels": 2, "n_bins": 65, **SMALL, **arguments})


def noise(n_frames: int = 8, level: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return level * torch.randn(1, 2, 65, n_frames, dtype=torch.complex64, generator=generator)


def put(config: dict, key: str, value: object) -> None:
    section, _, name = key.partition(".")
    if value is None:
        config[section].pop(name, None)
    else:
        config[section][name] = value


@torch.no_grad()
@pytest.mark.parametrize("name", ["scnet", "scnet_masked", "scnet_official"])
def test_it_gives_what_the_published_network_gives(golden, name):
    golden = golden(name)
    assert golden.input.shape[-1] % 256
    separator = build_imported(scnet, golden.tensors, golden.config)
    assert snr(separator(golden.input), golden.output) > 90


def test_settings_are_those_of_the_tensors_and_the_config(golden):
    golden = golden()
    settings = scnet.settings(golden.tensors, golden.config)
    assert settings["sources"] == ["drums", "vocals"]
    assert settings["segment"] * settings["sample_rate"] == 40000
    for key in ("dims", "band_kernel", "conv_depths", "compress", "conv_kernel", "num_dplayer", "expand"):
        put(golden.config, f"model.{key}", None)
    assert scnet.settings(golden.tensors, golden.config) == settings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.dims", [4, 6, 8], r"model.dims must be \[4, 6, 8, 12\], as the tensors have it, got \[4, 6, 8\] in"),
        ("model.audio_channels", 1, "model.audio_channels must be 2, as the tensors have it, got 1"),
        ("model.band_kernel", [3, 4, 8], r"model.band_kernel must be \[3, 4, 16\], as the tensors have it"),
        ("model.conv_depths", [3, 2, 2], r"model.conv_depths must be \[3, 2, 1\], as the tensors have it"),
        ("model.compress", 4, "model.compress must be 2, as the tensors have it, got 4"),
        ("model.conv_kernel", 5, "model.conv_kernel must be 3, as the tensors have it, got 5"),
        ("model.num_dplayer", 6, "model.num_dplayer must be 4, as the tensors have it, got 6"),
        ("model.expand", 2, "model.expand must be 1, as the tensors have it, got 2"),
        ("model.sources", ["a", "b"], r"training.instruments must be \['a', 'b'\], as model.sources of the config has"),
        ("training.target_instrument", "drums", "training must name 2 sources, as the tensors have it, got drums"),
        ("model.nfft", None, "config must state model.nfft, which the tensors cannot tell"),
        ("model.hop_size", None, "config must state model.hop_size"),
        ("model.win_size", None, "config must state model.win_size"),
        ("model.normalized", None, "config must state model.normalized"),
        ("model.band_SR", None, "config must state model.band_SR"),
        ("model.band_stride", None, "config must state model.band_stride"),
        ("model.sources", None, "config must state model.sources"),
        ("audio.sample_rate", None, "config must state audio.sample_rate"),
        ("audio.chunk_size", None, "config must state audio.chunk_size"),
    ],
)
def test_a_config_that_does_not_fit_is_told(golden, key, value, message):
    golden = golden()
    put(golden.config, key, value)
    with pytest.raises(ValueError, match=message):
        scnet.settings(golden.tensors, golden.config)


def test_the_transform_of_masks_is_compared_with_what_is_learned_of_each_bin(golden):
    golden = golden("scnet_masked")
    put(golden.config, "model.nfft", 2048)
    with pytest.raises(ValueError, match=r"model\.nfft must be 1024, as the tensors have it, got 2048"):
        scnet.settings(golden.tensors, golden.config)


def test_whether_the_authors_own_network_standardises_is_not_guessed(golden):
    golden = golden("scnet_official")
    put(golden.config, "model.standardize", None)
    with pytest.raises(ValueError, match=r"config must state model\.standardize"):
        scnet.settings(golden.tensors, golden.config)


def test_tensors_that_do_not_fit_are_told_by_their_original_names(golden):
    golden = golden()
    settings = scnet.settings(golden.tensors, golden.config)
    changed = {**golden.tensors, "pos_embed_f": torch.ones(1)}
    with pytest.raises(ValueError, match=r"one for one: pos_embed_f is too many$"):
        scnet.convert(changed, settings)
    lacking = {name: tensor for name, tensor in golden.tensors.items() if name != "decoder.0.0.conv.weight"}
    with pytest.raises(ValueError, match=r"one for one: decoder\.0\.0\.conv\.weight is missing$"):
        scnet.convert(lacking, settings)
    lacking = {name: tensor for name, tensor in golden.tensors.items() if "SDlayer" not in name}
    assert not scnet.detect(lacking)
    with pytest.raises(ValueError, match=r"tensors must hold encoder\.0\.SDlayer\.convs\.0\.weight, which is missing"):
        scnet.settings(lacking, golden.config)


@pytest.mark.parametrize("level", [0.0, 1e-6, 1e4])
def test_a_standardised_item_has_finite_gradients_at_any_level(level):
    network, spectrogram = build(standardize=True), noise(level=level).requires_grad_()
    network(spectrogram).abs().square().mean().backward()
    assert spectrogram.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_what_is_standardised_follows_the_level_of_the_mixture():
    network, spectrogram = build(standardize=True), noise()
    torch.testing.assert_close(network(100 * spectrogram), 100 * network(spectrogram), rtol=1e-3, atol=1e-3)


def test_masked_spectra_are_never_louder_than_the_mixture_in_either_part():
    network, spectrogram = build(masked=True), noise()
    with torch.no_grad():
        network.core.mask[2].weight.mul_(100)
    mask = network(spectrogram) / spectrogram.unsqueeze(1)
    assert mask.real.abs().max() <= 1 + 1e-5
    assert mask.imag.abs().max() <= 1 + 1e-5
    assert mask.real.abs().max() > 0.9


def test_masked_gradients_reach_every_parameter():
    network = build(masked=True)
    network(noise(20)).abs().square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if not parameter.grad.any()]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", [{}, {"masked": True}, {"standardize": True}])
def test_autocast_in_either_half_is_near(variant, precision):
    network, spectrogram = build(**variant), noise()
    with torch.autocast("cpu", precision):
        found = network(spectrogram)
    # float16 has 11 bits and bfloat16 8: 0.0005 and 0.004 at 1, a few of which add up.
    bound = 0.005 if precision is torch.float16 else 0.05
    torch.testing.assert_close(found, network(spectrogram), rtol=0, atol=bound)


def test_an_odd_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="a multiple of 2 frames, as a Separator pads it, got 7"):
        build()(noise(7))


@pytest.mark.parametrize("n_rows", [3, 4, 5, 16, 17, 40])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (4, 4), (16, 16)])
def test_the_rows_of_a_band_come_back_where_they_were(n_rows, kernel, stride):
    band = Band(n_rows, kernel, stride)
    rows = torch.rand(1, 1, n_rows)
    padded = torch.nn.functional.pad(rows, band.padding)
    kept = torch.nn.functional.conv1d(padded, torch.ones(1, 1, kernel), stride=stride)
    assert kept.shape[-1] == band.n_kept
    back = torch.nn.functional.conv_transpose1d(kept, torch.ones(1, 1, kernel), stride=stride)[..., band.crop]
    assert back.shape[-1] == n_rows


def test_bands_are_split_as_the_published_sizes_are():
    stages = split_stages(2049, 3, (0.175, 0.392, 0.433), (3, 4, 16), (1, 4, 16))
    assert [[band.n_rows for band in bands] for bands in stages] == [[359, 803, 887], [108, 242, 266], [33, 73, 80]]
    assert sum(band.n_kept for band in stages[-1]) == 57


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_maps": ()}, r"bottleneck must lie in \[1, the least of n_maps\], got 2 for \[\]"),
        ({"bottleneck": 0}, "bottleneck must lie in .* got 0"),
        ({"bottleneck": 5}, "bottleneck must lie in .* got 5"),
        ({"band_convolutions": (1, 1)}, r"band_convolutions must be 3 numbers .* got \[1, 1\]"),
        ({"band_convolutions": (1, 1, -1)}, "band_convolutions must be 3 numbers that are not negative"),
        ({"kernel_size": 2}, "kernel_size must be odd, got 2"),
        ({"n_layers": 3}, "n_layers must be even and at least 2, got 3"),
        ({"n_layers": 0}, "n_layers must be even and at least 2, got 0"),
        ({"expand": 0}, "expand must be at least 1, got 0"),
        ({"masked": True, "standardize": True}, "standardize must be false where masked is true"),
        ({"band_strides": (1, 4)}, "band_shares, band_kernels and band_strides must have one value a band, got 3, 3"),
        ({"band_shares": (0.5, 0.4, 0.2)}, "band_shares must be above 0 and sum to 1, got 0.5, 0.4, 0.2"),
        ({"band_kernels": (2, 4, 16)}, "band_kernels must be the band's stride, .* got 2 for a stride of 1"),
        ({"band_kernels": (3, 8, 16)}, "band_kernels must be the band's stride, .* got 8 for a stride of 4"),
        ({"n_bins": 2}, r"n_bins must give each band of stage 1 a row, got rows \[1, 1, 0\]"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
