"""Files that are damaged, joined, mis-sized or exchanged: nothing is cut in silence, and all ways of reading agree."""

import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from sepkit import audio
from sepkit.audio import AudioError, AudioInfo, reading
from sepkit.audio.av_source import AvSource
from sepkit.audio.info import DecodeError
from sepkit.audio.pcm import locate_samples
from sepkit.datasets import AudioFolder, DatasetError, open_songs

RATE = 44100
SECONDS = 1.5
CODECS = {  # by suffix: encoder, container, options
    "aac": ("aac", "adts", {"aac_pns": "0"}),
    "ac3": ("ac3", "ac3", {}),
    "mp2": ("mp2", "mp2", {}),
    "nox.mp3": ("libmp3lame", "mp3", {}),
    "m4a": ("aac", "mp4", {"aac_pns": "0"}),
    "alac.m4a": ("alac", "mp4", {}),
    "webm": ("libopus", "webm", {}),
    "wma": ("wmav2", "asf", {}),
    "mka": ("pcm_s16le", "matroska", {}),
    "wv": ("wavpack", "wv", {}),
    "tta": ("tta", "tta", {}),
}
WRITTEN = ("wav", "flac", "ogg", "mp3")
SOUNDFILE = {
    "w64": "PCM_16", "aiff": "PCM_24", "au": "FLOAT", "rf64": "PCM_16", "caf": "PCM_16", "ima.wav": "IMA_ADPCM",
    "opus": "OPUS",
}  # fmt: skip
FILLED = ("wav", "w64", "aiff", "caf", "flac", "ogg", "opus", "mp3", "nox.mp3", "aac", "mp2", "wv")
FORMATS = [*WRITTEN, *SOUNDFILE, *CODECS]
HEADERLESS = ("aac", "ac3", "mp2", "nox.mp3")  # of their length nothing is written anywhere


def music(n_samples: int, n_channels: int = 2, seed: int = 0) -> torch.Tensor:
    """Smooth noise under 1 in magnitude (C, T), unlike at any two places."""
    noise = np.random.default_rng(seed).standard_normal((n_channels, n_samples + 31))
    smooth = np.stack([np.convolve(row, np.hanning(32), mode="valid") for row in noise])
    return torch.from_numpy((0.5 * smooth / np.abs(smooth).max()).astype(np.float32))[:, :n_samples]


