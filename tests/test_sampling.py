"""Sampling: which songs and positions examples have, by default and as a recipe asks."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, noise, write_song

from sepkit import audio
from sepkit.augment import Filter, Gain, Sign, Speed, SwapChannels
from sepkit.datasets import ActivityRules, Planner, Remix, SamplingRules, Song, SongDataset, open_songs
from sepkit.datasets.activity import Activity, find_spans, measure_activity
from sepkit.datasets.matching import Partners
from sepkit.datasets.packing import write_shards
from sepkit.datasets.plan import Plan
from sepkit.datasets.sampling import Sampling, SongTable
from sepkit.datasets.stems import Stem, StemFile

# Plans of the planner as it was before it could sample in other ways, made with numpy 2.4: scores that were published
# with recipes stand on these draws.
FORMER = json.loads((Path(__file__).parent / "data" / "plans.json").read_text())


@pytest.mark.parametrize("case", FORMER, ids=lambda case: case["name"])
def test_defaults_draw_what_they_always_drew(case):
    augment = [Gain(-6, 6), Sign(), SwapChannels(), Speed(probability=0.5), Filter(n_taps=2)]
    names = ("lengths", "position_steps", "has_stem", "lends_stem", "n_targets")
    sampling = Sampling(SongTable(**{name: case[name] for name in names}), case["n_samples"])
    planner = Planner(sampling, case["remix"], augment if case["augmented"] else [], case["seed"])
    for expected in case["plans"]:
        plan = planner.plan(tuple(expected["number"]))
        assert list(plan.songs) == expected["songs"]
        assert list(plan.positions) == expected["positions"]
        assert plan.remixed == expected["remixed"]
        for drawn, former in zip(plan.parameters, expected["parameters"], strict=True):
            np.testing.assert_allclose(drawn, former, rtol=0, atol=1e-9)


# Songs


def plans(planner: Planner, n_items: int = 2000) -> list[Plan]:
    return [planner.plan((0, i)) for i in range(n_items)]


def songs_drawn(planner: Planner, stem: int = 0) -> list[int | None]:
    return [plan.songs[stem] for plan in plans(planner)]


def shares(planner: Planner, n_songs: int, stem: int = 0) -> list[float]:
    drawn = songs_drawn(planner, stem)
    return [drawn.count(song) / len(drawn) for song in range(n_songs)]


def table(lengths: Sequence[int], has_stem: Sequence[Sequence[bool]] | None = None, **more) -> SongTable:
    has_stem = [[True]] * len(lengths) if has_stem is None else has_stem
    return SongTable(lengths, [1] * len(lengths), has_stem, n_targets=len(has_stem[0]), **more)


NEAR = 0.045  # 4 standard deviations of a share of 2000


@pytest.mark.parametrize("remix", [0.0, 1.0])
@pytest.mark.parametrize(
    ("tracks", "weights", "expected"),
    [
        ("duration", None, [0.1, 0.2, 0.7]),
        ("equally", None, [1 / 3, 1 / 3, 1 / 3]),
        ("duration", [4.0, 0.5, 0.0], [0.8, 0.2, 0.0]),
        ("equally", [1.0, 2.5, 1.5], [0.2, 0.5, 0.3]),
        ("duration", [1e-3, 2e-3, 1e-9], [0.2, 0.8, 0.0]),
    ],
)
def test_songs_are_drawn_by_duration_or_equally_and_by_weight(tracks, weights, expected, remix):
    sampling = Sampling(table([10000, 20000, 70000], weights=weights), 500, SamplingRules(tracks))
    assert shares(Planner(sampling, remix), 3) == pytest.approx(expected, abs=NEAR)


def test_a_weight_counts_a_song_as_often_as_copies_of_it_would():
    weighted = Sampling(table([1000, 3000], weights=[2.0, 1.0]), 100)
    copied = Sampling(table([1000, 1000, 3000]), 100)
    one, _, other = (shares(Planner(copied, seed=1), 3)[k] for k in (0, 1, 2))
    assert shares(Planner(weighted), 2) == pytest.approx([2 * one, other], abs=2 * NEAR)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5], "the weight of a song must be 0 or above, got -0.5"),
        ([1.0, float("nan")], "the weight of a song must be 0 or above, got nan"),
        ([0.0, 0.0], "no song can be drawn: give at least one a weight above 0"),
        ([1.0, 1e18], "the weights of songs must be smaller numbers, got 1e\\+18"),
    ],
)
def test_weights_out_of_range_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Sampling(table([1000, 1000], weights=weights), 100)


@pytest.mark.parametrize(("balanced", "expected"), [(False, [0.9, 0.1]), (True, [0.5, 0.5])])
def test_whole_examples_are_balanced_over_the_targets_where_asked(balanced, expected):
    has = [[True, False]] * 9 + [[False, True]]
    planner = Planner(Sampling(table([1000] * 10, has), 100, SamplingRules(balanced=balanced)))
    assert np.mean([plan.present for plan in plans(planner)], axis=0).tolist() == pytest.approx(expected, abs=NEAR)


def test_balance_passes_over_a_target_that_no_song_has():
    sampling = Sampling(table([1000, 1000], [[True, False], [True, False]]), 100, SamplingRules(balanced=True))
    assert {plan.present for plan in plans(Planner(sampling))} == {(True, False)}


def test_how_tracks_are_drawn_is_one_of_two():
    with pytest.raises(ValueError, match="tracks must be duration or equally, got 'length'"):
        SamplingRules("length")


# Tracks of one stem alone


def test_tracks_of_one_stem_give_it_to_remixed_examples_and_make_no_whole_ones(songs):
    alone = [
        replace(song, name=f"{song.name} {name}", stems={name: song.stems[name]}, aligned=False)
        for song in songs[:2]
        for name in ("vocals", "drums")
    ]
    dataset = SongDataset([*alone, songs[2]], ["vocals"], RATE, 200, 0.5)
    assert dataset.stems == ["vocals", "bass", "drums"]
    for plan in plans(dataset.planner, 200):
        if plan.remixed:
            assert (plan.songs[0] in (0, 2, 4), plan.songs[1], plan.songs[2] in (1, 3, None)) == (True, 4, True)
        else:
            assert plan.songs == (4, 4, None)


@pytest.mark.parametrize("weight", [0.0, None])
def test_tracks_of_one_stem_alone_are_refused_where_not_all_is_remixed(songs, weight):
    alone = [replace(songs[0], stems={"vocals": songs[0].stems["vocals"]}, aligned=False)]
    given = alone if weight is None else [*alone, replace(songs[1], weight=weight)]
    with pytest.raises(ValueError, match=r"can only be remixed, got remix 0.7: set data\.remix: 1, or add songs whose"):
        SongDataset(given, ["vocals"], RATE, 10, 0.7)
    assert SongDataset(given, ["vocals"], RATE, 10, 1.0).plan((0, 0)).songs[0] == 0


# Where a stem sounds


@pytest.mark.parametrize("seed", range(60))
def test_spans_are_the_positions_at_which_a_segment_sounds_or_is_silent(seed):
    generator = np.random.default_rng(seed)
    frame, n_frames = float(generator.choice([10, 7.5, 33.3])), int(generator.integers(0, 40))
    active = generator.random(n_frames) < generator.choice([0.1, 0.5, 0.9, 1.0])
    length, n_samples = max(1, int(n_frames * frame) - int(generator.integers(0, 5))), int(generator.integers(1, 200))
    last, sounding = max(0, length - n_samples), float(generator.choice([0.1, 0.5, 1.0]))
    found = np.zeros((2, last + 1), dtype=int)  # sounding, silent
    for row, spans in zip(found, find_spans(active, frame, n_samples, last, 1, sounding), strict=True):
        for start, end in spans:
            row[start:end] += 1
    samples = np.repeat(active, 1000) if n_frames else np.zeros(1)  # a thousandth of a frame each
    until = np.concatenate([[0], np.cumsum(samples)]) * frame / 1000
    edges, n_inside = np.arange(len(until)) * frame / 1000, min(n_samples, n_frames * frame) or 1
    share = np.diff(np.interp([positions := np.arange(last + 1), positions + n_inside], edges, until), axis=0)[0]
    assert np.array_equal(found, [share / n_inside >= sounding - 1e-9, share / n_inside <= 1e-9])


def test_spans_begin_at_whole_samples_of_every_file():
    active = np.array([False] * 5 + [True] * 5)
    ((first, behind),), silent = find_spans(active, 100.0, 200, 800, 147, 0.5)
    assert (first, behind) == (441, 801)  # half of it sounds from 400 on
    assert silent.tolist() == [[0, 301]]


def block(*sounding: tuple[float, float], seconds: float = 20.0, seed: int = 0) -> np.ndarray:
    """Make noise (T, 2) that sounds from one second to another, and silence elsewhere."""
    waveform, times = noise(seed, round(seconds * RATE)), np.arange(round(seconds * RATE)) / RATE
    return waveform * np.any([(times >= start) & (times < end) for start, end in sounding], axis=0)[:, None]


@pytest.fixture
def songs(tmp_path) -> list[Song]:
    """Make songs in which drums sound for the first half, and vocals here and there; one of them has no drums."""
    write_song(tmp_path / "train" / "a", {"vocals": block((8, 10)), "drums": block((0, 10), seed=1)})
    write_song(tmp_path / "train" / "b", {"vocals": block((0, 4)), "drums": block((0, 10), seed=2)})
    write_song(tmp_path / "train" / "c", {"vocals": block((17, 20)), "bass": block((0, 20), seed=3)})
    (tmp_path / "valid").mkdir()
    return open_songs(tmp_path, "train", ["vocals", "drums"], RATE, 2, allow_missing=True)


def dataset_of(songs: Sequence[Song], targets: Sequence[str], seconds: float = 2.0, n_items: int = 300, **rules):
    remix, balanced = rules.pop("remix", 0.0), rules.pop("balanced", False)
    sampling = SamplingRules(balanced=balanced, activity=ActivityRules(**rules))
    return SongDataset(songs, targets, round(seconds * RATE), n_items, remix, sampling=sampling)


def sounding_share(waveform: torch.Tensor) -> float:
    return float((waveform.abs().amax(0) > 0).float().mean())  # noise is 0 in one of 16000 samples


@pytest.mark.parametrize("remix", [0.0, 1.0])
@pytest.mark.parametrize(("silent", "sounding"), [(0.0, 0.1), (0.3, 0.5), (1.0, 1.0)])
def test_segments_sound_or_are_silent_in_the_share_that_is_asked_for(songs, remix, silent, sounding):
    dataset = dataset_of(songs, ["vocals"], remix=remix, silent=silent, sounding=sounding)
    found = np.array([sounding_share(dataset.read((0, i)).stems[0]) for i in range(len(dataset))])
    assert np.all((found == 0) | (found >= sounding - 0.01))
    assert np.mean(found == 0) == pytest.approx(silent, abs=0.12)  # 4 standard deviations of a share of 300


def test_each_target_of_a_remixed_example_sounds_by_itself_and_other_stems_come_as_they_do(songs):
    dataset = dataset_of(songs, ["vocals", "drums"], remix=1.0, silent=0.5)
    stems = [dataset.read((0, i)).stems for i in range(len(dataset))]
    found = np.array([[sounding_share(stem) for stem in example] for example in stems])
    assert dataset.stems == ["vocals", "drums", "bass"]
    assert np.mean(found[:, :2] == 0, axis=0).tolist() == pytest.approx([0.5, 0.5], abs=0.12)
    both = np.mean((found[:, 0] == 0) & (found[:, 1] == 0))
    assert both == pytest.approx(0.25, abs=0.1)
    songs_of_bass = [dataset.plan((0, i)).songs[2] for i in range(len(dataset))]
    assert songs_of_bass.count(None) / len(songs_of_bass) == pytest.approx(1.0)  # of the one song that lacks drums


def test_any_target_sounds_in_a_whole_example(songs):
    dataset = dataset_of(songs, ["vocals", "drums"], silent=0.2)
    found = np.array([[sounding_share(stem) for stem in dataset.read((0, i)).stems[:2]] for i in range(len(dataset))])
    assert np.mean((found == 0).all(1)) == pytest.approx(0.2, abs=0.1)
    assert np.all((found == 0).all(1) | (found.max(1) > 0.04))  # of two stems each may sound for half of a tenth
    assert (found[:, 0] == 0).mean() > 0.4  # drums alone


def test_balance_gives_each_target_its_own_segments(songs):
    dataset = dataset_of(songs, ["vocals", "drums"], balanced=True, silent=0.0)
    found = np.array([[sounding_share(stem) for stem in dataset.read((0, i)).stems[:2]] for i in range(len(dataset))])
    assert (found.max(1) >= 0.09).all()
    assert (found[:, 0] > 0).mean() > 0.5
    assert (found[:, 1] > 0).mean() > 0.5


def test_an_absent_target_is_not_a_silent_one(songs):
    dataset = dataset_of(songs, ["vocals", "drums"], silent=1.0, balanced=True)
    whole = [dataset.plan((0, i)) for i in range(200)]
    of_drums = [plan for plan in whole if plan.songs[0] != 2]
    assert {plan.present[:2] for plan in whole} == {
        (True, True),
        (True, False),
    }  # vocals alone
    assert 0.6 < len(of_drums) / len(whole) < 0.95  # half for drums, and most of the time without vocals elsewhere


def test_short_songs_are_drawn_in_proportion_to_their_length(tmp_path):
    write_song(tmp_path / "train" / "short", {"vocals": block((0, 1), seconds=1.0)})
    write_song(tmp_path / "train" / "long", {"vocals": block((0, 3), seconds=3.0)})
    (tmp_path / "valid").mkdir()
    dataset = dataset_of(open_songs(tmp_path, "train", None, RATE, 2), ["vocals"], seconds=2.0, silent=0.0)
    assert shares(dataset.planner, 2) == pytest.approx([0.75, 0.25], abs=NEAR)  # in order of names
    assert {plan.positions[0] for plan in plans(dataset.planner) if plan.songs[0] == 1} == {0}


def test_with_all_segments_sounding_draws_are_spread_as_without_sampling_by_activity(tmp_path):
    for name, seconds in (("a", 3.0), ("b", 9.0)):
        write_song(tmp_path / "train" / name, {"vocals": block((0, seconds), seconds=seconds)})
    (tmp_path / "valid").mkdir()
    songs = open_songs(tmp_path, "train", None, RATE, 2)
    plain, sampled = SongDataset(songs, ["vocals"], RATE), dataset_of(songs, ["vocals"], seconds=1.0, silent=0.5)
    assert shares(sampled.planner, 2) == pytest.approx(shares(plain.planner, 2), abs=2 * NEAR)


@pytest.mark.parametrize("remix", [0.0, 1.0])
def test_a_target_that_sounds_nowhere_is_named_and_one_alone_is_refused(tmp_path, remix):
    write_song(tmp_path / "train" / "a", {"vocals": block((0, 5)), "drums": 1e-4 * block((0, 20))})
    (tmp_path / "valid").mkdir()
    songs = open_songs(tmp_path, "train", None, RATE, 2)
    remedy = "must be above -60 dB in 10 % of one; lower activity.threshold or activity.sounding, or add songs"
    with pytest.warns(UserWarning, match=f"drums sounds in no segment of any song: it {remedy}"):
        dataset = dataset_of(songs, ["vocals", "drums"], remix=remix)
    assert dataset.planner.sampling.describe()[1].startswith("drums sounds in 0 % and is silent in 100 % of all")
    with (
        pytest.warns(UserWarning, match="drums sounds"),
        pytest.raises(ValueError, match=f"no target sounds .*{remedy}"),
    ):
        dataset_of(songs, ["drums"], remix=remix)
    assert (
        dataset_of(songs, ["vocals", "drums"], threshold=-100.0)
        .planner.sampling.describe()[1]
        .startswith("drums sounds in 100 %")
    )


def test_a_file_that_does_not_decode_is_named_before_the_first_step(songs):
    path = Path(songs[0].stems["vocals"].info.path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(audio.AudioError, match=r"vocals\.wav"):
        dataset_of(songs, ["vocals"])


def test_the_levels_of_a_stem_are_those_of_its_parts_of_files(tmp_path):
    for name, waveform in (("one", block((1, 2), seconds=4.0)), ("two", block((2.5, 3.5), seconds=3.5))):
        soundfile.write(tmp_path / f"{name}.wav", waveform, RATE, subtype="PCM_16")
    infos = [audio.probe(tmp_path / f"{name}.wav") for name in ("one", "two")]
    files = StemFile(infos[0], gain=2.0), StemFile(infos[1], start=RATE // 2, end=3 * RATE)
    ((levels,),) = measure_activity([Song("a", {"vocals": Stem(files, RATE, 2)})], ["vocals"]).levels
    plain = np.mean(np.square(noise(0)))
    expected = np.zeros(40)
    expected[10:20], expected[20:25] = 4 * plain, plain
    np.testing.assert_allclose(levels, expected, rtol=0.1, atol=1e-12)


def test_segments_of_songs_in_shards_are_those_of_their_folders(songs, tmp_path):
    write_song(tmp_path / "valid" / "d", {"vocals": block((0, 20)), "drums": block((0, 20))})
    write_shards(tmp_path, tmp_path / "shards", log=str)
    packed = open_songs(tmp_path / "shards", "train", ["vocals", "drums"], RATE, 2, allow_missing=True)
    ours, theirs = (dataset_of(some, ["vocals", "drums"], remix=0.5, silent=0.3) for some in (songs, packed))
    for i in range(20):
        assert all(map(torch.equal, ours[0, i], theirs[0, i]))


def test_levels_know_the_rate_of_the_songs(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": block((5, 10))})
    (tmp_path / "valid").mkdir()
    songs = open_songs(tmp_path, "train", None, 3 * RATE, 2, resample=True)
    sampling = SamplingRules(activity=ActivityRules(silent=0.0, sounding=1.0))
    dataset = SongDataset(songs, ["vocals"], 3 * RATE, 100, sampling=sampling)
    positions = [dataset.plan((0, i)).positions[0] / (3 * RATE) for i in range(100)]
    assert (min(positions), max(positions)) == pytest.approx((5, 9), abs=0.2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"silent": 1.5}, r"silent must be a share of the segments, \[0, 1\], got 1.5"),
        ({"threshold": 3.0}, "threshold must be a level in dB re full scale, at most 0, got 3.0"),
        ({"sounding": 0.0}, r"sounding must be a share of a segment, \(0, 1\], got 0.0"),
    ],
)
def test_rules_of_activity_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ActivityRules(**given)


def test_sampling_by_activity_needs_it():
    with pytest.raises(ValueError, match="sampling by activity needs the activity of the targets, got None"):
        Sampling(table([1000]), 100, SamplingRules(activity=ActivityRules()))


# Which songs go together


@pytest.mark.parametrize(
    ("tempi", "tempo", "together"),
    [
        ([120, 122, 130], 0.02, [True, True, False]),
        ([120, 60, 240], 0.0, [True, True, True]),
        ([120, 61, 236], 0.02, [True, True, True]),
        ([120, 90, None], 0.3, [True, False, False]),
        ([120, 170, 85], 0.42, [True, True, True]),
    ],
)
def test_tempi_go_together_within_a_share_and_by_halves_and_doubles(tempi, tempo, together):
    assert Partners(Remix(1.0, tempo=tempo), tempi, [None] * 3).find(0).tolist() == together


@pytest.mark.parametrize(
    ("steps", "together"), [(0, [True, True, False, False]), (1, [True, True, True, False]), (6, [True] * 4)]
)
def test_keys_go_together_by_steps_on_the_circle_of_fifths(steps, together):
    keys = ["C major", "A minor", "E minor", "F# major"]
    assert Partners(Remix(1.0, key=steps), [None] * 4, keys).find(0).tolist() == together


def test_stems_of_a_remixed_example_go_together(songs):
    tempi, keys = [100.0, 101.0, 170.0, 202.0], ["C major", "G major", "C major", "D minor"]
    four = [
        replace(songs[0], name=str(i), tempo=tempo, key=key)
        for i, (tempo, key) in enumerate(zip(tempi, keys, strict=True))
    ]
    dataset = SongDataset(four, ["vocals", "drums"], RATE, 300, Remix(1.0, tempo=0.02, key=1))
    drawn = {plan.songs for plan in plans(dataset.planner, 300)}
    assert drawn == {(a, b) for a in (0, 1, 3) for b in (0, 1, 3) if {a, b} != {1, 3}} | {(2, 2)}


def test_songs_of_which_nothing_is_known_are_remixed_with_none_and_counted(songs):
    known = [replace(songs[0], tempo=100.0), replace(songs[1], tempo=100.0), replace(songs[1], name="d")]
    with pytest.warns(UserWarning, match="1 of 3 songs are remixed with no other, since their tempo is not known: add"):
        dataset = SongDataset(known, ["vocals", "drums"], RATE, 200, Remix(1.0, tempo=0.1))
    assert {plan.songs for plan in plans(dataset.planner, 200)} == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize(("name", "given"), [("tempo", {"tempo": 0.1}), ("key", {"key": 1})])
def test_songs_that_cannot_be_matched_at_all_are_refused(songs, name, given):
    with pytest.raises(ValueError, match=f"remix by {name} needs songs whose {name} is known, of 3 none is: add"):
        SongDataset(songs, ["vocals", "drums"], RATE, 10, Remix(0.5, **given))


def test_a_target_that_no_partner_has_is_absent(songs):
    apart = [replace(song, tempo=tempo) for song, tempo in zip(songs, [100.0, 100.0, 150.0], strict=True)]
    dataset = SongDataset(apart, ["vocals", "drums"], RATE, 200, Remix(1.0, tempo=0.1))
    drawn = {plan.songs for plan in plans(dataset.planner, 200)}
    assert {songs[:2] for songs in drawn} == {(0, 0), (0, 1), (1, 0), (1, 1), (2, None)}
    assert [dataset.presence([(0, i)])[0].tolist() for i in range(20)] == [
        list(dataset.plan((0, i)).present[:2]) for i in range(20)
    ]


def test_matching_leaves_the_first_stem_as_it_is_drawn_without(songs):
    known = [replace(song, tempo=100.0 + i) for i, song in enumerate(songs)]
    one, other = (SongDataset(known, ["vocals"], RATE, 50, remix) for remix in (1.0, Remix(1.0, tempo=0.0)))
    assert [(plan.songs[0], plan.positions[0]) for plan in plans(one.planner, 50)] == [
        (plan.songs[0], plan.positions[0]) for plan in plans(other.planner, 50)
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.5}, r"remix must lie in \[0, 1\], got 1.5"),
        ({"share": 0.5, "tempo": 0.5}, r"tempo must be a share in \[0, 0.5\), such as 0.04 for 4 %, got 0.5"),
        ({"share": 0.5, "key": 7}, "key must be a number of steps on the circle of fifths, 0 to 6, got 7"),
    ],
)
def test_a_remix_out_of_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Remix(**given)


def test_facts_on_which_draws_depend_have_a_fingerprint(songs):
    def fingerprint(songs: Sequence[Song], **more) -> str:
        return SongDataset(songs, ["vocals", "drums"], RATE, 10, **more).planner.fingerprint

    same = fingerprint(songs)
    assert same == fingerprint(songs)
    others = [songs[:2], [*songs[:2], replace(songs[2], weight=2.0)]]
    assert same not in {fingerprint(other) for other in others}
    known = [replace(song, tempo=100.0, key="C") for song in songs]
    for what, other in (("tempo", 120.0), ("key", "D")):  # of which draws know only where they are asked for
        rules, changed = {"remix": Remix(1.0, **{what: 0})}, [*known[:2], replace(known[2], **{what: other})]
        assert fingerprint(known, **rules) != fingerprint(changed, **rules)
        assert fingerprint(known) == fingerprint(changed)
    active = Activity([[np.ones(200)] * 2] * 3, RATE / 10)
    assert active.seconds(0, ActivityRules(), RATE) == 60
