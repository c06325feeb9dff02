"""What Windows and macOS need: names that they take, no links, no fork, no module that only POSIX has."""

import ast
import json
from pathlib import Path

import pytest
from songs import write_song
from training import RECIPE, song

import sepkit
from sepkit.cli import evaluate_command, separate_command, train_command
from sepkit.files import is_safe_name, same_file_key

MODULES = sorted(Path(sepkit.__file__).parent.rglob("*.py"))
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
ABSENT = {  # attributes of os and signal that Windows lacks, or for which it asks for rights
    "fork", "forkpty", "geteuid", "getpgid", "getuid", "killpg", "link", "mkfifo", "posix_fallocate", "setsid",
    "sched_getaffinity", "setpriority", "symlink", "uname", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "sigwaitinfo",
}  # fmt: skip
LONGEST = 120  # signs of a path below what a user names, of the 260 that Windows takes


def within(tree: ast.AST, kinds: tuple[type, ...]) -> set[ast.AST]:
    """List what is inside nodes of some kinds."""
    return {inner for node in ast.walk(tree) if isinstance(node, kinds) for inner in ast.walk(node)}


def names_of(path: Path) -> str:
    return str(path.relative_to(Path(sepkit.__file__).parent))


@pytest.mark.parametrize("path", MODULES, ids=names_of)
def test_what_only_posix_has_is_used_where_it_is_looked_for(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tried = within(tree, (ast.Try, ast.With))
    asked_for = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
        if isinstance(node.args[1], ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert node in tried or not modules & POSIX
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "signal"):
            assert node.attr not in ABSENT - asked_for or node in tried, f"os.{node.attr} is not everywhere"


@pytest.mark.parametrize("path", MODULES, ids=names_of)
def test_nothing_makes_links_or_wants_processes_to_be_forked(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in ("symlink", "symlink_to", "hardlink_to", "fork")
            if node.func.attr in ("get_context", "set_start_method"):
                assert [argument.value for argument in node.args] == ["spawn"]


HOSTILE = ["aux", "con.two", 'a<b>:"|?*', "end. ", "n" * 150]


def test_names_of_all_files_that_are_made_are_taken_by_every_system(tmp_path, monkeypatch):
    """Songs on a disk of Linux are called what Windows forbids; nothing that comes of them is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "made" / "cache"))
    for i, name in enumerate(HOSTILE):
        for split in ("train", "valid", "test")[: 3 if i < 2 else 2]:
            write_song(tmp_path / "songs" / split / name, song(i), suffix=".flac")
    recipe = {**RECIPE, "observers": [{"class": "TensorBoard"}], "data": {**RECIPE["data"], "root": "songs"}}
    recipe["training"] = {**RECIPE["training"], "keep_best": 2}
    (tmp_path / "nul.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    assert train_command(["../nul.yaml", "data.root=../songs", "--device", "cpu", "--quiet"]) == 0
    model = ["--model", "runs/_nul", "--device", "cpu"]
    assert evaluate_command(["--data", "../songs", *model, "--metrics", "uSDR", "--report"]) == 0
    names = [f"../songs/test/{name}/vocals.flac" for name in HOSTILE[:2]]
    (tmp_path / "songs" / "prn.wav").write_bytes((tmp_path / "songs/test/aux/vocals.flac").read_bytes())
    assert separate_command([*names[:1], "../songs/prn.wav", *model, "--report"]) == 0
    made = [path.relative_to(tmp_path / "made") for path in (tmp_path / "made").rglob("*")]
    assert len(made) > 40
    for path in made:
        assert all(map(is_safe_name, path.parts))
        assert len(str(path)) <= LONGEST
        assert not (tmp_path / "made" / path).is_symlink()
    assert len({same_file_key(str(path)) for path in made}) == len(made)
