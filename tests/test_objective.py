"""The Objective: its terms equal plain computations over the pairs of items and stems that are there."""

import copy

import pytest
import torch
from judging import costs
from torch import Tensor, nn

from sepkit import losses
from sepkit.instantiate import InstantiationError
from sepkit.objective import Judgement, Objective
from sepkit.separator import Separator
from sepkit.terms import Weight

SOURCES = ["vocals", "drums", "bass"]


class Bend(nn.Module):
    """Give every source a mask of its own, which learns, and return auxiliary outputs."""

    outputs = {"mask": "source", "mu": "item", "sigma": "item"}  # noqa: RUF012

    def __init__(self, n_sources: int):
        super().__init__()
        self.gains = nn.Parameter(torch.linspace(0.2, 0.8, n_sources))

    def forward(self, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        mask = self.gains[:, None, None, None] * torch.sigmoid(mixture_spectrogram.abs())[:, None]
        mu = self.gains.mean() * mixture_spectrogram.abs().mean((1, 2))
        return {"mask": mask, "mu": mu, "sigma": mixture_spectrogram.abs().amax((1, 2)) + 0.1}


class SpectrumNetwork(Bend):
    outputs = ("spectrum",)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram)["mask"] * mixture_spectrogram.unsqueeze(1)


class Plain(nn.Module):
    """A loss without `reduction`, which mixes the items that it is given."""

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        return (estimate - target).abs().amax()


class BestOrder(nn.Module):
    """Compare all sources at once, in the better of two orders."""

    all_sources = True

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        orders = [(estimate - order).abs().mean((1, 2, 3)) for order in (target, target.flip(1))]
        return torch.minimum(*orders)


class TwoParts(nn.Module):
    """A loss whose terms are reported."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"near": (estimate - target).abs().mean((1, 2)), "small": 0.1 * estimate.abs().mean((1, 2))}

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        return sum(self.parts(estimate, target).values()).mean()


class Total(nn.Module):
    """Ignore what is asked of it."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        return (estimate - target).abs().mean()


class Optional(nn.Module):
    def forward(self, estimate: Tensor, target: Tensor, mu: Tensor | None = None, scale: float = 1.0) -> Tensor:
        assert mu is not None
        return scale * (estimate - target).abs().mean()


class Nothing(nn.Module):
    def forward(self, *quantities: Tensor) -> Tensor:
        return sum(quantities)


def own(cls: type, **settings) -> dict:
    return {"class": f"{__name__}.{cls.__name__}", **settings}


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_separator(network: type = Bend) -> Separator:
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 16}
    return Separator(SOURCES, own(network), 8000, 2, 0.1, transform)


@pytest.fixture
def separator() -> Separator:
    return make_separator()


@pytest.fixture
def separation(separator):
    return separator.analyze(noise(4, 2, 200, seed=0), noise(4, 3, 2, 200, seed=1))


def pick(separation, quantity: str, item: int, column: int) -> Tensor:
    """Take what a quantity holds for one item and source, as a batch of one."""
    value = getattr(separation, quantity)
    return value[item, column][None] if separation._separator.quantities[quantity] == "source" else value[item][None]


PRESENT = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)


# Values


@pytest.mark.parametrize("present", [None, PRESENT], ids=["all", "some"])
@pytest.mark.parametrize("columns", [(0, 1, 2), (0,), (0, 2)], ids=str)
@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        ("L1Loss", ["estimate_magnitude", "target_magnitude"]),
        ("SISDRLoss", ["estimate", "target"]),
        ("L1SNRLoss", ["estimate", "target"]),
        ("MaskLoss", ["mask", "mixture_magnitude", "target_magnitude"]),
    ],
)
def test_a_term_is_the_mean_over_its_present_pairs(separator, separation, name, quantities, columns, present):
    objective = Objective([{"class": name, "sources": [SOURCES[column] for column in columns]}], separator)
    found = costs(objective, separation, present)
    loss = getattr(losses, name)(reduction="none")
    expected = [
        loss(*(pick(separation, quantity, item, column) for quantity in quantities)).mean()
        for item in range(4)
        for column in columns
        if present is None or present[item, column]
    ]
    torch.testing.assert_close(found["loss"], torch.stack(expected).mean())
    torch.testing.assert_close(found[name], found["loss"].detach())


