"""Loading: how many processes, and a sentence with a remedy for whatever ends one of them."""

import collections
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_training import RECIPE, write_songs

from sepkit.disk import OutputError
from sepkit.training import TrainingError, dry_run, train

SPACE = "sepkit.training.loading.shutil.disk_usage"


class Failing:
    """An augmentation that fails while its values are drawn, which is where examples are loaded."""

    def __init__(self, how: str) -> None:
        self.how = how

    def sample_parameters(self, _generator, n_stems):
        if torch.utils.data.get_worker_info() is None:
            return np.zeros(n_stems)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "ended":
            os._exit(3)
        raise {
            "gone": FileNotFoundError(2, "No such file or directory", "vocals.wav"),
            "memory": MemoryError(),
            "torch's memory": RuntimeError("[enforce fail at alloc_cpu.cpp:124] can't allocate memory: you tried"),
            "shared memory": RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left"),
            "a file of it": RuntimeError("unable to resize file </torch_1> to the right size: File too large (27)"),
            "open files": OSError(24, "Too many open files"),
            "connection": ConnectionResetError(104, "Connection reset by peer"),
            "its socket": FileNotFoundError(2, "No such file or directory"),
            "a bug": KeyError("gain"),
            "a wrong value": ValueError("gain must be positive"),
        }[self.how]

    def __call__(self, stems, _drawn):
        return stems


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


def start(root, folder, *overrides: str, **data) -> Path:
    recipe = {**RECIPE, "data": {**RECIPE["data"], "augment": [], "workers": 1, **data}}
    given = {"overrides": ["training.epochs=1", *overrides], "data": root, "device": "cpu", "quiet": True}
    return train(recipe, folder, **given, log=lambda _: None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("gone", r"a file cannot be read any more \(.*vocals\.wav'\): bring it back"),
        ("memory", "not enough memory to load examples: lower data.workers or training.batch_size"),
        ("torch's memory", "not enough memory to load examples: lower data.workers or training.batch_size"),
        ("shared memory", "/dev/shm, .* is full: give the container more with --shm-size=1g, or set data.workers=0"),
        ("a file of it", "/dev/shm, .* is full: .* or set data.workers=0"),
        ("open files", "no more files may be open at once: `ulimit -n` allows more, or set data.workers=0"),
        ("connection", r"a loading process ended \(.*reset by peer\): see what ended it, or set data.workers=0"),
        ("its socket", r"a loading process ended \(.*No such file .*\): see what ended it, or set data.workers=0"),
        ("killed", "was killed, as the system does where memory is short: lower data.workers or training.batch_size"),
        ("ended", r"a loading process failed \(.*exited unexpectedly.*with data.workers=0, --debug shows where"),
        ("a bug", r"a loading process failed \('gain'\): with data.workers=0, --debug shows where"),
        ("a wrong value", r"a loading process failed \(gain must be positive\): with data.workers=0, --debug shows"),
    ],
)
def test_whatever_ends_a_loading_process_is_a_sentence_with_a_remedy(root, tmp_path, how, sentence):
    with pytest.raises(TrainingError, match=f"{sentence}.*the same command begins anew") as caught:
        start(root, tmp_path / "run", augment=[{"class": "test_loading.Failing", "how": how}])
    assert "\n" not in str(caught.value)


def test_a_dry_run_loads_as_training_does(root):
    augment = [{"class": "test_loading.Failing", "how": "shared memory"}]
    recipe = {**RECIPE, "data": {**RECIPE["data"], "augment": augment, "workers": 1}}
    with pytest.raises(TrainingError, match=r"/dev/shm, .* is full: .* set data\.workers=0$"):
        dry_run(recipe, data=root, device="cpu")


@pytest.mark.parametrize(("megabytes", "chosen"), [(0.1, "none"), (1.2, "1")])
def test_little_shared_memory_lets_fewer_processes_load(root, tmp_path, monkeypatch, megabytes, chosen):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(SPACE, lambda _: usage(int(megabytes * 2**20)))
    monkeypatch.setattr("sepkit.training.loading.available_cores", lambda: 4)
    if not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    message = rf"/dev/shm has \d MB free, where 3 workers .*: {chosen} of them load.* --shm-size"
    with pytest.warns(UserWarning, match=message):
        folder = start(root, tmp_path / "run", workers=3)
    assert (folder / "model.safetensors").is_file()


def test_a_run_folder_that_turns_into_a_file_is_reported_with_what_is_safe(root, tmp_path):
    (tmp_path / "file").write_text("notes")
    with pytest.raises(OutputError, match=r"run cannot be written to: Not a directory.*choose another folder with --"):
        start(root, tmp_path / "file" / "run")


SCRIPT = """
import multiprocessing, sys
multiprocessing.set_start_method("spawn", force=True)  # the default of macOS and Windows
from sepkit import train
{guard}train({recipe!r}, {folder!r}, data={root!r}, device="cpu", quiet=True)
"""
AUGMENTATION = """
import numpy
class Louder:
    def __init__(self): self.table = bytes(1 << 20)  # more than a pipe holds
    def sample_parameters(self, generator, n_stems): return numpy.full(n_stems, 2.0, numpy.float32)
    def __call__(self, stems, drawn): return stems * drawn[..., None, None]
"""


def run_spawning(root: Path, place: Path, guard: str) -> subprocess.CompletedProcess:
    (place / "my_augment.py").write_text(AUGMENTATION)
    recipe = {**RECIPE, "data": {**RECIPE["data"], "augment": [{"class": "my_augment.Louder"}], "workers": 1}}
    recipe["training"] = {**RECIPE["training"], "epochs": 1}
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    names = {"recipe": str(place / "recipe.yaml"), "folder": str(place / "run"), "root": str(root)}
    (place / "script.py").write_text(SCRIPT.format(guard=guard, **names))
    command = [sys.executable, place / "script.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_script_without_a_guard_is_named_where_processes_are_spawned(root, tmp_path):
    done = run_spawning(root, tmp_path, "")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert 'a script calls train() and evaluate() below `if __name__ == "__main__":`' in last
    assert "bootstrapping" not in done.stderr
    assert done.stderr.count("Traceback") == done.stderr.count("a script calls train()") == 1
    assert done.stdout.count("BLSTM with") == 1


@pytest.mark.slow
def test_an_augmentation_beside_the_recipe_works_in_spawned_processes(root, tmp_path):
    done = run_spawning(root, tmp_path, "if __name__ == '__main__': ")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()
