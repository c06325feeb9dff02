"""The loader: reused buffers, the same examples however many processes load, files that break on the way."""

import itertools
import os
import re
import shutil
import time

import numpy as np
import pytest
import torch
from songs import RATE, noise, write_root, write_song

from sepkit.audio import AudioError
from sepkit.augment import Gain, Sign, Speed, SwapChannels
from sepkit.datasets import EpochSampler, SongDataset, augment_and_mix, open_songs
from sepkit.datasets.folding import count_folded, fold
from sepkit.datasets.loader import AHEAD, Batch, Loader

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # torch forks beside its threads
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on few cores
]
TARGETS = ["vocals", "drums"]
NAMES = [*TARGETS, "bass", "keys", "choir"]
FOLDED = [Gain(), Sign(), SwapChannels(), SwapChannels(0.3)]
CHAINS = {"none": [], "folded": FOLDED, "both": [*FOLDED, Speed(0.9, 1.1), Gain()], "other": [Speed(0.9, 1.1)]}
N_ITEMS = 11


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> dict:
    """Write songs as wav and flac, with a recorded mixture or without."""
    found = {}
    for suffix, mixed in itertools.product((".wav", ".flac"), (False, True)):
        root = tmp_path_factory.mktemp("songs")
        write_root(root, ["train/a", "train/b", "train/c"], [*NAMES, *(["mixture"] if mixed else [])], suffix=suffix)
        shutil.rmtree(root / "train" / "c")
        write_song(root / "train" / "c", {"vocals": noise(7, 3 * RATE)}, suffix=suffix)
        found[suffix, mixed] = open_songs(root, "train", TARGETS, RATE, 2, valid_share=0, allow_missing=True)
    return found


def make_dataset(songs, chain="folded", **options) -> SongDataset:
    given = {"n_items": N_ITEMS, "remix": 0.5, "augment": CHAINS[chain], "seed": 1, **options}
    return SongDataset(songs, TARGETS, 2000, **given)


def make_loader(dataset: SongDataset, batch_size: int = 4, **options) -> Loader:
    return Loader(dataset, EpochSampler(len(dataset), batch_size), **options)


def mixed(batches) -> list[tuple[torch.Tensor, ...]]:
    """Mix batches, and copy them, with what is present."""
    return [tuple(part.clone() for part in (*batch.mix(), batch.present)) for batch in batches]


def assert_same(some: list, others: list) -> None:
    assert len(some) == len(others)
    for ours, theirs in zip(some, others, strict=True):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", [(".wav", False), (".wav", True), (".flac", True)], ids=str)
def test_a_batch_holds_the_examples_of_the_dataset(songs, kind, chain):
    dataset = make_dataset(songs[kind], chain)
    batches = mixed(make_loader(dataset).batches(3))
    assert [len(mixture) for mixture, _, _ in batches] == [4, 4, 3]
    for b, (mixture, targets, present) in enumerate(batches):
        numbers = [(3, i) for i in range(4 * b, min(4 * b + 4, N_ITEMS))]
        expected = [torch.stack(parts) for parts in zip(*map(dataset.__getitem__, numbers), strict=True)]
        assert torch.equal(present, dataset.presence(numbers))
        torch.testing.assert_close([mixture, targets], expected, rtol=0, atol=0)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", [(".wav", False), (".wav", True)], ids=str)
def test_what_is_folded_into_the_reading_is_what_the_augmentations_do(songs, kind, chain):
    dataset = make_dataset(songs[kind], chain)
    for i in range(N_ITEMS):
        example = dataset.read((2, i))
        expected = augment_and_mix(example.stems, example.parameters, dataset.augment, len(TARGETS))
        # factors are multiplied with each other before the samples instead of one after the other
        torch.testing.assert_close(dataset[2, i], expected, rtol=1e-6, atol=1e-6)


def test_one_gain_sign_and_swap_are_folded_bit_for_bit(songs):
    dataset = make_dataset(songs[".wav", False], augment=[Gain(), Sign(), SwapChannels()])
    for i in range(N_ITEMS):
        example = dataset.read((0, i))
        expected = augment_and_mix(example.stems, example.parameters, dataset.augment, len(TARGETS))
        assert all(map(torch.equal, dataset[i], expected))


def test_only_leading_steps_that_can_be_are_folded():
    assert [count_folded(chain) for chain in CHAINS.values()] == [0, 4, 4, 0]
    folded = fold([Gain(), SwapChannels(), SwapChannels()], [np.array([2.0, 3]), *2 * [np.array([1.0, 0])]], 2)
    assert folded.factors.tolist() == [2, 3]
    assert folded.swapped.tolist() == [False, False]


@pytest.mark.parametrize("chain", ["folded", "both"])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_examples_are_the_same_with_and_without_workers_over_epochs(songs, n_workers, chain):
    alone, shared = (make_loader(make_dataset(songs[".flac", True], chain), n_workers=n) for n in (0, n_workers))
    for epoch, first in ((0, 0), (1, 1), (2, 0)):
        assert_same(mixed(alone.batches(epoch, first)), mixed(shared.batches(epoch, first)))


