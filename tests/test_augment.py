"""Augmentations: what they draw, and what that does to the stems."""

import csv
import io
import re

import av
import numpy as np
import pytest
import torch
from songs import write_song
from training import RECIPE, song

from sepkit import augment
from sepkit.augment import (
    CodecBandwidth,
    Equalizer,
    Filter,
    Gain,
    Limiter,
    MidSideGain,
    Reverb,
    Sign,
    SoftClip,
    Speed,
    SwapChannels,
)
from sepkit.recipe import RecipeError, load_recipe
from sepkit.training.train import train

RATE = 44100
OF_STEMS = [
    Gain(), Sign(), SwapChannels(), Speed(), Filter(), MidSideGain(), Equalizer(RATE, probability=1.0),
    Reverb(RATE, probability=1.0),
]  # fmt: skip
OF_MIXTURES = [CodecBandwidth(RATE, probability=1.0), Limiter(RATE, 6, 12, probability=1.0), SoftClip(probability=1.0)]
ALL = [*OF_STEMS, *OF_MIXTURES]


def name_of(step) -> str:
    return type(step).__name__


every_step = pytest.mark.parametrize("step", ALL, ids=name_of)


def drawn_by(step, n_stems: int = 10000, seed: int = 0) -> np.ndarray:
    return step.sample_parameters(np.random.default_rng(seed), n_stems)


