"""The notebook is committed without outputs, and runs from top to bottom."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "sepkit_demo.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def sources() -> list[str]:
    return ["".join(cell["source"]) for cell in CELLS]


def test_the_notebook_has_no_outputs():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert code
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None]


def test_the_first_cell_says_what_it_costs():
    assert CELLS[0]["cell_type"] == "markdown"
    assert "estimate" in sources()[0]
    assert "measured" in sources()[0]


def test_the_notebook_runs(tmp_path):
    pytest.importorskip("nbmake")
    shutil.copy(NOTEBOOK, tmp_path)
    environment = os.environ | {
        "SEPKIT_DEMO_SCALE": "0.02",
        "SEPKIT_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--nbmake", "--nbmake-timeout=600", NOTEBOOK.name]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    work = tmp_path / "sepkit_demo"
    assert (work / "vocals.zip").is_file()
    assert (work / "L1SNRDBLoss" / "model.safetensors").is_file()
    assert not list(work.glob("m*")), "neither own songs nor a download"
