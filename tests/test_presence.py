"""Songs that lack stems: what a song has counts once, however a batch is divided; what it lacks does not count."""

import math
from pathlib import Path

import pytest
import torch
from songs import write_song
from torch import Tensor
from training import RATE, RECIPE, SOURCES, history, last_weights, song

from sepkit.datasets import Song, open_songs
from sepkit.generators import borrowed_generators
from sepkit.processes import Processes
from sepkit.recipe import load_recipe
from sepkit.training import train
from sepkit.training.loading import make_loader
from sepkit.training.loop import Trainer
from sepkit.training.signals import StopRequest
from sepkit.training.songs import check_recipe_songs
from sepkit.training.totals import Totals
from sepkit.training.validation import validate

N_STEPS = 3
CPU = torch.device("cpu")
SONGS = {
    "train/both": SOURCES,
    "train/vocals alone": ["vocals"],
    "train/drums alone": ["drums"],
    "valid/both": SOURCES,
    "valid/vocals alone": ["vocals"],
}
NETWORK = {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "dropout": 0.0, "n_bands": 8}
LOSSES = [
    {"class": "RelativeSpectralLoss"},
    {"class": "L1SNRLoss", "sources": ["drums"], "weight": 0.1},
    {"class": "RelativeSpectralLoss", "name": "vocals only", "sources": ["vocals"]},
]
SMALL = {
    **RECIPE,
    "separator": {**RECIPE["separator"], "segment": 0.1, "network": NETWORK},
    "data": {"items_per_epoch": 8 * N_STEPS, "workers": 0},
    "losses": LOSSES,
    "training": {"epochs": 1, "batch_size": 8, "optimizer": {"class": "SGD", "lr": 0.1}},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for seed, (name, stems) in enumerate(SONGS.items()):
        write_song(folder / name, {stem: waveform for stem, waveform in song(seed).items() if stem in stems})
    return folder


def find_songs(root: Path, subset: str, *names: str) -> list[Song]:
    """List songs of a subset; without names all of it."""
    songs = open_songs(root, subset, SOURCES, RATE, 2, allow_missing=True)
    return [song for song in songs if not names or song.name in names]


@pytest.fixture
def make(root):
    """Build a trainer of songs to train on; the generators are restored when the test ends."""

    def build(*names: str, **training) -> Trainer:
        recipe = load_recipe({**SMALL, "training": {**SMALL["training"], **training}}, data=root)
        songs = {"train": find_songs(root, "train", *names), "valid": find_songs(root, "valid")}
        return Trainer(recipe, songs, CPU)

    with borrowed_generators(CPU):
        yield build


def take_steps(trainer: Trainer) -> dict[str, Tensor]:
    """Take the steps of an epoch, and return the weights."""
    batches = iter(make_loader(trainer, 0))
    for position in range(N_STEPS):
        trainer.take_step(batches, position)
    return trainer.separator.state_dict()


def presence(trainer: Trainer) -> Tensor:
    """Return which targets the examples of an epoch have, (items, S)."""
    return torch.tensor([trainer.dataset.plan((0, i)).present[: len(SOURCES)] for i in range(len(trainer.dataset))])


@pytest.mark.parametrize("n_parts", [2, 4])
def test_parts_of_unequal_presence_train_like_the_whole_batch(make, n_parts):
    whole, parts = make(), make(accumulate=n_parts)
    counts = presence(whole).view(N_STEPS, n_parts, -1, len(SOURCES)).sum(2)
    assert (counts != counts[:, :1]).any()
    expected, found = take_steps(whole), take_steps(parts)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    means = {name: value for name, value in whole.totals.means().items() if name not in ("data_wait", "overhead")}
    assert {name: parts.totals.means()[name] for name in means} == pytest.approx(means, abs=1e-6)


def test_means_of_an_epoch_are_over_what_its_examples_have(make):
    trainer, judgements = make(accumulate=2), []
    trainer.objective.register_forward_hook(lambda _module, _inputs, judgement: judgements.append(judgement))
    take_steps(trainer)
    counts = presence(trainer).sum(0).tolist()
    totals, means = trainer.totals, trainer.totals.means()
    for source, count in zip(SOURCES, counts, strict=True):
        name = f"RelativeSpectralLoss/{source}"
        assert totals.counts[name] == count
        assert means[name] == pytest.approx(float(sum(judgement.sums[name] for judgement in judgements)) / count)
    assert totals.counts["RelativeSpectralLoss"] == sum(counts)
    assert totals.counts["L1SNRLoss"] == counts[SOURCES.index("drums")]


def test_a_term_of_stems_that_no_example_has_is_0(make):
    trainer = make("vocals alone", epochs=2, clip=1.0, ema=0.9)
    before = {name: value.clone() for name, value in trainer.separator.state_dict().items()}
    trainer.run(StopRequest(), quiet=True)
    for row in trainer.history:
        assert row["L1SNRLoss"] == row["RelativeSpectralLoss/drums"] == 0
        assert row["RelativeSpectralLoss"] == row["RelativeSpectralLoss/vocals"] > 0
        assert all(math.isfinite(value) for value in row.values())
    after = trainer.separator.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.filterwarnings("ignore:.*one part stands alone")
@pytest.mark.parametrize("remix", [0.0, 0.5])
def test_songs_that_lack_stems_train_and_validate(root, tmp_path, remix):
    recipe = {**SMALL, "data": {**SMALL["data"], "remix": remix, "augment": [{"class": "Gain"}]}}
    with pytest.warns(UserWarning, match="is in no loss of songs of train that lack it, 1: (drums|vocals) alone"):
        folder = train(recipe, tmp_path / "run", data=root, device="cpu", quiet=True, log=str)
    (row,) = history(folder)
    assert all(math.isfinite(float(row[name])) for name in ("loss", "SDR", *(f"SDR/{source}" for source in SOURCES)))
    assert all(value.isfinite().all() for value in last_weights(folder).values())


def test_a_stem_that_a_song_lacks_is_not_scored_there(root, make):
    separator, both = make().separator, find_songs(root, "valid", "both")
    alone = find_songs(root, "valid", "vocals alone")
    scores = validate(separator, [*both, *alone], 2.0, 4)
    first, second = validate(separator, both, 2.0, 4), validate(separator, alone, 2.0, 4)
    assert scores["drums"] == first["drums"]
    assert scores["vocals"] == pytest.approx((first["vocals"] + second["vocals"]) / 2)  # a median of two
    assert math.isnan(second["drums"])


def test_processes_share_the_songs_of_a_validation(root, make):
    separator, songs = make().separator, find_songs(root, "valid")
    rows = []

    class Second(Processes):
        def gather(self, own: list) -> list:
            rows.extend(own)
            return own

    class First(Processes):
        def gather(self, own: list) -> list:
            return [*own, *rows]

    validate(separator, songs, 2.0, 4, processes=Second(1, 2))
    assert len(rows) == 1
    assert validate(separator, songs, 2.0, 4, processes=First(0, 2)) == validate(separator, songs, 2.0, 4)


def test_a_source_that_only_some_songs_have_is_scored_where_it_is(root, recwarn):
    recipe = load_recipe(SMALL, data=root)
    check_recipe_songs(recipe, {subset: find_songs(root, subset) for subset in ("train", "valid")})
    assert not [str(warning.message) for warning in recwarn if "is not scored" in str(warning.message)]


def test_means_are_over_the_sums_and_counts_of_all_processes():
    class Two(Processes):
        def gather(self, rows: list) -> list:
            return [*rows, {"sums": {"loss": 3.0, "absent": 0.0}, "counts": {"loss": 1, "absent": 0}}]  # of the other

    totals = Totals(Two())
    totals.add({"loss": torch.tensor(1.0), "absent": 0.0}, {"loss": 3, "absent": 0})
    assert totals.means() == {"loss": 1.0, "absent": 0.0}