def test_each_source_is_reported(separator, separation):
    found = costs(Objective([{"class": "L1Loss", "name": "spectra"}], separator), separation, PRESENT)
    assert set(found) == {"loss", "spectra", "spectra/vocals", "spectra/drums", "spectra/bass"}
    distances = (separation.estimate_magnitude - separation.target_magnitude).abs().mean((2, 3, 4))
    expected = [distances[:, column][PRESENT[:, column]].mean() for column in range(3)]
    torch.testing.assert_close(torch.stack([found[f"spectra/{source}"] for source in SOURCES]), torch.stack(expected))


def test_a_single_source_is_not_reported_twice(separator, separation):
    found = costs(Objective([{"class": "L1Loss", "sources": ["bass"]}], separator), separation)
    assert set(found) == {"loss", "L1Loss"}


def test_only_the_sums_of_terms_carry_a_gradient(separator, separation):
    judgement = Objective([{"class": "L1Loss"}, own(TwoParts)], separator)(separation)
    assert {name for name, value in judgement.sums.items() if value.requires_grad} == {"L1Loss", "TwoParts"}
    assert all(value.shape == () for value in judgement.sums.values())


def test_weights_scale_the_sum_and_not_the_report(separator, separation):
    terms = [{"class": "L1Loss", "weight": 0.25}, {"class": "SISDRLoss", "weight": 2.0}]
    found = costs(Objective(terms, separator), separation)
    torch.testing.assert_close(found["loss"].detach(), 0.25 * found["L1Loss"] + 2.0 * found["SISDRLoss"])


@pytest.mark.parametrize(("epoch", "weight"), [(-1, 1.0), (0, 1.0), (1, 0.75), (2.5, 0.375), (4, 0.0), (9, 0.0)])
def test_a_weight_may_move_in_a_straight_line(separator, separation, epoch, weight):
    assert Weight(1.0, 0.0, 4).at(epoch) == weight
    ramp = {"from": 1.0, "to": 0.0, "epochs": 4}
    found = costs(Objective([{"class": "L1Loss", "weight": ramp}], separator), separation, epoch=epoch)
    torch.testing.assert_close(found["loss"].detach(), weight * found["L1Loss"])


# What a loss is given


def test_a_loss_from_elsewhere_takes_the_quantities_of_inputs(separator, separation):
    term = {"class": "torch.nn.L1Loss", "inputs": {"input": "estimate", "target": "target"}}
    found = costs(Objective([term], separator), separation)
    torch.testing.assert_close(found["loss"], (separation.estimate - separation.target).abs().mean())


def test_a_loss_without_reduction_is_asked_item_by_item(separator, separation):
    found = costs(Objective([own(Plain)], separator), separation, PRESENT)
    peaks = (separation.estimate - separation.target).abs().amax((2, 3))[PRESENT]
    torch.testing.assert_close(found["loss"], peaks.mean())


def test_a_loss_takes_auxiliary_outputs(separator, separation):
    found = costs(Objective([{"class": "KLDivergenceLoss"}], separator), separation)
    expected = losses.kl_div_loss(separation.mu, separation.sigma, reduction="none")
    torch.testing.assert_close(found["loss"], expected.mean())


def test_a_loss_on_what_no_source_has_counts_each_item_with_any_stem_once(separator, separation):
    found = costs(Objective([{"class": "KLDivergenceLoss", "name": "kl"}], separator), separation, PRESENT)
    expected = losses.kl_div_loss(separation.mu, separation.sigma, reduction="none")[:3].mean()
    torch.testing.assert_close(found["loss"], expected)
    assert set(found) == {"loss", "kl"}


def test_an_optional_argument_is_filled_where_there_is_a_quantity_of_its_name(separator, separation):
    assert costs(Objective([own(Optional, name="optional")], separator), separation)["loss"] > 0


def test_the_sample_rate_is_the_separators(separator):
    class_path = f"{__name__}.Rated"
    assert Objective([{"class": class_path}], separator).terms[0].loss.sample_rate == 8000


class Rated(Plain):
    def __init__(self, sample_rate: int):
        super().__init__()
        self.sample_rate = sample_rate


# All sources at once, and parts


@pytest.mark.parametrize("sources", [SOURCES, ["vocals", "bass"]], ids=str)
@pytest.mark.parametrize("present", [None, torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0]]).bool()])
def test_a_loss_on_all_sources_sees_the_items_that_have_them(separator, separation, sources, present):
    found = costs(Objective([own(BestOrder, sources=sources)], separator), separation, present)
    columns = [SOURCES.index(source) for source in sources]
    items = [item for item in range(4) if present is None or present[item, columns].all()]
    estimate, target = (quantity[items][:, columns] for quantity in (separation.estimate, separation.target))
    torch.testing.assert_close(found["loss"], BestOrder()(estimate, target).mean())
    assert set(found) == {"loss", "BestOrder"}


