"""A device without memory: one message with what to change, and the largest batch that fits; by errors made here."""

import re

import pytest
import torch
from training import RECIPE, make_run, skip_report, write_songs

from sepkit.cli import train_command
from sepkit.recipe import load_recipe
from sepkit.separator import Separator
from sepkit.training import TrainingError, dry_run, find_batch
from sepkit.training.memory import share_of
from sepkit.training.out_of_memory import describe_lack, find_largest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def recipe_file(root, tmp_path):
    (path := tmp_path / "tiny.yaml").write_text(load_recipe(RECIPE, data=root).dump())
    return path


@pytest.fixture
def room(monkeypatch):
    """Let no more items than this through the network."""

    def limit(n_items: int, error: Exception = FULL) -> list[int]:
        analyze, seen = Separator.analyze, []

        def analyze_few(separator, mixture, targets=None, **given):
            if type(mixture) is not torch.Tensor:  # of the estimate, without values
                return analyze(separator, mixture, targets, **given)
            seen.append(len(mixture))
            if len(mixture) > n_items:
                raise error
            return analyze(separator, mixture, targets, **given)

        monkeypatch.setattr(Separator, "analyze", analyze_few)
        monkeypatch.setattr("sepkit.training.out_of_memory._TYPES", ("cpu",))
        return seen

    return limit


def test_a_training_that_does_not_fit_says_what_it_needs_and_three_things_to_change(room, root, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    room(3)
    match = (
        r"^out of memory on cpu, which has [\d.]+ GB: a batch of 4 segments of 0\.5 s needs \d+\.\d to \d+\.\d GB, as "
        r"estimated: set training\.accumulate=2 \(parts of 2\), set training\.recompute=true, set "
        r"separator\.segment=0\.25; or see what fits by sepkit-train --find-batch$"
    )
    with pytest.raises(TrainingError, match=match):
        make_run(root, tmp_path)()
    with pytest.raises(TrainingError, match=r"^out of memory on cpu"):
        dry_run(RECIPE, data=root, device="cpu")


FULL_LIBRARY = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
FULL_OTHER = RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)")


@pytest.mark.parametrize("error", [FULL_LIBRARY, FULL_OTHER], ids=["library", "other device"])
def test_errors_of_libraries_and_other_devices_tell_of_memory_too(room, root, tmp_path, error):
    room(3, error)
    with pytest.raises(TrainingError, match=r"^out of memory on cpu"):
        make_run(root, tmp_path)()
    assert find_batch(RECIPE, data=root, device="cpu").n_items == 3


def test_another_error_stays_what_it_is(room, root, tmp_path):
    room(3, RuntimeError("of another kind"))
    with pytest.raises(RuntimeError, match=r"^of another kind$"):
        make_run(root, tmp_path)()
    with pytest.raises(RuntimeError, match=r"^of another kind$"):
        find_batch(RECIPE, data=root, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.accumulate=2"], "a batch of 4 segments of 0.5 s in 2 parts of 2 needs .* training.accumulate=4 "),
        (
            ["training.batch_size=1", "training.recompute=true"],
            ": set separator.segment=0.25, take a smaller network; or",
        ),
        (["validation.batch_size=8"], ": set validation.batch_size=1, set training.accumulate=2 .parts of 2., set "),
        (["training.precision=float32"], "recompute=true, set training.precision=bfloat16; or"),
        (["training.batch_size=9", "training.accumulate=1"], r"set training.accumulate=3 \(parts of 3\)"),
    ],
    ids=str,
)
def test_only_what_is_not_done_yet_is_advised(overrides, expected, root):
    assert re.search(expected, describe_lack(load_recipe(RECIPE, overrides, data=root), CPU))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], r"of 4 segments of 0\.5 s, which 2 processes share, needs .* GB in each, as estimated: set training\.acc"),
        (
            ["training.accumulate=2"],
            r"in 2 parts of 2, which 2 processes share, needs .*: set training\.recompute=true",
        ),
        (["training.sharding=fsdp"], r"which 2 processes share, needs more than that: set training\.accumulate=2 "),
    ],
    ids=str,
)
def test_of_several_processes_the_share_of_each_is_told(overrides, expected, root):
    assert re.search(expected, describe_lack(load_recipe(RECIPE, overrides, data=root), CPU, 2))