@pytest.mark.parametrize("n_kept", [1, 3])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_batch_stays_valid_until_as_many_more_are_drawn_as_are_kept(songs, n_workers, n_kept):
    dataset = make_dataset(songs[".wav", False], n_items=24)
    loader = make_loader(dataset, 1, n_workers=n_workers, n_kept=n_kept)
    expected = mixed(make_loader(dataset, 1).batches(0))
    held: list[Batch] = []
    for i, batch in enumerate(loader.batches(0)):
        held = [*held, batch][-n_kept:]
        for back, earlier in enumerate(reversed(held)):
            mixture, targets = earlier.mix()
            assert torch.equal(mixture, expected[i - back][0])
            assert torch.equal(targets, expected[i - back][1])
    places = {batch.stems.data_ptr() for batch in held}
    assert len(places) == n_kept


@pytest.mark.parametrize("n_workers", [0, 2])
def test_buffers_are_allocated_once(songs, n_workers):
    loader = make_loader(make_dataset(songs[".wav", False]), n_workers=n_workers)
    seen = [batch.stems.data_ptr() for epoch in range(4) for batch in loader.batches(epoch)]
    assert len(set(seen)) == AHEAD * n_workers + 1
    assert loader._ring.stems.is_shared() == (n_workers > 0)


@pytest.mark.parametrize("n_kept", [1, 3])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_epoch_that_was_left_does_not_disturb_the_next_nor_the_batches_kept(songs, n_workers, n_kept):
    dataset = make_dataset(songs[".wav", False])
    loader = make_loader(dataset, 2, n_workers=n_workers, n_kept=n_kept)
    first = next(loader.batches(0))
    kept = first.mix()[0].clone()
    following = loader.batches(1)
    others = mixed(itertools.islice(following, n_kept - 1))
    assert torch.equal(first.mix()[0], kept)
    assert_same([*others, *mixed(following)], mixed(make_loader(dataset, 2).batches(1)))


@pytest.mark.parametrize("n_kept", [1, 3])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_epoch_that_was_begun_is_the_same_and_leaves_the_batches_kept(songs, n_workers, n_kept):
    dataset = make_dataset(songs[".wav", False])
    loader = make_loader(dataset, 2, n_workers=n_workers, n_kept=n_kept)
    *_, last = loader.batches(0)
    kept = last.mix()[0].clone()
    loader.begin(1)
    _wait_for(lambda: not n_workers or loader._begun._data_queue.qsize() == AHEAD * n_workers)
    assert torch.equal(last.mix()[0], kept)
    for epoch, first in ((1, 0), (2, 1)):
        assert_same(mixed(loader.batches(epoch, first)), mixed(make_loader(dataset, 2).batches(epoch, first)))
        loader.begin(3)  # which is not asked for next


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def test_nothing_but_numbers_comes_from_other_processes(songs):
    dataset = make_dataset(songs[".wav", False], "both")
    loader = make_loader(dataset, device="meta")  # any but the CPU
    slot, n_items, parameters, present, failures = loader._loader.dataset[0, [(0, 0), (0, 1)]]
    assert (slot, n_items, failures) == (0, 2, [])
    sizes = [np.asarray(drawn).size for drawn in (*parameters, present)]
    assert max(sizes) <= 2 * len(dataset.stems)


def test_a_loader_that_keeps_nothing_is_refused(songs):
    with pytest.raises(ValueError, match="keeps at least the batch that it handed out last, got n_kept 0"):
        make_loader(make_dataset(songs[".wav", False]), n_kept=0)


# Files that break on the way


@pytest.fixture(params=[".wav", ".flac"])
def broken(request, tmp_path):
    """Write three songs, of which a file of the second is not what it was; return the songs and the file."""
    for i, name in enumerate("abc"):
        stems = {stem: noise(10 * i + k, 3 * RATE) for k, stem in enumerate(TARGETS)}
        write_song(tmp_path / "train" / name, stems, suffix=request.param)
    found = open_songs(tmp_path, "train", TARGETS, RATE, 2, valid_share=0)
    path = tmp_path / "train" / "b" / f"drums{request.param}"
    return found, path


