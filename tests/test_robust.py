"""Losses that leave out the worst frames of each item: which these are, and what that is good for."""

import re

import pytest
import torch
from torch import Tensor, nn

from sepkit.instantiate import InstantiationError
from sepkit.metrics import sdr
from sepkit.objective import Judgement, Objective
from sepkit.recipe import RecipeError, load_recipe
from sepkit.robust import Robust, average_frames, choose_frames, cut_frames
from sepkit.separator import Separator

RATE, SECONDS = 8000, 2.0
N_SAMPLES = round(RATE * SECONDS)


class Gains(nn.Module):
    """Give each source and bin a mask of its own, and an auxiliary output."""

    outputs = {"mask": "source", "level": "item"}  # noqa: RUF012

    def __init__(self, n_sources: int, n_bins: int):
        super().__init__()
        self.gains = nn.Parameter(torch.full((n_sources, 1, n_bins, 1), 0.5))

    def forward(self, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        mask = self.gains.expand(len(mixture_spectrogram), *self.gains.shape).expand(
            -1, -1, mixture_spectrogram.shape[1], -1, mixture_spectrogram.shape[-1]
        )
        return {"mask": mask, "level": mixture_spectrogram.abs().mean((1, 2, 3))}


class Level(nn.Module):
    """Be small, as the mixture is."""

    def forward(self, level: Tensor) -> Tensor:
        return level


def separator(segment: float = SECONDS, n_fft: int = 256) -> Separator:
    transform = {"class": "STFT", "n_fft": n_fft, "hop_length": n_fft // 2}
    return Separator(["vocals", "other"], {"class": "test_robust.Gains"}, RATE, 2, segment, transform)


def songs(n_items: int = 3, n_samples: int = N_SAMPLES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make mixtures (B, C, T) and targets (B, S, C, T) of noise, the second's lower than the first's."""
    targets = 0.1 * torch.randn(n_items, 2, 2, n_samples, generator=torch.Generator().manual_seed(seed))
    targets[:, 1] = nn.functional.avg_pool1d(targets[:, 1], 9, 1, 4)
    return targets.sum(1), targets


def judge(settings: dict, mixture: Tensor, targets: Tensor, present: Tensor | None = None) -> tuple[Judgement, Tensor]:
    """Return what an objective of one loss says, and the loss."""
    model = separator()
    objective = Objective([settings], model)
    judgement = objective(model.analyze(mixture, targets), present)
    return judgement, objective.loss(judgement)


def test_frames_fill_an_item_in_order_and_overlap_only_where_they_must():
    item = torch.arange(12.0).expand(2, 3, -1)
    frames = cut_frames({"a": item, "b": item[..., :11]}, 4)
    assert frames["a"].shape == (8, 3, 3)
    assert frames["a"][:4, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert frames["b"][4:, 2].tolist() == [[0, 1, 2], [3, 4, 5], [5, 6, 7], [8, 9, 10]]
    assert set(frames["b"].flatten().tolist()) == set(range(11))


@pytest.mark.parametrize("length", range(7, 40))
@pytest.mark.parametrize("n_frames", [1, 2, 6, 7])
def test_every_column_is_in_a_frame(length, n_frames):
    frames = cut_frames({"a": torch.arange(float(length))[None]}, n_frames)["a"]
    assert frames.shape == (n_frames, -(-length // n_frames))
    assert set(frames.flatten().tolist()) == set(range(length))


@pytest.mark.parametrize(("share", "n_left_out"), [(0.1, 2), (0.14, 2), (0.15, 3), (0.29, 5), (0.99, 19), (0.04, 0)])
def test_the_share_is_rounded_down_to_frames(share, n_left_out):
    assert Robust(share).count(2.0) == (20, n_left_out)


def test_the_greatest_values_of_each_item_are_left_out():
    values = torch.tensor([[3.0, 1.0, 2.0, 9.0], [-1.0, -4.0, 5.0, 0.0]])
    assert average_frames(values, choose_frames(values, 2)).tolist() == [1.5, -2.5]
    assert average_frames(values, choose_frames(values, 0)).tolist() == [3.75, 0.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(bad):
    values = torch.tensor([[1.0, bad, 2.0], [1.0, 1.0, 1.0]])
    averaged = average_frames(values, choose_frames(values, 1))
    assert averaged[0].isnan()
    assert averaged[1] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_frames_that_are_left_out_may_be_as_great_as_numbers_are(dtype):
    values = torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0, 0.0]]).to(dtype)
    values[0, 2:] = torch.finfo(dtype).max
    assert average_frames(values, choose_frames(values, 4)).tolist() == [1.5]


def test_a_loss_is_the_mean_of_the_frames_that_count():
    mixture, targets = songs()
    estimate = separator().analyze(mixture, targets).estimate
    by_frame = (estimate - targets).abs().unflatten(-1, (20, -1)).mean((2, 4)).flatten(0, 1)  # (B * S, N)
    expected = by_frame.sort(1).values[:, :15].mean()
    _, loss = judge({"class": "WaveformL1Loss", "robust": {"share": 0.25}}, mixture, targets)
    torch.testing.assert_close(loss, expected)


TERMS = [
    {"class": "WaveformL1Loss"},
    {"class": "WaveformL2Loss"},
    {"class": "SNRLoss"},
    {"class": "SISDRLoss"},
    {"class": "MagnitudeL1Loss"},
    {"class": "RelativeSpectralLoss"},
    {"class": "ComponentLoss", "alpha": 0.1, "beta": 0.8},
    {"class": "MaskLoss"},
    {"class": "L1SNRLoss"},
    {"class": "MultiResolutionSTFTLoss", "fft_sizes": [256], "hop_sizes": [64], "win_lengths": [256]},
    {"class": "MultiResolutionComplexSTFTLoss", "window_sizes": [256], "n_fft": 256, "hop_length": 64},
]
of_each_term = pytest.mark.parametrize("settings", TERMS, ids=lambda settings: settings["class"])


@of_each_term
def test_an_item_is_judged_alike_whatever_else_is_in_the_batch(settings):
    mixture, targets = songs()
    targets[1, 0, :, 3000:4000] += 1
    settings = {**settings, "robust": {"share": 0.2}}
    together, _ = judge(settings, mixture, targets)
    alone = [judge(settings, mixture[i : i + 1], targets[i : i + 1])[0] for i in range(3)]
    for name, total in together.sums.items():
        torch.testing.assert_close(total, sum(one.sums[name] for one in alone), rtol=1e-4, atol=1e-5)
    assert together.counts == {name: sum(one.counts[name] for one in alone) for name in together.counts}


@of_each_term
def test_what_the_worst_frames_hold_does_not_move_the_weights(settings):
    mixture, targets = songs()
    gradients = {}
    for robust in (True, False):
        for seed in (1, 2):
            faulty, model = targets.clone(), separator()
            faulty[:, 0, :, 4300:4500] = 9 * seed * songs(seed=seed)[1][:, 0, :, 4300:4500]  # within one of 100 ms
            objective = Objective([{**settings, **({"robust": {"share": 0.1}} if robust else {})}], model)
            objective.loss(objective(model.analyze(mixture, faulty))).backward()
            gradients[robust, seed] = model.network.gains.grad[0]
    torch.testing.assert_close(gradients[True, 1], gradients[True, 2])
    assert not gradients[False, 1].allclose(gradients[False, 2])


def test_absent_stems_take_no_part_in_what_is_left():
    mixture, targets = songs()
    present = torch.tensor([[True, False], [True, True], [False, True]])
    settings = {"class": "WaveformL1Loss", "robust": {"share": 0.25}}
    judged, _ = judge(settings, mixture, targets, present)
    assert judged.counts["WaveformL1Loss"] == 4
    alone, _ = judge(settings, mixture[:1], targets[:1], present[:1])
    rest, _ = judge(settings, mixture[1:], targets[1:], present[1:])
    torch.testing.assert_close(
        judged.sums["WaveformL1Loss"], alone.sums["WaveformL1Loss"] + rest.sums["WaveformL1Loss"]
    )


def test_parts_of_a_loss_are_of_the_frames_that_count():
    mixture, targets = songs()
    settings = {"class": "test_objective.TwoParts", "robust": {"share": 0.25}}
    judgement, _ = judge(settings, mixture, targets)
    parts = judgement.sums["TwoParts/near"] + judgement.sums["TwoParts/small"]
    torch.testing.assert_close(parts, judgement.sums["TwoParts"])


def test_losses_that_know_no_items_are_evaluated_frame_by_frame():
    mixture, targets = songs(1)
    estimate = separator().analyze(mixture, targets).estimate
    by_frame = (estimate - targets).abs().unflatten(-1, (20, -1)).amax((2, 4)).flatten(0, 1)
    _, loss = judge({"class": "test_objective.Plain", "robust": {"share": 0.1}}, mixture, targets)
    torch.testing.assert_close(loss, by_frame.sort(1).values[:, :18].mean())


def test_losses_of_all_sources_leave_out_frames_of_the_item():
    mixture, targets = songs()
    settings = {"class": "test_objective.BestOrder", "robust": {"share": 0.1}}
    judgement, _ = judge(settings, mixture, targets)
    assert judgement.counts["BestOrder"] == 3
    estimate = separator().analyze(mixture, targets).estimate
    orders = [(estimate - order).abs().unflatten(-1, (20, -1)).mean((1, 2, 4)) for order in (targets, targets.flip(1))]
    torch.testing.assert_close(judgement.sums["BestOrder"], torch.minimum(*orders).sort(1).values[:, :18].mean(1).sum())


def test_a_frame_below_a_column_of_the_spectrogram_is_refused():
    mixture, targets = songs()
    message = (
        "MagnitudeL1Loss on frames of 0.01 s: frames must be as long as a column of estimate_magnitude at least, got "
        "200 frames of 126 columns; take a shorter hop, or set a longer robust.frame"
    )
    with pytest.raises(ValueError, match=message):
        judge({"class": "MagnitudeL1Loss", "robust": {"share": 0.1, "frame": 0.01}}, mixture, targets)


def test_a_frame_too_short_for_the_transform_of_a_loss_is_refused():
    message = "MultiResolutionSTFTLoss on frames of 0.1 s: .* more than 1024 of signal, got 800; .* longer robust.frame"
    with pytest.raises(ValueError, match=message):
        judge({"class": "MultiResolutionSTFTLoss", "robust": {"share": 0.1}}, *songs(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robust": 0.1}, "robust: must be a mapping with `share`, such as {share: 0.1}, got 0.1"),
        ({"robust": {"frame": 0.1}}, "robust: must be a mapping with `share`, such as {share: 0.1}, got"),
        ({"robust": {"share": 1.0}}, "robust.share: must be above 0 and below 1, got 1.0"),
        ({"robust": {"share": "much"}}, "robust.share: must be above 0 and below 1, got 'much'"),
        ({"robust": {"share": 0.1, "frame": 0}}, "robust.frame: must be a number of seconds above 0, got 0"),
        ({"robust": {"share": 0.1, "frames": 3}}, "robust.frames: unknown key; did you mean 'frame'?"),
        (
            {"robust": {"share": 0.1, "frame": 0.5}},
            "robust.share: leaves out none of the 4 frames of 2 s: set a shorter robust.frame or more share",
        ),
        (
            {"class": "test_robust.Level", "robust": {"share": 0.1}},
            "robust: must be left out: level cannot be cut into frames",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InstantiationError, match=re.escape(message)):
        Objective([{"class": "WaveformL1Loss", **settings}], separator())


@pytest.mark.parametrize(
    ("robust", "message"),
    [
        ({"share": 1.5}, "losses.0.robust.share: must be < 1, got 1.5"),
        ({"share": 0.1, "fram": 1.0}, "losses.0.robust.fram: unknown key; did you mean 'frame'?"),
        ({"frame": 1.0}, "losses.0.robust.share: must be given"),
        ({"share": 0.1, "frame": 0.5}, "losses.0.robust.share: leaves out none of the 6 frames of 3 s"),
        (0.1, "losses.0.robust: must be a mapping"),
    ],
)
def test_a_recipe_names_what_is_wrong_with_it(robust, message):
    recipe = {
        "separator": {"sources": ["vocals"], "network": {"class": "BLSTM"}},
        "data": {"root": "demo"},
        "losses": [{"class": "WaveformL1Loss", "robust": robust}],
    }
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(recipe)


def test_a_recipe_says_which_frames_are_left_out():
    recipe = {
        "separator": {"sources": ["vocals"], "network": {"class": "BLSTM"}},
        "data": {"root": "demo"},
        "losses": [{"class": "WaveformL1Loss", "robust": {"share": 0.1}}, {"class": "SNRLoss"}],
    }
    terms = load_recipe(recipe).to_dict()["losses"]
    assert [term["robust"] for term in terms] == [{"share": 0.1, "frame": 0.1}, None]


def _learn(robust: dict | None, loss: str, is_clean: bool = False) -> float:
    """Train on targets that are swapped for a tenth of the time, and return the SDR on clean songs, dB."""
    model, n_samples = separator(1.0), RATE
    objective = Objective([{"class": loss, **({"robust": robust} if robust else {})}], model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for step in range(50):
        mixture, targets = songs(4, n_samples, step)
        for item in () if is_clean else targets:
            start = int(torch.randint(n_samples - n_samples // 10, (), generator=generator))
            wrong = item[..., start : start + n_samples // 10]
            wrong.copy_(wrong.flip(0).clone())
        optimizer.zero_grad()
        objective.loss(objective(model.analyze(mixture, targets))).backward()
        optimizer.step()
    with torch.no_grad():
        mixture, targets = songs(8, n_samples, 1000)
        return float(sdr(model.analyze(mixture, targets).estimate.flatten(0, 1), targets.flatten(0, 1)).mean())


@pytest.mark.parametrize("loss", ["WaveformL2Loss", "MagnitudeL2Loss"])
def test_a_training_survives_stems_that_are_swapped_for_a_tenth_of_the_time(loss):
    clean, swapped, robust = _learn(None, loss, is_clean=True), _learn(None, loss), _learn({"share": 0.2}, loss)
    assert swapped < clean - 0.25  # dB
    assert robust > clean - 0.05