@pytest.mark.parametrize("term", [own(TwoParts, name="both"), {"class": "ComponentLoss", "alpha": 0.1, "name": "both"}])
def test_the_parts_of_a_loss_are_reported_and_add_up_to_it(separator, separation, term):
    found = costs(Objective([term], separator), separation, PRESENT)
    parts = [value for name, value in found.items() if name.startswith("both/") and name[5:] not in SOURCES]
    assert len(parts) >= 2
    torch.testing.assert_close(sum(parts), found["both"])
    assert found["both"] == found["loss"].detach()


def test_a_loss_with_parts_is_worth_what_its_forward_says(separator, separation):
    objective = Objective([{"class": "ComponentLoss", "alpha": 0.1}], separator)
    quantities = (separation.mask, separation.target_magnitude, separation.interference_magnitude)
    expected = losses.ComponentLoss(0.1)(*(quantity.flatten(0, 1) for quantity in quantities))
    torch.testing.assert_close(costs(objective, separation)["loss"], expected)


# Stems that are not there


TERMS = [{"class": "L1Loss"}, {"class": "SISDRLoss"}, own(Plain), own(BestOrder), own(TwoParts)]


@pytest.mark.parametrize(
    "term", [*TERMS, {"class": "KLDivergenceLoss"}], ids=lambda term: term["class"].rpartition(".")[2]
)
def test_a_batch_without_any_present_stem_costs_nothing_and_can_be_stepped(separator, separation, term):
    found = costs(Objective([term], separator), separation, torch.zeros(4, 3, dtype=torch.bool))
    assert all(value == 0 for value in found.values())
    found["loss"].backward()
    assert not separator.network.gains.grad.any()


ALL_TERMS = [*TERMS, {"class": "KLDivergenceLoss", "name": "kl"}]
PARTIAL_TERMS = [{"class": "L1Loss", "name": "two", "sources": ["vocals", "bass"]},
                 own(BestOrder, name="order", sources=["vocals", "bass"]),
                 own(Plain, name="one", sources=["drums"])]  # fmt: skip


@pytest.mark.parametrize("present", [PRESENT, torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]]).bool()])
def test_counts_are_known_without_a_pass(separator, separation, present):
    objective = Objective([*ALL_TERMS, *PARTIAL_TERMS], separator)
    known, judged = objective.count(present), objective(separation, present).counts
    parts = {f"TwoParts/{name}" for name in ("near", "small")}
    assert known == {name: count for name, count in judged.items() if name not in parts}
    assert {judged[name] for name in parts} == {known["TwoParts"]} == {int(present.sum())}
    assert known["L1Loss/drums"] == int(present[:, 1].sum())
    assert known["kl"] == int(present.any(1).sum())
    assert known["order"] == int(present[:, [0, 2]].all(1).sum())
    assert objective.count(4) == objective.count(torch.ones(4, 3, dtype=torch.bool))


