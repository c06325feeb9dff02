"""The store of decoded files: the same samples, built beside training, by several processes, within its limit."""

import errno
import io
import multiprocessing
import os
import pickle
import re
import shutil
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml
from songs import RATE, noise, write_song
from torch import Tensor
from training import RECIPE, assert_equal, song

from sepkit import audio
from sepkit.audio import AudioError
from sepkit.datasets import EpochSampler, SongDataset, open_songs
from sepkit.datasets.loader import Loader
from sepkit.datasets.stems import Stem, StemFile, single
from sepkit.datasets.store import DecodedStore, build_store
from sepkit.datasets.store_plan import DEFAULT_LIMIT, choose_limit, plan_stems, plan_store
from sepkit.datasets.stored_file import count_bytes
from sepkit.disk import OutputError
from sepkit.generators import borrowed_generators
from sepkit.processes import thread_pool
from sepkit.recipe import load_recipe
from sepkit.training.data_store import store_data
from sepkit.training.loading import loading
from sepkit.training.loop import Trainer
from sepkit.training.opening import open_data

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # torch forks beside its threads
KINDS = {  # suffix, subtype, bytes a sample in the store
    "flac16": (".flac", "PCM_16", 2),
    "flac24": (".flac", "PCM_24", 4),
    "wav8": (".wav", "PCM_U8", 2),
    "wav24": (".wav", "PCM_24", 4),
    "float": (".wav", "FLOAT", 4),
    "aiff16": (".aiff", "PCM_16", 2),
    "vorbis": (".ogg", "VORBIS", 2),
    "mp3": (".mp3", "MPEG_LAYER_III", 2),
}
LOSSLESS = [name for name in KINDS if name not in ("vorbis", "mp3")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "store"


@pytest.fixture
def write(tmp_path):
    """Write (T, C), and make a stem of it."""

    def build(kind: str = "flac16", waveform: np.ndarray | None = None, name: str = "a", rate: int = RATE, **options):
        suffix, subtype, _ = KINDS[kind]
        path = tmp_path / f"{name}{suffix}"
        soundfile.write(path, noise(0, 20000) if waveform is None else waveform, rate, subtype=subtype)
        return single(audio.probe(path), options.pop("to", RATE), options.pop("n_channels", 2))

    return build


def read(stem: Stem, start: int, n_samples: int, store=None, factor: float = 1.0, swap: bool = False) -> torch.Tensor:
    out = torch.full((stem.n_channels, n_samples), torch.nan)
    stem.read_into(out, start, factor, swap, store)
    return out


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize(("factor", "swap"), [(1.0, False), (-0.3, True)])
def test_what_is_stored_is_bit_for_bit_what_the_file_holds(write, cache, kind, factor, swap):
    stem = write(kind)
    store = plan_stems([stem])
    before = read(stem, 1234, 5000, store, factor, swap)  # nothing is stored yet
    assert not entries(cache)
    built = build_store(store, progress=False)
    (path,) = entries(cache)
    assert built == (1, path.stat().st_size, ())
    assert path.stat().st_size == 4096 + KINDS[kind][2] * 2 * 20000
    assert torch.equal(read(stem, 1234, 5000, store, factor, swap), before)
    assert torch.equal(read(stem, 19000, 3000, store), read(stem, 19000, 3000))


def test_16_bit_wav_at_the_right_rate_is_read_in_place(tmp_path, cache):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0)})
    songs = open_songs(tmp_path, "train", None, RATE, 2)
    assert plan_store(songs) is None
    assert not cache.exists()


@pytest.mark.parametrize("kind", ["vorbis", "mp3"])
def test_a_lossy_file_is_decoded_whole_before_its_first_use(write, cache, kind):
    stem = write(kind)
    store = plan_stems([stem])
    first = read(stem, 5000, 3000, store)
    assert len(entries(cache)) == 1
    assert torch.equal(first, torch.round(first * 32768) / 32768)
    torch.testing.assert_close(first, read(stem, 5000, 3000), rtol=0, atol=1 / 65536 + 1e-7)  # rounded to 16 bits
    assert torch.equal(read(stem, 5100, 100, store), first[:, 100:200])


