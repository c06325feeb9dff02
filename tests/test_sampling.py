"""Sampling: which songs and positions examples have, by default and as a recipe asks."""

import json
from pathlib import Path

import numpy as np
import pytest

from sepkit.augment import Filter, Gain, Sign, Speed, SwapChannels
from sepkit.datasets import Planner

# Plans of the planner as it was before it could sample in other ways, made with numpy 2.4: scores that were published
# with recipes stand on these draws.
FORMER = json.loads((Path(__file__).parent / "data" / "plans.json").read_text())


@pytest.mark.parametrize("case", FORMER, ids=lambda case: case["name"])
def test_defaults_draw_what_they_always_drew(case):
    augment = [Gain(-6, 6), Sign(), SwapChannels(), Speed(probability=0.5), Filter(n_taps=2)]
    planner = Planner(
        *(case[name] for name in ("lengths", "position_steps", "has_stem", "n_samples", "remix")),
        augment if case["augmented"] else [],
        *(case[name] for name in ("seed", "lends_stem", "n_targets")),
    )
    for expected in case["plans"]:
        plan = planner.plan(tuple(expected["number"]))
        assert list(plan.songs) == expected["songs"]
        assert list(plan.positions) == expected["positions"]
        assert plan.remixed == expected["remixed"]
        for drawn, former in zip(plan.parameters, expected["parameters"], strict=True):
            np.testing.assert_allclose(drawn, former, rtol=0, atol=1e-9)
