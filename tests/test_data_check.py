"""sepkit-data check: faults are found in the file that has them, in files of any rate and length, and only there."""

import re

import numpy as np
import pytest
import soundfile
from songs import RATE, noise, write_song

from sepkit.cli import data_command
from sepkit.datasets import checking
from sepkit.datasets.check import describe_inspections
from sepkit.datasets.checking import check_sound
from sepkit.datasets.findings import Severity
from sepkit.datasets.gathering import gather
from sepkit.datasets.several import Source
from sepkit.datasets.sound.typical import swap_gain

RATES = [8000, 22050, 44100]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))


def colour(seed, rate, seconds, low, high):
    """Make noise (T, 2) of a band that swells and falls, and rests now and then."""
    rng = np.random.default_rng(seed)
    n = int(rate * seconds)
    spectrum = np.fft.rfft(rng.standard_normal((n, 2)), axis=0)
    frequencies = np.fft.rfftfreq(n, 1 / rate)[:, None]
    waveform = np.fft.irfft(spectrum / (1 + (low / (frequencies + 1)) ** 4 + (frequencies / high) ** 4), n, axis=0)
    steps = rng.uniform(0.1, 1, max(2, int(4 * seconds))) * (rng.random(max(2, int(4 * seconds))) > 0.25)
    swell = np.interp(np.linspace(0, len(steps) - 1, n), np.arange(len(steps)), steps)[:, None]
    waveform = waveform @ np.array([[1, 0.5], [0.4, 1]]) * swell
    return 0.05 * waveform / waveform.std()


BANDS = {"lead": (300, 3000), "keys": (150, 1500), "pad": (500, 3500)}


def stems(seed=0, rate=8000, seconds=6.0):
    made = {name: colour(31 * seed + k, rate, seconds, *band) for k, (name, band) in enumerate(BANDS.items())}
    return {name: np.round(waveform * 32768) / 32768 for name, waveform in made.items()}


def with_mixture(made):
    return {**made, "mixture": sum(made.values())}


def find(root, targets=()):
    gathered = gather([Source(root)], targets, progress=False)
    return [*gathered.findings, *check_sound(gathered.songs, targets, progress=False).findings]


def kinds(findings, below=Severity.NOTE):
    """Name the kinds of findings, and the files in which they are."""
    return {(each.kind, each.file and "/".join(each.file.parts[-2:])) for each in findings if each.severity >= below}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_clean_songs_have_no_finding(tmp_path, rate, seconds):
    for seed in range(3):
        write_song(tmp_path / "train" / f"s{seed}", with_mixture(stems(seed, rate, seconds)), rate)
    assert kinds(find(tmp_path)) == set()


