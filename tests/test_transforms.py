"""The STFT inverts exactly, and AudioTransform gives the published values, whatever clips share its batch."""

import math

import pytest
import torch

from sepkit.transforms import STFT, AudioTransform, mel_filters

OPTIONS = [
    {},
    {"normalized": True},
    {"normalized": "window"},
    {"pad_mode": "constant"},
    {"pad_mode": "replicate"},
    {"window": "hamming"},
    {"window": "blackman", "hop_length": 13},
    {"window": "rectangular", "hop_length": 64},
    {"hop_length": 1},
    {"hop_length": 17},
    {"hop_length": 48},
    {"window_size": 40, "hop_length": 16},
    {"window_size": 41, "hop_length": 20},
]
LENGTHS = [1, 16, 17, 63, 257]


def _stft(center: bool = True, **options) -> STFT:
    return STFT(**{"n_fft": 64, "hop_length": 16, **options}, center=center)


def _noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def _identify(options: dict) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()) or "defaults"


@pytest.mark.parametrize("center", [True, False], ids=["center", "causal"])
@pytest.mark.parametrize("options", OPTIONS, ids=_identify)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_inverse_gives_every_sample_back(options, center, length):
    stft, waveform = _stft(center, **options), _noise(2, length)
    # The weakest sum of squared windows here is 5e-5, which costs 2 of float64's 16 digits.
    torch.testing.assert_close(stft.inverse(stft(waveform), length), waveform, rtol=0, atol=1e-12)


@pytest.mark.parametrize("center", [True, False], ids=["center", "causal"])
@pytest.mark.parametrize("options", [{}, {"hop_length": 17}, {"window_size": 40}], ids=_identify)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("multiple", [1, 4])
def test_frames_and_padded_length_are_known_beforehand(options, center, length, multiple):
    stft = _stft(center, **options)
    padded = stft.padded_length(length, multiple)
    assert padded >= length
    assert padded % stft.hop_length == 0
    assert stft.n_frames(padded) % multiple == 0
    assert stft.padded_length(padded, multiple) == padded
    assert stft(_noise(length)).shape == (stft.n_bins, stft.n_frames(length))


def test_an_inverse_without_length_fills_the_last_hop_with_zeros():
    stft, waveform = _stft(), _noise(40)
    restored = stft.inverse(stft(waveform))
    assert restored.shape == (48,)
    torch.testing.assert_close(restored[40:], torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 2), (1, 1, 1, 1)])
def test_leading_dimensions_are_free(shape):
    stft, waveform = _stft(), _noise(*shape, 100)
    spectrogram = stft(waveform)
    assert spectrogram.shape == (*shape, 33, stft.n_frames(100))
    torch.testing.assert_close(stft.inverse(spectrogram, 100), waveform)
    rows = torch.stack([stft(row) for row in waveform.reshape(-1, 100)])
    torch.testing.assert_close(spectrogram.reshape(rows.shape), rows)


@pytest.mark.parametrize(
    ("dtype", "result", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        (torch.float16, torch.float32, 1e-5),
        (torch.bfloat16, torch.float32, 1e-5),
    ],
)
def test_the_precision_follows_the_input_and_half_precision_is_computed_in_float32(dtype, result, tolerance):
    stft, waveform = _stft(), _noise(2, 100, dtype=dtype)
    spectrogram = stft(waveform)
    assert spectrogram.real.dtype is result
    restored = stft.inverse(spectrogram, 100)
    assert restored.dtype is result
    torch.testing.assert_close(restored, waveform.to(result), rtol=0, atol=tolerance)


def test_it_is_the_usual_centred_stft_of_whole_hops():
    waveform = _noise(160, dtype=torch.float32)
    usual = torch.stft(waveform, 64, 16, window=torch.hann_window(64), return_complex=True)
    torch.testing.assert_close(_stft()(waveform), usual)


@pytest.mark.parametrize("options", [{}, {"hop_length": 17}, {"window_size": 40}, {"hop_length": 32}], ids=_identify)
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("length", [33, 47, 48, 257])
def test_hops_that_need_not_be_whole_are_framed_as_torch_frames_them(options, pad_mode, length):
    stft, waveform = _stft(whole_hops=False, pad_mode=pad_mode, **options), _noise(2, length)
    window = stft.window.double()
    expected = torch.stft(waveform, 64, stft.hop_length, window=window, pad_mode=pad_mode, return_complex=True)
    found = stft(waveform)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert found.shape[-1] == stft.n_frames(length)
    # The weakest sum of squared windows is that of the last sample, a hop behind the last frame: 1e-6.
    torch.testing.assert_close(stft.inverse(found, length), waveform, rtol=0, atol=1e-9)
    assert stft.padded_length(length) == length
    padded = stft.padded_length(length, 4)
    assert padded >= length
    assert stft.n_frames(padded) % 4 == 0


