"""HTDemucs, HDemucs and Demucs give what demucs gives, and its weights are taken over tensor by tensor."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from goldens import read_golden, snr
from imported import build_imported
from torch import Tensor, nn

from sepkit import masks, models
from sepkit.chunking import Chunking
from sepkit.importing import demucs
from sepkit.importing._demucs_names import original_time
from sepkit.models._demucs_bands import encoder_spans
from sepkit.models._demucs_layers import LocalAttention, Recurrence, Stride
from sepkit.models._resample import Resampler
from sepkit.separator import Separator

STFT = {"class": "STFT", "n_fft": 128, "hop_length": 32, "normalized": True, "framing": "hops"}
HYBRID = {
    "HTDemucs": {"hidden_channels": 8, "depth": 2, "bottleneck_channels": 12, "n_layers": 2, "n_heads": 2},
    "HDemucs": {
        "hidden_channels": 4,
        "growth": 1,
        "depth": 4,
        "residual_compression": 1,
        "recurrence_from": 2,
        "attention_from": 3,
    },
}
every_hybrid = pytest.mark.parametrize("name", HYBRID)


def make(name: str, **arguments) -> Separator:
    torch.manual_seed(0)
    network = {"class": name, **HYBRID[name], **arguments}
    return Separator(["vocals", "drums"], network, 8000, 2, 0.1, STFT).eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def arguments_of(config: dict) -> dict:
    """The original's arguments, fractions as such, with what the file around them states."""
    given = {"samplerate": config["sample_rate"], "segment": 10, **config["kwargs"]}
    if isinstance(given["segment"], dict):
        given["segment"] = Fraction(given["segment"]["numerator"], given["segment"]["denominator"])
    return given


def originals(separator: Separator) -> dict[str, Tensor]:
    """The weights of a separator under demucs' names."""
    across = [f"crosstransformer.{layers}.1.cross_attn.in_proj_weight" for layers in ("layers", "layers_t")]
    branches = [f"encoder.{layer}.dconv.layers.{branch}" for layer in (2, 3) for branch in (0, 1)]
    parts = [*across, *(f"{branch}.3.linear.weight" for branch in branches)]
    parts += [f"{branch}.4.proj.weight" for branch in branches[2:]]
    if isinstance(separator.network, models.HTDemucs):
        parts = across
    return {demucs.original_hybrid(name, parts): tensor for name, tensor in separator.network.state_dict().items()}


CONFIG = {
    "HTDemucs": {"sources": ["vocals", "drums"], "samplerate": 8000, "segment": 0.1, "norm_starts": 4, "dconv_mode": 3,
                 "t_heads": 2},
    "HDemucs": {"sources": ["vocals", "drums"], "samplerate": 8000, "segment": 0.1, "dconv_lstm": 2, "dconv_attn": 3},
}  # fmt: skip


# As published


@pytest.mark.parametrize("name", ["htdemucs", "hdemucs", "hdemucs_multi", "hdemucs_masked", "demucs_time"])
def test_a_separator_gives_the_waveforms_of_demucs(reference_root, name):
    golden = read_golden(reference_root, name)
    separator = build_imported(demucs, golden.tensors, arguments_of(golden.config))
    with torch.no_grad():
        assert snr(separator(golden.input), golden.output) > 90


def test_the_length_of_its_training_gives_the_waveforms_of_demucs(reference_root):
    golden = read_golden(reference_root, "htdemucs")
    separator = build_imported(demucs, golden.tensors, arguments_of(golden.config))
    with np.load(reference_root / "goldens" / "models" / "htdemucs" / "io.npz") as arrays, torch.no_grad():
        found, wanted = (torch.from_numpy(arrays[name]) for name in ("input_full", "output_full"))
        assert found.shape[-1] == separator.network.training_length == 6768
        assert snr(separator(found), wanted) > 90


def test_version_2_gives_the_waveforms_of_demucs_on_a_valid_length(reference_root):
    golden = read_golden(reference_root, "demucs_v2")
    separator = build_imported(demucs, golden.tensors, arguments_of(golden.config))
    core = separator.network.core
    assert core.valid_length(5000) == golden.input.shape[-1] == 5098
    with torch.no_grad():
        assert snr(core(golden.input), golden.output) > 90


# Imported


@every_hybrid
def test_weights_go_there_and_back(name):
    separator = make(name)
    tensors = originals(separator)
    found = build_imported(demucs, tensors, CONFIG[name])
    mixture = noise(1, 2, 700)
    with torch.no_grad():
        assert torch.equal(found(mixture), build_imported(demucs, tensors, CONFIG[name])(mixture))
    state = found.network.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in separator.network.state_dict().items())


