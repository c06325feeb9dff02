"""Variants of songs in another pitch and tempo: what they sound like, and how they lie in the cache."""

import errno
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, noise, write_song
from training import RECIPE, song

from sepkit import audio
from sepkit.datasets import variants as module
from sepkit.datasets.keys import transpose_key
from sepkit.datasets.songs import Song
from sepkit.datasets.stems import StemFile, single
from sepkit.datasets.stretching import Stretcher
from sepkit.datasets.variants import Variant, make_variants
from sepkit.disk import OutputError
from sepkit.recipe import RecipeError, load_recipe
from sepkit.training.train import open_data, train

SECONDS = 3.0
N_SAMPLES = round(SECONDS * RATE)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Give each test a cache of its own."""
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tone(frequency: float, n_samples: int = N_SAMPLES, rate: int = RATE) -> np.ndarray:
    return np.stack([0.4 * np.sin(2 * np.pi * frequency * np.arange(n_samples) / rate)] * 2, 1)


def made_of(folder: Path, stems: dict[str, np.ndarray], mixture: str | None = None, **options) -> Song:
    """Write stems (T, C), and make a song of them."""
    subtype, rate = options.pop("subtype", "PCM_16"), options.pop("rate", RATE)
    n_channels, suffix = options.pop("n_channels", 2), options.pop("suffix", ".wav")
    write_song(folder, stems, rate, suffix, subtype)
    found = {name: single(audio.probe(folder / f"{name}{suffix}"), RATE, n_channels) for name in stems}
    return Song(folder.name, found, found.pop(mixture, None), **options)


def whole(stem) -> torch.Tensor:
    return stem.read(0, stem.n_samples)


VARIANTS = [Variant(2), Variant(-3.5), Variant(tempo=0.8), Variant(tempo=1.25), Variant(-2, 1.1), Variant(6, 0.75)]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@each_variant
def test_a_tone_gets_the_pitch_and_its_length_the_tempo(tmp_path, variant):
    (made,) = make_variants([made_of(tmp_path / "a", {"vocals": tone(440)})], [variant])
    waveform = whole(made.stems["vocals"])
    assert waveform.shape == (2, round(N_SAMPLES / variant.tempo))
    middle = waveform[0, 2000:-2000] * torch.hann_window(waveform.shape[-1] - 4000)
    level = torch.fft.rfft(middle, 1 << 20).abs()
    assert 12 * np.log2(float(level.argmax()) * RATE / (1 << 20) / 440) == pytest.approx(variant.pitch, abs=0.03)
    assert float(waveform[:, 2000:-2000].square().mean().sqrt()) == pytest.approx(0.4 / 2**0.5, rel=0.03)


@each_variant
def test_stems_remain_those_of_their_mixture(tmp_path, variant):
    stems = {
        "vocals": song(0, SECONDS)["vocals"],
        "drums": song(1, SECONDS)["drums"],
        "bass": 0.1 * noise(2, N_SAMPLES),
    }
    stems["mixture"] = sum(stems.values())
    (made,) = make_variants([made_of(tmp_path / "a", stems, "mixture", subtype="FLOAT")], [variant])
    assert list(made.stems) == ["vocals", "drums", "bass"]
    total = sum(map(whole, made.stems.values()))
    assert total.abs().max() > 0.3
    torch.testing.assert_close(total, whole(made.mixture), atol=2e-6, rtol=0)
    torch.testing.assert_close(total, made.read_mixture(0, made.n_samples), atol=2e-6, rtol=0)


@each_variant
def test_what_happens_in_a_song_happens_in_time(tmp_path, variant):
    clicks = np.zeros((N_SAMPLES, 2))
    places = np.arange(1, 12) * 2000
    clicks[places] = 0.9
    (made,) = make_variants([made_of(tmp_path / "a", {"drums": clicks, "vocals": tone(300)})], [variant])
    waveform = whole(made.stems["drums"])[0]
    for place in places:
        near = waveform[max(0, round(place / variant.tempo) - 500) :][:1000].abs()
        centre = float((near * torch.arange(len(near))).sum() / near.sum())
        assert centre == pytest.approx(500, abs=0.015 * RATE)  # of the windows that are compared, 20 ms and more


@each_variant
def test_a_silent_stem_stays_silent(tmp_path, variant):
    (made,) = make_variants(
        [made_of(tmp_path / "a", {"vocals": tone(440), "drums": np.zeros((N_SAMPLES, 2))})], [variant]
    )
    assert not whole(made.stems["drums"]).any()


@pytest.mark.parametrize("size", [1, 1000, 4096, N_SAMPLES])
def test_blocks_of_any_size_give_the_same(size):
    waveform = torch.from_numpy(np.ascontiguousarray((tone(440) + 0.1 * noise(0, N_SAMPLES)).T)).float()
    waveform = waveform[:, :6000] if size == 1 else waveform

    def stretched(size: int) -> torch.Tensor:
        stretcher = Stretcher(RATE, 2, 1.0, 0.9)
        blocks = [piece for block in waveform.split(size, 1) for piece in stretcher.push(block)]
        return torch.cat([*blocks, *stretcher.flush()], 1)

    assert torch.equal(stretched(size), stretched(777))


@pytest.mark.parametrize("n_samples", [1, 10, 100, 1000])
def test_songs_shorter_than_a_window_are_as_long_as_they_should_be(tmp_path, n_samples):
    made = make_variants([made_of(tmp_path / "a", {"vocals": tone(440, n_samples)})], VARIANTS)
    assert [one.n_samples for one in made] == [max(0, round(n_samples / variant.tempo)) for variant in VARIANTS]


@pytest.mark.parametrize(("subtype", "suffix"), [("PCM_16", ".wav"), ("PCM_16", ".flac"), ("FLOAT", ".wav")])
def test_loud_stems_are_not_clipped(tmp_path, subtype, suffix):
    square = 0.99 * np.sign(tone(440))  # between whose samples there are higher ones
    (made,) = make_variants([made_of(tmp_path / "a", {"a": square}, subtype=subtype, suffix=suffix)], [Variant(3)])
    assert whole(made.stems["a"]).abs().max() > 1.05
    assert made.stems["a"].info.subtype == subtype


def test_what_a_float_file_holds_beyond_16_bits_is_kept(tmp_path):
    quiet = 1e-5 * tone(440)
    (made,) = make_variants([made_of(tmp_path / "a", {"a": quiet}, subtype="FLOAT")], [Variant(tempo=0.9)])
    waveform = whole(made.stems["a"])[:, 2000:-2000]
    assert float(waveform.square().mean().sqrt()) == pytest.approx(4e-6 / 2**0.5, rel=0.05)


def test_songs_of_another_rate_one_channel_and_many_stems_are_stretched(tmp_path):
    stems = {f"stem {number}": tone(200 + 20 * number, 2 * N_SAMPLES, 2 * RATE)[:, :1] for number in range(40)}
    (made,) = make_variants([made_of(tmp_path / "a", stems, rate=2 * RATE)], [Variant(tempo=1.1)])
    assert made.n_samples == round(N_SAMPLES / 1.1)
    assert {whole(stem).shape[0] for stem in made.stems.values()} == {2}
    level = torch.fft.rfft(whole(made.stems["stem 39"])[0], 1 << 18).abs()
    assert float(level.argmax()) * RATE / (1 << 18) == pytest.approx(980, abs=2)


def test_parts_and_gains_of_files_are_in_the_variant(tmp_path):
    song_of = made_of(tmp_path / "a", {"a": tone(440), "b": tone(600)})
    files = tuple(
        StemFile(stem.info, start, None, gain)
        for stem, start, gain in zip(song_of.stems.values(), (0, N_SAMPLES // 2), (0.5, 2.0), strict=True)
    )
    stem = type(song_of.stems["a"])(files, RATE, 2)
    (made,) = make_variants([Song("a", {"both": stem})], [Variant(tempo=0.8)])
    plain = make_variants([song_of], [Variant(tempo=0.8)])[0]
    assert made.stems["both"].info.path != plain.stems["a"].info.path
    half = whole(made.stems["both"])[0, : made.n_samples // 2 - 1000]
    assert float(half.square().mean().sqrt()) == pytest.approx((0.04 + 0.64) ** 0.5 / 2**0.5, rel=0.05)


def test_variants_are_songs_of_their_own_with_their_tempo_and_key(tmp_path):
    known = made_of(
        tmp_path / "a", {"a": tone(440)}, root="r", split="train", tempo=100.0, key="A minor", licence="CC0", weight=2.0
    )
    unknown = made_of(tmp_path / "b", {"a": tone(440)})
    made = make_variants([known, unknown], [Variant(3, 1.2), Variant(0.5)])
    assert [one.name for one in made] == [
        "a (pitch +3, tempo x 1.2)",
        "a (pitch +0.5)",
        "b (pitch +3, tempo x 1.2)",
        "b (pitch +0.5)",
    ]
    assert [one.tempo for one in made] == [pytest.approx(120), 100.0, None, None]
    assert [one.key for one in made] == ["C minor", None, None, None]
    assert {(one.root, one.split, one.licence, one.weight) for one in made[:2]} == {("r", "train", "CC0", 2.0)}
    assert len({one.identity for one in (known, unknown, *made)}) == 6


@pytest.mark.parametrize(
    ("key", "semitones", "higher"), [("A minor", 3, "C minor"), ("Db", -2, "B major"), ("C", 12, "C major")]
)
def test_a_key_is_transposed(key, semitones, higher):
    assert transpose_key(key, semitones) == higher


def test_what_is_in_the_cache_is_not_made_again_unless_a_file_changed(tmp_path, monkeypatch):
    made_of(tmp_path / "a", {"a": tone(440)})
    (first,) = make_variants([made_of(tmp_path / "a", {"a": tone(440)})], [Variant(1)])
    path = Path(first.stems["a"].info.path)
    of_source = single(audio.probe(tmp_path / "a" / "a.wav"), RATE, 2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_make", None)  # which would be called
        (again,) = make_variants([Song("a", {"a": of_source})], [Variant(1)])
    assert again.stems["a"].info.path == str(path)
    soundfile.write(tmp_path / "a" / "a.wav", tone(500), RATE)
    os.utime(tmp_path / "a" / "a.wav", (1, 1))
    (other,) = make_variants([Song("a", {"a": single(audio.probe(tmp_path / "a" / "a.wav"), RATE, 2)})], [Variant(1)])
    assert other.stems["a"].info.path != str(path)


def test_a_variant_of_which_a_file_was_removed_is_made_again(tmp_path):
    found = made_of(tmp_path / "a", {"a": tone(440), "b": tone(500)})
    (first,) = make_variants([found], [Variant(1)])
    waveform = whole(first.stems["b"])
    Path(first.stems["b"].info.path).unlink()
    (again,) = make_variants([found], [Variant(1)])
    assert torch.equal(whole(again.stems["b"]), waveform)


def test_several_at_once_make_one(tmp_path, cache):
    songs = [made_of(tmp_path / f"{i}", {"a": tone(400 + i)}) for i in range(3)]
    found: list[list[Song]] = []
    threads = [
        threading.Thread(target=lambda: found.append(make_variants(songs, [Variant(1), Variant(2)], progress=False)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len({tuple(one.stems["a"].info.path for one in made) for made in found}) == 1
    assert len([*cache.glob("variants/*")]) == 6


def test_nothing_is_begun_that_does_not_fit(tmp_path, cache, monkeypatch):
    found = made_of(tmp_path / "a", {"a": tone(440)})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=r"1 variants of songs take .* kB, and .* are free in .*SEPKIT_CACHE"):
        make_variants([found], [Variant(1)])
    assert not cache.exists()


def test_a_full_disk_leaves_nothing_half_made(tmp_path, cache, monkeypatch):
    found = made_of(tmp_path / "a", {"a": tone(440)})

    def fail(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audio.AudioWriter, "write", fail)
        with pytest.raises(OutputError, match="nothing half made is kept; make room, or set SEPKIT_CACHE"):
            make_variants([found], [Variant(1)], progress=False)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert len(make_variants([found], [Variant(1)])) == 1


def test_a_file_that_does_not_decode_is_named(tmp_path):
    found = made_of(tmp_path / "a", {"a": tone(440)})
    (tmp_path / "a" / "a.wav").unlink()
    with pytest.raises(audio.AudioError, match=re.escape(str(tmp_path / "a" / "a.wav"))):
        make_variants([found], [Variant(1)], progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7,), r"pitch must lie in \[-6, 6\], got 7"),
        ((0, 2.0), r"tempo must lie in \[0.75, 1.5\], got 2.0"),
        (("high",), r"pitch must lie in \[-6, 6\], got 'high'"),
        ((), "a variant must have another pitch or tempo, got pitch 0 and tempo 1; leave it out"),
    ],
)
def test_variants_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Variant(*arguments)


def test_a_variant_is_wanted_once():
    with pytest.raises(ValueError, match=r"variants must differ, got pitch \+1, tempo x 0.9, pitch \+1; leave one out"):
        make_variants([], [Variant(1), Variant(tempo=0.9), Variant(1.0)])


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"pitch": 7}], "data.variants.0.pitch: must be <= 6, got 7"),
        ([{"tempo": 0.5}], "data.variants.0.tempo: must be >= 0.75, got 0.5"),
        ([{"pitch": 1}, {}], "data.variants.1: must have another pitch or tempo"),
        ([{"pich": 1}], "data.variants.0.pich: unknown key; did you mean 'pitch'?"),
        ([{"pitch": 1}, {"pitch": 1.0}], "data.variants: must not hold the same twice, got pitch 1 and tempo 1"),
        ({"pitch": 1}, "data.variants: must be a list"),
    ],
)
def test_a_recipe_names_what_is_wrong_with_them(variants, message):
    recipe = {**RECIPE, "data": {**RECIPE["data"], "root": "demo", "variants": variants}}
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(recipe)


def test_a_training_has_the_variants_of_its_own_songs_alone(tmp_path):
    for split, numbers in (("train", (0, 1)), ("valid", (2,))):
        for number in numbers:
            write_song(tmp_path / "songs" / split / f"{number}", song(number))
    data = {**RECIPE["data"], "root": str(tmp_path / "songs"), "variants": [{"pitch": 2}, {"tempo": 0.9}]}
    recipe = {**RECIPE, "data": data}
    opened = open_data(load_recipe(recipe))
    assert [one.name for one in opened["train"]] == [
        "0", "1", "0 (pitch +2)", "0 (tempo x 0.9)", "1 (pitch +2)", "1 (tempo x 0.9)",
    ]  # fmt: skip
    assert [one.name for one in opened["valid"]] == ["2"]
    assert (train(recipe, tmp_path / "run", quiet=True) / "model.safetensors").is_file()
