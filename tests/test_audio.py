import json
import multiprocessing
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from sepkit import audio
from sepkit.audio import AudioError, writing

RATE = 44100
LOSSLESS = [("wav", "FLOAT"), ("wav", "PCM_24"), ("wav", "PCM_16"), ("flac", "PCM_24"), ("flac", "PCM_16")]
STEPS = {"FLOAT": 0.0, "PCM_24": 2.0**-23, "PCM_16": 2.0**-15}
CONTAINERS = ["wav", "flac", "ogg", "mp3", "m4a"]
ODD = json.loads((Path(__file__).parent / "data" / "odd_files.json").read_text(encoding="utf-8"))


def music(n_samples: int, n_channels: int = 2, seed: int = 0) -> torch.Tensor:
    """Make low-passed noise under 1 in magnitude (C, T): unlike at any two places, and easy for every codec."""
    noise = np.random.default_rng(seed).standard_normal((n_channels, n_samples + 31))
    smooth = np.stack([np.convolve(row, np.hanning(32), mode="valid") for row in noise])
    return torch.from_numpy((0.9 * smooth / np.abs(smooth).max()).astype(np.float32))[:, :n_samples]


def write_aac(path: Path, waveforms: list[torch.Tensor], fast_start: bool = False, rates: tuple = ()) -> None:
    """Encode streams as AAC without noise substitution, whose random state would depend on where decoding begins."""
    import av

    options = {"movflags": "faststart"} if fast_start else {}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        rates = rates or (RATE,) * len(waveforms)
        layout = {"layout": "stereo", "options": {"aac_pns": "0"}}
        streams = [container.add_stream("aac", rate=rate, **layout) for rate in rates]
        for stream, waveform, rate in zip(streams, waveforms, rates, strict=True):
            stream.bit_rate = 256000
            frame = av.AudioFrame.from_ndarray(waveform.numpy(), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Write five stereo seconds in every container."""
    folder = tmp_path_factory.mktemp("audio")
    waveform = music(5 * RATE)
    paths = {suffix: folder / f"tone.{suffix}" for suffix in CONTAINERS}
    for suffix in CONTAINERS[:-1]:
        audio.write(paths[suffix], waveform, RATE)
    write_aac(paths["m4a"], [waveform])
    return paths


def cut(source: Path, target: Path, share: float) -> Path:
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


# Reading


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_read_in_full_or_refused_in_one_sentence(reference_root, name):
    path = reference_root / "audio" / "odd" / name
    if not path.is_file():
        pytest.skip(f"{name} is not among the reference audio")
    expected = ODD[name]
    if "error" in expected:
        with pytest.raises(AudioError, match=expected["error"]):
            audio.read(path)
    else:
        waveform, rate = audio.read(path)
        low, high = expected["frames"]
        assert rate == expected["rate"]
        assert waveform.shape[0] == expected["channels"]
        assert low <= waveform.shape[1] <= high


@pytest.mark.parametrize("name", [name for name in ODD if "allowed" in ODD[name]])
def test_truncated_odd_files_give_what_decodes_on_request(reference_root, name):
    path = reference_root / "audio" / "odd" / name
    waveform, _ = audio.read(path, allow_truncated=True)
    assert waveform.shape[1] == ODD[name]["allowed"]


@pytest.mark.parametrize("name", [name for name in ODD if "frames" in ODD[name]])
def test_segments_of_odd_files_are_slices_of_the_whole(reference_root, name):
    path = reference_root / "audio" / "odd" / name
    whole, _ = audio.read(path)
    start, n_samples = whole.shape[1] // 3, whole.shape[1] // 2
    segment, _ = audio.read(path, start, n_samples)
    # Lossy decoders may round differently behind a seek; AAC's noise substitution starts anew.
    tolerance = {".m4a": 0.1, ".mp3": 1e-4, ".ogg": 1e-4, ".opus": 1e-3}.get(path.suffix, 0.0)
    torch.testing.assert_close(segment, whole[:, start : start + n_samples], atol=tolerance, rtol=0)


def test_reading_prints_nothing(reference_root):
    odd = reference_root / "audio" / "odd"
    program = (
        "import sys\nfrom sepkit import audio\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        audio.read(path, allow_truncated=True)\n"
        "    except audio.AudioError:\n        pass\n"
    )
    command = [sys.executable, "-c", program, *(str(odd / name) for name in ODD if (odd / name).is_file())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_values_beyond_full_scale_are_kept(tmp_path):
    hot = 3 * music(1000)
    audio.write(tmp_path / "hot.wav", hot, RATE)
    assert torch.equal(audio.read(tmp_path / "hot.wav")[0], hot)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("start", [0, 1, 1105, 44100, 100001, 5 * RATE - 5000])
def test_a_segment_is_a_slice_of_the_whole(files, suffix, start):
    whole, _ = audio.read(files[suffix])
    segment, rate = audio.read(files[suffix], start, 5000)
    assert rate == RATE
    # Behind a seek, the overlap of lossy frames is summed from other roundings.
    tolerance = 1e-5 if suffix in ("ogg", "mp3", "m4a") else 0.0
    torch.testing.assert_close(segment, whole[:, start : start + 5000], atol=tolerance, rtol=0)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("block", [1000, 1 << 16])
def test_blocks_join_to_the_whole(files, suffix, block):
    blocks = list(audio.stream_blocks(files[suffix], block))
    assert {one.shape[1] for one in blocks[:-1]} <= {block}
    torch.testing.assert_close(torch.cat(blocks, dim=1), audio.read(files[suffix])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_lossy_and_lossless_files_start_and_end_with_the_waveform(files, suffix):
    waveform, _ = audio.read(files[suffix])
    original = music(5 * RATE)
    assert 0 <= waveform.shape[1] - original.shape[1] < 1024  # AAC fills its last frame
    error = (waveform[:, : original.shape[1]] - original).square().mean() / original.square().mean()
    assert error < 0.01  # a shift by one sample would give 0.02 and more


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_probe_agrees_with_reading(files, suffix):
    info = audio.probe(files[suffix])
    waveform, rate = audio.read(files[suffix], info=info)
    assert (info.n_channels, info.n_samples, info.sample_rate) == (*waveform.shape, rate)
    assert info.duration == pytest.approx(5, abs=1024 / RATE)
    assert not info.truncated
    assert info.n_streams == 1


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_reader_reads_from_any_position(files, suffix):
    whole, _ = audio.read(files[suffix])
    with audio.AudioReader(files[suffix]) as reader:
        for position in (30000, 10, 200000):
            reader.seek(position)
            torch.testing.assert_close(reader.read(7000), whole[:, position : position + 7000], atol=1e-5, rtol=0)
        assert reader.position == 207000
        assert reader.read().shape[1] == whole.shape[1] - 207000
        assert reader.read(10).shape == (2, 0)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_the_content_decides_not_the_name(files, suffix, tmp_path):
    renamed = tmp_path / "song.raw"
    renamed.write_bytes(files[suffix].read_bytes())
    # Headerless is what libsndfile takes .raw for, so that FFmpeg's decoders and their roundings come in.
    torch.testing.assert_close(audio.read(renamed)[0], audio.read(files[suffix])[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("suffix", "share"), [("wav", 0.5), ("flac", 0.5), ("ogg", 0.5), ("mp3", 0.5), ("flac", 0.999)]
)
def test_a_truncated_file_is_refused_unless_allowed(files, suffix, share, tmp_path):
    path = cut(files[suffix], tmp_path / f"cut.{suffix}", share)
    with pytest.raises(AudioError, match=r"is truncated: .* get the whole file"):
        audio.read(path)
    with audio.AudioReader(path, allow_truncated=True) as reader:
        info, waveform = reader.info, reader.read()
    assert info.truncated
    assert info.n_declared in (5 * RATE, None)
    assert waveform.shape[1] == info.n_samples < 5 * RATE
    whole, _ = audio.read(files[suffix])
    frame = 8192  # the last frame may decode in part
    assert info.n_samples > share * 5 * RATE - 3 * frame
    torch.testing.assert_close(waveform[:, :-frame], whole[:, : info.n_samples - frame], atol=1e-4, rtol=0)


def test_a_truncated_mp4_is_refused_unless_allowed(tmp_path):
    write_aac(tmp_path / "whole.m4a", [music(5 * RATE)], fast_start=True)
    path = cut(tmp_path / "whole.m4a", tmp_path / "cut.m4a", 0.6)
    with pytest.raises(AudioError, match="is truncated"):
        audio.read(path)
    waveform, _ = audio.read(path, allow_truncated=True)
    whole, _ = audio.read(tmp_path / "whole.m4a")
    assert RATE < waveform.shape[1] < whole.shape[1]
    assert torch.equal(waveform, whole[:, : waveform.shape[1]])


def test_a_streamed_wav_without_sizes_is_read_whole(files, tmp_path):
    content = bytearray(files["wav"].read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(content)
    info = audio.probe(tmp_path / "streamed.wav")
    assert (info.n_samples, info.n_declared, info.truncated) == (5 * RATE, None, False)


def test_a_flac_header_that_announces_too_little_cuts_nothing(files, tmp_path):
    content = bytearray(files["flac"].read_bytes())
    content[22:26] = struct.pack(">I", 100000)  # the lower bits of STREAMINFO's total
    (tmp_path / "short.flac").write_bytes(content)
    info = audio.probe(tmp_path / "short.flac")
    assert (info.n_samples, info.n_declared) == (5 * RATE, 100000)
    assert torch.equal(audio.read(tmp_path / "short.flac")[0], audio.read(files["flac"])[0])


def test_a_flac_damaged_in_the_middle_is_refused(files, tmp_path):
    content = bytearray(files["flac"].read_bytes())
    content[len(content) // 2] ^= 0x55
    (tmp_path / "damaged.flac").write_bytes(content)
    with pytest.raises(AudioError, match="does not decode near sample"):
        audio.read(tmp_path / "damaged.flac")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -(2.0**100)])
def test_nonfinite_samples_are_refused_with_their_position(tmp_path, value):
    waveform = music(400000).numpy()
    waveform[1, 300000] = value
    soundfile.write(tmp_path / "bad.wav", waveform.T, RATE, subtype="FLOAT")
    with pytest.raises(
        AudioError, match=rf"bad.wav holds {re.escape(str(value))} at sample 300000 of channel 1; repair"
    ):
        audio.read(tmp_path / "bad.wav")
    assert audio.read(tmp_path / "bad.wav", 0, 300000)[0].shape == (2, 300000)


def test_a_segment_beyond_the_end_is_refused(files):
    with pytest.raises(AudioError, match="has 220500 samples, 220000 to 221000 were wanted"):
        audio.read(files["wav"], 220000, 1000)
    with pytest.raises(AudioError, match="has 220500 samples, position 220501 was wanted"):
        audio.read(files["wav"], 220501)
    with pytest.raises(AudioError, match="position -1 was wanted"):
        audio.read(files["wav"], -1)


@pytest.mark.parametrize("suffix", ["wav", "m4a"])
@pytest.mark.parametrize("stream", [1, -1])
def test_a_stream_that_is_not_there_is_refused(files, suffix, stream):
    with pytest.raises(AudioError, match=f"1 audio stream.*stream {stream} was wanted"):
        audio.probe(files[suffix], stream)


def test_what_is_not_an_audio_file_is_refused(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio " * 100)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"Cannot open .*none.wav: No such file or directory; check the path"):
        audio.probe(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is not a file; name an audio file"):
        audio.probe(tmp_path)
    with pytest.raises(AudioError, match="is not a file; name an audio file"):
        audio.probe(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="is empty; copy or download it again"):
        audio.probe(tmp_path / "empty.wav")
    with pytest.raises(AudioError, match=r"Cannot read audio from .*text.wav: .*convert it"):
        audio.probe(tmp_path / "text.wav")


def test_a_file_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(AudioError, match="holds no audio"):
        audio.read(tmp_path / "none.wav")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_file_without_permission_is_refused(files, tmp_path):
    locked = tmp_path / "locked.wav"
    locked.write_bytes(files["wav"].read_bytes())
    locked.chmod(0)
    with pytest.raises(AudioError, match="Permission denied; check the path and its permissions"):
        audio.read(locked)


def test_a_file_that_shrank_since_it_was_probed_is_refused(files, tmp_path):
    path = cut(files["wav"], tmp_path / "shrinking.wav", 1)
    info = audio.probe(path)
    cut(files["wav"], path, 0.5)
    with pytest.raises(AudioError, match=r"shrinking.wav was changed after it was checked: start again, or probe it"):
        audio.read(path, info=info)
    path.unlink()
    with pytest.raises(AudioError, match="check that it is still there"):
        audio.read(path, info=info)


def test_all_streams_of_a_stem_file_are_read(tmp_path):
    stems = [music(RATE, seed=seed) for seed in range(3)]
    write_aac(tmp_path / "song.stem.mp4", stems)
    waveforms, rate = audio.read_streams(tmp_path / "song.stem.mp4")
    assert (rate, len(waveforms), audio.probe(tmp_path / "song.stem.mp4").n_streams) == (RATE, 3, 3)
    for stem, waveform in zip(stems, waveforms, strict=True):
        assert (waveform[:, :RATE] - stem).square().mean() < 0.01 * stem.square().mean()
    segments, _ = audio.read_streams(tmp_path / "song.stem.mp4", 20000, 3000)
    torch.testing.assert_close(segments[1], waveforms[1][:, 20000:23000], atol=1e-5, rtol=0)


def test_streams_of_different_rates_are_refused(tmp_path):
    write_aac(tmp_path / "mixed.mp4", [music(RATE), music(RATE)], rates=(44100, 48000))
    with pytest.raises(AudioError, match=r"have the rates \(44100, 48000\) Hz; read them one by one"):
        audio.read_streams(tmp_path / "mixed.mp4")


def test_streams_of_an_ordinary_file_are_its_only_one(files):
    waveforms, rate = audio.read_streams(files["flac"])
    assert rate == RATE
    assert torch.equal(waveforms[0], audio.read(files["flac"])[0])


@pytest.mark.parametrize("suffix", ["flac", "mp3", "m4a"])
def test_threads_and_processes_read_alike(files, suffix):
    jobs = [(files[suffix], start, 4000) for start in range(0, 200000, 20000)]
    alone = [audio.read(*job)[0] for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(lambda job: audio.read(*job)[0], jobs))
    assert all(map(torch.equal, alone, threaded))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(_read_in_process, jobs[3]), alone[3])


def _read_in_process(*job):
    return audio.read(*job)[0]


def test_names_tell_audio_from_other_files():
    assert audio.is_audio_name("a/Song.WAV")
    assert audio.is_audio_name("song.stem.mp4")
    assert not audio.is_audio_name("notes.txt")
    assert not audio.is_audio_name("._song.wav")
    assert set(writing.SUBTYPES) < set(audio.SUFFIXES)


# Writing


@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_lossless_files_come_back_within_half_a_step(tmp_path, suffix, subtype, n_channels):
    waveform = music(3001, n_channels)
    audio.write(tmp_path / f"first.{suffix}", waveform, RATE, subtype)
    back, rate = audio.read(tmp_path / f"first.{suffix}")
    info = audio.probe(tmp_path / f"first.{suffix}")
    assert (rate, info.subtype) == (RATE, subtype)
    torch.testing.assert_close(back, waveform, atol=STEPS[subtype] / 2, rtol=0)
    audio.write(tmp_path / f"second.{suffix}", back, RATE, subtype)
    assert (tmp_path / f"second.{suffix}").read_bytes() == (tmp_path / f"first.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_every_16_bit_value_is_written_back_unchanged(tmp_path, suffix):
    values = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "first.wav", values, RATE, subtype="PCM_16")
    audio.write(tmp_path / f"second.{suffix}", audio.read(tmp_path / "first.wav")[0], RATE, "PCM_16")
    assert np.array_equal(soundfile.read(tmp_path / f"second.{suffix}", dtype="int16")[0], values)


@pytest.mark.parametrize(("suffix", "subtype"), [case for case in LOSSLESS if case[1] != "FLOAT"])
def test_integers_saturate_at_full_scale(tmp_path, suffix, subtype):
    audio.write(tmp_path / f"hot.{suffix}", torch.tensor([[2.0, 1.0, -1.0, -1e38]]), RATE, subtype)
    back, _ = audio.read(tmp_path / f"hot.{suffix}")
    top = 1 - STEPS[subtype]
    assert back.tolist() == [[top, top, -1.0, -1.0]]


@pytest.mark.parametrize("suffix", writing.SUBTYPES)
def test_blocks_write_the_same_file_as_the_whole(tmp_path, suffix):
    waveform = music(50001)
    audio.write(tmp_path / f"whole.{suffix}", waveform, RATE)
    with audio.AudioWriter(tmp_path / f"blocks.{suffix}", RATE, 2) as writer:
        for block in waveform.split(7777, dim=1):
            writer.write(block)
    assert writer.n_samples == 50001
    whole, blocks = (audio.read(tmp_path / f"{name}.{suffix}")[0] for name in ("whole", "blocks"))
    # Vorbis chooses its windows by what it has been given so far.
    torch.testing.assert_close(blocks, whole, atol=0.05 if suffix == ".ogg" else 0.0, rtol=0)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "PCM_16"])
def test_wav_grows_into_rf64_beyond_its_limit(tmp_path, monkeypatch, subtype):
    monkeypatch.setattr(writing, "RIFF_LIMIT", 1000)
    waveform = music(2001, 1)
    audio.write(tmp_path / "long.wav", waveform, RATE, subtype)
    info = audio.probe(tmp_path / "long.wav")
    assert (info.format, info.n_samples, info.n_declared) == ("RF64", 2001, 2001)
    torch.testing.assert_close(audio.read(tmp_path / "long.wav")[0], waveform, atol=STEPS[subtype], rtol=0)


@pytest.mark.parametrize("suffix", writing.SUBTYPES)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    audio.write(path, music(3000), RATE)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        _write_and_be_interrupted(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def _write_and_be_interrupted(path: Path) -> None:
    with audio.AudioWriter(path, RATE, 2) as writer:
        writer.write(music(2000))
        raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of the file size need POSIX")
@pytest.mark.parametrize("suffix", writing.SUBTYPES)
def test_a_full_disk_is_an_audio_error(tmp_path, suffix):
    program = (
        "import resource, signal, sys, torch\nfrom sepkit import audio\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n    audio.write(sys.argv[1], torch.rand(2, 400000) - 0.5, 44100)\n"
        "except audio.AudioError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / f"big.{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "check the disk's space" in done.stdout
    assert os.listdir(tmp_path) == []


def test_nothing_but_finite_samples_is_written(tmp_path):
    waveform = music(100)
    waveform[1, 7] = float("nan")
    with pytest.raises(AudioError, match="the waveform holds nan at sample 7 of channel 1"):
        audio.write(tmp_path / "bad.wav", waveform, RATE)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "rate", "shape", "subtype", "message"),
    [
        ("a.xyz", RATE, (2, 9), None, "must end with one of .wav, .flac, .ogg, .mp3"),
        ("a.flac", RATE, (2, 9), "FLOAT", "as FLOAT: .flac takes PCM_24 or PCM_16"),
        ("none/a.wav", RATE, (2, 9), None, "the folder is missing; create it"),
        ("a.mp3", 96000, (2, 9), None, "2 channels at 96000 Hz: .*choose another format"),
        ("a.mp3", RATE, (6, 9), None, "6 channels at 44100 Hz: .*choose another format"),
        ("a.ogg", 400000, (1, 9), None, ".ogg takes 1 to 255 channels at 1 to 200000 Hz"),
        ("a.wav", 0, (1, 9), None, "1 channels at 0 Hz"),
        ("a.wav", RATE, (0, 9), None, "0 channels at 44100 Hz"),
        ("a.wav", RATE, (9,), None, r"takes a waveform \(C, T\), got \(9,\)"),
        ("a.wav", RATE, (2, 0), None, "no samples came; write at least one"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, rate, shape, subtype, message):
    with pytest.raises(AudioError, match=message):
        audio.write(tmp_path / name, torch.zeros(shape), rate, subtype)
    assert os.listdir(tmp_path) == []


def test_a_block_with_other_channels_is_refused(tmp_path):
    with (
        pytest.raises(AudioError, match=r"takes blocks \(2, T\), got \(1, 5\)"),
        audio.AudioWriter(tmp_path / "a.wav", RATE, 2) as writer,
    ):
        writer.write(torch.zeros(1, 5))


# Converting


@pytest.mark.parametrize(("rate_from", "rate_to"), [(44100, 48000), (48000, 44100), (44100, 16000), (8000, 44100)])
@pytest.mark.parametrize("n_samples", [0, 1, 37, 1000, 50001])
def test_blocks_resample_to_the_same_bits_as_the_whole(rate_from, rate_to, n_samples):
    waveform = music(n_samples)
    whole = audio.resample(waveform, rate_from, rate_to)
    assert whole.shape == (2, int(n_samples * rate_to / rate_from + 0.5))
    resampler = audio.Resampler(rate_from, rate_to, 2)
    parts = [resampler.push(block) for block in waveform.split(777, dim=1)]
    assert torch.equal(torch.cat([*parts, resampler.flush()], dim=1), whole)


def test_resampling_keeps_a_tone_and_drops_what_would_alias():
    seconds = torch.arange(2 * RATE, dtype=torch.float64) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * seconds) for hertz in (1000, 10000)]).float()
    low = audio.resample(tones, RATE, 16000)[:, 4000:-4000]
    expected = torch.sin(2 * torch.pi * 1000 * torch.arange(32000, dtype=torch.float64) / 16000)[4000:-4000].float()
    torch.testing.assert_close(low[0], expected, atol=1e-5, rtol=0)
    assert low[1].abs().max() < 1e-5  # -100 dB; soxr promises 20 bits for HQ


def test_resampling_agrees_with_soxr():
    waveform = music(5000)
    expected = torch.from_numpy(soxr.resample(waveform.numpy().T, 44100, 32000, quality="HQ").T)
    assert torch.equal(audio.resample(waveform, 44100, 32000), expected)


def test_equal_rates_change_nothing():
    waveform = music(100)
    resampler = audio.Resampler(RATE, RATE, 2)
    assert audio.resample(waveform, RATE, RATE) is waveform
    assert resampler.push(waveform) is waveform
    assert resampler.flush().shape == (2, 0)


def test_wrong_rates_and_shapes_are_refused():
    with pytest.raises(ValueError, match="rates must be positive, whole and at most 100000000, got 0 and 44100 Hz"):
        audio.resample(music(10), 0, RATE)
    with pytest.raises(ValueError, match="rates must be positive"):
        audio.Resampler(RATE, -1, 2)
    with pytest.raises(ValueError, match=r"resample wants a waveform \(C, T\), got \(10,\)"):
        audio.resample(torch.zeros(10), 8000, RATE)
    with pytest.raises(ValueError, match=r"wants blocks \(2, T\), got \(1, 10\)"):
        audio.Resampler(8000, RATE, 2).push(torch.zeros(1, 10))


def test_one_channel_is_copied_and_many_are_averaged():
    stereo = music(50)
    assert audio.adapt_channels(stereo, 2) is stereo
    mono = audio.adapt_channels(stereo, 1)
    assert torch.equal(mono, (stereo[:1] + stereo[1:]) / 2)
    assert torch.equal(audio.adapt_channels(mono, 3), mono.expand(3, 50))
    assert audio.adapt_channels(stereo.expand(4, 2, 50), 1).shape == (4, 1, 50)


@pytest.mark.parametrize(("present", "wanted"), [(2, 3), (6, 2)])
def test_other_channel_mappings_are_refused(present, wanted):
    with pytest.raises(ValueError, match=f"Cannot map {present} channels to {wanted}: only mono to many"):
        audio.adapt_channels(torch.zeros(present, 10), wanted)