FAULTS = {
    "nan": ("NaN", lambda w: np.where(np.arange(len(w))[:, None] == 99, np.nan, w)),
    "infinity": ("NaN", lambda w: np.where(np.arange(len(w))[:, None] == 99, -np.inf, w)),
    "huge": ("NaN", lambda w: np.where(np.arange(len(w))[:, None] == 99, 1e30, w)),
    "whole numbers": ("clipping", lambda w: 32768 * w),
    "clipped": ("clipping", lambda w: (8 * w).clip(-1, 1)),
    "clipped above 0": ("clipping", lambda w: w.clip(None, 0.5 * w.max())),
    "clipped in one channel": ("clipping", lambda w: np.stack([w[:, 0].clip(-0.05, 0.05), 2 * w[:, 1]], 1)),
    "clipped and softer": ("clipping", lambda w: 0.3 * (8 * w).clip(-1, 1)),
    "above full scale": ("clipping", lambda w: 1.5 * w / abs(w).max()),
    "DC": ("DC", lambda w: w + 0.02),
    "DC below 0": ("DC", lambda w: w - [0.0, 0.02]),
    "mono": ("mono", lambda w: w[:, :1].repeat(2, 1)),
    "nearly mono": ("mono", lambda w: w[:, :1] + 0.001 * w * [1, -1]),
    "inverted": ("inverted", lambda w: w * [1, -1]),
    "one channel": ("channels", lambda w: w * [0, 1]),
    "one channel of a step": ("channels", lambda w: np.round(w * [0.02, 0.0002] * 32768) / 32768),
    "silent": ("silence", lambda w: 0 * w),
    "all but silent": ("silence", lambda w: 1e-6 * w),
    "shorter by a sample": ("length", lambda w: w[:-1]),
    "shorter": ("length", lambda w: w[: len(w) // 2]),
    "longer": ("length", lambda w: np.concatenate([w, w[:7]])),
}


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_file_is_found_in_it(tmp_path, fault, rate):
    kind, spoil = FAULTS[fault]
    for seed in range(2):
        made = stems(seed, rate, 3.0)
        made |= {"keys": spoil(made["keys"])} if seed else {}
        write_song(tmp_path / "train" / f"s{seed}", made, rate, subtype="FLOAT")
    found = find(tmp_path)
    assert (kind, "s1/keys.wav") in kinds(found)
    assert {file for _, file in kinds(found)} == {"s1/keys.wav"}


def spoil_flac(path):
    """Write FLAC in place of a file, whose header is right, and 300 bytes in the middle are not."""
    samples, rate = soundfile.read(path)
    with path.open("wb") as file:
        soundfile.write(file, samples, rate, format="FLAC")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "damage"),
        (lambda path: path.write_bytes(b""), "unreadable"),
        (lambda path: path.write_bytes(b"no audio"), "unreadable"),
        (lambda path: spoil_flac(path), "damaged"),
        (lambda path: soundfile.write(path, np.zeros((9000, 3)), 8000), "channels"),
        (lambda path: soundfile.write(path, stems(9, 11025, 6.0)["lead"], 11025), "rate"),
    ],
    ids=["cut", "empty", "text", "spoilt flac", "three channels", "another rate"],
)
def test_a_file_that_cannot_be_used_is_found(tmp_path, change, kind):
    for seed in range(2):
        write_song(tmp_path / "train" / f"s{seed}", with_mixture(stems(seed)))
    change(tmp_path / "train/s1/lead.wav")
    found = find(tmp_path)
    assert (kind, "s1/lead.wav") in kinds(found, Severity.ERROR)
    assert "s0" not in {str(file).partition("/")[0] for _, file in kinds(found)}


def late(waveform, n):
    return np.concatenate([np.zeros((n, 2)), waveform[:-n]])


MIXTURES = {
    "softer": (lambda m, _: 0.5 * m, "mixture gain", "mixture", "6.0 dB softer than the sum"),
    "a little louder": (lambda m, _: 1.03 * m, "mixture gain", "mixture", "0.3 dB louder than the sum"),
    "inverted": (lambda m, _: -m, "mixture gain", "mixture", "inverted"),
    "a sample late": (lambda m, _: late(m, 1), "mixture offset", "mixture", "1 sample .* later"),
    "late": (lambda m, _: late(m, 4000), "mixture offset", "mixture", "4000 samples .* later"),
    "louder, late": (lambda m, _: late(1.5 * m, 30), "mixture offset", "mixture", "30 samples .* later"),
    "a part softer": (lambda m, s: m - 0.5 * s["keys"], "mixture gain", "keys", "6.0 dB softer than here"),
    "a part lacks": (lambda m, s: m - s["keys"], "mixture gain", "keys", "is not in the mixture"),
    "a part late": (lambda m, s: m - s["keys"] + late(s["keys"], 77), "mixture offset", "keys", "77 samples .* later"),
    "more": (lambda m, _: m + 0.3 * stems(5)["lead"], "left over", "mixture", "differs from the sum"),
    "a little more": (lambda m, _: m + 0.01 * stems(5)["lead"], "left over", "mixture", "differs from the sum"),
    "driven": (lambda m, _: np.tanh(3 * m) / 3, "left over", "mixture", "differs from the sum"),
    "silent": (lambda m, _: 0 * m, "mixture", "mixture", "is silent, its parts are not"),
    "another": (lambda _m, _s: sum(stems(6).values()), "mixture", "mixture", "not the sum of its parts in any way"),
}


@pytest.mark.parametrize("how", MIXTURES)
def test_how_a_mixture_differs_from_its_parts_is_found(tmp_path, how):
    change, kind, file, message = MIXTURES[how]
    made = stems()
    write_song(tmp_path / "train/s0", {**made, "mixture": change(sum(made.values()), made)}, subtype="FLOAT")
    found = [each for each in find(tmp_path) if each.kind == kind and each.file.stem == file]
    assert found
    assert any(re.search(message, each.message) for each in found)