def test_a_lossy_file_beyond_full_scale_is_not_clipped(write):
    times = np.arange(20000) / RATE
    square = np.sign(np.sin(2 * np.pi * 441 * times)) * 0.999
    stem = write("vorbis", np.stack([square, square], 1))
    plain = read(stem, 0, 20000)
    assert plain.abs().max() > 1.05
    stored = read(stem, 0, 20000, plan_stems([stem]))
    torch.testing.assert_close(stored, plain, rtol=0, atol=2 / 65536 + 1e-7)  # a bit less is left


def test_full_scale_of_16_bits_is_kept(write):
    samples = np.tile(np.array([[32767, -32768]], dtype=np.int16), (1000, 1))
    stem = write("flac16", samples)
    store = plan_stems([stem])
    build_store(store, progress=False)
    assert torch.equal(read(stem, 0, 1000, store), torch.from_numpy(samples.T / 32768).float())


@pytest.mark.parametrize("kind", ["flac16", "flac24", "vorbis"])
@pytest.mark.parametrize("file_rate", [12000, 44100])
def test_another_rate_is_converted_once_before_its_first_use(write, cache, kind, file_rate):
    stem = write(kind, noise(0, 2 * file_rate), rate=file_rate)
    store = plan_stems([stem])
    step = stem.position_step
    segment = read(stem, 10 * step, 3000, store)
    assert len(entries(cache)) == 1
    # rounded to 16 bits, beside the tails of the filter
    torch.testing.assert_close(segment, read(stem, 10 * step, 3000), rtol=0, atol=3e-5)
    assert torch.equal(read(stem, 11 * step, 100, store), segment[:, step : step + 100])


def test_wav_at_another_rate_is_stored_too(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0, 12000), 12000)
    assert plan_stems([single(audio.probe(tmp_path / "a.wav"), RATE, 2)]) is not None


@pytest.mark.parametrize("to", [RATE, 12000])
def test_parts_and_gains_and_channels_are_those_of_the_stem(write, to):
    info = write("flac16", noise(0, 20000, 1)).info
    stem = Stem((StemFile(info, 3000, 11000, gain=0.5), StemFile(info, 100, 900)), to, 2)
    store, step = plan_stems([stem]), stem.position_step
    build_store(store, progress=False)
    torch.testing.assert_close(read(stem, 0, 2000, store), read(stem, 0, 2000), rtol=0, atol=3e-5)
    assert torch.equal(read(stem, 5 * step, 100, store), read(stem, 0, 600, store)[:, 5 * step : 5 * step + 100])
    if to == RATE:
        assert len(store.entries) == 1
        assert torch.equal(read(stem, 0, 2000, store), read(stem, 0, 2000))


def test_a_file_that_changed_is_stored_anew_and_only_it(write, cache):
    stems = [write(waveform=noise(seed, 9000), name=name) for seed, name in enumerate("ab")]
    build_store(plan_stems(stems), progress=False)
    before = {path: path.stat().st_mtime_ns for path in entries(cache)}
    changed = write(waveform=noise(9, 9000), name="a")
    store = plan_stems([changed, stems[1]])
    assert torch.equal(read(changed, 0, 9000, store), torch.tensor(noise(9, 9000).T).float())
    for path in before:
        os.utime(path, ns=(0, 0))
    build_store(store, progress=False)
    assert torch.equal(read(changed, 0, 9000, store), torch.tensor(noise(9, 9000).T).float())
    assert sorted(path.stat().st_mtime_ns > 0 for path in before) == [False, True]


@pytest.mark.parametrize("action", ["replaced", "removed"])
def test_a_file_that_is_replaced_or_removed_during_a_run_is_named(write, action):
    stem = write()
    store = plan_stems([stem])
    build_store(store, progress=False)
    read(stem, 0, 10, store)
    if action == "removed":
        os.remove(stem.info.path)
    else:
        write(waveform=noise(5, 12000))
    with pytest.raises(AudioError, match=r"a\.flac"):
        read(stem, 0, 10, store)


@pytest.mark.parametrize("content", [b"", b"{}", b"half", b"\0" * 5000])
def test_an_entry_that_is_no_entry_is_made_again(write, cache, content):
    stem = write("vorbis")
    store = plan_stems([stem])
    expected = read(stem, 0, 1000, store)
    (path,) = entries(cache)
    path.write_bytes(content)
    assert torch.equal(read(stem, 0, 1000, pickle.loads(pickle.dumps(store))), expected)


