"""One battery over every loss through the objective: each item is judged alone, and no host waits for a device."""

import pytest
import torch
from judging import costs
from test_losses_contract import WAITING
from test_objective import SOURCES, make_separator, noise

from sepkit import losses
from sepkit.objective import Objective
from sepkit.recipe import RecipeError, load_recipe

SIZES = {"fft_sizes": [256, 512], "hop_sizes": [64, 128], "win_lengths": [200, 512]}
L1SNR_SIZES = {"n_ffts": [256, 512], "hop_lengths": [64, 128], "win_lengths": [256, 512]}
SMALL = {"fft_size": 256, "hop_size": 64, "win_length": 200}
TERMS = {
    **{name: {} for name in losses.__all__ if name.endswith("Loss")},
    "STFTL1SNRDBLoss": L1SNR_SIZES,
    "MultiL1SNRDBLoss": L1SNR_SIZES,
    "STFTLoss": {**SMALL, "w_lin_mag": 1.0, "w_phs": 0.1, "phase": "cosine"},
    "MelSTFTLoss": {**SMALL, "n_mels": 20},
    "ChromaSTFTLoss": {**SMALL, "fft_size": 512},
    "MultiResolutionSTFTLoss": SIZES,
    "RandomResolutionSTFTLoss": {"max_fft_size": 512, "randomize_rate": 1000},  # it draws by calls
    "SumAndDifferenceSTFTLoss": SIZES,
    "MultiResolutionComplexSTFTLoss": {"window_sizes": [256, 512], "n_fft": 256},
    "Wasserstein1DLoss": {"fft_size": 512},
    "MultiResolutionSOTLoss": {"fft_sizes": [256, 512], "hop_lengths": [64, 128]},
    "PermutationInvariantLoss": {"loss": {"class": "STFTLoss", **SMALL}},
    "ComponentLoss": {"alpha": 0.1, "beta": 0.8, "unit": "item"},
}
EXTRA = {
    "STFTLoss scaled": {"class": "STFTLoss", **SMALL, "scale_invariance": True},
    "ComponentLoss by frame": {"class": "ComponentLoss", "alpha": 0.1, "beta": 0.8, "unit": "frame"},
    "MultiL1SNRDBLoss of its own": {
        "class": "MultiL1SNRDBLoss", **L1SNR_SIZES, "time_loss_module": {"class": "L2SNRLoss"},
        "use_time_regularization": False,
    },
    "MultiL1SNRDBLoss by channel": {
        "class": "MultiL1SNRDBLoss", **L1SNR_SIZES, "time_loss_module": {"class": "STFTLoss", **SMALL},
        "use_time_regularization": False,
    },
}  # fmt: skip
SPECS = {**{name: {"class": name, **arguments} for name, arguments in TERMS.items()}, **EXTRA}
WITHOUT_LEVEL = {"Wasserstein1DLoss", "MultiResolutionSOTLoss"}  # to which gains make no difference
every_loss = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
B, T = 4, 1200


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Make items of very different levels, so that a pooled batch is another one than its halves."""
    levels = torch.tensor([1.0, 0.001, 0.1, 3.0])[:, None, None, None]
    targets = levels * noise(B, len(SOURCES), 2, T, seed=1)
    return targets.sum(1) + 0.1 * levels[:, 0] * noise(B, 2, T, seed=2), targets


def judge(objective, separator, items: slice):
    mixture, targets = batch()
    return costs(objective, separator.analyze(mixture[items], targets[items]))


@every_loss
def test_a_batch_costs_what_its_items_cost_on_average(spec):
    separator = make_separator()
    objective = Objective([spec], separator)
    together = judge(objective, separator, slice(None))
    alone = [judge(objective, separator, slice(i, i + 1)) for i in range(B)]
    assert together.keys() == alone[0].keys()
    for name, value in together.items():
        # Sums of float32 in another order.
        torch.testing.assert_close(value, torch.stack([each[name] for each in alone]).mean(), rtol=1e-5, atol=1e-6)


@every_loss
def test_a_batch_in_parts_trains_like_the_whole(spec):
    trained = []
    for parts in ([slice(None)], [slice(0, 2), slice(2, 4)]):
        separator = make_separator()
        objective, optimizer = Objective([spec], separator), torch.optim.SGD(separator.parameters(), 1e-3)
        for _ in range(5):
            optimizer.zero_grad()
            for part in parts:
                (judge(objective, separator, part)["loss"] / len(parts)).backward()
            torch.nn.utils.clip_grad_norm_(separator.parameters(), 10.0)
            optimizer.step()
        trained.append(separator.network.gains.detach())
    assert torch.equal(trained[0], make_separator().network.gains) == (spec["class"] in WITHOUT_LEVEL)
    torch.testing.assert_close(*trained, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@pytest.mark.parametrize("sources", [["drums"], ["vocals", "bass"], None], ids=str)
@pytest.mark.parametrize("name", ["SISDRLoss", "MaskLoss", "STFTLoss", "PermutationInvariantLoss"])
def test_the_objective_does_not_make_the_host_wait_for_a_device(name, sources):
    separator = make_separator()
    objective = Objective([{**SPECS[name], "sources": sources}], separator)
    mixture, targets = batch()
    separation = separator.analyze(mixture, targets)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        costs(objective, separation)["loss"].backward()
    waiting = {*WAITING, "aten::bincount", "aten::masked_select", "aten::unique_dim", "aten::_unique2"}
    assert not waiting & {event.key for event in profile.key_averages()}


def test_numbers_of_sources_are_not_copied_to_the_device(monkeypatch):
    separator = make_separator()
    objective = Objective([{"class": "L1SNRLoss", "sources": ["vocals", "bass"]}], separator)
    mixture, targets = batch()
    separation = separator.analyze(mixture, targets)
    monkeypatch.setattr(torch, "tensor", None)
    monkeypatch.setattr(torch, "arange", None)
    assert costs(objective, separation)["loss"].isfinite()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"class": "STFTLoss", "sc_reduction": "batch"}, "STFTLoss must judge each item alone, got sc_reduction"),
        ({"class": "MultiResolutionSTFTLoss", "sc_reduction": "batch"}, "got sc_reduction 'batch', .* leave sc_reduc"),
        ({"class": "RandomResolutionSTFTLoss", "max_fft_size": 512, "sc_reduction": "batch"}, "leave sc_reduction out"),
        (
            {"class": "PermutationInvariantLoss", "loss": {"class": "MelSTFTLoss", "sc_reduction": "batch"}},
            "STFTLoss must judge each item alone",
        ),
        ({"class": "ComponentLoss", "unit": "all", "alpha": 0.1}, "ComponentLoss must .* unit 'all', .* leave unit"),
    ],
)
def test_a_loss_that_pools_its_batch_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        Objective([spec], make_separator())
    recipe = {"separator": {"sources": ["vocals"], "network": {"class": "BLSTM"}}, "data": {"root": "songs"}}
    with pytest.raises(RecipeError, match=rf"losses\.0: .*{message}"):
        load_recipe({**recipe, "losses": [spec]})


@pytest.mark.parametrize("name", ["STFTLoss", "MultiResolutionSTFTLoss"])
def test_a_recipe_may_say_itself_that_items_are_judged_alone(name):
    separator = make_separator()
    spec = SPECS[name]
    said = Objective([{**spec, "sc_reduction": "item"}], separator)
    found, expected = (judge(it, separator, slice(None))["loss"] for it in (said, Objective([spec], separator)))
    assert found == expected