def test_less_than_a_hop_is_a_frame_where_hops_need_not_be_whole():
    stft, waveform = _stft(whole_hops=False), _noise(2, 5)
    assert stft(waveform).shape == (2, 33, 1)
    torch.testing.assert_close(stft.inverse(stft(waveform), 5), waveform, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="length must be 1 to 15, what 1 frames hold, got 16"):
        stft.inverse(stft(waveform), 16)


def test_a_spectrogram_is_divided_by_the_norm_of_the_window():
    waveform = _noise(2, 300)
    norm = _stft().window.double().norm()
    torch.testing.assert_close(_stft(normalized="window")(waveform) * norm, _stft()(waveform), rtol=1e-6, atol=1e-6)


def demucs_padded(waveform: torch.Tensor) -> torch.Tensor:
    """Continue both ends by reflection as Demucs does, to a frame a hop of 16; zeros come first where it is short."""
    length = waveform.shape[-1]
    right = 24 + -length % 16
    missing = max(0, right - length + 1)
    filled = torch.nn.functional.pad(waveform, (0, missing))
    return torch.nn.functional.pad(filled, (24, right - missing), mode="reflect")


@pytest.mark.parametrize("length", [1, 5, 24, 30, 47, 48, 257])
def test_frames_by_hops_are_those_of_demucs(length):
    stft, waveform = _stft(framing="hops"), _noise(2, length)
    window = stft.window.double()
    usual = torch.stft(
        torch.nn.functional.pad(demucs_padded(waveform), (32, 32)),
        64,
        16,
        window=window,
        center=False,
        return_complex=True,
    )
    found = stft(waveform)
    torch.testing.assert_close(found, usual[..., 2:-2], rtol=0, atol=1e-12)
    assert found.shape[-1] == stft.n_frames(length) == math.ceil(length / 16)
    assert stft.padded_length(length) == length
    assert stft.padded_length(length, 4) in (length, 64 * math.ceil(length / 64))


@pytest.mark.parametrize(("framing", "delay"), [("hops", 24), ("late_hops", 0)])
@pytest.mark.parametrize("length", [1, 47, 48, 257])
def test_the_inverse_of_frames_by_hops_holds_the_frames_around_them_silent(framing, delay, length):
    stft, waveform = _stft(framing=framing, pad_mode="constant", normalized=True), _noise(2, length)
    spectrogram = stft(waveform)
    around = torch.nn.functional.pad(spectrogram, (2, 2))
    n_samples = 16 * (around.shape[-1] - 1)
    usual = torch.istft(around, 64, 16, window=stft.window.double(), normalized=True, length=n_samples)
    torch.testing.assert_close(stft.inverse(spectrogram, length), usual[:, delay : delay + length], rtol=0, atol=1e-12)


def test_frames_by_hops_give_all_but_the_ends_back():
    stft, waveform = _stft(framing="hops"), _noise(2, 257)
    found = stft.inverse(stft(waveform), 257)
    torch.testing.assert_close(found[:, 24:-24], waveform[:, 24:-24], rtol=0, atol=1e-12)


def test_a_normalized_spectrogram_is_divided_by_the_root_of_n_fft():
    waveform = _noise(160)
    torch.testing.assert_close(_stft(normalized=True)(waveform) * 8, _stft()(waveform))


@pytest.mark.parametrize("hop_length", [16, 48])
def test_without_center_no_frame_looks_ahead_of_its_hop(hop_length):
    stft = _stft(center=False, hop_length=hop_length)
    waveform = _noise(480)
    changed = waveform.clone()
    changed[4 * hop_length :] += 1.0
    difference = (stft(changed) - stft(waveform)).abs().amax(0)
    assert difference[:4].max() == 0
    assert difference[4] > 0


def test_gradients_pass_through_both_ways():
    stft = _stft(n_fft=8, hop_length=3)
    turned = lambda waveform: stft.inverse(stft(waveform) * (1 + 0.5j), 10)  # noqa: E731
    assert torch.autograd.gradcheck(turned, _noise(10).requires_grad_())


def test_the_gradient_of_the_magnitudes_of_silence_is_finite():
    waveform = torch.zeros(100, requires_grad=True)
    _stft()(waveform).abs().sum().backward()
    assert waveform.grad.isfinite().all()