def test_a_cut_entry_is_made_again(write, cache):
    stem = write()
    store = plan_stems([stem])
    build_store(store, progress=False)
    (path,) = entries(cache)
    path.write_bytes(path.read_bytes()[:-2])
    assert not store.holds(next(iter(store.entries)))
    assert build_store(store, progress=False).n_files == 1
    assert store.holds(next(iter(store.entries)))


def test_a_full_disk_is_one_error_and_leaves_nothing_half_made(write, cache, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sepkit.datasets.stored_file.os.posix_fallocate", refuse)
    store = plan_stems([write("vorbis", name=name) for name in "abc"])
    match = r"store cannot be written to: .*; nothing half made is kept; make room, .*or set data\.store: off"
    with pytest.raises(OutputError, match=match):
        build_store(store, progress=False)
    assert not entries(cache)


def test_a_disk_that_fills_in_the_middle_leaves_nothing_half_made(write, cache, monkeypatch):
    monkeypatch.setattr("sepkit.datasets.stored_file._BLOCK", 1000)
    original, written = io.BufferedWriter, []

    class Filling(original):
        def write(self, values):
            written.append(len(values))
            if len(written) > 5:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(values)

    opening = lambda path, mode: (Filling if mode == "wb" else io.BufferedReader)(io.FileIO(path, mode))  # noqa: E731
    monkeypatch.setattr("sepkit.datasets.stored_file.open", opening, raising=False)
    stem = write("vorbis")
    store = plan_stems([stem])
    with pytest.raises(OutputError, match="cannot be written to"):
        read(stem, 0, 10, store)
    assert not entries(cache)


def test_a_damaged_file_is_told_and_the_others_are_stored(tmp_path, write):
    stems = [write(name=name) for name in "abc"]
    path = tmp_path / "b.flac"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 500] = bytes(500)
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    said = []
    built = build_store(plan_stems(stems), progress=False, report=said.extend)
    assert built.n_files == 2
    assert list(built.failures) == said
    assert len(said) == 1
    assert "b.flac" in said[0]


def _build(store: DecodedStore, go, results) -> None:
    go.wait()
    results.put(build_store(store, workers=2, progress=False).n_files)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_several_processes_make_one_store(write, cache, method):
    stems = [write("vorbis" if seed % 2 else "flac16", noise(seed, 9000), str(seed)) for seed in range(6)]
    store, context = plan_stems(stems), multiprocessing.get_context(method)
    go, results = context.Event(), context.Queue()
    processes = [context.Process(target=_build, args=(store, go, results)) for _ in range(2)]
    for process in processes:
        process.start()
    go.set()
    assert [results.get(timeout=60) for _ in processes] == [6, 6]
    for process in processes:
        process.join()
    assert {path.suffix for path in entries(cache)} == {".pcm"}
    assert len(entries(cache)) == 6
    assert torch.equal(read(stems[0], 0, 9000, store), read(stems[0], 0, 9000))


def _compute_in_threads(results) -> None:
    values, ready = torch.randn(40000), threading.Barrier(8)

    def compute(_: int) -> Tensor:
        ready.wait()
        return torch.round(values)

    with thread_pool(8) as pool:
        results.put(len(list(pool.map(compute, range(8)))))


def test_threads_of_a_forked_process_compute_at_once():
    """Of 10 processes without what `thread_pool` does 9 failed."""
    torch.round(torch.randn(100_000))  # sets up torch's pool
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        results = context.Queue()
        process = context.Process(target=_compute_in_threads, args=(results,))
        process.start()
        assert results.get(timeout=30) == 8
        process.join()