def test_weights_of_torchaudio_are_those_of_demucs_by_other_names():
    tensors = originals(make("HDemucs"))
    renamed = {}
    for name, tensor in tensors.items():
        theirs = f"time_{name[1:]}" if name.startswith("t") else f"freq_{name}"
        renamed[theirs if "coder." in name else name] = tensor
    renamed["time_encoder.2.norm1.weight"] = torch.ones(4)  # held and never used
    found, wanted = (build_imported(demucs, each, CONFIG["HDemucs"]).state_dict() for each in (renamed, tensors))
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("segment", "sample_rate", "n_samples"),
    [(7.8, 44100, 343980), (Fraction(39, 5), 44100, 343980), (0.35, 44100, 15435), (Fraction(141, 1000), 48000, 6768)],
)
def test_no_sample_of_a_segment_is_lost(segment, sample_rate, n_samples):
    config = {**CONFIG["HTDemucs"], "segment": segment, "samplerate": sample_rate}
    tensors = originals(make("HTDemucs"))
    settings = demucs.settings(tensors, config)
    assert settings["network"]["training_length"] == n_samples
    assert round(settings["segment"] * sample_rate) == n_samples
    free = demucs.settings(tensors, {**config, "use_train_segment": False})
    assert "training_length" not in free["network"]
    config = {**CONFIG["HDemucs"], "segment": segment, "samplerate": sample_rate}
    assert round(demucs.settings(originals(make("HDemucs")), config)["segment"] * sample_rate) == n_samples
    config = {**TIME_CONFIG, "segment": segment, "samplerate": sample_rate}
    assert round(demucs.settings(time_tensors("third"), config)["segment"] * sample_rate) == n_samples


