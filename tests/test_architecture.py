"""The house stands: imports go down, functions are short, commands start light, documentation names the arguments."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sepkit

ROOT = Path(sepkit.__file__).parent
FLOORS = {
    0: [
        "arguments", "constant", "disk", "files", "generators", "lazy", "locks", "mel", "plain", "problems",
        "processes", "terminal",
    ],
    1: [
        "audio", "cache", "transforms", "masks", "instantiate", "quantities", "devices", "downloads", "registry",
        "chunking", "normalization", "lending",
    ],
    2: [
        "losses", "robust", "models", "datasets", "augment", "metrics", "schedules", "excerpts", "baselines", "parts",
        "joining", "separation",
    ],
    3: ["separator", "plots", "terms"],
    4: ["objective", "model_folder", "report", "bag"],
    5: ["inference", "recipe", "observers", "importing"],
    6: ["auralflow", "training", "evaluation", "zoo"],
    7: ["cli"],
}  # fmt: skip
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


PROMISED = re.search(r"python_requires = >=(\d+)\.(\d+)", (ROOT.parent / "setup.cfg").read_text())
OLDEST = tuple(map(int, PROMISED.groups()))
WRITTEN = sorted(path for name in ("sepkit", "tests", "benchmarks") for path in (ROOT.parent / name).rglob("*.py"))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_the_oldest_python_that_is_promised_can_read_it(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)


def test_what_the_oldest_python_cannot_read_is_noticed():
    with pytest.raises(SyntaxError):
        ast.parse("try: pass\nexcept* ValueError: pass", feature_version=OLDEST)


def _imports(path: Path) -> Iterator[str]:
    """List the modules that a file imports, by their full names, wherever in the file."""
    package = ["sepkit", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "sepkit" else [module]


def _room(module: str) -> str:
    return module.split(".")[1]


def _is_of_the_house(module: str) -> bool:
    return module.startswith("sepkit.") and module != "sepkit.__version__"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_imports_only_from_lower_floors(path):
    room = _name(path).split(".")[0]
    assert room in FLOOR_OF, f"{room} needs a floor, here and in docs/architecture.md"
    others = {_room(module) for module in _imports(path) if _is_of_the_house(module)} - {room}
    assert not [other for other in others if FLOOR_OF[other] >= FLOOR_OF[room]]


def test_the_import_reader_sees_every_form(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "metrics").mkdir()
    file = tmp_path / "metrics" / "snr.py"
    file.write_text(
        "import os, sepkit.cli\nfrom sepkit import training, __version__\nfrom sepkit.audio import read\n"
        "from . import frames\nfrom ..models import BLSTM\ndef late():\n    from sepkit.report import write\n"
    )
    assert set(_imports(file)) == {
        "os",
        "sepkit.cli",
        "sepkit.training",
        "sepkit.__version__",
        "sepkit.audio",
        "sepkit.metrics",
        "sepkit.models",
        "sepkit.report",
    }


# Sizes


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _n_lines(function: Function) -> int:
    """Count a function's lines from `def` on, without its docstring."""
    body = function.body
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = body[0].end_lineno - body[0].lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_no_function_is_longer_than_a_screen():
    sizes = {
        (_name(path), function.name, function.lineno): _n_lines(function)
        for path in MODULES
        for function in _functions(_tree(path))
    }
    assert not {place: size for place, size in sizes.items() if size > 60}


def test_no_module_is_longer_than_can_be_read_in_one_sitting():
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_most_functions_are_short():
    assert statistics.median(_n_lines(function) for path in MODULES for function in _functions(_tree(path))) < 10


# What is imported


def _loaded(code: str, before: str = "") -> set[str]:
    """Run code in a new process, warnings being errors, and list the modules that it loaded after `before`."""
    listing = f"import sys\n{before}\nknown = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - known))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", listing], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def _packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_every_folder_of_modules_is_a_package_and_holds_names_alone():
    folders = {path.parent for path in ROOT.rglob("*.py") if path.parent != ROOT / "recipes"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    allowed = ast.Import | ast.ImportFrom | ast.Assign
    logic = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("__init__.py")
        for node in _tree(path).body
        if not (isinstance(node, allowed) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)))
    }
    assert not logic


def test_the_package_is_imported_without_warning():
    assert "sepkit.losses" in _loaded("import sepkit, sepkit.losses")


def test_the_package_alone_imports_nothing_but_itself():
    assert _packages(_loaded("import sepkit")) - set(sys.stdlib_module_names) == {"sepkit"}


