"""The `class:` mappings: found, checked before anything is built, built from the inside out."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Optional

import pytest
import torch

from sepkit.instantiate import (
    InstantiationError,
    arguments_of,
    check,
    check_arguments,
    instantiate,
    resolve_class,
)
from sepkit.problems import did_you_mean


class Net:
    def __init__(self, n_sources: int, hidden_size: int = 8, dropout: float = 0.0):
        self.n_sources, self.hidden_size, self.dropout = n_sources, hidden_size, dropout


class Wrapper:
    def __init__(self, network: Net, rank: int, parts: Sequence[Any] = ()):
        self.network, self.rank, self.parts = network, rank, parts


class Plain(torch.nn.Module):
    """A module without a constructor of its own."""


class Open:
    def __init__(self, size: int, **options: Any):
        self.size, self.options = size, options


class Typed:
    def __init__(
        self,
        count: int = 1,
        rate: float = 1.0,
        flag: bool = True,
        label: str = "",
        mode: Literal["sum", "mean"] = "sum",
        maybe: int | None = None,
        older: Optional[str] = None,  # noqa: UP045
        sizes: list[int] = [],  # noqa: B006
        pair: tuple[float, float] = (0.0, 1.0),
        many: tuple[int, ...] = (),
        options: dict[str, int] = {},  # noqa: B006
        network: Net | None = None,
        folder: Path = Path(),
        rates: torch.Tensor | float = 0.1,
        loose: list[Any] = [],  # noqa: B006
        anything: Any = None,
        bare=None,
    ):
        pass


class Unreadable:
    def __init__(self, size: "NoSuchType", count: "int" = 1):  # noqa: F821
        pass


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("tools")
    for cls in (Net, Wrapper, Plain, Open, Typed):
        setattr(module, cls.__name__, cls)
    module.__all__ = ["Net", "Wrapper", "Plain", "Open", "Typed"]
    module.helper = lambda: None
    monkeypatch.setitem(sys.modules, "tools", module)
    return "tools"


def messages(config: object, tools: str, **options: Any) -> list[str]:
    return [str(problem) for problem in check(config, tools, **options)]


def test_a_bare_name_is_taken_from_the_module(tools):
    assert resolve_class("Net", tools) is Net


def test_a_dotted_path_is_imported(tools):
    assert resolve_class("torch.nn.L1Loss", tools) is torch.nn.L1Loss


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net", r"class: there is no class 'net' in tools; did you mean 'Net'\?"),
        ("Zebra", r"there are: Net, Open, Plain, Typed, Wrapper; one from elsewhere is named with its module"),
        ("helper", "there is no class 'helper' in tools"),
        ("torch.nn.L1Los", r"there is no class 'L1Los' in torch.nn; did you mean 'L1Loss'\?"),
        ("nosuchmodule.Net", "there is no module 'nosuchmodule' to take 'nosuchmodule.Net' from"),
        ("torch.nosuch.Net", "there is no module 'torch.nosuch'"),
        ("torch.nn.functional.l1_loss", "'torch.nn.functional.l1_loss' is not a class but a function"),
        (3, "class: must name a class, got 3"),
        ("", "class: must name a class, got ''"),
        (".Net", "importing '' failed with ValueError"),
    ],
)
def test_a_name_without_a_class_is_refused(tools, name, message):
    with pytest.raises(InstantiationError, match=message):
        resolve_class(name, tools)


def test_a_bare_name_for_a_module_that_does_not_exist_asks_for_a_dotted_path():
    with pytest.raises(InstantiationError, match=r"'Watch' must be a dotted path such as 'mymodule.Watch'"):
        resolve_class("Watch", "sepkit.no_such_module")


def test_an_import_that_fails_says_why(tmp_path, monkeypatch, tools):
    (tmp_path / "brokenmodule.py").write_text("import nosuchdependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    reason = "importing 'brokenmodule' failed with ModuleNotFoundError: No module named 'nosuchdependency'"
    with pytest.raises(InstantiationError, match=reason):
        resolve_class("brokenmodule.Net", tools)


def test_a_module_offers_what_its_package_defines_and_nothing_it_only_imports():
    with pytest.raises(InstantiationError, match="AdamW") as caught:
        resolve_class("Tensor", "torch.optim")
    assert "defaultdict" not in str(caught.value)


@pytest.mark.parametrize("name", ["torch.nn.L1Loss", "os.path", "sepkit.modelsfake.Net", "subprocess.Popen"])
def test_a_stranger_may_not_name_classes_from_elsewhere(name):
    with pytest.raises(
        InstantiationError, match=r"is not one of sepkit's own networks, transforms and filters.*--trust"
    ):
        resolve_class(name, "sepkit.models", trusted=False)


def test_nothing_is_imported_for_a_stranger(tmp_path, monkeypatch):
    (tmp_path / "strangermodule.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InstantiationError, match="--trust"):
        resolve_class("strangermodule.Net", "sepkit.models", trusted=False)
    assert "strangermodule" not in sys.modules


def test_a_stranger_may_not_reach_through_an_own_module(monkeypatch):
    import sepkit.models

    monkeypatch.setattr(sepkit.models, "Popen", subprocess.Popen, raising=False)
    with pytest.raises(InstantiationError, match="--trust"):
        resolve_class("sepkit.models.Popen", "sepkit.models", trusted=False)


def test_a_stranger_may_not_hide_a_class_in_an_argument(tools, monkeypatch):
    monkeypatch.setattr("sepkit.instantiate.OWN_MODULES", ("tools", __name__))
    config = {"class": "Wrapper", "rank": 1, "network": {"class": "torch.nn.L1Loss"}}
    with pytest.raises(InstantiationError, match=r"network.class: 'torch.nn.L1Loss' is not .*--trust"):
        instantiate(config, tools, trusted=False)
    assert instantiate({"class": "Net", "n_sources": 2}, tools, trusted=False).n_sources == 2


GOOD = [
    ("count", 3),
    ("rate", 3),
    ("rate", 0.5),
    ("rate", float("inf")),
    ("flag", False),
    ("label", "drums"),
    ("mode", "mean"),
    ("maybe", None),
    ("maybe", 2),
    ("older", "old"),
    ("sizes", []),
    ("sizes", [1, 2]),
    ("pair", [0, 1.5]),
    ("many", [1, 2, 3]),
    ("options", {"a": 1}),
    ("network", {"class": "Net"}),
    ("network", None),
    ("network", Net(1)),
    ("folder", "here"),
    ("rates", 1e-3),
    ("loose", [1, "a"]),
    ("anything", [1, "a"]),
    ("bare", {"a": object}),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_a_fitting_value_is_accepted(name, value):
    assert check_arguments(Typed, {name: value}) == []


BAD = [
    ("count", "many", "must be an int, got 'many'"),
    ("count", True, "must be an int, got true"),
    ("count", 1.5, "must be an int, got 1.5"),
    ("rate", "fast", "must be a float, got 'fast'"),
    ("rate", False, "must be a float, got false"),
    ("rate", float("nan"), "must be a float, got nan"),
    ("flag", 1, "must be true or false, got 1"),
    ("label", None, "must be a string, got null"),
    ("mode", "maen", "must be 'sum' or 'mean', got 'maen'; did you mean 'mean'?"),
    ("maybe", "two", "must be an int or null, got 'two'"),
    ("older", 1, "must be a string or null, got 1"),
    ("sizes", 1, "must be a list, each an int, got 1"),
    ("sizes", [1, "a"], "must be a list, each an int, got [1, 'a']"),
    ("pair", [1.0], "must be a list of 2: a float, a float, got [1.0]"),
    ("many", [1, 2.5], "must be a list, each an int, got [1, 2.5]"),
    ("loose", 1, "must be a list, got 1"),
    ("options", [], "must be a mapping, got []"),
    ("network", 3, "must be a mapping with `class:` or null, got 3"),
    ("folder", 3, "must be a path, got 3"),
    ("rates", "low", "must be a float, got 'low'"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_value_of_another_type_is_named_with_what_is_wanted(name, value, message):
    (problem,) = check_arguments(Typed, {name: value})
    assert (problem.path, problem.message, problem.at_key) == ((name,), message, False)


def test_a_class_is_wanted_where_the_signature_wants_an_object(tools):
    (message,) = messages({"class": "Wrapper", "network": "Net", "rank": 1}, tools)
    assert message == "network: must be a mapping with `class:`, got 'Net'"


def test_a_long_value_is_shortened():
    (problem,) = check_arguments(Typed, {"count": "a" * 100})
    assert problem.message == "must be an int, got '" + "a" * 56 + "..."


def test_an_unknown_argument_is_answered_with_the_nearest():
    (problem,) = check_arguments(Net, {"n_sources": 1, "hiden_size": 4})
    assert problem.message == "Net has no such argument; did you mean 'hidden_size'?"
    assert problem.at_key


def test_an_argument_like_no_other_is_answered_with_all():
    (problem,) = check_arguments(Net, {"n_sources": 1, "zebra": 4})
    assert problem.message == "Net has no such argument (it has: n_sources, hidden_size, dropout)"


def test_a_missing_argument_is_named_unless_it_is_derived():
    (problem,) = check_arguments(Net, {})
    assert str(problem) == "n_sources: must be given: Net has no default for it"
    assert check_arguments(Net, {}, derived=["n_sources"]) == []


def test_extra_keys_are_left_alone_but_suggested():
    assert check_arguments(Net, {"n_sources": 1, "weight": 2}, extra_keys=["weight"]) == []
    (problem,) = check_arguments(Net, {"n_sources": 1, "wieght": 2}, extra_keys=["weight"])
    assert problem.message.endswith("did you mean 'weight'?")


def test_a_constructor_with_keywords_takes_any_name():
    assert check_arguments(Open, {"size": 1, "colour": "red"}) == []


def test_a_module_without_a_constructor_has_no_arguments():
    (problem,) = check_arguments(Plain, {"size": 1})
    assert problem.message == "Plain has no such argument (it has: none)"


def test_annotations_that_cannot_be_read_are_not_checked():
    assert check_arguments(Unreadable, {"size": "a"}) == []
    assert check_arguments(Unreadable, {}) != []


def test_a_class_without_a_signature_is_not_checked():
    assert arguments_of(dict) is None
    assert check_arguments(dict, {"a": 1}) == []


def test_every_mistake_is_reported_with_its_place(tools):
    config = {
        "class": "Wrapper",
        "rank": "high",
        "network": {"class": "Net", "hidden_size": "many"},
        "parts": [{"class": "Plain"}, {"class": "Nett"}],
    }
    with pytest.raises(InstantiationError) as caught:
        instantiate(config, tools)
    assert [problem.path for problem in caught.value.problems] == [
        ("rank",),
        ("network", "n_sources"),
        ("network", "hidden_size"),
        ("parts", 1, "class"),
    ]
    assert "network.hidden_size: must be an int, got 'many'\n" in str(caught.value)


@pytest.mark.parametrize("config", ["Net", 3, None, {"n_sources": 1}])
def test_a_config_without_class_is_refused(tools, config):
    with pytest.raises(InstantiationError, match="must be a mapping with `class:`, got"):
        instantiate(config, tools)


def test_nested_mappings_are_built_first_and_get_the_derived_facts(tools):
    config = {
        "class": "Wrapper",
        "rank": 2,
        "network": {"class": "Net", "hidden_size": 16},
        "parts": [{"class": "Net", "n_sources": 5}, 7],
    }
    built = instantiate(config, tools, derived={"n_sources": 3, "n_bins": 9})
    assert (built.rank, built.network.n_sources, built.network.hidden_size) == (2, 3, 16)
    assert (built.parts[0].n_sources, built.parts[1]) == (5, 7)
    assert config["network"] == {"class": "Net", "hidden_size": 16}


def test_a_constructor_with_keywords_gets_only_the_facts_it_names(tools):
    assert instantiate({"class": "Open"}, tools, derived={"size": 3, "n_bins": 9}).options == {}


def test_an_optimizer_is_built_from_its_mapping():
    config = {"class": "AdamW", "lr": 1e-3, "betas": [0.9, 0.99]}
    optimizer = instantiate(config, "torch.optim", derived={"params": [torch.nn.Parameter(torch.zeros(1))]})
    assert optimizer.defaults["lr"] == 1e-3


def test_a_constructors_own_error_passes_unchanged():
    with pytest.raises(ValueError, match="Invalid learning rate"):
        instantiate({"class": "AdamW", "lr": -1.0}, "torch.optim", derived={"params": [torch.zeros(1)]})


def test_the_nearest_name_does_not_depend_on_case():
    assert did_you_mean("blstm", ["UNet", "BLSTM"]) == "; did you mean 'BLSTM'?"
    assert did_you_mean("zebra", ["UNet", "BLSTM"]) == ""


def test_importing_the_module_costs_neither_torch_nor_numpy():
    code = "import sys, sepkit.instantiate; print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