def test_constants_follow_the_module_and_are_not_saved():
    transform = AudioTransform(1024, 256, 1024)
    assert not transform.state_dict()
    assert {name for name, _ in transform.named_buffers()} == {"_filters.values", "stft._window.values"}
    transform.to("meta")
    assert all(buffer.is_meta for buffer in transform.buffers())
    assert AudioTransform(1024, 256, 1024, device="meta").filters.is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 63}, "n_fft must be even and at least 2, got 63"),
        ({"n_fft": 0}, "n_fft must be even and at least 2, got 0"),
        ({"window_size": 65}, "window_size must be between 1 and n_fft 64, got 65"),
        ({"window_size": 0}, "window_size must be between 1 and n_fft 64, got 0"),
        ({"hop_length": 0}, "hop_length must be between 1 and window_size 64, got 0"),
        ({"hop_length": 65}, "hop_length must be between 1 and window_size 64, got 65"),
        ({"window": "kaiser"}, "window must be one of hann, hamming, blackman, rectangular, got 'kaiser'"),
        ({"pad_mode": "circular"}, "pad_mode must be one of reflect, constant, replicate, got 'circular'"),
        ({"hop_length": 64}, "window hann of 64 samples and hop_length 64 cannot be inverted: use a smaller"),
        ({"whole_hops": False, "center": False}, "whole_hops must be true without center, or where a hop is longer"),
        ({"whole_hops": False, "hop_length": 33}, "whole_hops must be true without center, or where a hop is longer"),
        ({"framing": "frames"}, "framing must be one of samples, hops, late_hops, got 'frames'"),
        ({"framing": "hops", "center": False}, "framing hops must go with center, whole_hops and an even hop_length"),
        ({"framing": "hops", "hop_length": 15}, "framing hops must go with center, whole_hops and an even hop_length"),
        ({"normalized": "frame"}, "normalized must be true, false or 'window', got 'frame'"),
    ],
)
def test_what_cannot_be_inverted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _stft(**options)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(2, 0), r"waveform must hold at least one sample, got shape \(2, 0\)"),
        (torch.zeros(9, dtype=torch.int16), r"waveform must be floating point in \[-1, 1\], got torch.int16"),
        (torch.zeros(9, dtype=torch.complex64), "waveform must be floating point .* got torch.complex64"),
    ],
)
def test_what_is_no_waveform_is_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        _stft()(waveform)


@pytest.mark.parametrize(
    ("spectrogram", "length", "message"),
    [
        (torch.zeros(2, 32, 9, dtype=torch.complex64), None, r"complex \(..., 33, N >= 2\), got .*\(2, 32, 9\)"),
        (torch.zeros(2, 33, 1, dtype=torch.complex64), None, r"complex \(..., 33, N >= 2\), got .*\(2, 33, 1\)"),
        (torch.zeros(2, 33, 9), None, r"spectrogram must be complex .* got torch.float32"),
        (torch.zeros(2, 33, 9, dtype=torch.complex64), 129, "length must be 1 to 128, what 9 frames hold, got 129"),
        (torch.zeros(2, 33, 9, dtype=torch.complex64), 0, "length must be 1 to 128, what 9 frames hold, got 0"),
    ],
)
def test_what_is_no_spectrogram_of_this_transform_is_refused(spectrogram, length, message):
    with pytest.raises(ValueError, match=message):
        _stft().inverse(spectrogram, length)


# AudioTransform


@pytest.fixture(scope="module")
def two_tones() -> torch.Tensor:
    time = torch.arange(44100, dtype=torch.float64) / 44100
    return 0.5 * torch.sin(2 * math.pi * 440 * time) + 0.25 * torch.sin(2 * math.pi * 3000 * time)


def test_two_tones_give_the_reference_values(two_tones):
    """Compare with auralflow's values, derived again in numpy; they carry ten digits, a float32 window seven."""
    transform = AudioTransform(1024, 768, 1024)
    padded = transform.pad_audio(two_tones)
    magnitude = transform.to_spectrogram(two_tones).abs()
    assert padded.shape == (44544,)
    assert magnitude.shape == (513, 59)
    assert magnitude.sum().item() == pytest.approx(24009.105370, rel=1e-6)
    assert magnitude[10, 30].item() == pytest.approx(124.16745340, rel=1e-6)
    assert magnitude[70, 30].item() == pytest.approx(59.36513700, rel=1e-6)
    mel = transform.to_mel_scale(magnitude, to_db=False)
    assert mel.shape == (64, 59)
    assert mel.sum().item() == pytest.approx(23974.498216, rel=1e-6)
    assert mel.sum(1).argmax() == 9
    decibel = transform.audio_to_mel(two_tones)
    # Bins far below the tones hold the rounding of the window, so that their level moves a little.
    assert decibel.mean().item() == pytest.approx(-65.976775, abs=2e-3)
    assert decibel.min() == -80
    assert decibel.max() == 0