def encode(path: Path, waveform: torch.Tensor, rate: int, codec: str, container: str, options: dict) -> None:
    import av

    layout = "mono" if len(waveform) == 1 else "stereo"
    with av.open(str(path), "w", format=container, options={"write_xing": "0"} if container == "mp3" else {}) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, options=options)
        stream.bit_rate = 192000
        kind = stream.codec_context.format.name
        resampler = av.AudioResampler(format=kind, layout=layout, rate=stream.codec_context.sample_rate)
        frame = av.AudioFrame.from_ndarray(waveform.numpy(), format="fltp", layout=layout)
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 4096
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            fifo.write(part)
        while (part := fifo.read(size)) or (part := fifo.read(0, partial=True)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def write(path: Path, suffix: str, n_channels: int = 2, rate: int = RATE) -> Path:
    rate = 48000 if suffix in ("opus", "webm") else rate
    waveform = music(round(SECONDS * rate), n_channels)
    if suffix in WRITTEN:
        audio.write(path, waveform, rate, "PCM_16" if suffix in ("wav", "flac") else None)
    elif suffix in SOUNDFILE:
        kind = {"opus": "OGG", "ima.wav": "WAV"}.get(suffix, suffix.upper())
        soundfile.write(path, waveform.T.numpy(), rate, SOUNDFILE[suffix], format=kind)
    else:
        encode(path, waveform, rate, *CODECS[suffix])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Write the same noise in every format."""
    folder = tmp_path_factory.mktemp("damage")
    return {suffix: write(folder / f"whole.{suffix}", suffix) for suffix in FORMATS}


def overwrite(content: bytes, random: np.random.Generator) -> bytes:
    place, n_bytes = random.integers(len(content) // 5, len(content) - 3000), random.integers(1, 3000)
    return content[:place] + random.bytes(n_bytes) + content[place + n_bytes :]


def erase(content: bytes, random: np.random.Generator) -> bytes:
    place = random.integers(len(content) // 5, len(content) - 10)
    return content[:place] + bytes(len(content) - place)


def cut(content: bytes, random: np.random.Generator) -> bytes:
    return content[: random.integers(len(content) // 5, len(content) - 10)]


def insert(content: bytes, random: np.random.Generator) -> bytes:
    place = random.integers(len(content) // 5, len(content))
    return content[:place] + random.bytes(random.integers(1, 5000)) + content[place:]


def remove(content: bytes, random: np.random.Generator) -> bytes:
    place = random.integers(len(content) // 5, len(content) - 3000)
    return content[:place] + content[place + random.integers(1, 3000) :]


def double(content: bytes, _random: np.random.Generator) -> bytes:
    return content + content


def read_in_every_way(path: Path, seed: int = 0) -> tuple[AudioInfo, torch.Tensor, bool]:
    """Read whole, in blocks and in segments, compare, and return whether anything is reported."""
    info = audio.probe(path)
    with audio.AudioReader(path, allow_truncated=True, info=info) as reader:
        whole = reader.read()
        reported = bool(info.complaint or info.remarks or reader.damage)
    assert whole.shape == (info.n_channels, info.n_samples)
    tolerance = 1e-4 if info.reader == "av" or info.format == "OGG" else 0.0  # lossy decoders round anew behind a seek
    blocks = torch.cat(list(audio.stream_blocks(path, 10007, allow_truncated=True)), 1)
    torch.testing.assert_close(blocks, whole, atol=tolerance, rtol=0)
    random = np.random.default_rng(seed)
    for start in (*random.integers(0, info.n_samples, 3), info.n_samples - 1):
        n_samples = int(random.integers(1, info.n_samples - start + 1))
        segment, _ = audio.read(path, int(start), n_samples, allow_truncated=True, info=info)
        torch.testing.assert_close(segment, whole[:, start : start + n_samples], atol=tolerance, rtol=0)
    return info, whole, reported


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_told_of_files_that_are_whole(files, suffix):
    info, whole, reported = read_in_every_way(files[suffix])
    assert not reported
    assert whole.shape[1] == pytest.approx(SECONDS * info.sample_rate, abs=4096)  # encoders fill frames
    assert torch.equal(audio.read(files[suffix])[0], whole)


def refusal_of(path: Path) -> str:
    """Describe why a file is not even read as far as possible; "" where it is."""
    try:
        audio.read(path, allow_truncated=True)
    except AudioError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", [overwrite, erase, cut, insert, remove, double])
@pytest.mark.parametrize("seed", [0, 1])
def test_damage_is_told_and_every_way_of_reading_agrees(files, tmp_path, suffix, damage, seed):
    random = np.random.default_rng([seed, FORMATS.index(suffix)])
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(damage(files[suffix].read_bytes(), random))
    refusal = refusal_of(path)
    if refusal:
        assert str(path) in refusal
        assert "\n" not in refusal
        return
    info, whole, reported = read_in_every_way(path, seed)
    shorter = info.n_samples < audio.probe(files[suffix]).n_samples
    silent = ((whole == 0).all(0).float().mean() > 0.05) and damage is not erase
    assert reported or not (shorter or silent)
    assert not info.damage or info.complaint
    if info.complaint:
        with pytest.raises(AudioError, match=r"is (truncated|damaged).*get the whole file, or allow"):
            audio.read(path, info=info)


@pytest.mark.parametrize("name", json.loads((Path(__file__).parent / "data" / "odd_files.json").read_text("utf-8")))
def test_every_way_of_reading_agrees_on_odd_files(reference_root, name):
    path = reference_root / "audio" / "odd" / name
    if not path.is_file() or name.endswith(".m4a"):
        pytest.skip(f"{name} is not among the reference audio, or its noise substitution starts anew at each segment")
    refusal = refusal_of(path)
    if refusal:
        assert "\n" not in refusal
    else:
        read_in_every_way(path)


# Joined files


@pytest.mark.parametrize("suffix", ["ogg", "opus", "flac", "aac", "ac3", "mp2"])
def test_a_file_behind_another_of_its_kind_is_read_too(files, tmp_path, suffix):
    content, alone = files[suffix].read_bytes(), audio.read(files[suffix])[0]
    (tmp_path / "two").write_bytes(content * 2)
    waveform, _ = audio.read(tmp_path / "two")
    # Decoders that go on without a new start add up the overlap of two frames; Vorbis may differ by its roundings.
    edge = 0 if suffix in ("ogg", "opus", "flac") else 2048
    tolerance = {"opus": 1e-3, "ac3": 1e-2}.get(suffix, 1e-4)  # of two decoders, and with the dither of AC-3
    assert waveform.shape[1] == 2 * alone.shape[1]
    for part in waveform.split(alone.shape[1], 1):
        torch.testing.assert_close(part[:, edge:], alone[:, edge:], atol=tolerance, rtol=0)


@pytest.mark.parametrize("suffix", ["mp3", "nox.mp3"])
def test_mp3_files_that_are_joined_are_read_to_the_end_and_told(files, tmp_path, suffix):
    alone = audio.read(files[suffix])[0]
    tag = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
    (tmp_path / "joined.mp3").write_bytes(tag.join([files[suffix].read_bytes()] * 3))
    _, whole, reported = read_in_every_way(tmp_path / "joined.mp3")
    assert reported
    assert abs(3 * alone.shape[1] - whole.shape[1]) < 6 * 1152  # a frame beside each tag; what Xing headers trim


@pytest.mark.parametrize(("first", "second"), [("ogg", "ogg"), ("opus", "opus"), ("aac", "aac"), ("mp3", "mp3")])
@pytest.mark.parametrize("channels", [(2, 1), (1, 2)])
def test_what_follows_in_another_format_is_converted_and_told(tmp_path, first, second, channels):
    rates = (RATE, RATE if first == "opus" else 22050)
    paths = [
        write(tmp_path / f"{k}.{suffix}", suffix, n, rate)
        for k, (suffix, n, rate) in enumerate(zip((first, second), channels, rates, strict=True))
    ]
    (tmp_path / "joined").write_bytes(b"".join(path.read_bytes() for path in paths))
    parts = [audio.read(path) for path in paths]
    added = audio.resample(audio.adapt_channels(parts[1][0], channels[0]), parts[1][1], parts[0][1])
    wanted = torch.cat([parts[0][0], added], 1)
    info, whole, _ = read_in_every_way(tmp_path / "joined")
    assert any("changes from" in one.change for one in info.damage)
    assert whole.shape[0] == channels[0]
    assert abs(whole.shape[1] - wanted.shape[1]) <= (0 if first in ("ogg", "opus") else 8 * 1152)
    if first in ("ogg", "opus"):
        torch.testing.assert_close(whole, wanted, atol=1e-3, rtol=0)  # of two decoders
    with pytest.raises(AudioError, match=rf"is damaged near sample \d+ .*changes from {channels[0]} channels at"):
        audio.read(tmp_path / "joined", info=info)


@pytest.mark.parametrize("suffix", ["wav", "w64", "aiff", "au", "rf64", "caf", "m4a", "tta", "wv", "wma"])
def test_a_second_file_that_no_player_reaches_is_told(files, tmp_path, suffix):
    size = files[suffix].stat().st_size
    path = tmp_path / f"two.{suffix}"
    path.write_bytes(files[suffix].read_bytes() * 2)
    with pytest.raises(AudioError, match=r"is damaged near sample \d+ .*: \d+ bytes passed over"):
        audio.read(path)
    info, whole, _ = read_in_every_way(path)
    assert torch.equal(whole, audio.read(files[suffix])[0])
    assert info.damage[0].n_bytes == pytest.approx(size, abs=256)


def test_tags_behind_an_mp3_are_no_damage(files, tmp_path):
    ape = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 1000, 1, 1 << 31 | 1 << 29) + b"\xff\xfb\x90\x64" * 250
    for tags in (b"TAG" + bytes(125), ape + b"TAG" + bytes(125), b"ID3\x04\0\0\0\0\0\x40" + bytes(64)):
        (tmp_path / "tagged.mp3").write_bytes(files["mp3"].read_bytes() + tags)
        waveform, _ = audio.read(tmp_path / "tagged.mp3")
        assert torch.equal(waveform, audio.read(files["mp3"])[0])


@pytest.mark.parametrize("suffix", FILLED)
def test_a_sector_that_is_filled_with_zeros_is_no_damage(files, tmp_path, suffix):
    path = tmp_path / f"filled.{suffix}"
    path.write_bytes(files[suffix].read_bytes() + bytes(2000))
    _, whole, reported = read_in_every_way(path)
    assert not reported
    assert torch.equal(whole, audio.read(files[suffix])[0])


def test_zeros_before_an_mp3_are_no_damage(files, tmp_path):
    (tmp_path / "late.mp3").write_bytes(bytes(1000) + files["mp3"].read_bytes())
    info, _, reported = read_in_every_way(tmp_path / "late.mp3")
    assert (reported, info.undeclared) == (False, 0)
    assert 0 <= info.n_samples - round(SECONDS * RATE) < 3 * 1152  # with the header's frame, delay and padding


def test_an_mp3_in_an_mp4_is_no_damage_where_its_last_packet_goes_on(tmp_path):
    encode(tmp_path / "in.mp4", music(round(SECONDS * RATE)), RATE, "libmp3lame", "mp4", {})
    info, _, reported = read_in_every_way(tmp_path / "in.mp4")
    assert (reported, info.undeclared) == (False, 0)


@pytest.mark.parametrize("suffix", ["mka", "webm", "wma", "caf", "ima.wav"])
def test_a_few_bytes_that_are_missing_at_the_end_are_told(files, tmp_path, suffix):
    path = tmp_path / f"short.{suffix}"
    path.write_bytes(files[suffix].read_bytes()[:-3000])
    info, _, _ = read_in_every_way(path)
    assert info.truncated
    with pytest.raises(AudioError, match="is truncated"):
        audio.read(path)


# Wrong sizes


def set_size(path: Path, target: Path, declared: int) -> None:
    """Copy a file with another number of audio bytes in its header."""
    with open(path, "rb") as file:
        samples = locate_samples(file)
    content = bytearray(path.read_bytes())
    place = slice(samples.field, samples.field + struct.calcsize(samples.code))
    content[place] = struct.pack(samples.code, declared + samples.added)
    target.write_bytes(content)


@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "aiff", "au"])
@pytest.mark.parametrize("part", [0.01, 1 / 3, 0.5, 0.9])
def test_audio_beyond_the_declared_size_is_read_and_told(files, tmp_path, suffix, part):
    n_samples = round(SECONDS * RATE)
    declared = round(part * n_samples)
    with open(files[suffix], "rb") as file:
        frame_bytes = locate_samples(file).declared // n_samples
    path = tmp_path / f"small.{suffix}"
    set_size(files[suffix], path, declared * frame_bytes + 1)
    info, whole, _ = read_in_every_way(path)
    assert (info.n_samples, info.n_declared, info.truncated) == (n_samples, declared, False)
    assert f"its header declares {declared} samples, {n_samples} are there and read" in info.remarks
    assert torch.equal(whole, audio.read(files[suffix])[0])
    (tmp_path / "train" / "a").mkdir(parents=True)
    path.rename(tmp_path / "train" / "a" / f"vocals.{'wav' if suffix == 'rf64' else suffix}")
    with pytest.raises(DatasetError, match="samples more than its header declares"):
        open_songs(tmp_path, "train", ["vocals"], RATE, 2)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "rf64", "caf"])
@pytest.mark.parametrize("declared", [0, 0x7FFFF000, 0x7FFFFFF0, 0xFFFFFFF0])
def test_a_size_that_a_writer_to_a_pipe_leaves_declares_nothing(files, tmp_path, suffix, declared):
    path = tmp_path / f"piped.{suffix}"
    set_size(files[suffix], path, declared)
    info, whole, reported = read_in_every_way(path)
    assert (info.n_declared, info.truncated, reported) == (None, False, False)
    assert torch.equal(whole, audio.read(files[suffix])[0])


@pytest.mark.parametrize(
    ("behind", "n_added", "reported"),
    [
        (b"LIST" + struct.pack("<I", 6000) + bytes(6000), 0, False),
        (b"ID3\x04\0\0\0\0\x40\0" + b"tag" * 3000, 0, False),
        (b"\0\0", 0, False),
        (b"\1\2\3", 0, False),
        (bytes(4000), 0, False),
        (bytes(range(256)) * 8, 0, True),
        (bytes(100000), 0, True),
        (bytes(range(1, 251)) * 40, 2500, True),
    ],
    ids=["chunk", "tag", "padding", "few", "sector", "rubbish", "zeros", "audio"],
)
def test_what_stands_behind_the_audio_of_a_wav_is_told_apart(files, tmp_path, behind, n_added, reported):
    (tmp_path / "a.wav").write_bytes(files["wav"].read_bytes() + behind)
    info = audio.probe(tmp_path / "a.wav")
    assert info.n_samples == round(SECONDS * RATE) + n_added
    assert bool(info.remarks) == reported
    assert not info.complaint


@pytest.mark.skipif(os.name == "nt", reason="needs sparse files")
def test_a_wav_beyond_4_gib_whose_size_has_wrapped_is_read_to_its_end(tmp_path):
    n_bytes, path = 2**32 + 1_000_000, tmp_path / "long.wav"
    layout = struct.pack("<IHHIIHH", 16, 1, 2, RATE, 4 * RATE, 4, 16)
    end = music(1000).mul(32767).short()
    with open(path, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", (n_bytes + 36) % 2**32) + b"WAVEfmt " + layout)
        file.write(b"data" + struct.pack("<I", n_bytes % 2**32))
        file.seek(44 + n_bytes - 4000)
        file.write(end.T.contiguous().numpy().tobytes())
        file.write(b"LIST" + struct.pack("<I", 4) + b"INFO")
    info = audio.probe(path)
    assert (info.n_samples, info.n_declared, info.truncated) == (n_bytes // 4, 250_000, False)
    waveform, _ = audio.read(path, info.n_samples - 1000, info=info)
    assert torch.equal(waveform, end.float() / 32768)
    path.unlink()


# Files that change


def exchange(path: Path) -> None:
    soundfile.write(path, np.ones((2 * RATE, 2)) / 2, RATE, "PCM_24", format="WAV" if path.suffix == ".wav" else "FLAC")


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(0, 10**18))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def take_away(path: Path) -> None:
    path.unlink()


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture
def song(tmp_path, request) -> Path:
    """Write a song of a vocals file in a format."""
    path = tmp_path / "train" / "a" / f"vocals.{request.param}"
    path.parent.mkdir(parents=True)
    return write(path, request.param)


@pytest.mark.parametrize("song", ["wav", "flac", "ogg", "mp3", "m4a"], indirect=True)
@pytest.mark.parametrize("change", [exchange, rewrite, shorten, take_away, replace_by_a_folder])
def test_a_file_that_changed_since_it_was_probed_is_refused(song, tmp_path, change):
    info = audio.probe(song)
    dataset = AudioFolder(tmp_path, ["vocals"], 0.5, num_channels=2)
    assert dataset[0][0].shape == (2, RATE // 2)
    change(song)
    sentence = rf"^(.*vocals\.{info.path[-3:]} was changed after it was checked: start|Cannot read .*vocals\S* No such)"
    with pytest.raises(AudioError, match=sentence.replace("flac"[-3:], r"\w*lac")):
        audio.read(song, info=info)
    with pytest.raises(AudioError, match=r"was changed after|(No such|Is a) \w*.*directory; check that it is still"):
        dataset[0]


@pytest.mark.parametrize("song", ["wav", "flac"], indirect=True)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_is_named_in_one_sentence_by_workers_too(song, tmp_path, workers):
    batches = iter(DataLoader(AudioFolder(tmp_path, ["vocals"], 0.5, items_per_epoch=40), num_workers=workers))
    next(batches)
    song.unlink()
    with pytest.raises(AudioError) as caught:
        list(batches)
    last = str(caught.value).strip().splitlines()[-1]
    assert last.rpartition("AudioError: ")[2] == (
        f"Cannot read {song}: No such file or directory; check that it is still there."
    )


@pytest.mark.parametrize("suffix", ["flac", "m4a"])
def test_a_file_that_vanishes_as_it_is_opened_is_named(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"a.{suffix}", suffix)
    info, look = audio.probe(path), reading.check_unchanged

    def look_and_lose(info):
        look(info)
        path.unlink()

    monkeypatch.setattr(reading, "check_unchanged", look_and_lose)
    with pytest.raises(AudioError, match=r"Cannot read .*: No such file or directory; check that it is still there"):
        audio.AudioReader(path, info=info)


def test_a_reader_notices_a_change_where_it_seeks(tmp_path):
    path = write(tmp_path / "a.flac", "flac")
    with audio.AudioReader(path) as reader:
        reader.read(100)
        exchange(path)
        with pytest.raises(AudioError, match="was changed after it was checked"):
            reader.seek(5000)


# What becomes of damage


def damage_song(folder: Path, suffix: str) -> Path:
    path = folder / "train" / "a" / f"vocals.{suffix}"
    path.parent.mkdir(parents=True)
    content = bytearray(write(path, suffix).read_bytes())
    place = len(content) // 2
    content[place : place + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "aac", "webm"])
def test_damaged_stems_are_refused_unless_allowed(tmp_path, suffix):
    path = damage_song(tmp_path, suffix)
    info = audio.probe(path)
    rate = info.sample_rate
    with pytest.raises(
        DatasetError, match=r"vocals.* (is damaged near sample|truncated, ).*or set data\.allow_damaged: true"
    ):
        open_songs(tmp_path, "train", ["vocals"], rate, 2)
    dataset = AudioFolder(tmp_path, ["vocals"], 0.5, sample_rate=rate, num_channels=2, allow_damaged=True)
    assert dataset.songs[0].n_samples == info.n_samples
    whole, _ = audio.read(path, allow_truncated=True)
    start = info.n_samples // 2
    found = dataset.songs[0].read_mixture(start, 5000)
    torch.testing.assert_close(found, whole[:, start : start + 5000], atol=1e-4, rtol=0)


def test_flac_that_does_not_decode_everywhere_is_silent_there_and_stays_in_time(tmp_path):
    path = damage_song(tmp_path, "flac")
    original, _ = audio.read(write(tmp_path.with_name(f"{tmp_path.name} whole.flac"), "flac"))
    with audio.AudioReader(path, allow_truncated=True) as reader:
        whole, damage = reader.read(), reader.damage
    assert 0 < sum(one.n_filled for one in damage) <= 3 * 4096
    sound = (whole != 0).any(0)
    assert torch.equal(whole[:, sound], original[:, sound])
    assert not whole[:, damage[0].position : damage[0].position + damage[0].n_filled].any()
    with pytest.raises(AudioError, match="does not decode near sample"):
        AudioFolder(tmp_path, ["vocals"], SECONDS, num_channels=2)[0]
    allowed = AudioFolder(tmp_path, ["vocals"], SECONDS, num_channels=2, allow_damaged=True)
    assert torch.equal(allowed.songs[0].read_mixture(0, whole.shape[1]), whole)


@pytest.mark.parametrize("suffix", audio.SUFFIXES)
def test_songs_may_end_with_every_suffix(tmp_path, suffix):
    path = tmp_path / "train" / "a" / f"vocals{suffix}"
    path.parent.mkdir(parents=True)
    write(tmp_path / "song.wav", "wav").rename(path)  # the content decides
    (song,) = open_songs(tmp_path, "train", ["vocals"], RATE, 2)
    assert song.n_samples == round(SECONDS * RATE)


@pytest.mark.parametrize(
    "suffix", ["webm", "wma", "wv", "mp2", "mka", "oga", "ac3", "eac3", "tta", "aifc", "m4b", "opus"]
)
def test_names_of_what_is_read_count_as_audio(suffix):
    assert audio.is_audio_name(f"Song.{suffix}")
    assert audio.is_audio_name(f"Song.{suffix.upper()}")


class WideFrame:
    """A frame of damaged AAC, whose samples PyAV does not hold."""

    layout = SimpleNamespace(channels=range(46))

    def to_ndarray(self) -> None:
        pytest.fail("the samples of such a frame must not be touched")


def test_a_frame_of_a_layout_that_cannot_be_is_passed_over_and_told(files, monkeypatch):
    packets = AvSource._packets

    def with_a_wide_frame(self):
        yield SimpleNamespace(size=300, decode=lambda: [WideFrame()])
        yield from packets(self)

    monkeypatch.setattr(AvSource, "_packets", with_a_wide_frame)
    with pytest.raises(DecodeError, match="a frame announces 46 channels"):
        AvSource(str(files["m4a"])).read(100)
    source = AvSource(str(files["m4a"]), tolerant=True)
    assert source.read(100).shape == (100, 2)
    assert sum(one.n_bytes for one in source.damage.values()) == 300