def test_a_share_is_that_of_the_process_with_the_most(root):
    recipe = load_recipe(RECIPE, ["training.batch_size=10", "training.accumulate=2"], data=root)
    assert [share_of(recipe, world).training.batch_size for world in (1, 2, 3, 5)] == [10, 6, 4, 2]


def test_several_processes_do_not_look_for_the_largest_batch(recipe_file, capsys, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    codes = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        codes.append(train_command([str(recipe_file), "--find-batch"]))
    assert codes == [2, 0]
    said = "sepkit-train: --find-batch tries what one GPU holds: start it without torchrun; n processes hold n times as"
    assert capsys.readouterr().err.count(said) == 1


def test_a_network_that_cannot_be_estimated_is_told_all_the_same(root, monkeypatch):
    monkeypatch.setattr("sepkit.training.out_of_memory.estimate_memory", lambda _: 1 / 0)
    assert "needs more than that: set" in describe_lack(load_recipe(RECIPE, data=root), CPU)


@pytest.mark.parametrize("most", [1, 2, 7, 8, 100])
def test_the_largest_is_found_in_few_tries(most):
    for limit in (0, 1, 3, 7, 8, 64, 99, 100, 101):
        tried = []
        found = find_largest(lambda size, tried=tried, limit=limit: tried.append(size) or size <= limit, most)
        assert found == min(limit, most)
        assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
        assert max(tried) <= most


@pytest.mark.parametrize("fits", [1, 3, 5, 99])
def test_the_largest_batch_is_found_by_steps(room, root, fits):
    seen, lines = room(fits), []
    found = find_batch(RECIPE, data=root, device="cpu", log=lines.append)
    assert found.n_items == min(fits, 10)  # examples of an epoch
    assert found.limited == (fits > 10)
    assert set(seen) >= {found.n_items}
    assert lines[0] == "batch of 1: fits"
    assert f"training.batch_size={found.n_items} training.accumulate=1 fits, " in lines[-1]
    parts = {1: 4, 3: 2, 5: 1, 99: 1}[fits]
    assert lines[-1].endswith(f"the recipe's own batch of 4: training.accumulate={parts}")


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.precision=float64"],
        ["training.precision=bfloat16", "training.ema=[0.9, 0.99]", "training.recompute=true"],
        ["training.precision=float16", "training.deterministic=true", "training.clip=null"],
    ],
    ids=str,
)
def test_the_largest_batch_is_found_by_the_steps_of_the_recipe(room, root, overrides):
    room(5)
    assert find_batch(RECIPE, overrides=overrides, data=root, device="cpu").n_items == 5


def test_where_not_even_one_segment_fits_it_is_said(room, root):
    room(0)
    with pytest.raises(TrainingError, match=r"^out of memory on cpu.* a batch of 4 segments of 0\.5 s needs"):
        find_batch(RECIPE, data=root, device="cpu")


def test_another_device_than_a_gpu_is_refused(recipe_file, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_command([str(recipe_file), "--find-batch", "--device", "cpu"]) == 2
    said = "--find-batch needs a GPU with CUDA, got cpu: set training.batch_size by hand"
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.cuda
def test_the_largest_batch_of_a_gpu_trains(root, tmp_path, monkeypatch):
    skip_report(monkeypatch)
    larger = ["separator.network.hidden_size=64", "data.items_per_epoch=64"]
    found = find_batch(RECIPE, overrides=larger, data=root, device="cuda")
    assert found.n_items == 64
    make_run(root, tmp_path)(*larger, f"training.batch_size={found.n_items}", "training.epochs=1", device="cuda")