def test_a_file_is_decoded_once_by_threads_that_want_it_at_once(write, monkeypatch):
    stem, decoded = write("vorbis"), []
    from sepkit.datasets import store as module

    original = module.write_stored
    monkeypatch.setattr(module, "write_stored", lambda *given: (decoded.append(1), original(*given)))
    store = plan_stems([stem])
    threads = [threading.Thread(target=read, args=(stem, 0, 1000, store)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoded == [1]


# The limit


def test_the_limit_is_the_recipes_else_the_environments(monkeypatch):
    monkeypatch.delenv("SEPKIT_STORE_LIMIT", raising=False)
    assert choose_limit() == DEFAULT_LIMIT * 1e9
    monkeypatch.setenv("SEPKIT_STORE_LIMIT", "2.5")
    assert choose_limit() == 2.5e9
    assert choose_limit(7) == 7e9


@pytest.mark.parametrize("given", ["much", "-1", "0", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("SEPKIT_STORE_LIMIT", given)
    with pytest.raises(
        ValueError, match=f"SEPKIT_STORE_LIMIT must be a number of GB above 0, got '{given}'; set it, or"
    ):
        choose_limit()


def test_what_does_not_fit_is_read_from_its_file_and_that_is_said(write):
    stems = [write("flac16", name=name) for name in "abc"]
    with pytest.warns(UserWarning, match=r"1 of 3 files are decoded each time .*data\.store_limit is 0\.0002 GB"):
        store = plan_stems(stems, limit=0.0002)
    assert len(store.entries) == 2
    assert torch.equal(read(stems[2], 100, 100, store), read(stems[2], 100, 100))


@pytest.mark.parametrize(("kind", "options"), [("vorbis", {}), ("mp3", {}), ("flac16", {"to": 16000})])
def test_what_needs_the_store_is_refused_where_it_has_no_room(write, kind, options):
    stems = [write("flac16", name="a"), write(kind, name="b", **options), write(kind, name="c", **options)]
    match = (
        r"1 files are coded with loss, or converted to another rate, .*and have no room there, the first is .*/c\.\w+: "
        r"stored, all take \d+ kB, and data\.store_limit is .* GB in .*; make room, .*; or set data\.store: off"
    )
    size = 4096 + 2 * 2 * (40000 if options else 20000)
    with pytest.raises(OutputError, match=match):
        plan_stems(stems, limit=1.5 * size / 1e9)
    with pytest.warns(UserWarning, match=r"1 of 3 files are decoded each time"):
        store = plan_stems(stems, limit=2.1 * size / 1e9)  # first what needs it, not what comes first
    assert [entry.is_needed for entry in store.entries.values()] == [True, True]


def test_without_a_home_lossless_files_are_decoded_each_time_and_that_is_said_once(write, monkeypatch):
    def find_no_home():
        raise OutputError("there is no home folder to keep made files in: set SEPKIT_CACHE")

    monkeypatch.setattr("sepkit.datasets.store_plan.cache_directory", find_no_home)
    with pytest.warns(UserWarning, match="2 files are decoded each time that they are read: there is no home") as told:
        assert plan_stems([write(name="a"), write(name="b")]) is None
    assert len(told) == 1
    with pytest.raises(OutputError, match=r"1 files are coded with loss, .* and there is no home folder .*store: off"):
        plan_stems([write(name="a"), write("mp3", name="b")])


def test_a_disk_with_little_room_limits_too(write, monkeypatch):
    stems = [write(name=name) for name in "ab"]
    for free, said in ((200e3, "200 kB are free, of which 100 kB"), (2.1e9, None), (100e3, "100 kB are free")):
        monkeypatch.setattr("sepkit.datasets.store_plan.free_space", lambda _, free=free: free)
        with pytest.warns(UserWarning, match=said) if said else nullcontext():
            assert len(plan_stems(stems).entries) == {200e3: 1, 2.1e9: 2, 100e3: 0}[free]


@pytest.mark.filterwarnings("ignore:2 of 4 files are decoded each time")
def test_a_disk_with_little_room_is_shared_alike_however_much_is_stored(write, cache, monkeypatch):
    """A store that is planned anew, by the next training or another process, neither grows nor gives up what it has."""
    stems = [write(name=name) for name in "abcd"]
    size = count_bytes(stems[0].files[0], stems[0].sample_rate)

    def free(_):
        return most - sum(path.stat().st_size for path in entries(cache))

    most = 4.4 * size
    monkeypatch.setattr("sepkit.datasets.store_plan.free_space", free)
    first = plan_stems(stems)
    for key in first.entries:
        first.build(key)
        assert plan_stems(stems).entries.keys() == first.entries.keys()
    most = 2 * size  # others have filled the disk
    assert plan_stems(stems).entries.keys() == first.entries.keys()
    assert len(entries(cache)) == len(first.entries) == 2


def test_what_is_not_used_makes_room_the_oldest_first(write, cache):
    stems = {name: write(name=name) for name in "abcd"}
    for age, name in enumerate("abc"):
        build_store(plan_stems([stems[name]]), progress=False)
        for path in entries(cache):
            os.utime(path, (path.stat().st_mtime - 100,) * 2) if age < 2 else None
    size = entries(cache)[0].stat().st_size
    store = plan_stems([stems["d"]], limit=3.5 * size / 1e9)
    assert len(entries(cache)) == 2
    build_store(store, progress=False)
    held = {name for name in "abcd" if plan_stems([stems[name]]).holds(next(iter(plan_stems([stems[name]]).entries)))}
    assert held == {"b", "c", "d"}


def test_what_a_process_that_died_left_is_removed(write, cache):
    (cache / "ab").mkdir(parents=True)
    left = cache / "ab" / ".sepkit-12.part"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    plan_stems([write()])
    assert not left.exists()


# Beside training


@pytest.fixture
def songs(tmp_path):
    for i, name in enumerate("abc"):
        stems = {"vocals": noise(i, 5 * RATE), "drums": noise(i + 9, 5 * RATE)}
        write_song(tmp_path / "songs" / "train" / name, stems, suffix=".flac")
    return open_songs(tmp_path / "songs", "train", None, RATE, 2, valid_share=0)


def load(songs, store, n_workers: int, epochs: int = 2) -> list[torch.Tensor]:
    dataset = SongDataset(songs, ["vocals", "drums"], 2000, 12, 0.5, seed=3, store=store)
    loader = Loader(dataset, EpochSampler(12, 4), n_workers)
    batches = [batch.mix()[0].clone() for epoch in range(epochs) for batch in loader.batches(epoch)]
    loader.close()
    return batches


@pytest.mark.parametrize("n_workers", [0, 2])
def test_examples_are_the_same_with_and_without_the_store_built_beside_them(songs, cache, n_workers):
    expected = load(songs, None, 0)
    store = plan_store(songs)
    assert all(map(torch.equal, load(songs, store, n_workers), expected))
    build_store(store, progress=False)
    assert len(entries(cache)) == 6
    assert all(map(torch.equal, load(songs, store, n_workers), expected))
    shutil.rmtree(cache)
    assert all(map(torch.equal, load(songs, plan_store(songs), n_workers), expected))


def test_the_store_is_built_beside_training_and_its_error_ends_it(songs, monkeypatch):
    store = plan_store(songs)
    store.start()
    store._thread.join()
    assert all(map(store.holds, store.entries))
    store.stop()

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.rmtree(store.folder)
    monkeypatch.setattr("sepkit.datasets.stored_file.os.posix_fallocate", refuse)
    failing = plan_store(songs)
    failing.start()
    failing._thread.join()
    with pytest.raises(OutputError, match=r"set data\.store: off"):
        load(songs, failing, 0)


def test_building_ends_with_the_training_and_leaves_nothing_half_made(songs, cache, monkeypatch):
    store, begun = plan_store(songs), threading.Event()
    monkeypatch.setattr("sepkit.datasets.stored_file._BLOCK", 10)
    original = store._stopped.is_set
    monkeypatch.setattr(store._stopped, "is_set", lambda: (begun.set(), original())[1])
    store.start()
    begun.wait(10)
    store.stop()
    assert all(path.suffix == ".pcm" for path in entries(cache))


# The command, and a training


@pytest.fixture
def root(tmp_path) -> Path:
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(tmp_path / "root" / name, song(i), suffix=".flac")
    return tmp_path / "root"


def make_trainer(root: Path, *overrides: str, log=str) -> Trainer:
    checked = load_recipe(RECIPE, ["training.epochs=1", *overrides], data=root)
    with warnings.catch_warnings(), borrowed_generators(CPU):
        warnings.simplefilter("ignore")
        return Trainer(checked, open_data(checked), CPU, log=log)


def run(trainer: Trainer) -> None:
    with loading(trainer), borrowed_generators(CPU):
        torch.manual_seed(0)
        trainer.run(SimpleNamespace(requested=0, save_requested=False), quiet=True)


def test_songs_are_stored_ahead_of_a_training_which_finds_them(root, cache):
    lines = []
    assert store_data(root, progress=False, log=lines.append) == 0
    assert lines == [f"stored     4 of 4 files, 528 kB, in {cache}"]
    dataset = make_trainer(root).dataset
    assert len(entries(cache)) == 4
    assert all(map(dataset.store.holds, dataset.store.entries))


def test_files_without_room_are_counted_as_not_stored(root):
    lines, size = [], 4096 + 2 * 2 * 4 * RATE
    with pytest.warns(UserWarning, match="2 of 4 files are decoded each time"):
        store_data(root, limit=2.5 * size / 1e9, progress=False, log=lines.append)
    assert lines[0].startswith("stored     2 of 4 files")


def test_songs_of_a_recipe_are_stored_at_its_rate(root, cache, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "data": {**RECIPE["data"], "root": str(root)}}))
    rate = ["separator.sample_rate=16000", "data.resample=true"]
    assert store_data(tmp_path / "recipe.yaml", rate, progress=False, log=str) == 0
    (size,) = {path.stat().st_size for path in entries(cache)}
    assert size == 4096 + 2 * 2 * 4 * 16000


def test_where_all_is_wav_nothing_is_stored_and_that_is_said(tmp_path):
    write_song(tmp_path / "songs" / "train" / "a", song(0))
    lines = []
    assert store_data(tmp_path / "songs", log=lines.append) == 0
    assert lines == ["nothing to decode: all files are 16-bit WAV at the wanted rate, which is read in place"]
    assert store_data(tmp_path / "songs", rate=4000, progress=False, log=lines.append) == 0
    assert lines[1].startswith("stored     2 of 2 files")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"limit": 0}, "limit must be above 0, got 0: leave it out for the default"),
        ({"workers": -1}, "workers must be above 0, got -1"),
        ({"rate": 0}, "rate must be above 0, got 0"),
        ({"overrides": ["data.resample=true"]}, r"data\.resample=true changes a recipe, and .*root is none"),
    ],
)
def test_what_does_not_suit_the_command_is_refused(root, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        store_data(root, **given)


def test_a_recipe_and_a_rate_are_refused(root, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "data": {**RECIPE["data"], "root": str(root)}}))
    with pytest.raises(ValueError, match="a recipe has its own rate, 8000 Hz: leave 44100 out"):
        store_data(tmp_path / "recipe.yaml", rate=44100)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_training_is_the_same_with_the_store_and_without(root, cache, n_workers):
    results = []
    for store in ("off", "auto", "auto"):
        trainer = make_trainer(root, f"data.store={store}", f"data.workers={n_workers}", "validation.every=9")
        run(trainer)
        results.append(trainer.separator.state_dict())
        assert cache.exists() == (store == "auto")
    for others in results[1:]:
        assert_equal(others, results[0])


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_full_store_ends_a_training_with_one_sentence(root, monkeypatch, n_workers):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sepkit.datasets.stored_file.os.posix_fallocate", refuse)
    trainer = make_trainer(root, f"data.workers={n_workers}", "separator.sample_rate=4000", "data.resample=true")
    with pytest.raises(OutputError, match=r"^[^\n]*store cannot be written to: [^\n]*set data\.store: off$"):
        run(trainer)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_file_that_breaks_ends_a_training_or_is_skipped_counted_and_named(tmp_path, suffix, on_error):
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(tmp_path / "songs" / name, song(i), suffix=suffix)
    lines = []
    trainer = make_trainer(tmp_path / "songs", f"data.on_error={on_error}", "data.items_per_epoch=20", log=lines.append)
    path = tmp_path / "songs" / "train" / "one" / f"drums{suffix}"
    path.unlink()
    if on_error == "stop":
        with pytest.raises(AudioError, match=rf"^[^\n]*{re.escape(str(path))}[^\n]*$"):
            run(trainer)
        return
    run(trainer)
    (line,) = [line for line in lines if line.startswith("skipped ")]
    assert re.match(rf"skipped \d+ examples?: .*{re.escape(str(path))}", line)
    assert trainer.history[0]["skipped"] == int(line.split()[1])
