"""Models of normalised recordings: what the network sees, and that estimates come back at the recording's level."""

import pytest
import torch
from torch import Tensor, nn

from sepkit import audio
from sepkit.evaluation import evaluate
from sepkit.inference import StreamSeparator, measure_statistics, separate, separate_file
from sepkit.metrics import snr
from sepkit.normalization import RunningStatistics, as_statistics, measure_mixture
from sepkit.recipe import RecipeError, load_recipe
from sepkit.separator import Separator

RATE = 8000


class Bent(nn.Module):
    """Estimate something that depends on the level: what is not 0 even in silence."""

    outputs = ("estimate",)

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.gain, self.n_sources = nn.Parameter(torch.tensor(1.0)), n_sources

    def forward(self, mixture: Tensor) -> Tensor:
        return torch.cos(self.gain * mixture).unsqueeze(1).expand(-1, self.n_sources, -1, -1)


def make(normalize: str | None = "recording", n_channels: int = 2, **settings) -> Separator:
    network, transform = {"class": f"{__name__}.Bent"}, {"class": "STFT", "n_fft": 64, "hop_length": 32}
    return Separator(["vocals", "drums"], network, RATE, n_channels, 0.1, transform, normalize=normalize, **settings)


def noise(*shape: int) -> Tensor:
    waveform = torch.rand(shape, generator=torch.Generator().manual_seed(shape[-1])) - 0.5
    return 0.2 * waveform * torch.linspace(0.1, 1, shape[-1]) + 0.03  # with a mean, and louder towards the end


def by_hand(mixture: Tensor) -> Tensor:
    """Estimate each source of (..., C, T) as demucs' and MSST's own code does it: for the whole recording at once."""
    mono = mixture.mean(-2, keepdim=True)
    mean, spread = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True) + 1e-8
    return torch.cos((mixture - mean) / spread) * spread + mean


# Recordings


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_a_recording_is_separated_as_if_it_were_normalised_as_a_whole(overlap):
    mixture = noise(2, 5000)
    stems = separate(make(), mixture, overlap=overlap, residual=True)
    torch.testing.assert_close(stems["drums"], by_hand(mixture))
    torch.testing.assert_close(sum(stems.values()), mixture)


def test_a_file_is_separated_like_its_waveform(tmp_path):
    mixture = noise(2, 30000)
    audio.write(tmp_path / "song.wav", mixture, RATE)
    files = separate_file(make(), tmp_path / "song.wav", tmp_path / "out").stems
    torch.testing.assert_close(audio.read(files["vocals"])[0], by_hand(mixture))


def test_of_a_truncated_file_what_decodes_is_measured(tmp_path):
    mixture = noise(2, 30000)
    audio.write(tmp_path / "whole.wav", mixture, RATE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[: -10000 * 8])
    result = separate_file(make(), tmp_path / "cut.wav", tmp_path / "out", allow_truncated=True)
    assert result.missing == 10000
    torch.testing.assert_close(audio.read(result.stems["drums"])[0], by_hand(mixture[:, :20000]))


def test_each_group_of_channels_is_a_recording_of_its_own():
    mixture = torch.cat([noise(2, 4000), 0.1 * noise(2, 4000).flip(-1), 3 * noise(1, 4000)])
    found = separate(make(), mixture)["vocals"]
    for group in (slice(0, 2), slice(2, 4), slice(4, 5)):
        torch.testing.assert_close(found[group], by_hand(mixture[group]))


def test_a_recording_of_another_rate_is_measured_at_the_models():
    mixture = noise(2, 20000)
    found = separate(make(), mixture, sample_rate=16000)["vocals"]
    heard = by_hand(audio.resample(mixture, 16000, RATE))
    wanted = audio.resample(heard, RATE, 16000)
    torch.testing.assert_close(found[:, 200:-200], wanted[:, 200:-200], rtol=0, atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_stays_silence_whatever_the_network_says(level):
    mixture = torch.full((2, 3000), level)
    assert torch.equal(separate(make(), mixture)["vocals"], mixture)
    assert torch.equal(make().eval()(mixture[None])[0, 0], mixture)


def test_a_single_sample_has_a_level_too():
    assert separate(make(), torch.tensor([[0.5], [0.5]]))["vocals"].tolist() == [[0.5], [0.5]]


def test_a_song_is_scored_as_it_is_separated(tmp_path):
    sources = {"vocals": noise(2, 9000), "drums": 2 * noise(2, 9000).flip(-1)}
    (tmp_path / "data" / "test" / "song").mkdir(parents=True)
    for name, waveform in sources.items():
        audio.write(tmp_path / "data" / "test" / "song" / f"{name}.wav", waveform, RATE)
    mixture = sum(sources.values())
    options = {"metrics": ["SNR"], "baselines": False, "progress": False}
    found = evaluate(make(), tmp_path / "data", **options)
    for row, estimate in zip(found.rows, separate(make(), mixture).values(), strict=True):
        assert row.value == pytest.approx(float(snr(estimate[None], sources[row.target][None])), abs=1e-3)


# Streams


def test_a_stream_says_what_it_needs():
    with pytest.raises(ValueError, match=r"statistics must be given, because the model normalises .*: measure_stat"):
        StreamSeparator(make(), RATE, 2, ["vocals"])


def test_a_stream_takes_what_is_known_of_its_level():
    mixture = noise(2, 3000)
    mono = mixture.mean(0)
    known = (float(mono.mean()), float(mono.std()))
    for statistics in (known, torch.tensor(known), measure_statistics(make(), mixture.split(700, -1), RATE, 2)):
        stream = StreamSeparator(make(), RATE, 2, ["vocals"], statistics=statistics)
        found = torch.cat(list(stream.run(mixture.split(500, -1))), -1)[0]
        torch.testing.assert_close(found, by_hand(mixture))


def test_statistics_that_nobody_asked_for_are_refused():
    assert measure_statistics(make(None), [], RATE, 2) is None
    with pytest.raises(ValueError, match="statistics are for a model whose normalize is 'recording': leave them out"):
        StreamSeparator(make(None), RATE, 2, ["vocals"], statistics=(0, 1))
    with pytest.raises(ValueError, match="statistics are for a separator whose normalize is 'recording'"):
        make(None)(noise(1, 2, 300), (0, 1))


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ((0, 1, 2), r"statistics must be a mean and a standard deviation, \(2,\) or \(3, 2\), got \(3,\)"),
        (torch.zeros(2, 2), r"\(2,\) or \(3, 2\), got \(2, 2\)"),
        ("loud", "statistics must be a mean and a standard deviation, got 'loud'"),
        ((0, -1), r"statistics must be finite, and no standard deviation below 0, got \[0.0, -1.0\]"),
        ((float("nan"), 1), "statistics must be finite"),
    ],
)
def test_statistics_that_cannot_be_are_refused(statistics, message):
    with pytest.raises(ValueError, match=message):
        as_statistics(statistics, 3)