def test_a_training_hears_of_a_silent_mixture(tmp_path):
    write_song(tmp_path / "train/s0", {**stems(), "mixture": np.zeros((48000, 2))})
    ((notice,), errors) = describe_inspections(gather([Source(tmp_path)], progress=False).songs, ())
    assert (notice.endswith(" s0 (it is silent)"), errors) == (True, [])


@pytest.mark.parametrize(("name", "subtype"), [("OGG", None), ("WAV", "PCM_U8"), ("WAV", "ULAW")])
def test_coding_and_rounding_are_not_taken_for_gains_or_for_a_part_that_lacks(tmp_path, name, subtype):
    write_song(tmp_path / "train/s0", with_mixture(stems(0, 16000)), 16000)
    for path in tmp_path.glob("train/s0/*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(f".{name.lower()}"), samples, rate, format=name, subtype=subtype)
        path.unlink() if name != "WAV" else None
    alarms = {"mixture gain"} if name == "OGG" else {"mixture gain", "left over"}  # of noise, coding leaves much over
    assert not alarms & {kind for kind, _ in kinds(find(tmp_path))}


@pytest.mark.parametrize("level", [-10, -20, -30])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_bleed_is_found_in_the_stem_that_holds_it(tmp_path, level, rate):
    made = stems(0, rate, 8.0)
    write_song(tmp_path / "train/s0", {**made, "keys": made["keys"] + 10 ** (level / 20) * made["lead"]}, rate)
    (leak,) = [each for each in find(tmp_path) if each.severity >= Severity.NOTE]
    assert (leak.kind, leak.file.name) == ("bleed", "keys.wav")
    measured = float(re.search(r"holds lead at about (-\d+) dB", leak.message)[1])
    assert measured == pytest.approx(level, abs=3)  # classes are 3 dB wide


@pytest.mark.parametrize("change", [lambda w: w, lambda w: -0.5 * w, lambda w: late(w, 50)])
def test_a_copy_is_found(tmp_path, change):
    made = stems()
    write_song(tmp_path / "train/s0", {**made, "keys2": change(made["keys"])})
    assert kinds(find(tmp_path)) == {("copy", "s0/keys2.wav")}  # and no bleed, which would say it twice


def test_a_stem_that_is_the_sum_of_others_is_found(tmp_path):
    made = stems()
    write_song(tmp_path / "train/s0", {**made, "band": made["keys"] + made["pad"]})
    assert ("sum", "s0/band.wav") in kinds(find(tmp_path), Severity.ERROR)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w,
        lambda w: 0.1 * w,
        lambda w: np.concatenate([np.zeros((9001, 2)), w]),
        lambda w: w[12_345:],
        lambda w: w + 0.01 * np.random.default_rng(0).standard_normal(w.shape),
    ],
    ids=["as it is", "softer", "later", "cut", "noisier"],
)
def test_the_same_song_in_two_splits_is_found(tmp_path, change):
    for seed in range(3):
        write_song(tmp_path / "train" / f"s{seed}", stems(seed, 16000, 8.0), 16000)
    write_song(tmp_path / "test/other", {name: change(w) for name, w in stems(1, 16000, 8.0).items()}, 16000)
    (same,) = [each for each in find(tmp_path) if each.kind == "same song"]
    assert same.severity == Severity.ERROR
    assert re.search("test/other holds .* of train/s1", same.message)


def test_a_song_that_is_there_many_times_is_told_once_for_each(tmp_path):
    places = [*(f"train/s{i}" for i in range(9)), "test/t0", "test/t1"]
    for place in places:
        write_song(tmp_path / place, stems(1, 16000, 8.0), 16000)
    same = [each for each in find(tmp_path) if each.kind == "same song"]
    assert len([each for each in same if each.severity == Severity.ERROR]) == 2  # of test, which are in train
    assert len([each for each in same if each.severity == Severity.WARNING]) == 9
    assert any(
        re.search("test/t1 holds .* of train/s.; the same are .*train/s. and 3 more", each.message) for each in same
    )


def test_swapped_stems_are_found_in_both(tmp_path):
    rate, n = 22050, 8 * 22050
    time = np.arange(n)[:, None] / rate
    bass = 0.3 * np.sin(2 * np.pi * 70 * time) * (time % 1 < 0.8) * [1, 1]
    drums = np.random.default_rng(0).standard_normal((n, 2)) * 0.3 * np.exp(-20 * (time % 0.25))
    write_song(tmp_path / "train/s0", {"bass": bass, "drums": drums}, rate)
    assert "swapped" not in {kind for kind, _ in kinds(find(tmp_path))}
    write_song(tmp_path / "train/s1", {"bass": drums[::-1], "drums": bass[::-1]}, rate)
    assert {("swapped", "s1/bass.wav"), ("swapped", "s1/drums.wav")} <= kinds(find(tmp_path), Severity.WARNING)


