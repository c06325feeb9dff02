"""Every loss that has terms reports them to the objective by name, and takes the separator's sample rate."""

import inspect

import pytest
import torch
from judging import costs

from sepkit import losses
from sepkit.objective import Objective
from sepkit.separator import Separator

SIZES = {"fft_sizes": [256, 512], "hop_sizes": [64, 128], "win_lengths": [200, 512]}
L1SNR_SIZES = {"n_ffts": [256, 512], "hop_lengths": [64, 128], "win_lengths": [256, 512]}
TAKEN = ("estimate_magnitude", "target_magnitude", "mask")
MAGNITUDES = {"spectral_convergence", "log_magnitude"}
TERMS = {
    "ComponentLoss": ({"alpha": 0.1, "beta": 0.8}, {"separation", "attenuation", "quality"}),
    "STFTLoss": ({"w_lin_mag": 1.0, "w_phs": 0.1}, {*MAGNITUDES, "linear_magnitude", "phase"}),
    "MelSTFTLoss": ({"n_mels": 20}, MAGNITUDES),
    "ChromaSTFTLoss": ({}, MAGNITUDES),
    "MultiResolutionSTFTLoss": (SIZES, MAGNITUDES),
    "RandomResolutionSTFTLoss": ({"max_fft_size": 512}, MAGNITUDES),
    "SumAndDifferenceSTFTLoss": (SIZES, {"sum", "difference"}),
    "MultiResolutionComplexSTFTLoss": ({"window_sizes": [256, 512], "n_fft": 256}, {"window_256", "window_512"}),
    "L1SNRDBLoss": ({}, {"ratio", "level"}),
    "STFTL1SNRDBLoss": ({"use_regularization": True, **L1SNR_SIZES}, {"ratio", "level"}),
    "MultiL1SNRDBLoss": (L1SNR_SIZES, {"time", "spectrum"}),
    "MultiResolutionSOTLoss": ({"fft_sizes": [256, 512], "hop_lengths": [64, 128]}, {"fft_256", "fft_512"}),
}


class Own(losses.CompositeLoss):
    """A loss from outside the package, on magnitudes and the mask."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def terms(self, estimate_magnitude, target_magnitude, mask):
        error, size = (estimate_magnitude - target_magnitude).square(), mask.square()
        return {"error": error.flatten(1).mean(1), "size": 0.1 * size.flatten(1).mean(1)}


@pytest.fixture(scope="module")
def separator():
    torch.manual_seed(0)
    network = {"class": "BLSTM", "hidden_size": 8, "n_layers": 1, "n_bands": 8}
    return Separator(["vocals"], network, 8000, 2, 0.5, {"class": "STFT", "n_fft": 256, "hop_length": 128})


@pytest.fixture(scope="module")
def separation(separator):
    generator = torch.Generator().manual_seed(0)
    target = 0.2 * torch.randn(3, 1, 2, 4000, generator=generator)
    return separator.analyze(target[:, 0] + 0.2 * torch.randn(3, 2, 4000, generator=generator), target)


@pytest.mark.parametrize("name", TERMS)
def test_the_terms_of_a_loss_reach_the_objective_by_name_and_add_up(name, separator, separation):
    arguments, terms = TERMS[name]
    found = costs(Objective([{"class": name, **arguments}], separator), separation)
    parts = {key: value for key, value in found.items() if key.startswith(f"{name}/")}
    assert set(parts) == {f"{name}/{term}" for term in terms}
    torch.testing.assert_close(sum(parts.values()), found[name])


def test_a_composite_loss_takes_what_its_terms_take():
    quantities = torch.rand(3, 2, 1, 5, 4)
    none, mean, total = (Own(reduction) for reduction in ("none", "mean", "sum"))
    for method in (mean.forward, mean.parts):
        assert list(inspect.signature(method).parameters) == list(TAKEN)
    assert none(*quantities).shape == (2,)
    torch.testing.assert_close(none(*quantities), sum(none.parts(*quantities).values()))
    torch.testing.assert_close(mean(*quantities), none(*quantities).mean())
    torch.testing.assert_close(total(**dict(zip(TAKEN, quantities, strict=True))), none(*quantities).sum())


def test_a_composite_loss_without_terms_names_what_it_lacks():
    with pytest.raises(NotImplementedError, match=r"CompositeLoss must have terms\(\.\.\.\)"):
        losses.CompositeLoss()(torch.rand(1, 1, 9), torch.rand(1, 1, 9))


def test_no_loss_with_terms_is_left_out():
    assert {name for name in losses.__all__ if hasattr(getattr(losses, name), "parts")} == {*TERMS, "CompositeLoss"} - {
        f"{__name__}.Own"
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"class": "MelSTFTLoss", "n_mels": 20},
        {"class": "ChromaSTFTLoss"},
        {"class": "STFTLoss", "perceptual_weighting": True},
        {"class": "MultiResolutionSTFTLoss", "scale": "mel", "n_bins": [10, 20], **SIZES},
        {"class": "SumAndDifferenceSTFTLoss", "scale": "mel", "n_bins": [10, 20], **SIZES},
        {"class": "RandomResolutionSTFTLoss", "max_fft_size": 512, "perceptual_weighting": True},
        {"class": "Wasserstein1DLoss", "transform": "mel", "n_mels": 20, "fft_size": 512},
        {"class": "MultiResolutionSOTLoss", "transform": "mel", "n_mels": 20, "fft_sizes": [256, 512],
         "hop_lengths": [64, 128]},
    ],
    ids=lambda settings: settings["class"],
)  # fmt: skip
def test_the_sample_rate_is_the_separators_where_a_recipe_leaves_it_out(settings, separator, separation):
    left_out = costs(Objective([settings], separator), separation)["loss"]
    assert left_out == costs(Objective([{**settings, "sample_rate": 8000}], separator), separation)["loss"]
    assert left_out != costs(Objective([{**settings, "sample_rate": 16000}], separator), separation)["loss"]