@pytest.mark.parametrize("block", [1, 7, 500, 10_000])
def test_running_statistics_are_those_of_the_whole(block):
    waveform = torch.cat([noise(2, 4001), 0.5 + 1e-3 * noise(2, 4001), noise(1, 4001)])
    running = RunningStatistics(2)
    for part in waveform.split(block, -1):
        running.push(part)
    groups = [group.double().mean(0) for group in waveform.split(2)]
    wanted = torch.stack([torch.stack([group.mean(), group.std()]) for group in groups])
    torch.testing.assert_close(running.measure(), wanted, rtol=1e-9, atol=0)
    torch.testing.assert_close(measure_mixture(waveform[None, :2].double())[0], wanted[0], rtol=1e-9, atol=0)


# Training


def test_an_example_is_normalised_by_its_own_mixture():
    targets = torch.stack([noise(2, 2, 800), 3 * noise(2, 2, 800).flip(-1)], 1)
    mixture = targets.sum(1) * torch.tensor([1.0, 0.1])[:, None, None]
    separation = make().analyze(mixture, targets)
    mono = mixture.mean(1)
    mean, spread = mono.mean(-1)[:, None, None], mono.std(-1)[:, None, None]
    torch.testing.assert_close(separation.mixture, (mixture - mean) / spread)
    torch.testing.assert_close(separation.target, (targets - mean[:, None]) / spread[:, None])
    torch.testing.assert_close(separation.estimate[:, 0], torch.cos(separation.mixture))


def test_estimates_of_a_call_are_those_of_the_example_at_its_own_level():
    mixture = noise(2, 2, 800)
    torch.testing.assert_close(make()(mixture)[:, 1], by_hand(mixture))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6, 1e4])
def test_values_and_gradients_are_finite_at_any_level(level):
    mixture = (level * noise(1, 2, 400)).requires_grad_()
    separator = make()
    separation = separator.analyze(mixture, mixture.detach()[:, None].expand(-1, 2, -1, -1))
    (separation.estimate - separation.target).square().mean().backward()
    assert mixture.grad.isfinite().all()
    assert separator.network.gain.grad.isfinite()


def test_a_network_that_fits_is_shown_normalised_mixtures():
    mixture = noise(1, 2, 800)
    assert torch.equal(make().normalized(mixture), make().analyze(mixture).mixture)
    assert make(None).normalized(mixture) is mixture


RECIPE = {
    "separator": {"sources": ["vocals", "drums"], "network": {"class": "BLSTM", "hidden_size": 8}},
    "data": {"root": "demo"},
    "losses": [{"class": "MagnitudeL1Loss"}],
}


def test_a_recipe_says_how_recordings_are_normalised_and_cut():
    recipe = load_recipe(RECIPE, ["separator.normalize=recording", "separator.chunking={overlap: 0.5}"])
    separator = Separator(**recipe.separator_settings())
    assert (separator.normalize, separator.chunking.overlap) == ("recording", 0.5)
    assert (load_recipe(RECIPE).separator.normalize, load_recipe(RECIPE).separator.chunking) == (None, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("separator.normalize=song", r"separator\.normalize: must be"),
        ("separator.chunking={overlap: 1}", r"separator\.chunking\.overlap: must lie in \[0, 0\.9\], got 1"),
        ("separator.chunking={overlaps: 0.5}", r"separator\.chunking\.overlaps: .* did you mean 'overlap'"),
        ("separator.chunking=0.5", r"separator\.chunking: must be a mapping"),
    ],
)
def test_a_recipe_that_says_it_wrongly_is_refused_at_its_place(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(RECIPE, [override])


@pytest.mark.parametrize("value", ["song", True, 1.0])
def test_another_normalisation_is_refused(value):
    with pytest.raises(ValueError, match="normalize: must be recording, or null for none, got"):
        make(value)