def damage(path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        write_song(path.parent, {"drums": noise(99, 3 * RATE)}, suffix=path.suffix)
        os.utime(path, (1, 1))
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("how", ["removed", "replaced", "cut"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_file_that_breaks_in_the_middle_stops_with_its_name(broken, how, n_workers):
    found, path = broken
    batches = make_loader(make_dataset(found, n_items=200), n_workers=n_workers).batches(0)
    next(batches)
    damage(path, how)
    with pytest.raises(AudioError, match=re.escape(str(path))):
        list(batches)


@pytest.mark.parametrize("how", ["removed", "cut"])
def test_an_example_that_cannot_be_read_is_drawn_anew_named_and_never_silent(broken, how):
    found, path = broken
    damage(path, how)
    dataset = make_dataset(found, n_items=40, on_error="skip", augment=[])
    loaded = {}
    for n_workers in (0, 2):
        batches, failures = [], []
        for batch in make_loader(dataset, n_workers=n_workers).batches(0):
            batches += mixed([batch])
            failures += batch.failures
        loaded[n_workers] = batches
        assert failures
        assert all(str(path) in sentence for sentence in failures)
        assert all((targets.abs().amax((-2, -1)) > 0).all() for _, targets, _ in batches)
    assert_same(loaded[0], loaded[2])
    touched = [i for i in range(40) if dataset.plan((0, i)).songs[1] == 1]
    assert touched
    others = [i for i in range(40) if i not in touched]
    whole = make_dataset(found, n_items=40, augment=[])
    assert all(torch.equal(dataset[i][0], whole[i][0]) for i in others)


def test_the_example_in_its_place_has_the_same_targets(tmp_path):
    for i, name in enumerate("abcd"):
        stems = {stem: noise(10 * i + k) for k, stem in enumerate(TARGETS if name in "ab" else TARGETS[:1])}
        write_song(tmp_path / "train" / name, stems)
    found = open_songs(tmp_path, "train", TARGETS, RATE, 2, valid_share=0, allow_missing=True)
    (tmp_path / "train" / "a" / "vocals.wav").unlink()
    dataset = make_dataset(found, n_items=60, on_error="skip", remix=0.0)
    batches = list(itertools.chain.from_iterable(batch.present for batch in make_loader(dataset).batches(0)))
    assert torch.equal(torch.stack(batches), dataset.presence([(0, i) for i in range(60)]))


def test_where_nothing_can_be_read_skipping_ends(tmp_path):
    for i, name in enumerate("ab"):
        write_song(tmp_path / "train" / name, {stem: noise(10 * i + k, 3 * RATE) for k, stem in enumerate(TARGETS)})
    found = open_songs(tmp_path, "train", TARGETS, RATE, 2, valid_share=0)
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(AudioError, match=r"20 examples in a row cannot be read, of which the last is: Cannot read"):
        make_dataset(found, on_error="skip")[0]


def test_where_no_other_example_has_the_targets_that_is_said(tmp_path):
    write_song(tmp_path / "train" / "a", {stem: noise(k, 1000) for k, stem in enumerate(TARGETS)})
    found = open_songs(tmp_path, "train", TARGETS, RATE, 2, valid_share=0)
    (tmp_path / "train" / "a" / "drums.wav").unlink()
    with pytest.raises(AudioError, match="no other example with the stems vocals, drums can take the place"):
        make_dataset(found, on_error="skip")[0]


def test_an_unknown_way_with_errors_is_refused(songs):
    with pytest.raises(ValueError, match="on_error must be one of stop, skip, got 'pass'"):
        make_dataset(songs[".wav", False], on_error="pass")


class Own:
    """An augmentation as a user writes it."""

    def __init__(self, draw=None, change=None, folded=None):
        self.draw, self.change = draw, change
        if folded:
            self.fold = folded

    def sample_parameters(self, generator, n_stems):
        return self.draw(n_stems) if self.draw else generator.random(n_stems)

    def __call__(self, stems, _):
        return self.change(stems) if self.change else stems


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (object(), "object is no augmentation: it needs sample_parameters"),
        (len, "no augmentation: it needs sample_parameters"),
        (Own(lambda _: None), "first dimension is the 5 stems, got NoneType"),
        (Own(lambda n: [1.0] * n), "got list"),
        (Own(lambda n: np.ones(n + 1)), r"got float64 \(6,\)"),
        (Own(lambda _: np.ones(())), r"got float64 \(\)"),
        (Own(lambda n: np.array(["a"] * n)), r"got <U1 \(5,\)"),
        (Own(lambda n: np.random.default_rng().random(n)), "draw from its generator alone"),
        (Own(folded=lambda _: None), r"Own.fold must return .* each \(5,\) or None, got NoneType"),
        (Own(folded=lambda _: (np.ones(1), None)), r"got \(\(1,\), \(\)\)"),
    ],
)
def test_what_cannot_augment_is_refused_before_the_first_step(songs, step, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(songs[".wav", False], augment=[step])


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda _: None, "got NoneType"),
        (lambda stems: stems[..., :-1], r"got torch.float32 \(5, 2, 1999\)"),
        (lambda stems: stems.double(), r"got torch.float64 \(5, 2, 2000\)"),
        (lambda stems: stems.sum(-3), r"got torch.float32 \(2, 2000\)"),
    ],
)
def test_an_augmentation_returns_stems_as_it_gets_them(songs, change, got):
    with pytest.raises(ValueError, match=rf"Own must return stems as it gets them, .*, {got}"):
        make_dataset(songs[".wav", False], augment=[Own(change=change)])[0]