@pytest.mark.parametrize("n_parts", [2, 4])
@pytest.mark.parametrize("terms", [ALL_TERMS, PARTIAL_TERMS, [*ALL_TERMS, *PARTIAL_TERMS]], ids=["all", "some", "both"])
@pytest.mark.parametrize("present", [None, PRESENT, torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]]).bool()])
def test_a_batch_in_parts_of_unequal_presence_is_the_whole_batch(separator, separation, present, terms, n_parts):
    objective, mixture, targets = Objective(terms, separator), separation.mixture, separation.target
    counts = objective.count(len(mixture) if present is None else present)
    whole = costs(objective, separation, present, epoch=1)
    whole["loss"].backward()
    expected = separator.network.gains.grad.clone()
    separator.zero_grad()
    judged, loss = Judgement({}, {}), 0.0
    for items in torch.arange(4).chunk(n_parts):
        part = objective(separator.analyze(mixture[items], targets[items]), None if present is None else present[items])
        value = objective.loss(part, counts, epoch=1)
        value.backward()
        judged, loss = judged + part, loss + value.detach()
    torch.testing.assert_close(loss, whole.pop("loss").detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(separator.network.gains.grad, expected, rtol=1e-6, atol=1e-6)
    assert {name: judged.counts[name] for name in counts} == counts
    torch.testing.assert_close(judged.means(), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term["class"].rpartition(".")[2])
def test_gradients_reach_only_the_sources_that_count(separator, separation, term):
    costs(Objective([{**term, "sources": ["vocals", "drums"]}], separator), separation)["loss"].backward()
    gradient = separator.network.gains.grad
    assert gradient[:2].all()
    assert gradient[2] == 0


def test_terms_of_single_sources_have_the_gradients_of_one_term_of_all(separator, separation):
    objective = Objective([{"class": "L2Loss"}], separator)
    together = torch.autograd.grad(costs(objective, separation)["loss"], separator.network.gains, retain_graph=True)[0]
    apart = [{"class": "L2Loss", "name": name, "sources": [name], "weight": 1 / 3} for name in separator.sources]
    found = costs(Objective(apart, separator), separation)["loss"]
    torch.testing.assert_close(torch.autograd.grad(found, separator.network.gains)[0], together)


@pytest.mark.parametrize("sources", [None, ["vocals"], ["vocals", "bass"]], ids=str)
def test_gradients_of_some_sources_can_be_differentiated_again(separator, separation, sources):
    term = {"class": "torch.nn.MSELoss", "inputs": {"input": "estimate", "target": "target"}, "sources": sources}
    loss, gains = costs(Objective([term], separator), separation)["loss"], separator.network.gains
    (slope,) = torch.autograd.grad(loss, gains, create_graph=True)
    (found,) = torch.autograd.grad(slope.sum(), gains)
    # The loss is a parabola of each gain, so that the second derivative is the first one's change from gain 0.
    columns = [SOURCES.index(source) for source in sources or SOURCES]
    with torch.no_grad():
        parts = (separation.estimate / gains[:, None, None])[:, columns]
        expected = torch.zeros(3).index_add(0, torch.tensor(columns), 2 * parts.square().mean((0, 2, 3)) / len(columns))
    torch.testing.assert_close(found, expected)


def test_targets_of_absent_stems_are_not_used(separator, separation):
    expected = costs(Objective([{"class": "L1Loss"}], separator), separation, PRESENT)["loss"]
    targets = torch.where(PRESENT[:, :, None, None], separation.target, torch.tensor(float("nan")))
    found = costs(Objective([{"class": "L1Loss"}], separator), separator.analyze(separation.mixture, targets), PRESENT)
    torch.testing.assert_close(found["loss"], expected)


def test_the_objective_can_be_copied_and_moved(separator, separation):
    objective = Objective([{"class": "MultiL1SNRDBLoss"}], separator)
    duplicate = copy.deepcopy(objective)
    assert duplicate.terms[0].loss is duplicate.losses[0]
    torch.testing.assert_close(costs(duplicate, separation)["loss"], costs(objective, separation)["loss"])
    assert all(buffer.is_meta for buffer in duplicate.to("meta").terms[0].loss.buffers())


# Mistakes


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([], "losses: must hold at least one loss"),
        (
            [{"class": "L1Loss"}] * 2,
            "losses.1.name: another loss is called 'L1Loss' too; give this one a name of its own",
        ),
        ([{"class": "L1Loss", "name": "loss"}], "losses.0.name: 'loss' is the sum of all terms"),
        ([{"class": "L1Loss", "name": "best"}], "losses.0.name: 'best' is a column of the history"),
        ([{"class": "L1Loss", "name": "SDR/vocals"}], "losses.0.name: 'SDR/vocals' is a column of the history"),
        ([{"class": "L1Loss", "sources": []}], r"losses.0.sources: must be a list of names, got \[\]"),
        ([{"class": "L1Loss", "reduction": "sum"}], "losses.0.reduction: must be left out: the objective sets it"),
        (
            [{"class": "L1Loss", "sources": ["flute"]}],
            r"losses.0.sources.0: must be one of separator.sources \(vocals, .*got 'flute'",
        ),
        (
            [{"class": "L1Loss", "weight": {"from": 1, "to": 0}}],
            "losses.0.weight: must be a number, or from, to and epochs > 0",
        ),
        (
            [{"class": "L1Loss", "weight": {"from": 1, "to": 0, "epochs": 0}}],
            "losses.0.weight: must be a number, or from, to and epochs > 0, got .*'epochs': 0",
        ),
        ([{"class": "L1Loss", "weight": -1}], "losses.0.weight: must be at least 0, since losses fall .*, got -1"),
        (
            [{"class": "L1Loss", "weight": {"from": 1, "to": -0.5, "epochs": 2}}],
            "losses.0.weight: must be at least 0, since .*, got .*-0.5",
        ),
        (
            [{"class": "L1Loss", "weight": 0}, {"class": "L2Loss", "weight": {"from": 0, "to": 0, "epochs": 2}}],
            "losses.0.weight: must be above 0 in one of the losses",
        ),
        ([{"class": "torch.nn.L1Loss"}], "L1Loss takes 'input', which is none of mixture, .*: name the quantity"),
        (
            [{"class": "torch.nn.L1Loss", "inputs": {"input": "estimat"}}],
            r"losses.0.inputs.input: must be one of mixture, .*, got 'estimat'; did you mean 'estimate'\?",
        ),
        ([own(Optional, inputs={"mu": "nu"})], "losses.0.inputs.mu: must be one of mixture, .*, got 'nu'"),
        (
            [{"class": "L1Loss", "inputs": {"estimate": "estimate"}}],
            r"L1Loss's forward has no such argument \(it has: estimate_magnitude, target_magnitude\)",
        ),
        (
            [{"class": "KLDivergenceLoss", "sources": ["vocals"]}],
            "losses.0.sources: must be left out: KLDivergenceLoss takes mu, sigma, of no source",
        ),
        ([own(Nothing)], "losses.0.class: Nothing has no forward that names what it takes"),
    ],
)
def test_a_term_that_cannot_be_is_refused(separator, terms, message):
    with pytest.raises(ValueError, match=message):
        Objective(terms, separator)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"class": "L3Loss"}, "there is no class 'L3Loss' in sepkit.losses; did you mean 'L"),
        ({"class": "L1Loss", "alpha": 1}, "L1Loss has no such argument"),
        ({"weight": 1}, "losses.0: must be a mapping with `class:`"),
    ],
)
def test_a_class_that_cannot_be_built_is_refused(separator, term, message):
    with pytest.raises(InstantiationError, match=message):
        Objective([term], separator)


