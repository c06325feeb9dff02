"""BandSplitRNN gives what bandit gives, on both of its bands, and its weights are taken over tensor by tensor."""

from collections import Counter

import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported
from torch import Tensor

from sepkit import models
from sepkit.importing import bandit
from sepkit.models._recurrent_bands import overlapping_musical_bands, stepped_bands
from sepkit.models.facts import describe_network

SIZES = {"n_features": 4, "hidden_size": 3, "n_layers": 1, "mask_size": 5}
AUDIO = {"sample_rate": 44100, "num_channels": 2, "chunk_size": 132300}


def build(n_bins: int = 33, **arguments) -> models.BandSplitRNN:
    torch.manual_seed(0)
    return models.BandSplitRNN(2, 2, n_bins, 16000, **{"bands": 6, **SIZES, **arguments}).eval()


def noise(n_items: int = 2, n_frames: int = 12, n_bins: int = 33) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_items, 2, n_bins, n_frames, generator=generator, dtype=torch.complex64)


# As published


@pytest.fixture(scope="module", params=["bandit", "bsrnn"])
def golden(request, reference_root):
    return read_golden(reference_root, request.param)


def test_it_gives_the_waveforms_of_bandit(golden):
    separator = build_imported(bandit, golden.tensors, {"model": golden.config["kwargs"], "audio": AUDIO})
    with torch.no_grad():
        found = separator(golden.input)  # 39.1 and 46.9 hops
    assert snr(found, golden.output) > 90


def test_sources_are_taken_in_the_order_of_the_config(golden):
    model = {**golden.config["kwargs"], "stems": golden.config["kwargs"]["stems"][::-1]}
    separator = build_imported(bandit, golden.tensors, {"model": model, "audio": AUDIO})
    with torch.no_grad():
        assert snr(separator(golden.input).flip(1), golden.output) > 90


# Bands


def test_the_papers_bands_are_those_of_bandit():
    layout = stepped_bands(1025, 44100)
    assert len(layout) == 43
    assert [band for band in layout.bands if len(band) < 4] == [
        (45,),
        (370, 371),
        (740, 741, 742),
    ]  # the spec's slivers
    assert [layout.bands[0], layout.bands[-1][0], layout.bands[-1][-1]] == [(0, 1, 2, 3, 4), 929, 1024]


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100, 48000, 96000])
@pytest.mark.parametrize("n_bins", [33, 257, 1025])
def test_the_papers_bands_hold_each_bin_once(sample_rate, n_bins):
    bins = [one for band in stepped_bands(n_bins, sample_rate).bands for one in band]
    assert bins == list(range(n_bins))


@pytest.mark.parametrize("n_bands", [1, 12, 64])
@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000])
def test_musical_bands_hold_each_bin_and_rise(sample_rate, n_bands):
    layout = overlapping_musical_bands(n_bands, 1025, sample_rate)
    assert len(layout) == n_bands
    assert set(Counter(one for band in layout.bands for one in band)) == set(range(1025))
    assert [band[0] for band in layout.bands] == sorted(band[0] for band in layout.bands)
    assert all(band == tuple(range(band[0], band[-1] + 1)) for band in layout.bands)


@pytest.mark.parametrize(("n_bands", "message"), [(0, "bands must be at least 1, got 0")])
def test_bands_that_cannot_be_are_refused(n_bands, message):
    with pytest.raises(ValueError, match=message):
        overlapping_musical_bands(n_bands, 1025, 44100)


# Its own


def test_channels_are_separated_one_by_one():
    network, spectrogram = build(), noise()
    changed = spectrogram.clone()
    changed[:, 1] *= 3
    torch.testing.assert_close(network(changed)[:, :, 0], network(spectrogram)[:, :, 0])
    assert not torch.equal(network(changed)[:, :, 1], network(spectrogram)[:, :, 1])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("bidirectional", "lookahead"), [(True, None), (False, 0)])
def test_it_looks_ahead_as_far_as_it_says(cell, bidirectional, lookahead):
    network, spectrogram = build(bidirectional=bidirectional, cell=cell), noise()
    changed = spectrogram.clone()
    changed[..., 6:] *= 2j
    differs = (network(changed) - network(spectrogram)).abs().amax((0, 1, 2, 3)) > 0
    assert describe_network(network).lookahead == lookahead
    assert bool(differs[:6].any()) is (lookahead is None)
    assert differs[6:].all()


def test_masks_of_overlapping_bands_are_their_mean():
    network = build(bands=3)
    for masks in network.core.masks:
        for *_, last, _ in masks.layers:
            last.weight.data.zero_()
            last.bias.data.fill_(20.0)  # the gates are open
    torch.testing.assert_close(network(noise()), torch.full((2, 2, 2, 33, 12), 20 + 20j))