def stems(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_gains_are_uniform_in_decibels_between_the_bounds():
    levels = 20 * np.log10(drawn_by(Gain(-10, 4)))
    assert (levels.min(), levels.max()) == pytest.approx((-10, 4), abs=0.02)  # 10000 draws over 14 dB
    assert np.histogram(levels, 7, (-10, 4))[0] == pytest.approx(1429, rel=0.1)  # 4 standard deviations


@pytest.mark.parametrize(("step", "value"), [(Sign(0.25), -1.0), (SwapChannels(0.25), 1.0)])
def test_signs_and_swaps_are_as_frequent_as_wanted(step, value):
    assert np.mean(drawn_by(step) == value) == pytest.approx(0.25, abs=0.02)  # 4 standard deviations


def test_every_class_is_among_those_that_are_tested_for_what_they_have_in_common():
    assert {name_of(step) for step in ALL} == set(augment.__all__)


@every_step
def test_the_same_generator_draws_the_same(step):
    assert np.array_equal(drawn_by(step), drawn_by(step))
    assert not np.array_equal(drawn_by(step), drawn_by(step, seed=3))


@pytest.mark.parametrize("step", [Gain(), Sign()])
def test_each_stem_is_scaled_by_its_factor(step):
    waveforms, parameters = stems(3, 4, 2, 50), torch.tensor([[0.5, -1.0, 2.0, 1.0]] * 3)
    before = waveforms.clone()
    scaled = step(waveforms, parameters)
    torch.testing.assert_close(scaled, torch.einsum("bkct,bk->bkct", waveforms, parameters))
    assert torch.equal(waveforms, before)


def test_left_and_right_are_swapped_where_drawn():
    waveforms = stems(2, 2, 2, 50)
    swapped = SwapChannels()(waveforms, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert torch.equal(swapped[0, 0], waveforms[0, 0].flip(0))
    assert torch.equal(swapped[0, 1], waveforms[0, 1])
    assert torch.equal(swapped[1], waveforms[1])


def _folded(step, waveforms: torch.Tensor, parameters) -> torch.Tensor:
    """Scale and swap as a loader does that folds a step into its conversion."""
    factors, swapped = step.fold(parameters)
    for k, waveform in enumerate(waveforms := waveforms.clone()):
        waveforms[k] = waveform.flip(0) if swapped is not None and swapped[k] else waveform
        waveforms[k] *= 1.0 if factors is None else float(factors[k])
    return waveforms


@pytest.mark.parametrize("step", [Gain(), Sign(), SwapChannels()])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_what_a_step_folds_into_the_conversion_is_what_it_does(step, n_channels):
    waveforms, parameters = stems(6, n_channels, 50), drawn_by(step, 6)
    expected = step(waveforms, torch.from_numpy(parameters))
    for drawn in (parameters, torch.from_numpy(parameters).float()):
        torch.testing.assert_close(_folded(step, waveforms, drawn), expected)


def test_a_faster_stem_rises_in_pitch_and_ends_in_silence():
    time = torch.arange(44100) / 44100
    tones = torch.sin(2 * torch.pi * 1000 * time).expand(2, 2, -1)
    played = Speed()(tones, torch.tensor([1.25, 0.8]))
    for stem, frequency, length in zip(played, (1250, 800), (35280, 44100), strict=True):
        peaks = torch.fft.rfft(stem[:, :35280]).abs().argmax(-1) * 44100 / 35280
        assert peaks.tolist() == [frequency, frequency]
        assert stem[:, length:].abs().sum() == 0
        assert stem[:, length - 100 : length].abs().max() > 0.9


def test_a_filter_adds_its_copies_at_their_delays_and_keeps_the_energy_of_noise():
    click = torch.zeros(1, 2, 8)
    click[..., 2] = 1.0
    filtered = Filter(2)(click, torch.tensor([[[1.0, 3.0], [0.5, -0.5]]]))
    expected = torch.tensor([0, 0, 1, 0.5, 0, -0.5, 0, 0]) / 1.5**0.5
    torch.testing.assert_close(filtered, expected.expand(1, 2, -1))


@pytest.mark.parametrize(("step", "unchanged"), [(Speed(probability=0.25), 1.0), (Filter(probability=0.25), 0.0)])
def test_only_a_share_of_the_stems_is_played_otherwise(step, unchanged):
    decided = drawn_by(step).reshape(10000, -1)[:, -1]
    assert np.mean(decided != unchanged) == pytest.approx(0.25, abs=0.02)  # 4 standard deviations
    waveforms = stems(4, 2, 50)
    never = type(step)(probability=0.0)
    assert torch.equal(never(waveforms, torch.from_numpy(drawn_by(never, 4))), waveforms)


@pytest.mark.parametrize("step", [Speed(0.5, 2.0, 1.0), Filter(reach=60, probability=1.0)])
def test_stems_shorter_than_a_change_stay_finite_and_as_long(step):
    waveforms = stems(3, 2, 1)
    changed = step(waveforms, torch.from_numpy(drawn_by(step, 3)))
    assert changed.shape == waveforms.shape
    assert changed.isfinite().all()


@every_step
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_of_the_stems_is_kept_with_and_without_a_batch(step, dtype):
    parameters = torch.from_numpy(drawn_by(step, 3))
    single = step(stems(3, 2, 50).to(dtype), parameters)
    batched = step(stems(3, 2, 50).to(dtype)[None], parameters[None])
    assert single.dtype == dtype
    assert torch.equal(single, batched[0])


@every_step
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_and_kept(step, dtype):
    parameters = torch.from_numpy(drawn_by(step, 3)).float()
    changed = step(0.1 * stems(3, 2, 500).to(dtype), parameters)
    assert changed.dtype == dtype
    expected = step(0.1 * stems(3, 2, 500).to(dtype).float(), parameters)
    torch.testing.assert_close(changed.float(), expected, atol=0.01, rtol=0)  # of samples around 0.1, by 8 bits


@every_step
@pytest.mark.parametrize("n_samples", [1, 2, 999, 1000])
def test_an_example_is_changed_alike_alone_and_in_a_batch_of_others(step, n_samples):
    waveforms = stems(4, 3, 2, n_samples)
    parameters = torch.from_numpy(np.stack([drawn_by(step, 3, seed) for seed in range(4)])).float()
    before, drawn = waveforms.clone(), parameters.clone()
    batched = step(waveforms, parameters)
    assert batched.shape == waveforms.shape
    for single, alone, own in zip(batched, waveforms, parameters, strict=True):
        torch.testing.assert_close(step(alone, own), single, atol=1e-6, rtol=1e-6)  # transforms round in their order
    assert torch.equal(waveforms, before)
    assert torch.equal(parameters, drawn)
    assert torch.equal(step(waveforms, parameters), batched)


@pytest.mark.cuda
@every_step
def test_a_device_gives_what_the_cpu_gives(step):
    waveforms, parameters = stems(2, 3, 2, 5000), torch.from_numpy(np.stack([drawn_by(step, 3, s) for s in (0, 1)]))
    changed = step(waveforms.cuda(), parameters.float())
    assert changed.device.type == "cuda"
    torch.testing.assert_close(changed.cpu(), step(waveforms, parameters.float()), atol=1e-5, rtol=1e-5)


@every_step
def test_silence_stays_silent_beside_stems_that_sound(step):
    waveforms = stems(3, 2, 5000)
    waveforms[1] = 0
    changed = step(waveforms, torch.from_numpy(drawn_by(step, 3)))
    assert not changed[1].any()
    assert changed[0].any()


@pytest.mark.parametrize("step", OF_STEMS, ids=name_of)
def test_a_stem_is_changed_alike_whatever_sounds_beside_it(step):
    waveforms, parameters = stems(3, 2, 5000), torch.from_numpy(drawn_by(step, 3))
    others = waveforms.clone()
    others[1:] = 5 * stems(2, 2, 5000)
    assert torch.equal(step(waveforms, parameters)[0], step(others, parameters)[0])


@pytest.mark.parametrize("step", OF_MIXTURES, ids=name_of)
@pytest.mark.parametrize("n_stems", [1, 3])
def test_what_is_done_to_a_mixture_is_what_is_done_to_the_sum_of_its_stems(step, n_stems):
    waveforms, parameters = stems(n_stems, 2, 5000), torch.from_numpy(drawn_by(step, n_stems))
    mixture = waveforms.sum(0)
    expected = step(mixture[None], parameters[:1])[0]
    assert (expected - mixture).abs().max() > 0.1  # something is done
    torch.testing.assert_close(step(waveforms, parameters).sum(0), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("step", [Limiter(RATE, 6, 12, probability=1.0), SoftClip(probability=1.0)], ids=name_of)
def test_a_mastered_stem_is_itself_at_a_gain_that_all_stems_have(step):
    waveforms = stems(3, 2, 5000)
    gains = step(waveforms, torch.from_numpy(drawn_by(step, 3))) / waveforms
    torch.testing.assert_close(gains[1:], gains[:1].expand(2, -1, -1), atol=1e-5, rtol=1e-5)


@every_step
def test_a_share_of_the_stems_or_examples_is_left_bit_for_bit_as_it_is(step):
    given = {"sample_rate": RATE} if hasattr(step, "sample_rate") else {}
    never = type(step)(**given, probability=0.0)
    waveforms, parameters = stems(3, 2, 500), torch.from_numpy(drawn_by(never, 3))
    assert torch.equal(never(waveforms, parameters), waveforms)
    half = type(step)(**given, probability=0.5)
    drawn = np.concatenate([drawn_by(half, 3, seed) for seed in range(400)])
    same = np.array([np.array_equal(half(waveforms[:1], torch.from_numpy(row[None])), waveforms[:1]) for row in drawn])
    n_draws = 400 if name_of(step) in map(name_of, OF_MIXTURES) else 1200
    assert same.mean() == pytest.approx(0.5, abs=4 * 0.5 / n_draws**0.5)  # 4 standard deviations


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("step", [step for step in ALL if name_of(step) != "MidSideGain"], ids=name_of)
def test_any_number_of_channels_is_taken(step, n_channels):
    waveforms = stems(3, n_channels, 500)
    changed = step(waveforms, torch.from_numpy(drawn_by(step, 3)))
    assert changed.shape == waveforms.shape
    assert changed.isfinite().all()


def test_mid_and_side_get_their_gains():
    waveforms, factors = stems(2, 3, 2, 50), torch.tensor([[2.0, 0.5], [1.0, 1.0], [1.0, 0.0]])
    changed = MidSideGain()(waveforms, factors.expand(2, -1, -1))
    torch.testing.assert_close(changed.sum(-2), waveforms.sum(-2) * factors[:, :1])
    torch.testing.assert_close(
        changed[..., 0, :] - changed[..., 1, :], waveforms.diff(dim=-2)[..., 0, :] * -factors[:, 1:]
    )
    with pytest.raises(
        ValueError, match=r"MidSideGain needs stems \(\.\.\., K, 2, T\), got \(3, 1, 50\); leave it out"
    ):
        MidSideGain()(stems(3, 1, 50), factors)


def _response(step, parameters, n_samples: int = RATE) -> torch.Tensor:
    """Return what a step does to each frequency, in dB by Hz, of a click in the middle."""
    click = torch.zeros(1, 1, n_samples, dtype=torch.float64)
    click[..., n_samples // 2] = 1
    changed = step(click, torch.tensor([parameters], dtype=torch.float64))
    return 20 * torch.fft.rfft(changed[0, 0]).abs().clamp_min(1e-9).log10()


def test_a_bell_has_its_boost_at_its_frequency_and_none_far_from_it():
    step = Equalizer(RATE, n_bands=2, q=2.0)
    response = _response(step, [[1000.0, 6.0], [8000.0, -4.0]])
    assert response[1000] == pytest.approx(6, abs=0.05)  # of the other bell's skirt
    assert response[8000] == pytest.approx(-4, abs=0.05)
    assert response[[20, 20000]].abs().max() < 0.1
    assert response[round(1000 * 2**0.25)] == pytest.approx(3.8, abs=0.4)  # skirts begin at the bandwidth's edges


@pytest.mark.parametrize("codec", ["mp3", "aac"])
@pytest.mark.parametrize("rate", [64, 128, 192])
def test_above_the_bandwidth_of_a_codec_nothing_is_left_and_below_nothing_is_changed(codec, rate):
    step = CodecBandwidth(RATE, [codec], [rate], 1.0)
    (bandwidth,) = set(drawn_by(step, 3))
    response = _response(step, bandwidth)
    assert response[: round(bandwidth) - 300].abs().max() < 0.01
    assert response[round(bandwidth) + 300 :].max() < -75
    assert response[round(bandwidth)] == pytest.approx(-6, abs=0.2)


@pytest.mark.parametrize(("codec", "rate"), [("mp3", 128), ("mp3", 192), ("aac", 128), ("aac", 192)])
def test_the_bandwidths_are_those_of_encoders(codec, rate):
    noise = np.fft.rfft(np.random.default_rng(0).standard_normal((2, 4 * RATE)))
    noise /= np.sqrt(1 + np.arange(noise.shape[-1]) / 400)
    noise = np.fft.irfft(noise).astype(np.float32)
    noise *= 0.2 / noise.std()
    levels = [
        np.abs(np.fft.rfft(waveform[0, : 4 * RATE].reshape(-1, 4410) * np.hanning(4410))).mean(0)  # of 10 Hz each
        for waveform in (noise, _coded(noise, codec, rate))
    ]
    kept = np.flatnonzero(levels[1] > 0.1 * levels[0]) * 10
    assert kept[-1] == pytest.approx(augment.codec.BANDWIDTHS[codec][rate], abs=100)


def _coded(waveform: np.ndarray, codec: str, rate: int) -> np.ndarray:
    """Encode (2, T) at a rate in kbit/s, and decode it."""
    coded = io.BytesIO()
    with av.open(coded, "w", format={"mp3": "mp3", "aac": "adts"}[codec]) as container:
        stream = container.add_stream({"mp3": "libmp3lame", "aac": "aac"}[codec], rate=RATE, layout="stereo")
        stream.bit_rate = 1000 * rate
        size = stream.frame_size or 1152
        for start in range(0, waveform.shape[-1], size):
            block = np.ascontiguousarray(waveform[:, start : start + size])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    coded.seek(0)
    with av.open(coded) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], -1)


def test_a_codec_that_keeps_the_whole_band_changes_nothing():
    step = CodecBandwidth(32000, ["mp3"], [64, 320], 1.0)
    assert {float(drawn_by(step, 1, seed)[0]) for seed in range(20)} == {0.0, 10950.0}


def test_a_reverb_dies_away_in_its_time_and_is_another_in_each_channel():
    step = Reverb(RATE, high=0.5)
    click = torch.zeros(1, 2, RATE, dtype=torch.float64)
    click[..., 100] = 1
    changed = step(click, torch.tensor([[7, 0.5, 0.25]]))[0]
    dry = (1 + 0.25**2) ** -0.5
    torch.testing.assert_close(changed[:, 100], torch.full((2,), dry).double())
    tail = changed[:, 101:] / dry
    assert tail[:, :200].abs().max() < 1e-9  # of 5 ms before it begins
    torch.testing.assert_close(tail.square().sum(-1).sqrt(), torch.full((2,), 0.25).double(), atol=1e-6, rtol=0)
    early, late = (tail[:, start : start + 4410].square().mean().log10() * 10 for start in (1000, 1000 + 8820))
    assert float(early - late) == pytest.approx(24, abs=1)  # of 60 dB in 0.5 s, after 0.2 s
    assert abs(float(torch.corrcoef(tail)[0, 1])) < 0.1
    other = step(click, torch.tensor([[8, 0.5, 0.25]]))[0]
    assert abs(float(torch.corrcoef(torch.stack([changed[0, 101:], other[0, 101:]]))[0, 1])) < 0.1


@pytest.mark.parametrize("step", [Reverb(RATE), Equalizer(RATE), Filter(), CodecBandwidth(RATE)], ids=name_of)
def test_parameters_that_were_stored_in_single_precision_do_the_same(step):
    waveforms, parameters = stems(3, 2, 5000), torch.from_numpy(drawn_by(step, 3, seed=2))
    torch.testing.assert_close(step(waveforms, parameters.float()), step(waveforms, parameters), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gain_db", [6, 12, 24])
@pytest.mark.parametrize("n_samples", [1, 50, 5000, 44101])
def test_a_limited_mixture_stays_below_the_ceiling(gain_db, n_samples):
    step = Limiter(RATE, gain_db, gain_db, -1.0, probability=1.0)
    waveforms = 0.5 * stems(3, 2, n_samples)
    waveforms[..., n_samples // 2] *= 10
    mixture = step(waveforms, torch.from_numpy(drawn_by(step, 3))).sum(0)
    assert mixture.abs().max() <= 10 ** (-1 / 20) * (1 + 1e-6)
    assert mixture.abs().max() > 0.8 * 10 ** (-1 / 20)


def test_a_limiter_leaves_what_is_below_the_ceiling_and_recovers_after_a_peak():
    step = Limiter(RATE, 0, 0, 0.0, attack=0.002, release=0.1, probability=1.0)
    waveforms = torch.full((1, 2, RATE), 0.1)
    waveforms[..., RATE // 2] = 2.0
    gains = (step(waveforms, torch.ones(1)) / waveforms)[0]
    assert torch.equal(gains[0], gains[1])
    gain = 20 * gains[0].log10()
    assert gain[: RATE // 2 - 2 * 89].abs().max() < 1e-5  # 89 samples are 2 ms
    assert gain[RATE // 2] == pytest.approx(-6.02, abs=0.01)
    assert gain[RATE // 2 + 4410] == pytest.approx(-0.1, abs=0.15)  # after 0.1 s, but for two blocks of 2 ms
    assert gain[RATE // 2 + 4410 + 3 * 89 :].abs().max() < 1e-5
    assert gain.diff().abs().max() < 6.02 / 60  # no step


def test_a_limiter_of_long_examples_recovers_as_one_of_short_ones():
    step = Limiter(RATE, 0, 0, 0.0, probability=1.0)
    late = torch.full((1, 1, 60 * RATE), 0.5)
    late[..., 55 * RATE] = 4.0
    alone = late[..., 54 * RATE - (54 * RATE) % 88 :]
    torch.testing.assert_close(
        step(late, torch.ones(1))[..., -alone.shape[-1] :], step(alone, torch.ones(1)), atol=1e-3, rtol=0
    )


def test_a_clipped_mixture_is_bent_towards_the_ceiling():
    step = SoftClip(6.0, 6.0, -6.0, 1.0)
    waveforms, ceiling = stems(3, 2, 5000), 10 ** (-6 / 20)
    mixture = step(waveforms, torch.from_numpy(drawn_by(step, 3))).sum(0)
    expected = ceiling * torch.tanh(waveforms.sum(0) * 10 ** (6 / 20) / ceiling)
    torch.testing.assert_close(mixture, expected, atol=2e-6, rtol=0)


def test_stems_that_cancel_are_not_changed_by_a_curve_that_their_sum_does_not_reach():
    waveforms = stems(1, 2, 500).repeat(2, 1, 1)
    waveforms[1] *= -1
    assert torch.equal(SoftClip()(waveforms, torch.ones(2)), waveforms)
    assert torch.equal(Limiter(RATE)(waveforms, torch.ones(2)), waveforms)


def test_a_training_takes_every_class_and_gives_each_its_rate_and_channels(tmp_path):
    for place in ("train/a", "train/b", "valid/c"):
        write_song(tmp_path / "songs" / place, song(len(place), 2.0))
    given = {"CodecBandwidth": {"rates": [64]}, "Gain": {"probability": 0.5}}
    augment_by = [{"class": name, **given.get(name, {})} for name in augment.__all__]
    data = {**RECIPE["data"], "root": str(tmp_path / "songs"), "resample": True, "augment": augment_by}
    recipe = {
        **RECIPE,
        "separator": {**RECIPE["separator"], "sample_rate": 32000},
        "data": {**data, "workers": 1, "items_per_epoch": 4},
        "training": {**RECIPE["training"], "epochs": 1},
    }
    run = train(recipe, tmp_path / "run", quiet=True)
    with (run / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert float(history[0]["loss"]) > 0


@pytest.mark.parametrize(
    ("n_channels", "sample_rate", "step", "message"),
    [
        (
            1,
            44100,
            {"class": "MidSideGain"},
            "data.augment.0.n_channels: must be 2 for MidSideGain, got 1; leave it out",
        ),
        (2, 22050, {"class": "CodecBandwidth"}, "data.augment.0.sample_rate: must be above 30900 Hz for a codec"),
        (2, 8000, {"class": "Equalizer", "high_hz": 5000}, "data.augment.0.high_hz: must be at least low_hz, 60, and"),
        (
            2,
            8000,
            {"class": "Limiter", "sample_rate": 1},
            "data.augment.0.sample_rate: must be left out: the separator",
        ),
    ],
)
def test_a_recipe_that_asks_for_what_cannot_be_is_refused_at_its_place(n_channels, sample_rate, step, message):
    separator = {**RECIPE["separator"], "n_channels": n_channels, "sample_rate": sample_rate}
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe({**RECIPE, "separator": separator, "data": {"root": "demo", "augment": [step]}})


@pytest.mark.parametrize(
    ("step", "arguments", "message"),
    [
        (Gain, (3, -3), "low_db must not exceed high_db, got 3 and -3"),
        (Sign, (1.5,), r"probability must lie in \[0, 1\], got 1.5"),
        (Speed, (1.2, 0.8), "low and high must be factors, 0 < low <= high, got 1.2 and 0.8"),
        (Filter, (0,), "n_taps and reach must be at least 1 and depth at least 0, got 0, 24 and 0.4"),
        (SwapChannels, (-0.1,), r"probability must lie in \[0, 1\], got -0.1"),
        (Gain, (-3, 3, 2), r"probability must lie in \[0, 1\], got 2"),
        (Gain, (float("-inf"), 3), "low_db must not exceed high_db, got -inf and 3"),
        (MidSideGain, (3, -3), "low_db must not exceed high_db, got 3 and -3"),
        (MidSideGain, (-3, 3, 1.0, 1), "n_channels must be 2 for MidSideGain, got 1; leave it out"),
        (Equalizer, (0,), "sample_rate must be above 0, got 0"),
        (Equalizer, (RATE, 0), "n_bands must be >= 1, got 0"),
        (Equalizer, (RATE, 3, 25), r"depth_db must lie in \[0, 24\], got 25"),
        (
            Equalizer,
            (RATE, 3, 6, 100, 50),
            "high_hz must be at least low_hz, 100, and below half of the sample rate, 22050",
        ),
        (Equalizer, (RATE, 3, 6, 100, 22050), "below half of the sample rate, 22050, got 22050"),
        (Equalizer, (RATE, 3, 6, 100, None, 0), r"q must lie in \(0, 10\], got 0"),
        (CodecBandwidth, (RATE, ["opus"]), r"codecs must be a list of some of mp3, aac, each once, got \['opus'\]"),
        (CodecBandwidth, (RATE, "mp3"), "codecs must be a list of some of mp3, aac, each once, got 'mp3'"),
        (CodecBandwidth, (RATE, []), r"codecs must be a list of some of mp3, aac, each once, got \[\]"),
        (CodecBandwidth, (RATE, ["aac"], [320]), "rates of aac, in kbit/s, must be a list of some of 64, 80, 96"),
        (CodecBandwidth, (RATE, ["aac"], [64, 64]), r"each once, got \[64, 64\]"),
        (CodecBandwidth, (22050,), "sample_rate must be above 30900 Hz for a codec to lose anything, got 22050; leave"),
        (Reverb, (RATE, 0.0), "low must be above 0, got 0.0"),
        (Reverb, (RATE, 0.3, 0.2), r"high must lie in \[0.3, 10\], got 0.2"),
        (Reverb, (RATE, 0.1, 0.2, -3, -6), "low_db must not exceed high_db, got -3 and -6"),
        (Reverb, (RATE, 0.1, 0.2, -6, -3, -1), r"delay must lie in \[0, 1\], got -1"),
        (Limiter, (RATE, 3, 0), "low_db must not exceed high_db, got 3 and 0"),
        (Limiter, (RATE, 0, 3, float("inf")), "ceiling_db must be a finite number, got inf"),
        (Limiter, (RATE, 0, 3, 0, 0), r"attack must lie in \(0, 1\], got 0"),
        (Limiter, (RATE, 0, 3, 0, 0.1, -1), r"release must lie in \(0, 100\], got -1"),
        (SoftClip, (0, 3, "loud"), "ceiling_db must be a finite number, got loud"),
    ],
)
def test_arguments_out_of_range_are_refused(step, arguments, message):
    with pytest.raises(ValueError, match=message):
        step(*arguments)