# What `describe_sound` gives for 20 s of a real song (Software-Entwicklungskit, Francium, CC0): drums that are cymbals
# alone, and the rest, which sounds for two seconds.
CYMBALS = (-31, -37.51, -39.62, -20.12, -12.17, -8.52, -9.33, -5.67, -3.98, 1.43, 1.06, -0.37, 7.02, 0.96, -1.32)
SHORT = (-13.05, -14.03, -15.83, -2.79, -11.19, -9.39, -9.6, -12.48, -26.63, 1.13, 1.23, 0.09, 10.29, 0.11, -17.16)


def test_stems_that_are_odd_for_both_names_are_not_told_as_swapped():
    assert swap_gain(("drums", np.array(CYMBALS)), ("other", np.array(SHORT))) < 3


@pytest.mark.parametrize(("low", "told"), [(1, False), (-1, True)], ids=["lows in phase", "lows out of phase"])
def test_a_wide_sound_is_told_as_inverted_by_its_lows(tmp_path, low, told):
    tones = {80: (0.1, low), 1000: (0.8, -1), 1700: (0.5, 1)}  # Hz: amplitude, sign in the other channel
    time = np.arange(3 * 44100)[:, None] / 44100
    waveform = sum(0.2 * size * np.sin(2 * np.pi * hertz * time) * [1, sign] for hertz, (size, sign) in tones.items())
    assert -0.5 < np.corrcoef(waveform.T)[0, 1] < -0.3
    write_song(tmp_path / "train/s0", {"keys": waveform}, 44100)
    assert ("inverted" in {kind for kind, _ in kinds(find(tmp_path))}) == told


def test_a_song_that_is_far_louder_than_most_is_found(tmp_path):
    for seed in range(8):
        factor = 0.03 if seed == 3 else 1.0
        write_song(
            tmp_path / "train" / f"s{seed}", {name: factor * w for name, w in stems(seed).items()}, subtype="FLOAT"
        )
    assert {file.partition("/")[0] for kind, file in kinds(find(tmp_path)) if kind == "loudness"} == {"s3"}


def test_a_target_that_is_silent_in_all_songs_is_an_error(tmp_path):
    for split in ("train", "valid"):
        write_song(tmp_path / split / "s", {**stems(len(split) * (split == "valid")), "pad": np.zeros((48000, 2))})
    found = [each for each in find(tmp_path, ("pad",)) if each.severity == Severity.ERROR]
    assert [each.message for each in found] == ["pad is silent in all songs of train"]


def test_songs_are_read_once_and_again_where_a_file_changed(tmp_path, monkeypatch):
    for seed in range(3):
        write_song(tmp_path / "train" / f"s{seed}", stems(seed))
    read, real = [], checking.examine_song
    monkeypatch.setattr(checking, "examine_song", lambda song, *rest: read.append(song.name) or real(song, *rest))
    first = find(tmp_path)
    assert sorted(read) == ["s0", "s1", "s2"]
    assert find(tmp_path) == first
    assert len(read) == 3
    write_song(tmp_path / "train/s1", {"keys": 0 * stems(1)["keys"]})
    assert kinds(find(tmp_path)) == {("silence", "s1/keys.wav")}
    assert read[3:] == ["s1"]


# The command


def test_the_command_prints_a_table_writes_a_page_and_ends_with_1_on_errors(tmp_path, capsys):
    root = tmp_path / "songs"
    for seed in range(2):
        write_song(root / "train" / f"s{seed}", stems(seed))
    page = tmp_path / "check.html"
    assert data_command(["check", str(root), "--output", str(page)]) == 0
    assert "nothing was found" in capsys.readouterr().out
    write_song(root / "train/s1", {"pad": stems(1)["pad"][:-5]})
    assert data_command(["check", str(root), "--output", str(page)]) == 1
    out = capsys.readouterr().out
    assert re.search("error +length +1\n", out)
    assert "error      length           train/s1/pad.wav: 5 samples shorter than the other files of s1" in out
    assert re.search("train +keys +2 ", out)
    html = page.read_text()
    assert "train/s1/pad.wav" in html
    assert "Hours of activity" in html


