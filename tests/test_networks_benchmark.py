"""benchmarks/networks.py: a row compares both, on the same weights; what is not installed is named, with the remedy."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from test_models_conv_tasnet import tensors_of
from torch import Tensor, nn

from sepkit import models

NAME = "Conv-TasNet"
SMALL = {"n_filters": 8, "bn_chan": 4, "hid_chan": 6, "skip_chan": 5, "n_blocks": 2, "n_repeats": 2}


class Original(nn.Module):
    """A stand-in for asteroid's network, which is ours in its names."""

    def __init__(self, n_filters, bn_chan, hid_chan, skip_chan, n_blocks, n_repeats, **others) -> None:  # noqa: ARG002
        super().__init__()
        sizes = {"n_filters": n_filters, "n_features": bn_chan, "hidden_size": hid_chan, "n_skip": skip_chan}
        self.network = models.ConvTasNet(2, **sizes, n_blocks=n_blocks, n_repeats=n_repeats, mask="relu")

    def state_dict(self) -> dict[str, Tensor]:
        return tensors_of(self.network)

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        assert all(tensor.equal(tensors[name]) for name, tensor in self.state_dict().items())

    def forward(self, mixture: Tensor) -> Tensor:
        return self.network(mixture)[:, :, 0]


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "networks_benchmark", Path(__file__).parents[1] / "benchmarks/networks.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_compares_both_on_the_same_weights(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "asteroid", ModuleType("asteroid"))
    monkeypatch.setitem(sys.modules, "asteroid.models", SimpleNamespace(ConvTasNet=Original))
    case = program.CASES[NAME]._replace(length=2000, step=(2, 800), warm_up=400)
    monkeypatch.setitem(program.CASES, NAME, case._replace(config={**case.config, **SMALL}))
    monkeypatch.setattr(program, "measure", lambda *task: program.run(*task[:-1]))  # in this process
    options = SimpleNamespace(tasks=program.TASKS, engines=("original", "sepkit"), rounds=2)
    forward, step = ([cell.strip() for cell in row.strip("|").split("|")] for row in program.compare(NAME, options))
    assert forward[:2] == [NAME, "forward"]
    assert forward[-1].endswith("dB")
    assert float(forward[-1].removesuffix(" dB")) > 90
    assert step[:2] == [NAME, "step"]
    assert float(step[-1]) < 1e-6
    assert all(float(cell) >= 0 for cell in step[2:-2])


def test_a_share_of_no_memory_is_left_empty(program):
    found = {"original": [{"seconds": 2, "megabytes": 0}], "sepkit": [{"seconds": 1, "megabytes": 3, "agreement": ""}]}
    assert program.row(NAME, "step", found) == f"| {NAME} | step | 2.00 | 1.00 | 2.00 | 0 | 3 |  |  |"


def test_what_is_not_installed_is_named_with_the_remedy(program, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["networks.py", "--peers", str(tmp_path), "--only", NAME])
    assert program.main() == 1
    told = capsys.readouterr().err
    assert f"{NAME} is left out: ModuleNotFoundError: No module named 'asteroid'" in told
    assert "pip install --target PEERS --no-deps" in told
