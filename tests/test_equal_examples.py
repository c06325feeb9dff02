"""The examples of an epoch are the same however they are loaded: hashes of all that a step is given."""

import hashlib
import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import noise

from sepkit import augment
from sepkit.datasets import EpochSampler, open_songs, write_manifest
from sepkit.datasets.loader import Loader
from sepkit.datasets.manifest import Manifest, Row
from sepkit.datasets.plan import Number
from sepkit.recipe import load_recipe
from sepkit.training.examples import make_dataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # torch forks beside its threads
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # on few cores
]
RATE = 32000  # at which a codec loses something
SOURCES = ["vocals", "drums"]
N_ITEMS, BATCH_SIZE, EPOCH = 22, 8, 3
AUGMENT = [{"class": "Gain"}, {"class": "Sign"}, {"class": "SwapChannels"}]
EFFECTS = [{"class": name} for name in augment.__all__ if {"class": name} not in AUGMENT]
RECIPE = {
    "separator": {
        "sources": SOURCES,
        "sample_rate": RATE,
        "segment": 0.2,
        "transform": {"class": "STFT", "n_fft": 256, "hop_length": 128},
        "network": {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "n_bands": 8},
    },
    "data": {"items_per_epoch": N_ITEMS, "augment": AUGMENT, "remix": 0.5, "resample": True},
    "losses": [{"class": "RelativeSpectralLoss"}],
    "training": {"seed": 7},
}
KINDS = {
    "plain": [],
    "all that can be asked for": [
        "data.remix={share: 0.6, tempo: 0.05, key: 2}",
        "data.sampling={tracks: equally, balanced: true, activity: {silent: 0.3, sounding: 0.4}}",
    ],
    "every effect": [f"data.augment={[*AUGMENT, *EFFECTS]}"],
}


def write_songs(root: Path, rate: int = RATE) -> Path:
    """Write songs of wav and flac, of 16 and 24 bits, of which one lacks drums, with silence in them."""
    rows = []
    for i, (suffix, subtype) in enumerate(itertools.product((".wav", ".flac"), ("PCM_16", "PCM_24"))):
        for k, stem in enumerate(["vocals", "drums", "bass"] if i != 1 else ["vocals", "bass"]):
            waveform = noise(10 * i + k, (2 + i) * rate)
            waveform[: rate * (k + 1) // 2] *= 4e-4  # below what counts as silent
            path = root / f"song {i}" / f"{stem}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, waveform, rate, subtype=subtype)
            known = {"tempo": [100.0, 102.0, 201.0, 140.0][i], "key": ["C", "Am", "G", "E"][i]}
            rows.append(Row(path, stem, f"song {i}", "train", **known))
    write_manifest(Manifest(root, "manifest", tuple(rows)), root / "manifest.csv")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Begin with an empty cache: no store, nothing measured."""
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_examples(root: Path, kind: str, store: str = "off"):
    recipe = load_recipe(RECIPE, [*KINDS[kind], f"data.store={store}"], data=root)
    songs = open_songs(root, "train", SOURCES, RATE, 2, True, valid_share=0.0, allow_missing=True)
    return make_dataset(recipe, songs)


def load_examples(
    dataset, n_workers: int = 0, rank: int = 0, world: int = 1, first: int = 0
) -> dict[Number, np.ndarray]:
    """Load all that a step is given of each example of an epoch, from a batch on, of the share of one process."""
    sampler = EpochSampler(N_ITEMS, BATCH_SIZE, EPOCH, first, rank, world)
    loader, found = Loader(dataset, sampler, n_workers), {}
    for batch, numbers in zip(loader.batches(EPOCH, first), sampler, strict=True):
        mixture, targets = batch.mix()
        parts = mixture.flatten(1), targets.flatten(1), batch.present.float()
        found.update(zip(numbers, torch.cat(parts, 1).numpy().copy(), strict=True))
    loader.close()
    return found


def hash_examples(dataset, *given, **options) -> dict[Number, str]:
    examples = load_examples(dataset, *given, **options)
    return {number: hashlib.sha256(example.tobytes()).hexdigest() for number, example in examples.items()}


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def expected(root, kind) -> dict[Number, str]:
    """Hash the examples of an epoch that one process loads by itself, without a store."""
    found = hash_examples(make_examples(root, kind))
    assert list(found) == [(EPOCH, i) for i in range(N_ITEMS)]
    assert len(set(found.values())) == N_ITEMS
    return found


@pytest.mark.parametrize("store", ["off", "auto"])
@pytest.mark.parametrize("n_workers", [0, 1, 8])
def test_examples_are_equal_with_any_number_of_workers_and_with_a_store(root, kind, expected, n_workers, store):
    assert hash_examples(make_examples(root, kind, store), n_workers) == expected


def test_examples_are_equal_once_the_store_is_full(root, kind, expected):
    store = make_examples(root, kind, "auto").store
    assert {store.build(key) for key in store.entries} == {True}
    assert hash_examples(make_examples(root, kind, "auto")) == expected


@pytest.mark.parametrize("world", [2, 4])
def test_examples_of_processes_are_together_those_of_one(root, kind, world):
    whole, shares = load_examples(make_examples(root, kind)), {}
    for rank in range(world):
        shares.update(load_examples(make_examples(root, kind), 0, rank, world))
    assert sorted(shares) == list(whole)
    for number, example in whole.items():  # an effect that works on the whole batch rounds as its size lets it
        np.testing.assert_allclose(shares[number], example, rtol=0, atol=1e-6 if kind == "every effect" else 0)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_examples_are_equal_after_a_stop_between_two_batches(root, kind, expected, n_workers):
    found = hash_examples(make_examples(root, kind), n_workers, first=1)
    assert found == {number: content for number, content in expected.items() if number[1] >= BATCH_SIZE}


@pytest.mark.slow
def test_examples_are_equal_in_processes_that_are_spawned(root, kind, expected):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = list(pool.map(hash_anew, [(root, kind, n_workers) for n_workers in (0, 2)]))
    assert found == [expected, expected]


def hash_anew(given: tuple[Path, str, int]) -> dict[Number, str]:
    root, kind, n_workers = given
    return hash_examples(make_examples(root, kind), n_workers)


def test_the_seed_and_the_epoch_decide_and_nothing_else(root, kind, expected):
    other = make_examples(root, kind)
    other.planner.seed += 1
    assert not set(hash_examples(other).values()) & set(expected.values())
    torch.manual_seed(99)
    np.random.seed(99)
    assert hash_examples(make_examples(root, kind)) == expected


def test_a_store_of_another_rate_changes_no_draw_and_hardly_a_sample(tmp_path):
    root = write_songs(tmp_path / "songs", rate=2 * RATE)
    plain, stored = (make_examples(root, "plain", store) for store in ("off", "auto"))
    for i in range(N_ITEMS):
        ours, theirs = plain.plan((EPOCH, i)), stored.plan((EPOCH, i))
        assert (ours.songs, ours.positions) == (theirs.songs, theirs.positions)
        # the tails of the resampler's filter, which a segment cuts off, and rounding to 16 bits
        torch.testing.assert_close(plain[EPOCH, i], stored[EPOCH, i], rtol=0, atol=1e-4)
    stored.store.stop()