def test_all_that_is_wrong_with_losses_is_listed_at_once_with_its_place():
    losses = [
        {"class": "MagnitudeL1Los", "weight": -1},
        3,
        {"class": "SISDRLoss", "sources": ["drums", "flute"], "inputs": {"estimat": "estimate"}},
    ]
    assert [problem.path for problem in Objective.problems(losses, SOURCES, {"estimate": "source"})] == [
        ("losses", 0, "class"),
        ("losses", 0, "weight"),
        ("losses", 1),
        ("losses", 2, "sources", 1),
        ("losses", 2, "inputs", "estimat"),
        ("losses", 2, "class"),
    ]


def test_what_is_unknown_of_a_separator_is_not_compared_with_its_losses():
    losses = [{"class": "torch.nn.L1Loss", "sources": ["flute"], "inputs": {"input": "anything"}}]
    assert Objective.problems(losses) == []


def test_a_loss_on_masks_needs_a_network_that_estimates_masks():
    with pytest.raises(ValueError, match="MaskLoss takes 'mask', which is none of mixture"):
        Objective([{"class": "MaskLoss"}], make_separator(SpectrumNetwork))


@pytest.mark.parametrize("robust", [None, {"share": 0.5, "frame": 0.01}])
def test_a_loss_that_gives_no_tensor_is_refused(separator, separation, robust):
    with pytest.raises(TypeError, match="the value of FIRFilter must be a tensor, got tuple"):
        costs(Objective([{"class": "FIRFilter", "robust": robust}], separator), separation)


def test_a_loss_that_gives_one_value_for_all_items_is_refused(separator, separation):
    message = r"Total must give one value per item with reduction='none', got \(\) for 12 items"
    with pytest.raises(ValueError, match=message):
        costs(Objective([own(Total)], separator), separation)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (torch.ones(4, 2, dtype=torch.bool), r"present must be bool \(4, 3\), got torch.bool \(4, 2\)"),
        (torch.ones(4, 3), r"present must be bool \(4, 3\), got torch.float32 \(4, 3\)"),
    ],
)
def test_presence_of_another_shape_or_type_is_refused(separator, separation, present, message):
    with pytest.raises(ValueError, match=message):
        costs(Objective([{"class": "L1Loss"}], separator), separation, present)


def test_sources_in_any_order_cost_what_the_best_order_costs(separator, separation):
    term = {"class": "PermutationInvariantLoss", "loss": {"class": "L1SNRLoss"}}
    expected = costs(Objective([term], separator), separation)["loss"]
    shuffled = separator.analyze(separation.mixture, separation.target[:, [2, 0, 1]])
    torch.testing.assert_close(costs(Objective([term], separator), shuffled)["loss"], expected)
    assert expected <= costs(Objective([{"class": "L1SNRLoss"}], separator), separation)["loss"]
