"""Separation: exact lengths, no seams, the same for any batch size; files complete or absent."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import Constant
from torch import Tensor

from sepkit import audio
from sepkit.disk import OutputError
from sepkit.inference import StreamSeparator, choose_stems, output_name, separate, separate_file
from sepkit.separator import Separator

RATE = 8000
SEGMENT = 800  # samples
GAINS = {"vocals": 0.5, "drums": 0.25, "bass": -0.5}
TOLERANCE = 1e-6  # of values up to 1: some steps of float32


class Shaped(Constant):
    """Give masks that differ by bin and frame, so that chunks differ where they overlap."""

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        n_bins, n_frames = mixture_spectrogram.shape[-2:]
        shape = torch.linspace(0.1, 1, n_bins)[:, None] * torch.linspace(1, 0.2, n_frames)
        return super().forward(mixture_spectrogram) * shape


class Failing(Constant):
    """Fail on the third call."""

    n_calls = 0

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        self.n_calls += 1
        if self.n_calls == 3:
            raise RuntimeError("the network broke")
        return super().forward(mixture_spectrogram)


class NotANumber(Constant):
    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram) * float("nan")


def make(network: str = "networks.Constant", n_channels: int = 2, **gains: float) -> Separator:
    gains = gains or GAINS
    transform = {"class": "STFT", "n_fft": 128, "hop_length": 64}
    spec = {"class": network, "gains": list(gains.values())}
    return Separator(list(gains), spec, RATE, n_channels, SEGMENT / RATE, transform).eval()


def noise(n_samples: int, n_channels: int = 2, peak: float = 0.9) -> Tensor:
    waveform = torch.rand(n_channels, n_samples, generator=torch.Generator().manual_seed(n_samples)) * 2 - 1
    return waveform / waveform.abs().max() * peak


@pytest.fixture
def song(tmp_path) -> Path:
    path = tmp_path / "song.wav"
    audio.write(path, noise(5 * SEGMENT + 17), RATE)
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Waveforms

LENGTHS = [1, 2, 37, 599, 600, 601, SEGMENT - 1, SEGMENT, SEGMENT + 1, 1400, 2000, 5 * SEGMENT + 13]


@pytest.mark.parametrize("n_samples", LENGTHS)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_constant_masks_give_the_scaled_recording_without_seams(n_samples, overlap):
    mixture = noise(n_samples)
    stems = separate(make(), mixture, overlap=overlap)
    for name, gain in GAINS.items():
        torch.testing.assert_close(stems[name], gain * mixture, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("n_samples", LENGTHS)
@pytest.mark.parametrize("batch_size", [3, 8])
@pytest.mark.parametrize("overlap", [0.1, 0.6])
def test_the_batch_size_does_not_matter(n_samples, batch_size, overlap):
    model, mixture = make("test_inference.Shaped"), noise(n_samples)
    one = separate(model, mixture, overlap=overlap)
    many = separate(model, mixture, overlap=overlap, batch_size=batch_size)
    for name in one:
        torch.testing.assert_close(many[name], one[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("rate", [RATE, 44100, 3000])
def test_stems_and_rest_add_up_to_a_recording_of_any_rate_and_channels(n_channels, rate):
    mixture = noise(3333, n_channels)
    stems = separate(make("test_inference.Shaped"), mixture, sample_rate=rate, residual=True, batch_size=3)
    assert {name: stem.shape for name, stem in stems.items()} == dict.fromkeys([*GAINS, "residual"], mixture.shape)
    torch.testing.assert_close(sum(stems.values()), mixture, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 4001])
@pytest.mark.parametrize("rate", [96000, 11025, 7999, 3000])
def test_recordings_of_other_rates_keep_their_exact_length(n_samples, rate):
    mixture, heard = noise(n_samples), []
    stems = separate(make(), mixture, sample_rate=rate, residual=True, progress=heard.append)
    assert {stem.shape for stem in stems.values()} == {mixture.shape}
    assert sum(heard) == pytest.approx(n_samples / rate)


def test_a_resampled_recording_is_separated_like_itself():
    mixture = torch.sin(torch.arange(44100) / 44100 * 2 * torch.pi * 440).expand(2, -1)
    stems = separate(make(), mixture, sample_rate=44100)
    # the resampling filters' ripple, and away from the ends where they see no signal
    torch.testing.assert_close(stems["vocals"][:, 1000:-1000], 0.5 * mixture[:, 1000:-1000], rtol=0, atol=1e-3)


def test_mono_is_heard_by_a_stereo_model_as_the_same_on_both_sides():
    model, mixture = make("test_inference.Shaped"), noise(3000, 1)
    both = separate(model, mixture.expand(2, -1))["vocals"]
    torch.testing.assert_close(separate(model, mixture)["vocals"], both.mean(0, keepdim=True), rtol=0, atol=TOLERANCE)


def test_more_channels_are_separated_in_consecutive_groups():
    model, mixture = make("test_inference.Shaped"), noise(3000, 6)
    groups = torch.cat([separate(model, mixture[c : c + 2])["drums"] for c in (0, 2, 4)])
    torch.testing.assert_close(separate(model, mixture)["drums"], groups, rtol=0, atol=TOLERANCE)


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(audio.AudioError, match="the recording has 6 channels, a model of 4 takes 1, a multiple of 4"):
        separate(make(n_channels=4), noise(2000, 6))


def test_channels_of_a_file_that_do_not_fit_are_refused_with_its_name(song, tmp_path):
    with pytest.raises(audio.AudioError, match=r"song\.wav has 2 channels, a model of 4"):
        separate_file(make(n_channels=4), song, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_adds_up_to_the_duration():
    heard = []
    separate(make(), noise(100_000), progress=heard.append)
    assert len(heard) > 1
    assert sum(heard) == pytest.approx(100_000 / RATE)


def test_training_mode_and_gradients_are_left_as_they_were():
    model = make().train()
    model.transform.eval()
    separate(model, noise(2000))
    assert model.training
    assert not model.transform.training
    assert torch.is_grad_enabled()


def test_training_mode_comes_back_after_an_error():
    model = make("test_inference.Failing").train()
    with pytest.raises(RuntimeError, match="broke"):
        separate(model, noise(5000))
    assert model.training


def test_the_given_waveform_stays_as_it_is():
    mixture = noise(3000)
    before = mixture.clone()
    separate(make(), mixture)
    assert torch.equal(mixture, before)


def test_estimates_come_while_the_recording_is_read():
    blocks = iter([noise(SEGMENT)] * 3)
    first = next(StreamSeparator(make(), RATE, 2, ["vocals"]).run(blocks))
    assert first.shape == (1, 2, 600)
    assert len(list(blocks)) == 2


# Names


def test_what_is_left_over_is_accompaniment_of_vocals_alone():
    stems = separate(make(vocals=0.3), noise(1000))
    assert list(stems) == ["vocals", "accompaniment"]
    torch.testing.assert_close(sum(stems.values()), noise(1000), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("sources", "stems", "residual", "wanted"),
    [
        (["vocals"], None, False, ["vocals", "accompaniment"]),
        (["vocals"], None, True, ["vocals", "accompaniment"]),
        (["vocals"], ["vocals"], False, ["vocals"]),
        (["vocals"], ["accompaniment"], False, ["accompaniment"]),
        (["drums"], None, False, ["drums"]),
        (["vocals", "drums"], None, False, ["vocals", "drums"]),
        (["vocals", "drums"], None, True, ["vocals", "drums", "residual"]),
        (["vocals", "drums"], ["drums", "vocals"], False, ["vocals", "drums"]),
        (["vocals", "drums"], ["drums", "residual"], False, ["drums", "residual"]),
        (["residual"], None, True, ["residual", "residual_"]),
    ],
)
def test_the_chosen_stems_come_in_the_order_of_the_sources(sources, stems, residual, wanted):
    assert choose_stems(sources, stems, residual) == wanted


@pytest.mark.parametrize(("stems", "wanted"), [(None, ["drums", "hiss"]), (["hiss"], ["hiss"]), (["drums"], ["drums"])])
def test_a_residual_that_the_model_names_is_a_stem(stems, wanted):
    assert choose_stems(["drums"], stems, residual=False, own="hiss") == wanted
    with pytest.raises(ValueError, match="stems must be among drums, hiss, got residual"):
        choose_stems(["drums"], ["residual"], residual=False, own="hiss")


@pytest.mark.parametrize(("stems", "got"), [(["voice"], "got voice"), ([], "got none")])
def test_stems_that_there_are_not_are_refused(stems, got):
    with pytest.raises(ValueError, match=f"stems must be among vocals, drums, bass, residual, {got}"):
        separate(make(), noise(100), stems=stems)


@pytest.mark.parametrize(
    ("recording", "name"),
    [("a/song.flac", "song"), ("a/b/mixture.wav", "b"), ("x.y.mp3", "x.y"), ("/mixture.wav", "mixture")],
)
def test_the_folder_is_named_after_the_file_and_for_mixtures_after_theirs(recording, name):
    assert output_name(recording) == name


def test_a_mixture_without_folder_is_named_after_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_name("mixture.wav") == tmp_path.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"overlap": 0.95}, r"overlap must lie in \[0, 0\.9\], got 0\.95"),
        ({"overlap": -0.1}, r"overlap must lie in .*, got -0\.1"),
        ({"stems": "vocals"}, "stems must be a list of names, got 'vocals'"),
        ({"stems": 3}, "stems must be a list of names, got 3"),
        ({"sample_rate": 0}, "Sample rates must be positive"),
        ({"sample_rate": 44100.5}, "Sample rates must be positive, whole and at most 100000000, got 44100.5"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        separate(make(), noise(2000), **options)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(100), r"recording must be \(C, T\), got \(100,\)"),
        (torch.zeros(2, 0), r"recording must hold at least one sample, got \(2, 0\)"),
        (torch.zeros(1, 2, 100), r"recording must be \(C, T\), got \(1, 2, 100\)"),
        (torch.zeros(264600, 2), r"recording must be \(C, T\), got \(264600, 2\): transpose it"),
        (torch.zeros(65, 1000), r"recording must be \(C, T\), got \(65, 1000\): transpose it"),
        (torch.zeros(20, 5), r"recording must be \(C, T\), got \(20, 5\): transpose it"),
        (torch.zeros(2, 100).short(), r"must be floating point in \[-1, 1\], got torch.int16: scale it first"),
        (torch.zeros(2, 100, dtype=torch.cfloat), "must be floating point .*, got torch.complex64: take its inverse"),
    ],
)
def test_other_than_a_float_waveform_is_refused(waveform, message):
    for given in (waveform, waveform.numpy()):
        with pytest.raises(ValueError, match=message):
            separate(make(), given)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (8, 5), (6, 1), (2, 3), (16, 9)], ids=str)
def test_few_samples_of_many_channels_are_separated(shape):
    waveform = noise(100)[:1, : shape[1]].expand(shape)
    assert separate(make(), waveform)["vocals"].shape == shape


def test_names_of_stems_may_come_from_any_iterable():
    model = make()
    found = separate(model, noise(100), stems=(name for name in model.sources[:1]))
    assert list(found) == model.sources[:1]


@pytest.mark.parametrize("given", [[[0.0, 1.0]], io.BytesIO(b"RIFF"), b"song.wav", None, 3])
def test_what_is_neither_file_nor_waveform_is_refused(given):
    with pytest.raises(TypeError, match=f"must be a file's path, or a waveform .*, got {type(given).__name__}"):
        separate(make(), given)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_waveform_that_is_not_finite_is_refused_with_its_first_sample(value):
    waveform = noise(2000)
    waveform[1, 1500] = waveform[0, 1700] = float(value)
    with pytest.raises(audio.AudioError, match=f"recording holds {value} at sample 1500 of channel 1: repair"):
        separate(make(), waveform)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "longdouble"])
def test_numpy_arrays_are_taken_in_any_floating_type_and_layout(dtype):
    waveform = noise(2000).half().float()  # so that all types hold it exactly
    wanted = separate(make("test_inference.Shaped"), waveform)
    given = np.ascontiguousarray(waveform.numpy().T.astype(dtype)).T  # as soundfile gives it, turned
    given.setflags(write=False)
    for name, stem in separate(make("test_inference.Shaped"), given).items():
        assert torch.equal(stem, wanted[name])


def test_a_path_in_place_of_the_model_is_refused():
    with pytest.raises(TypeError, match="model must be a Separator, as load_model gives it, got str"):
        separate("runs/vocals", noise(2000))


def test_a_sample_rate_given_with_a_file_is_refused(song):
    with pytest.raises(ValueError, match="sample_rate is for waveforms, a file says its own"):
        separate(make(), song, sample_rate=RATE)


# Files


def test_files_hold_what_waveforms_would(song, tmp_path):
    waveforms = separate(make(), song, residual=True)
    files = separate_file(make(), song, tmp_path / "deep" / "out", residual=True).stems
    assert files == {name: tmp_path / "deep" / "out" / "song" / f"{name}.wav" for name in [*GAINS, "residual"]}
    for name, path in files.items():
        found, rate = audio.read(path)
        assert rate == RATE
        assert torch.equal(found, waveforms[name])


def test_float_files_are_never_scaled(tmp_path):
    audio.write(tmp_path / "hot.wav", noise(3000, peak=4.0), RATE)
    result = separate_file(make(vocals=1.0, drums=1.5), tmp_path / "hot.wav", tmp_path / "out")
    assert result.gain == 1
    assert audio.read(result.stems["drums"])[0].abs().max() == pytest.approx(6, abs=1e-4)


@pytest.mark.parametrize(
    ("format", "suffix", "subtype", "step"),
    [
        ("wav24", ".wav", "PCM_24", 2**-23),
        ("wav16", ".wav", "PCM_16", 2**-15),
        ("flac", ".flac", "PCM_24", 2**-23),
        ("flac16", ".flac", "PCM_16", 2**-15),
    ],
)
def test_integer_formats_scale_all_stems_by_one_gain_only_when_needed(tmp_path, format, suffix, subtype, step):  # noqa: A002
    audio.write(tmp_path / "loud.wav", noise(3000, peak=1.0), RATE)
    result = separate_file(make(vocals=2.0, drums=0.5), tmp_path / "loud.wav", tmp_path / "out", format=format)
    assert result.gain == pytest.approx(0.5, abs=1e-5)
    mixture = audio.read(tmp_path / "loud.wav")[0]
    for name, gain in {"vocals": 2.0, "drums": 0.5}.items():
        path = result.stems[name]
        assert (path.suffix, soundfile.info(path).subtype) == (suffix, subtype)
        # rounding, and a full-scale 1 that an integer misses by a step
        torch.testing.assert_close(
            audio.read(path)[0], result.gain * gain * mixture, rtol=0, atol=1.01 * step + TOLERANCE
        )
    assert separate_file(make(), tmp_path / "loud.wav", tmp_path / "quiet", format=format).gain == 1


@pytest.mark.parametrize("format", ["mp3", "ogg"])
def test_lossy_formats_leave_room_for_the_coder(tmp_path, format):  # noqa: A002
    tone = torch.sin(torch.arange(3 * 44100) / 44100 * 2 * torch.pi * 440).expand(2, -1)
    audio.write(tmp_path / "loud.wav", tone, 44100)
    result = separate_file(make(vocals=1.0), tmp_path / "loud.wav", tmp_path / "out", format=format)
    assert result.gain == pytest.approx(0.9, abs=0.01)  # a resampler's overshoot where the tone sets in
    found, rate = audio.read(result.stems["vocals"])
    assert rate == 44100
    assert found.shape == (2, 3 * 44100)


@pytest.mark.parametrize("format", ["mp3", "ogg"])
def test_a_format_that_cannot_hold_the_recording_is_refused_before_the_work(tmp_path, format):  # noqa: A002
    rate, n_channels = (RATE, 6) if format == "mp3" else (210000, 1)
    audio.write(tmp_path / "many.wav", noise(4000, n_channels), rate)
    with pytest.raises(audio.AudioError, match=rf"Cannot write .*out/many/vocals\.{format} with {n_channels} channels"):
        separate_file(make("test_inference.Failing"), tmp_path / "many.wav", tmp_path / "out", format=format)
    assert files_below(tmp_path / "out") == []


def test_an_unknown_format_is_refused(song, tmp_path):
    with pytest.raises(ValueError, match="format must be one of wav, wav24, wav16, flac, flac16, ogg, mp3, got 'm4a'"):
        separate_file(make(), song, tmp_path / "out", format="m4a")


@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize(
    ("network", "message"),
    [("Failing", "the network broke"), ("NotANumber", r"Cannot write .*out/song/vocals.* the waveform holds nan")],
)
def test_an_error_in_the_middle_leaves_no_file(song, tmp_path, format, network, message):  # noqa: A002
    with pytest.raises((RuntimeError, audio.AudioError), match=message):
        separate_file(make(f"test_inference.{network}"), song, tmp_path / "out", format=format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("former", ["", "deep", "deep/out", "deep/out/other"])
def test_an_error_removes_the_empty_folders_that_the_call_made_and_no_other(song, tmp_path, former):
    (tmp_path / "all" / former).mkdir(parents=True)
    with pytest.raises(RuntimeError, match="broke"):
        separate_file(make("test_inference.Failing"), song, tmp_path / "all" / "deep" / "out")
    left = [str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*")]
    assert max(left, default=".") == str(Path(former))


def test_what_takes_the_place_of_a_stem_meanwhile_is_kept_and_nothing_else_is_left(song, tmp_path):
    in_the_way = tmp_path / "out" / "song" / "drums.wav"
    with pytest.raises(FileExistsError, match=r"drums\.wav would be replaced and is a folder: choose another output"):
        separate_file(make(), song, tmp_path / "out", progress=lambda _: in_the_way.mkdir(parents=True, exist_ok=True))
    assert [path for path in (tmp_path / "out").rglob("*") if path != in_the_way.parent] == [in_the_way]


def test_a_file_in_the_place_of_the_folder_meanwhile_is_kept_and_nothing_else_is_left(song, tmp_path):
    in_the_way = tmp_path / "out" / "song"
    with pytest.raises(OutputError, match=r"song cannot be written to: .*; choose another output"):
        separate_file(make(), song, tmp_path / "out", progress=lambda _: in_the_way.write_text("notes"))
    assert list((tmp_path / "out").rglob("*")) == [in_the_way]


def test_an_error_in_the_middle_leaves_the_former_stems(song, tmp_path):
    former = separate_file(make(), song, tmp_path / "out").stems
    before = {path: path.read_bytes() for path in former.values()}
    with pytest.raises(RuntimeError, match="broke"):
        separate_file(make("test_inference.Failing"), song, tmp_path / "out", existing="overwrite")
    assert {path: path.read_bytes() for path in former.values()} == before


def test_existing_stems_are_replaced_only_when_told_to(song, tmp_path):
    separate_file(make(), song, tmp_path / "out", stems=["vocals"])
    with pytest.raises(FileExistsError, match=r"vocals\.wav is there already: choose another output, or pass --over"):
        separate_file(make(), song, tmp_path / "out")
    separate_file(make(vocals=0.1, drums=0.2), song, tmp_path / "out", existing="overwrite")
    with pytest.raises(
        FileExistsError, match=r"drums\.wav are there already: .* pass --overwrite \(existing='overwrite'\)"
    ):
        separate_file(make(), song, tmp_path / "out")
    assert files_below(tmp_path / "out") == ["song/drums.wav", "song/vocals.wav"]
    torch.testing.assert_close(audio.read(tmp_path / "out/song/vocals.wav")[0], 0.1 * audio.read(song)[0])


def test_a_recording_all_of_whose_stems_are_there_may_be_skipped(song, tmp_path):
    first = separate_file(make(), song, tmp_path / "out", existing="skip")
    before = {path: path.stat().st_mtime_ns for path in first.stems.values()}
    second = separate_file(make("test_inference.Failing"), song, tmp_path / "out", existing="skip")
    assert (first.skipped, second.skipped) == (False, True)
    assert second.stems == first.stems
    assert {path: path.stat().st_mtime_ns for path in second.stems.values()} == before


def test_a_recording_that_misses_a_stem_is_not_skipped_and_none_is_replaced(song, tmp_path):
    separate_file(make(), song, tmp_path / "out", stems=["vocals"])
    with pytest.raises(FileExistsError, match=r"vocals\.wav is there already"):
        separate_file(make(), song, tmp_path / "out", existing="skip")
    assert separate_file(make(), song, tmp_path / "out", existing="skip", format="flac").skipped is False


def test_stems_that_another_process_just_wrote_are_skipped(song, tmp_path, monkeypatch):
    is_free = iter([False, True])
    monkeypatch.setattr("sepkit.inference.files.Destination.may_skip", lambda *_: next(is_free))
    assert separate_file(make("test_inference.Failing"), song, tmp_path / "out", existing="skip").skipped
    assert not (tmp_path / "out").exists()


def test_an_unknown_treatment_of_existing_stems_is_refused(song, tmp_path):
    with pytest.raises(ValueError, match="existing must be one of error, skip, overwrite, got 'ask'"):
        separate_file(make(), song, tmp_path / "out", existing="ask")


def test_a_name_may_hold_folders(song, tmp_path):
    result = separate_file(make(), song, tmp_path / "out", name="album/disc 1/01")
    assert result.stems["drums"] == tmp_path / "out" / "album" / "disc 1" / "01" / "drums.wav"


@pytest.mark.parametrize("name", ["", "a//b", "/a", "../a", "a/..", "a/b.", "a:b"])
def test_a_name_that_some_system_does_not_take_is_refused(song, tmp_path, name):
    with pytest.raises(ValueError, match="name must be one that a folder can have on every system"):
        separate_file(make(), song, tmp_path / "out", name=name)


@pytest.mark.parametrize("place", ["out", "out/song"])
def test_a_file_in_the_place_of_the_output_is_refused_before_the_work(song, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("a file")
    with pytest.raises(ValueError, match=f"the output must be a folder, .*{place} is a file: choose another"):
        separate_file(make("test_inference.Failing"), song, tmp_path / "out")


def test_a_truncated_file_is_refused_unless_allowed(tmp_path):
    audio.write(tmp_path / "whole.wav", noise(4000), RATE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[: -1000 * 8])
    with pytest.raises(audio.AudioError, match=r"cut\.wav is truncated: 3000 of 4000 samples are there"):
        separate_file(make(), tmp_path / "cut.wav", tmp_path / "out")
    result = separate_file(make(), tmp_path / "cut.wav", tmp_path / "out", allow_truncated=True)
    assert (result.missing, result.duration) == (1000, 3000 / RATE)
    assert audio.read(result.stems["vocals"])[0].shape == (2, 3000)


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from sepkit.inference import separate_file
from test_inference import make
progress = lambda _: (print("going", flush=True), time.sleep(60))
separate_file(make(), {song!r}, {out!r}, format={format!r}, progress=progress)
"""


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_kill_leaves_nothing_under_the_final_names(tmp_path, format):  # noqa: A002
    audio.write(tmp_path / "long.wav", noise(100 * SEGMENT), RATE)
    program = KILLED.format(
        tests=str(Path(__file__).parent), song=str(tmp_path / "long.wav"), out=str(tmp_path / "out"), format=format
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    left = files_below(tmp_path / "out")
    assert left
    assert all(path.startswith(".sepkit-") for path in left)


MEASURED = """
import json, sys, time
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from sepkit.processes import retain_freed_memory
from sepkit.inference import separate, separate_file
from sepkit.separator import Separator
retain_freed_memory()
names = {names!r}
def peak():  # getrusage would count what the parent process had when it forked
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
model = Separator(names, {{"class": "networks.Constant", "gains": [0.2] * len(names)}}).eval()
separate(model, torch.zeros(2, round(model.segment * model.sample_rate)))
before, started = peak(), time.process_time()
separate_file(model, {song!r}, {out!r})
seconds = time.process_time() - started
print(json.dumps([peak() - before, 1000 * seconds / {duration}]))
"""


def measure(folder: Path, minutes: int, names: list[str]) -> tuple[float, float]:
    """Give MB over imports and one chunk, and CPU ms per second of audio."""
    with audio.AudioWriter(folder / "song.wav", 44100, 2, "PCM_16") as writer:
        for _ in range(minutes):
            writer.write(noise(60 * 44100))
    program = MEASURED.format(
        tests=str(Path(__file__).parent),
        names=names,
        song=str(folder / "song.wav"),
        out=str(folder / "out"),
        duration=60 * minutes,
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    for path in (folder / "out" / "song").iterdir():
        path.unlink()
    return tuple(json.loads(run.stdout))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("names", [["vocals"], ["vocals", "drums", "bass", "other"]], ids=["one", "four"])
def test_memory_does_not_grow_with_the_recording(tmp_path, names):
    found = {minutes: measure(tmp_path, minutes, names) for minutes in (1, 4, 30)}
    for minutes, (megabytes, milliseconds) in found.items():
        print(f"{len(names)} estimates, {minutes} min: {megabytes:.1f} MB, {milliseconds:.2f} CPU ms per second")
    peaks = [megabytes for megabytes, _ in found.values()]
    assert max(peaks) <= 64
    assert max(peaks) - min(peaks) <= 16


@pytest.mark.parametrize("stems", [["foo"], ["residual", "vocals"], "vocals", [], None])
def test_a_stream_takes_stems_as_choose_stems_lists_them(stems):
    with pytest.raises(ValueError, match="stems must be"):
        StreamSeparator(make(vocals=0.5, drums=0.25), 8000, 2, stems)


@pytest.mark.parametrize("existing", ["overwrite", "skip", "error"])
def test_no_stem_takes_the_place_of_the_recording(tmp_path, existing):
    recording = tmp_path / "vocals" / "vocals.wav"
    recording.parent.mkdir()
    audio.write(recording, noise(1000), 8000)
    before = recording.read_bytes()
    with pytest.raises(ValueError, match=r"in the place of .*vocals.wav itself: choose another output"):
        separate_file(make(vocals=0.5, drums=0.25), recording, tmp_path, existing=existing)
    assert recording.read_bytes() == before


def test_an_empty_output_is_not_the_current_folder(tmp_path):
    audio.write(tmp_path / "song.wav", noise(1000), 8000)
    with pytest.raises(ValueError, match="output has no name, it is empty"):
        separate_file(make(vocals=0.5, drums=0.25), tmp_path / "song.wav", "")