@pytest.mark.parametrize("command", ["train", "separate", "evaluate", "model", "data"])
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_command_answers_without_importing_torch(command, option):
    code = (
        f"from sepkit.cli import {command}_command\n"
        f"try:\n    {command}_command(['{option}'])\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert _packages(_loaded(code)) - set(sys.stdlib_module_names) == {"sepkit"}


LISTING = [["list"], ["list", "--help"], ["get", "-h"], ["import", "-h"], ["info", "-h"]]


@pytest.mark.parametrize("call", LISTING, ids=" ".join)
def test_published_models_are_listed_without_importing_torch(call):
    code = (
        f"from sepkit.cli import model_command\ntry:\n    end = model_command({call})\n"
        "except SystemExit as stop:\n    end = stop.code\nassert not end"
    )
    assert not {"torch", "av", "pydantic", "matplotlib"} & _packages(_loaded(code))


@pytest.mark.parametrize("command", ["get", "render", "songs", "check", "preview", "store", "shard"])
def test_help_on_data_is_given_without_importing_torch(command):
    code = (
        f"from sepkit.cli import data_command\ntry:\n    data_command(['{command}', '--help'])\n"
        "except SystemExit as stop:\n    assert not stop.code"
    )
    assert _packages(_loaded(code)) - set(sys.stdlib_module_names) == {"sepkit"}


def test_a_loss_costs_no_more_than_torch():
    loaded = _loaded("from sepkit.losses import component_loss", before="import torch, numpy, scipy")
    assert _packages(loaded) - set(sys.stdlib_module_names) <= {"sepkit", "torch", "torchaudio", "numpy", "scipy"}
    assert {_room(module) for module in loaded if module.startswith("sepkit.")} == {
        "losses",
        "arguments",
        "constant",
        "lazy",
        "mel",
    }


@pytest.mark.parametrize("room", ["losses", "models", "transforms", "masks"])
def test_what_can_be_lifted_out_needs_only_numerics(room):
    files = [path for path in MODULES if _name(path).split(".")[0] == room]
    packages = {module.partition(".")[0] for path in files for module in _imports(path)}
    assert packages - set(sys.stdlib_module_names) <= {"sepkit", "torch", "torchaudio", "numpy", "scipy"}


# Documentation


def _public(tree: ast.Module) -> Iterator[tuple[ast.AST, bool]]:
    """List public classes, functions and methods, and whether each needs a docstring."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node, True
            methods = node.body if isinstance(node, ast.ClassDef) else []
            yield from ((m, False) for m in methods if isinstance(m, Function) and not m.name.startswith("_"))


def _parameters(node: ast.AST) -> set[str]:
    """Name what a function, a class's constructor or a dataclass is called with."""
    if isinstance(node, ast.ClassDef):
        constructors = [item for item in node.body if isinstance(item, Function) and item.name == "__init__"]
        fields = {item.target.id for item in node.body if isinstance(item, ast.AnnAssign)}
        return _parameters(constructors[0]) - {"self"} if constructors else fields
    arguments = node.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {argument.arg for argument in filter(None, listed)}


def _documented(docstring: str) -> set[str] | None:
    """Name what a docstring's Args section explains; None where it has none."""
    section = re.search(r"^Args:\n((?:    .*\n|\n)*)", docstring + "\n", re.MULTILINE)
    return section and {
        name.strip().lstrip("*")
        for line in re.findall(r"^    ([\w*][\w*, ]*):", section[1], re.MULTILINE)
        for name in line.split(",")
    }


VERBS = re.findall(
    r"\w+",
    """
    Add Append Apply Augment Average Build Check Choose Close Collect Compare Compress Compute Concatenate
    Connect Convert Copy Correlate Count Create Cut Decide Decode Describe Detect Divide Draw Drop Encode End
    Estimate Evaluate Fill Filter Find Fit Flush Format Get Guard Hash Hide Hold Import Interpolate Join Keep
    Limit List Load Lock Make Map Mark Mask Match Measure Mix Move Multiply Name Open Order Pad Place Play
    Prepare Print Probe Project Put Rank Read Rebuild Record Refine Refuse Remove Render Replace Resample Restore
    Return Reverse Round Run Scale Score Select Send Separate Set Show Solve Sort Split Start Subtract Sum
    Synthesize Take Train Transform Translate Turn Validate View Wait Warn Weight Wrap Write Yield
    """,
)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_the_docstring_of_a_function_begins_with_a_verb_of_the_list(path):
    docstrings = {node.name: ast.get_docstring(node) for node in _functions(_tree(path))}
    assert not {name: text for name, text in docstrings.items() if text and re.match(r"\w*", text)[0] not in VERBS}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_what_is_public_is_documented_and_args_name_the_parameters(path):
    found = {}
    for node, needed in _public(_tree(path)):
        docstring = ast.get_docstring(node)
        documented = _documented(docstring or "")
        named = documented is None or documented == _parameters(node) - {"self"}
        if not named or (needed and not docstring):
            found[node.name] = (documented, _parameters(node))
    assert not found


@pytest.mark.parametrize(
    ("docstring", "names"),
    [
        ("Do.", None),
        (
            "Do.\n\nArgs:\n    length: samples,\n        at least: 1.\n    *rest: more.\n\nReturns:\n    size: no.",
            {"length", "rest"},
        ),
        ("Do.\n\nArgs:\n    width, height: pixels.", {"width", "height"}),
    ],
)
def test_the_docstring_reader_finds_the_arguments(docstring, names):
    assert _documented(docstring) == names