def test_its_layers_are_declared_as_blocks():
    network = build()
    assert {type(layer) for layer in network.core.layers} == {*describe_network(network).blocks}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"cell": "rnn"}, "cell must be one of lstm, gru, got 'rnn'"),
        ({"bands": "mel"}, "bands must be 'paper' or a number, got 'mel'"),
        ({"bands": 0}, "bands must be at least 1, got 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


# Import

MODEL = {"band_specs": "musical", "n_bands": 6, "stems": ["speech", "music"]}
CONFIG = {"model": MODEL, "audio": AUDIO}


def tensors_of(**arguments) -> tuple[dict[str, Tensor], models.BandSplitRNN]:
    """The weights of a small network in bandit's names."""
    torch.manual_seed(0)
    network = models.BandSplitRNN(2, 2, 1025, 44100, **{"bands": 6, **SIZES, **arguments}).eval()
    settings = {
        "sources": ["speech", "music"],
        "sample_rate": 44100,
        "transform": {"n_fft": 2048},
        "network": {"bands": 6, **SIZES, "bidirectional": True, **arguments},
    }
    state, found = network.state_dict(), {**bandit._shares(settings), "stft.window": torch.ones(2048)}
    for own, (originals, _) in bandit._parts(settings):
        parts = [state[own]] if own.startswith("core.layers.") else state[own].unbind(0)
        for original, part in zip(originals, parts, strict=True):
            turned = part.mT if part.dim() == 2 and "layers" in own and not own.startswith("core.layers.") else part
            apart = own.startswith(("core.split.norms.", "core.split.layers.")) and "fc.bias" not in original
            found[original] = turned.unflatten(-1, (-1, 2)).mT.flatten(-2) if apart else turned
    return found, network


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, {}),
        ({"cell": "gru"}, {"rnn_type": "GRU"}),
        ({"bidirectional": False, "n_layers": 2}, {"bidirectional": False, "n_sqm_modules": 2}),
        ({"bands": "paper"}, {"band_specs": "dnr:vox7", "n_bands": None}),
    ],
)
def test_settings_follow_from_the_weights_and_the_config(arguments, told):
    tensors, network = tensors_of(**arguments)
    separator = build_imported(bandit, tensors, {**CONFIG, "model": {**MODEL, **told}})
    spectrogram = noise(1, 5, 1025)
    assert torch.equal(separator.network(spectrogram), network(spectrogram))
    assert separator.segment == 3


@pytest.mark.parametrize(
    ("section", "told", "message"),
    [
        ("audio", {"sample_rate": None}, "config must state audio.sample_rate, which the tensors cannot tell"),
        ("audio", {"num_channels": None}, "config must state audio.num_channels, which"),
        ("audio", {"chunk_size": None}, "config must state audio.chunk_size, which"),
        ("model", {"band_specs": None}, "config must state model.band_specs, which"),
        ("model", {"band_specs": "mel"}, "model.band_specs must be one of musical, dnr:speech, .*, got mel"),
        ("model", {"n_bands": 7}, "model.n_bands must be 6, as the tensors have it, got 7"),
        (
            "model",
            {"band_specs": "dnr:vox7"},
            "model.band_specs dnr:vox7 at 44100 Hz must fit the tensors, got 6 bands of",
        ),
        ("audio", {"sample_rate": 16000}, "model.band_specs musical at 16000 Hz must fit the tensors, got 6 bands of"),
        ("model", {"fs": 48000}, "model.fs must be 44100, as"),
        ("model", {"stems": ["speech"]}, "model.stems must be speech, music, as the tensors have it, got speech"),
        ("model", {"rnn_type": "GRU"}, "model.rnn_type must be LSTM, as the tensors have it, got GRU"),
        ("model", {"emb_dim": 8}, "model.emb_dim must be 4, as the tensors have it, got 8"),
        ("model", {"n_sqm_modules": 8}, "model.n_sqm_modules must be 1, as the tensors have it, got 8"),
        (
            "model",
            {"hidden_activation": "ReLU"},
            "model.hidden_activation must be Tanh, as no other is supported, got ReLU",
        ),
    ],
)
def test_a_config_that_does_not_go_with_the_weights_is_refused(section, told, message):
    with pytest.raises(ValueError, match=message):
        bandit.settings(tensors_of()[0], {**CONFIG, section: {**CONFIG[section], **told}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.update({"bsrnn.tf_model.seqband.2.fc.bias": torch.ones(4)}),
            r"one for one: bsrnn\.tf_model\.seqband\.2\.fc\.bias is too many",
        ),
        (
            lambda tensors: tensors.pop("bsrnn.mask_estim.music.norm_mlp.3.output.0.bias"),
            r"one for one: bsrnn\.mask_estim\.music\.norm_mlp\.3\.output\.0\.bias is missing",
        ),
        (
            lambda tensors: tensors["bsrnn.mask_estim.music.freq_weights/2"].zero_(),
            r"bsrnn\.mask_estim\.music\.freq_weights/2 must be 1 / the number of bands",
        ),
        (
            lambda tensors: tensors.update({"bsrnn.mask_estim.music.norm_mlp.3.hidden.0.weight": torch.ones(2, 4)}),
            r"3\.hidden\.0\.weight must fit core\.masks\.1\.layers\.3\.1\.weight, \(1, 4, 5\), .* got \(2, 4\)",
        ),
    ],
)
def test_tensors_that_are_not_those_of_the_network_are_named(change, message):
    tensors = {name: tensor.clone() for name, tensor in tensors_of()[0].items()}
    settings = bandit.settings(tensors, CONFIG)
    change(tensors)
    with pytest.raises(ValueError, match=message):
        bandit.convert(tensors, settings)


def test_other_weights_are_not_taken_for_bandits():
    assert not bandit.detect({"bandsequence.bsrnn.0.0.fc.weight": torch.ones(1)})


def test_a_tensor_of_other_dimensions_is_named():
    tensors = {**tensors_of()[0], "bsrnn.tf_model.seqband.0.rnn.weight_hh_l0": torch.ones(2, 2, 2, 2)}
    with pytest.raises(
        ValueError,
        match=r"bsrnn\.tf_model\.seqband\.0\.rnn\.weight_hh_l0 must have 2 dimensions with values, got \(2, 2, 2, 2\)",
    ):
        bandit.settings(tensors, CONFIG)