def test_recordings_are_separated_as_demucs_does_it():
    for tensors, config in (
        (originals(make("HTDemucs")), CONFIG["HTDemucs"]),
        (originals(make("HDemucs")), CONFIG["HDemucs"]),
        (time_tensors("second"), TIME_CONFIG),
    ):
        separator = Separator(**demucs.settings(tensors, config))
        assert separator.normalize == "recording"
        assert separator.chunking == Chunking(overlap=0.25, window="triangle", last="short")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("HTDemucs", {"channels": 48}, "channels must be 8, as the tensors have it, got 48 in the config"),
        ("HTDemucs", {"depth": 4}, "depth must be 2, as the tensors have it, got 4"),
        ("HTDemucs", {"nfft": 4096}, "nfft must be 128, as the tensors have it, got 4096"),
        ("HTDemucs", {"t_layers": 5}, "t_layers must be 2, as the tensors have it, got 5"),
        ("HTDemucs", {"bottom_channels": 0}, "bottom_channels must be 12, as the tensors have it, got 0"),
        ("HTDemucs", {"t_hidden_scale": 2.0}, "t_hidden_scale must be 4.0, as the tensors have it, got 2.0"),
        ("HTDemucs", {"dconv_mode": 1}, "dconv_mode must be 3, as the tensors have it, got 1"),
        ("HTDemucs", {"dconv_comp": 4}, "dconv_comp must be 8, as the tensors have it, got 4"),
        ("HTDemucs", {"norm_starts": 1}, "norm_starts must be 2, as the tensors have it, got 1"),
        ("HTDemucs", {"stride": 2}, "stride must be 4, as the tensors have it, got 2"),
        ("HTDemucs", {"audio_channels": 1}, "audio_channels must be 2, as the tensors have it, got 1"),
        ("HTDemucs", {"sources": ["vocals"]}, "sources must be 2, as the tensors have it, got vocals in the config"),
        ("HTDemucs", {"freq_emb": 0}, "freq_emb must be above 0, as the tensors have it, got 0"),
        ("HTDemucs", {"sources": None}, "config must state sources, which the tensors cannot tell"),
        ("HTDemucs", {"samplerate": None}, "config must state samplerate"),
        ("HTDemucs", {"segment": None}, "config must state segment"),
        ("HTDemucs", {"t_emb": "cape"}, "t_emb must be 'sin', which alone is supported, got 'cape'"),
        ("HTDemucs", {"num_subbands": 4}, "num_subbands must be 1, which alone is supported, got 4"),
        ("HTDemucs", {"hidden": 4}, "config must hold arguments of the original network alone, got hidden"),
        ("HDemucs", {"dconv_lstm": 4}, "dconv_lstm must be 2, as the tensors have it, got 4"),
        ("HDemucs", {"cac": False}, "cac must be True, as the tensors have it, got False"),
        ("HDemucs", {"multi_freqs": [0.5]}, r"multi_freqs must part 1 bands, as the tensors have it, got \[0.5\]"),
        ("HDemucs", {"hybrid": False}, "hybrid must be True, which alone is supported, got False"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        demucs.settings(originals(make(name)), {**CONFIG[name], **changes})


def test_the_size_of_the_transform_is_asked_for_where_no_tensor_tells_it():
    tensors = originals(make("HTDemucs", embedding_gain=0.0))
    config = {**CONFIG["HTDemucs"], "freq_emb": 0}
    with pytest.raises(ValueError, match="config must state nfft, which the tensors cannot tell"):
        demucs.settings(tensors, config)
    assert build_imported(demucs, tensors, {**config, "nfft": 128}).network.n_bins == 65


def test_a_tensor_too_many_or_few_is_named():
    tensors = originals(make("HTDemucs"))
    settings = demucs.settings(tensors, CONFIG["HTDemucs"])
    tensors["extra"] = tensors.pop("decoder.1.rewrite.bias")
    with pytest.raises(ValueError, match=r"one for one: decoder\.1\.rewrite\.bias is missing, extra is too many"):
        demucs.convert(tensors, settings)


def test_tensors_of_others_are_not_detected():
    assert not demucs.detect(models.BLSTM(1, 1, 65, 8000, hidden_size=8).state_dict())


# Its own


@every_hybrid
def test_silence_stays_silent(name):
    with torch.no_grad():
        assert not make(name)(torch.zeros(1, 2, 500)).any()


@every_hybrid
@pytest.mark.parametrize("length", [1, 33, 700])
def test_every_length_passes(name, length):
    with torch.no_grad():
        found = make(name)(noise(2, 2, length))
    assert found.shape == (2, 2, 2, length)
    assert found.isfinite().all()


def test_a_short_mixture_is_that_with_zeros_behind_it():
    separator, mixture = make("HTDemucs", training_length=800), noise(1, 2, 770)
    filled = nn.functional.pad(mixture, (0, 30))
    with torch.no_grad():
        assert torch.equal(separator(mixture), separator(filled)[..., :770])
    assert torch.equal(separator.spectrogram(mixture), separator.spectrogram(filled))


@pytest.mark.parametrize("choice", ["encoder", "decoder", "both"])
def test_residual_branches_are_where_they_are_asked_for(choice):
    names = make("HTDemucs", residual_in=choice).state_dict()
    found = {coder for coder in ("encoder", "decoder") if any(f"{coder}.0.residuals" in name for name in names)}
    assert found == ({"encoder", "decoder"} if choice == "both" else {choice})


@pytest.mark.parametrize("change", [{"cross_first": True}, {"position_gain": 0.0}, {"longest_period": 10.0}])
def test_the_transformer_does_as_it_is_told(change):
    mixture = noise(1, 2, 700)
    separators = make("HTDemucs"), make("HTDemucs", **change)
    for separator in separators:
        for name, parameter in separator.named_parameters():
            if name.endswith("_scale"):
                nn.init.ones_(parameter)
    with torch.no_grad():
        found, plain = (separator(mixture) for separator in separators)
    assert not torch.allclose(found, plain, rtol=1e-4, atol=1e-6)


def test_gradients_reach_every_parameter_of_a_joined_network():
    separator = make("HDemucs").train()
    separator(noise(1, 2, 7000)).square().mean().backward()  # 219 frames: more than the LSTM takes at a time
    assert not [name for name, parameter in separator.named_parameters() if not parameter.grad.any()]


@pytest.mark.parametrize("iterations", [0, 2])
def test_magnitudes_take_the_phase_of_the_mixture_and_may_be_filtered(iterations):
    separator = make("HDemucs", estimates="magnitude", wiener_iterations=iterations)
    mixture = noise(1, 2, 700)
    with torch.no_grad():
        separation = separator.analyze(mixture)
        magnitude, _ = separator.network.core(separation.mixture_magnitude[:, :, :-1], mixture)
    used = separation.mixture_spectrogram[:, :, :-1]
    wanted = magnitude * torch.exp(1j * used.angle()).unsqueeze(1)
    if iterations:
        wanted = masks.wiener(wanted, used, iterations)
    torch.testing.assert_close(separation.spectrum[:, :, :, :-1], wanted, rtol=1e-3, atol=1e-4)


def test_a_spectrogram_of_other_frames_is_refused():
    network, mixture = make("HDemucs").network, noise(1, 2, 700)
    with pytest.raises(ValueError, match="mixture of 700 samples must have a frame per 32, got 9: use transform"):
        network(mixture, torch.zeros(1, 2, 65, 9, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("HTDemucs", {"depth": 3}, r"n_bins must be one more than a multiple of 4\^3 and more than 128 for 3 layers"),
        ("HTDemucs", {"n_heads": 5}, "features a multiple of 4 and of n_heads, got 2, 5 and 12"),
        ("HTDemucs", {"kernel_size": 6}, "kernel_size must be twice stride 4, got 6"),
        ("HTDemucs", {"growth": 0}, "growth must be at least 1, got 0"),
        ("HTDemucs", {"residual_in": "all"}, "residual_in must be encoder, decoder or both, got 'all'"),
        ("HTDemucs", {"residual_compression": 9}, "a layer must have at least residual_compression 9, got 8"),
        ("HDemucs", {"depth": 2}, "n_bins must be one more than an even number up to kernel_size 8 times a power"),
        ("HDemucs", {"estimates": "mask"}, "estimates must be spectrum or magnitude, got 'mask'"),
        ("HDemucs", {"wiener_iterations": 1}, "wiener_iterations must be at least 0, and 0 for spectra, got 1"),
        ("HDemucs", {"band_edges": [0.5, 0.25]}, "band_edges must rise between 0 and 1"),
        ("HDemucs", {"band_edges": [0.5], "n_banded": 3}, "n_banded must be below 3 and at most norm_from 4, got 3"),
        ("HDemucs", {"hidden_channels": 6}, "attention needs a multiple of 4 features in its branch, got 6"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        getattr(models, name)(2, 2, 65, **{**HYBRID[name], **changes})


# Parts


def test_bands_are_read_as_far_as_their_strides_need():
    spans = encoder_spans(512, (0.25, 0.5), Stride(8, 4, spectral=True))
    assert list(spans) == [(0, 130), (126, 258), (254, 512)]


@pytest.mark.parametrize("n_frames", [40, 41, 97, 100])
def test_a_recurrence_in_spans_keeps_the_middle_of_each(n_frames):
    torch.manual_seed(0)
    features = noise(2, 3, n_frames)
    whole, spans = Recurrence(3, 1, None), Recurrence(3, 1, 40)
    spans.load_state_dict(whole.state_dict())
    with torch.no_grad():
        found = spans(features)
        assert found.shape == features.shape
        torch.testing.assert_close(found[..., :30], whole(features[..., :40])[..., :30])
        if n_frames > 60:
            torch.testing.assert_close(found[..., 30:50], whole(features[..., 20:60])[..., 10:30])


def test_attention_keeps_a_frame_from_hearing_itself():
    torch.manual_seed(0)
    attention, features = LocalAttention(8), noise(1, 8, 2)
    changed = features.clone()
    changed[..., 1] += 1
    with torch.no_grad():
        difference = (attention(changed) - changed) - (attention(features) - features)
    assert difference[..., 0].abs().min() > 0
    torch.testing.assert_close(difference[..., 1], torch.zeros(1, 8), rtol=0, atol=1e-6)


# In the time domain

TIME = {"hidden_channels": 4, "growth": 1, "depth": 3, "norm_from": 2, "residual_compression": 1}
TIME |= {"recurrence_from": 1, "attention_from": 2}
SECOND = {"hidden_channels": 4, "depth": 2, "activation": "relu", "norm_from": 2, "residual_in": None, "n_recurrent": 2}
SECOND |= {"padded": False, "normalize": False, "recurrence_from": None, "attention_from": None}
VERSIONS = {"third": TIME, "second": SECOND}
every_version = pytest.mark.parametrize("version", VERSIONS)
TIME_CONFIG = {"sources": ["vocals", "drums"], "samplerate": 8000, "segment": 0.1}


def make_time(version: str, **arguments) -> Separator:
    torch.manual_seed(0)
    network = {"class": "Demucs", **VERSIONS[version], **arguments}
    return Separator(["vocals", "drums"], network, 8000, 2, 0.1).eval()


def time_tensors(version: str) -> dict[str, Tensor]:
    """The weights of a separator under demucs' names."""
    parts = ["encoder.0.2.weight", "encoder.1.2.weight", "decoder.0.2.weight", "decoder.1.2.weight"]
    if version == "third":
        branches = [f"encoder.{layer}.3.layers.{branch}" for layer in (0, 1, 2) for branch in (0, 1)]
        parts = [f"{branch}.0.weight" for branch in branches] + [f"{branch}.3.linear.weight" for branch in branches[2:]]
        parts += [f"{branch}.4.proj.weight" for branch in branches[4:]]
    state = make_time(version).network.state_dict()
    return {original_time(name, parts): tensor for name, tensor in state.items()}


@every_version
def test_weights_of_the_time_domain_go_there_and_back(version):
    tensors = time_tensors(version)
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    found = build_imported(demucs, tensors, TIME_CONFIG)
    assert found.settings["network"] | VERSIONS[version] == found.settings["network"]
    assert all(torch.equal(tensors[name], tensor) for name, tensor in kept.items())
    for name, tensor in make_time(version).network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], tensor, rtol=2e-5, atol=0)


@pytest.mark.parametrize(
    ("version", "changes", "message"),
    [
        ("third", {"channels": 64}, "channels must be 4, as the tensors have it, got 64"),
        ("third", {"dconv_attn": 4}, "dconv_attn must be 2, as the tensors have it, got 4"),
        ("third", {"dconv_comp": 4}, "dconv_comp must be 1, as the tensors have it, got 4"),
        ("third", {"lstm_layers": 2}, "lstm_layers must be 0, as the tensors have it, got 2"),
        ("third", {"sources": ["a"]}, "sources must be 2, as the tensors have it, got a"),
        ("third", {"context": 3}, "context must be 1, which alone is supported, got 3"),
        ("third", {"samplerate": None}, "config must state samplerate"),
        ("second", {"glu": False}, "glu must be True, which alone is supported, got False"),
        ("second", {"gelu": True}, "config must hold arguments of the original network alone, got gelu"),
        ("second", {"normalize": True}, "normalize must be False in version 2, which alone is supported"),
        ("second", {"segment": None}, "config must state segment"),
    ],
)
def test_a_config_of_the_time_domain_that_does_not_fit_is_refused(version, changes, message):
    with pytest.raises(ValueError, match=message):
        demucs.settings(time_tensors(version), {**TIME_CONFIG, **changes})


def test_a_segment_of_version_2_may_be_told_in_samples():
    config = {**TIME_CONFIG, "segment": None, "segment_length": 2000}
    assert demucs.settings(time_tensors("second"), config)["segment"] == 0.25


@every_version
@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("length", [1, 77, 700])
def test_every_length_passes_in_the_time_domain(version, resample, length):
    with torch.no_grad():
        found = make_time(version, resample=resample)(noise(2, 2, length))
    assert found.shape == (2, 2, 2, length)
    assert found.isfinite().all()


def test_what_is_normalized_follows_the_level_and_mean_of_the_mixture():
    separator, mixture = make_time("third"), noise(1, 2, 700)
    with torch.no_grad():
        assert not separator(torch.zeros_like(mixture)).any()
        torch.testing.assert_close(separator(3 * mixture + 1), 3 * separator(mixture) + 1, rtol=1e-3, atol=1e-4)


def test_gradients_reach_every_parameter_in_the_time_domain():
    separator = make_time("third", residual_in="both", n_recurrent=1).train()
    separator(noise(1, 2, 7000)).square().mean().backward()
    assert not [name for name, parameter in separator.named_parameters() if not parameter.grad.any()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "selu"}, "activation must be one of gelu, relu, got 'selu'"),
        ({"residual_in": "all"}, "residual_in must be encoder, decoder, both or None, got 'all'"),
        ({"n_recurrent": -1}, "must be at least 1, and n_recurrent at least 0, got 4, 1, 3, 4 and -1"),
        ({"kernel_size": 9}, "kernel_size must be not below stride, and both even with resample, got 9 and 4"),
    ],
)
def test_a_network_of_the_time_domain_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        models.Demucs(2, 2, **{**TIME, **changes})


def test_resampling_keeps_what_both_rates_can_hold():
    waveform = torch.sin(0.3 * torch.arange(400))[None]
    doubled = Resampler(1, 2)(waveform)
    middle = slice(100, -100)
    torch.testing.assert_close(doubled[0, middle], torch.sin(0.15 * torch.arange(800))[middle], rtol=0, atol=1e-3)
    torch.testing.assert_close(Resampler(2, 1)(doubled)[0, middle], waveform[0, middle], rtol=0, atol=1e-3)