def test_audio_comes_back_in_its_length(two_tones):
    transform = AudioTransform(1024, 768, 1024)
    audio = two_tones.float().expand(2, 3, -1)
    spectrogram = transform.to_spectrogram(audio)
    assert spectrogram.shape == (2, 3, 513, 59)
    torch.testing.assert_close(transform.to_audio(spectrogram, 44100), audio, rtol=0, atol=1e-5)
    assert transform.to_audio(spectrogram).shape == (2, 3, 44544)


def test_whole_hops_are_not_padded():
    transform = AudioTransform(512, 256, 512)
    assert transform.pad_audio(torch.zeros(2, 1024)).shape == (2, 1024)
    assert transform.pad_audio(torch.zeros(2, 1025)).shape == (2, 1280)


@pytest.mark.parametrize(("length", "n_frames"), [(1023, 4), (1024, 5), (1025, 5), (100, 2)])
def test_without_padding_the_last_incomplete_hop_is_dropped(length, n_frames):
    transform = AudioTransform(512, 256, 512)
    assert transform.to_spectrogram(torch.zeros(length), use_padding=False).shape == (257, n_frames)


def test_the_decibels_of_a_clip_do_not_depend_on_its_batchmates(two_tones):
    transform = AudioTransform(1024, 768, 1024)
    batch = torch.stack([two_tones, 10 * two_tones.flip(0), torch.zeros_like(two_tones)])
    alone = torch.stack([transform.audio_to_mel(clip) for clip in batch])
    torch.testing.assert_close(transform.audio_to_mel(batch), alone)
    assert alone.amax((1, 2)).tolist() == [0, 0, -80]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_silence_is_at_the_floor_in_every_precision(dtype):
    transform = AudioTransform(512, 256, 512)
    silence = torch.zeros(257, 4, dtype=dtype)
    assert transform.to_mel_scale(silence).dtype is dtype
    assert (transform.to_decibel(silence) - -80).abs().max() < 0.5  # dB, what half precision makes of 80


def test_the_gradient_of_decibels_is_finite_on_silence():
    audio = torch.zeros(2, 1000, requires_grad=True)
    AudioTransform(512, 256, 512).audio_to_mel(audio).sum().backward()
    assert audio.grad.isfinite().all()


@pytest.mark.parametrize("n_fft", [128, 512, 2048])
@pytest.mark.parametrize("sample_rate", [4000, 8000, 16000, 22050, 32000, 44100, 96000])
def test_no_mel_band_is_empty_or_beyond_the_nyquist_frequency(sample_rate, n_fft):
    transform = AudioTransform(n_fft, n_fft // 2, n_fft, sample_rate)
    assert (transform.filters.sum(1) > 0).all()
    assert len(transform.filters) <= 64
    mel = transform.audio_to_mel(_noise(2, 4096), to_db=False)
    assert mel.shape[1] == len(transform.filters)
    assert (mel.mean(-1) > 0).all()


def test_fine_bins_have_64_bands_at_low_rates():
    assert len(AudioTransform(1024, 512, 1024, 16000).filters) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1, 2), "num_fft must give a mel band at least one bin, got 2 bins"),
        ((512, 256, 512, 2), "lowest and highest must rise from 0 to at most half of sample_rate 2, got 1.0 and 1.0"),
    ],
)
def test_a_transform_without_mel_bands_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AudioTransform(*arguments)


@pytest.mark.parametrize(
    ("spectrogram", "message"),
    [
        (torch.zeros(257, 4, dtype=torch.complex64), r"must hold magnitudes \(..., 257, N\), got torch.complex64"),
        (torch.zeros(4, 257), r"must hold magnitudes \(..., 257, N\), got torch.float32 \(4, 257\)"),
    ],
)
def test_mel_bands_of_what_is_no_magnitude_are_refused(spectrogram, message):
    with pytest.raises(ValueError, match=message):
        AudioTransform(512, 256, 512).to_mel_scale(spectrogram)


def test_neighbouring_mel_filters_share_every_bin_between_their_peaks():
    filters = mel_filters(2049, 20, 44100, 20.0, 16000.0)
    peaks = filters.argmax(1)
    between = filters[:, peaks[0] : peaks[-1] + 1].sum(0)
    torch.testing.assert_close(between, torch.ones_like(between))
