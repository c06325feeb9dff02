"""benchmarks/gpu.py: all of it runs small where there is no GPU, and what fails is told where it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = ("BLSTM", "BandSplitRoFormer", "HTDemucs", "SpectrogramNetVAE")  # of networks, which the small run has
ORIGINALS = "from sepkit.losses import SNRLoss\nESRLoss = None\n"  # a stand-in for a package, and what is broken in it


def measure(folder: Path, *words: str) -> tuple[int, str]:
    """Give the exit code and the file."""
    (folder / "auraloss").mkdir()
    (folder / "auraloss" / "__init__.py").touch()
    (folder / "auraloss" / "time.py").write_text(ORIGINALS)
    program, output = ROOT / "benchmarks" / "gpu.py", folder / "gpu.md"
    command = [sys.executable, program, "--device", "cpu", "--small", "--output", output, *words]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, output.read_text()


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = text.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]


@pytest.mark.slow
def test_every_section_is_measured_whatever_becomes_of_an_original(tmp_path):
    code, text = measure(tmp_path, "--minutes", "20")
    assert code == 0, text
    assert text.startswith("Measured on ")
    assert "**Failed**" not in text
    assert "For want of time" not in text
    assert "skipped" in text or "passed" in text
    broken, same, alone = rows(text, "Losses beside the originals")
    assert broken[:2] == ["`ESRLoss()`", "the original fails, TypeError: 'NoneType' object is not callable"]
    assert (same[0], *same[-2:]) == ("`SNRLoss()`", "0", "0")  # the stand-in is the loss itself
    assert alone[:2] == ["`MagnitudeL1Loss()`", ""]
    broken, same = rows(text, "Losses beside compiled originals")
    assert broken[:2] == ["`ESRLoss()`", "is not compiled, TypeError: 'NoneType' object is not callable"]
    assert same[0] == "`SNRLoss()`"
    assert [row[-1] for row in rows(text, "Scoring")] == ["0"] * 4
    trained = {(row[0], row[1]) for row in rows(text, "Training")}
    assert trained >= {(f"`{name}`", "float32") for name in KINDS}
    assert {mode for _, mode in trained} == {"float32", "bfloat16", "float16", "float32, compiled"}
    assert {row[2] for row in rows(text, "Going on after a stop")} == {"equal"}
    steps = rows(text, "Steps of published sizes")
    assert [row[:3] for row in steps] == [
        ["`band_split_roformer`", mode, "2"] for mode in ("bfloat16", "bfloat16, compiled", "bfloat16, recomputed")
    ]
    assert len({row[-1] for row in steps}) == 1  # neither changes the loss
    assert [row[6] for row in rows(text, "Separating")] == ["0"] * len(KINDS)
    (original,) = rows(text, "Networks beside the originals")
    assert len(original) == 11


def test_a_section_that_takes_too_long_is_told_and_the_next_one_begins(tmp_path):
    code, text = measure(tmp_path, "--sections", "scoring", "separation", "--minutes", "0")
    assert code == 1
    assert "## Scoring" in text
    assert "## Separating" in text
    assert text.count("**Failed**: it was not finished within 0 s.") == 3  # that of the machine too