def test_a_name_changes_no_other_line_of_the_terminal(tmp_path, capsys):
    write_song(tmp_path / "songs/train/a\nb\x1b[31m", {**stems(), "pad": stems()["pad"][:-5]})
    assert data_command(["check", str(tmp_path / "songs"), "--output", str(tmp_path / "check.html")]) == 1
    assert r"train/a\nb\x1b[31m/pad.wav: 5 samples shorter" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "songs/train/s0", stems(seconds=1.0))
    (tmp_path / "file").touch()
    assert data_command(["check", "songs", "--output", "file/page.html"]) == 1
    assert re.fullmatch(r"sepkit-data: file cannot be written to: .*--output\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none"], 2, "none"),
        (["./none/there"], 1, "there is no such folder"),
        ([".", "--workers", "0"], 2, "workers must be at least 1, got 0"),
        ([".", "--output", "."], 2, "output must be a file for the page, got the folder .: add its name"),
        ([".", "data.resample=true"], 2, "changes a recipe, and . is none"),
    ],
)
def test_a_wrong_call_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert data_command(["check", *arguments]) == code
    assert message in capsys.readouterr().err


def test_hours_are_those_of_sums_of_files_and_of_parts_of_files(tmp_path):
    loud = noise(0, 10 * RATE)
    write_wav = lambda name, waveform: soundfile.write(tmp_path / name, waveform, RATE, "PCM_16")  # noqa: E731
    write_wav("long.wav", np.concatenate([loud, 0 * loud]))
    write_wav("lead.wav", np.concatenate([loud[: 4 * RATE], 0 * loud[: 6 * RATE]]))
    write_wav("choir.wav", np.concatenate([0 * loud[: 6 * RATE], loud[: 2 * RATE]]))
    rows = [
        "long.wav,drums,A,train,5,15",
        "long.wav,drums,B,train,15,20",
        "lead.wav,vocals,A,train,,",
        "choir.wav,vocals,A,train,,",
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,stem,track,split,start,end", *rows]))
    songs = gather([Source(tmp_path)], progress=False).songs
    activity = check_sound(songs, progress=False).activity
    hours = {stem: (3600 * sounding, 3600 * total, n) for (_, stem), (sounding, total, n) in activity.items()}
    assert hours["drums"] == pytest.approx((5, 15, 2), abs=0.2)
    assert hours["vocals"] == pytest.approx((6, 10, 1), abs=0.2)


def test_a_track_that_a_manifest_divides_among_splits_is_named(tmp_path):
    write_song(tmp_path / "a", stems())
    rows = ["path,stem,track,split", "a/lead.wav,lead,a,train", "a/keys.wav,keys,a,test", "a/pad.wav,pad,b,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = [str(each) for each in gather([Source(tmp_path)], progress=False).findings]
    assert len(found) == 1
    assert "the track 'a' is in train and in test; give all its rows one split, or two songs two names" in found[0]


def test_a_song_of_a_mixture_alone_is_named(tmp_path):
    write_song(tmp_path / "train" / "a", {"mixture": stems()["lead"]})
    write_song(tmp_path / "train" / "b", with_mixture(stems(1)))
    assert kinds(find(tmp_path)) == {("missing", "train/a")}


@pytest.mark.parametrize("n_samples", [100, 441, 5000])
def test_noise_of_a_moment_has_no_constant_part(tmp_path, n_samples):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        white = {name: 0.1 * rng.standard_normal((n_samples, 2)) for name in BANDS}
        write_song(tmp_path / "train" / f"s{seed}", white, 44100)
    assert "DC" not in {kind for kind, _ in kinds(find(tmp_path))}


@pytest.mark.parametrize(
    ("folders", "names", "message"),
    [
        (["set/train/a"], ["vocals", "drums"], "is taken for a song, and its stems lie deeper"),
        (["vocals", "drums", "Drums"], ["0", "1"], "are taken for a song, by the name of a stem"),
    ],
    ids=["a folder above", "stem folders of two spellings"],
)
def test_a_root_without_a_song_is_an_error(tmp_path, folders, names, message, capsys):
    for k, folder in enumerate(folders):
        write_song(tmp_path / "root" / folder, dict(zip(names, stems(k).values(), strict=False)))
    assert data_command(["check", str(tmp_path / "root"), "--output", str(tmp_path / "page.html")]) == 1
    assert message in capsys.readouterr().err
