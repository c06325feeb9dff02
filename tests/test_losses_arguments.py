"""The losses are called as in the packages whose names they carry: arguments, order, defaults."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sepkit import auralflow, losses

# Of auraloss 0.4.0, torch-l1-snr 0.2.1, sot-loss 0.1.5 and auralflow, read from the installed packages; keywords are
# those of auraloss's development version, and those that sot-loss takes from **kwargs.
ORIGINALS = json.loads((Path(__file__).parent / "data" / "loss_arguments.json").read_text(encoding="utf-8"))
# NaN comes out as NaN unless sanitising is asked for; a label is not needed; constants stay where they are.
ANOTHER_DEFAULT = {"check_finite": False, "name": None, "device": None}


def _default(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_loss_takes_the_arguments_of_the_original_in_their_order_with_their_defaults(name):
    wanted = ORIGINALS[name]["arguments"]
    given = list(inspect.signature(getattr(losses, name)).parameters.values())
    assert [parameter.name for parameter in given[: len(wanted)]] == [argument for argument, *_ in wanted]
    for parameter, (argument, *default) in zip(given, wanted, strict=False):
        expected = ANOTHER_DEFAULT.get(argument, *default)
        assert _default(parameter.default) == expected or (not default and parameter.default is parameter.empty)


@pytest.mark.parametrize("name", [name for name in ORIGINALS if ORIGINALS[name]["keywords"]])
def test_a_loss_takes_the_keywords_of_the_original_with_their_defaults(name):
    parameters = inspect.signature(getattr(losses, name)).parameters
    given = {argument: parameters[argument].default for argument in ORIGINALS[name]["keywords"]}
    assert given == ORIGINALS[name]["keywords"]


@pytest.mark.parametrize("cls", [losses.L1Loss, losses.L2Loss])
def test_magnitudes_are_added_up_where_reduce_mean_is_false(cls):
    estimate, target = torch.rand(2, 3, 1, 5, 7)
    expected = cls(reduction="sum")(estimate, target)
    assert cls(reduce_mean=False)(estimate, target) == cls(False)(estimate, target) == expected
    torch.testing.assert_close(expected, 105 * cls()(estimate, target))


def test_masks_are_added_up_where_reduce_mean_is_false():
    mask, mixture, target = torch.rand(3, 2, 1, 5, 7)
    expected = losses.mask_loss(mask, mixture, target, "l2", reduction="sum")
    assert losses.MaskLoss("l2", False)(mask, mixture, target) == expected


@pytest.mark.parametrize(("name", "magnitudes"), [("L1Loss", "MagnitudeL1Loss"), ("LogL2Loss", "MagnitudeLogL2Loss")])
def test_names_of_auralflow_are_found_in_its_room_and_compare_the_same(name, magnitudes):
    cls = getattr(losses, name)
    assert cls is getattr(auralflow, name)
    assert cls.__module__ == "sepkit.auralflow.losses"
    spectra = torch.rand(2, 3, 1, 5, 7)
    assert cls()(*spectra) == getattr(losses, magnitudes)()(*spectra)


def test_a_loss_of_auralflow_costs_none_of_its_datasets_and_callbacks():
    code = "from sepkit.losses import L1Loss; import sys; sys.exit('sepkit.datasets' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("cls", "plain"), [("WaveformL1Loss", torch.nn.L1Loss), ("WaveformL2Loss", torch.nn.MSELoss)])
def test_distances_of_waveforms_are_those_of_torch(cls, plain, reduction):
    signals = torch.rand(2, 3, 2, 500)
    torch.testing.assert_close(getattr(losses, cls)(reduction)(*signals), plain(reduction=reduction)(*signals))


@pytest.mark.parametrize("cls", [losses.L1Loss, losses.L2Loss, losses.MaskLoss])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduce_mean": False, "reduction": "none"}, 'reduction must be left at "mean" with reduce_mean=False'),
        ({"reduce_mean": "sum"}, "reduce_mean must be true or false"),
    ],
)
def test_a_wrong_reduce_mean_is_refused(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


@pytest.mark.parametrize("window", ["hann_window", "flattop", ("kaiser", 8.0), 14.0])
def test_windows_are_those_of_torch_and_scipy(window):
    signals = 0.1 * torch.randn(2, 1, 1, 2000, generator=torch.Generator().manual_seed(0))
    losses_there = losses.STFTLoss(512, 128, 400, window), losses.Wasserstein1DLoss(fft_size=512, window=window)
    assert all(loss(*signals).isfinite() for loss in losses_there)


@pytest.mark.parametrize(("distance", "power"), [("L1", 1), ("L2", 2)])
def test_logarithms_are_compressed_by_factor_and_offset(distance, power):
    estimate, target = 0.1 * torch.randn(2, 1, 1, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    window = torch.hann_window(512).double()
    spectra = (torch.stft(signal[0], 512, 128, window=window, return_complex=True) for signal in (estimate, target))
    magnitudes = [(spectrum.abs() ** 2).clamp(min=1e-8).sqrt() for spectrum in spectra]
    logarithms = [(3.0 * magnitude + 0.2).log() for magnitude in magnitudes]
    expected = (logarithms[0] - logarithms[1]).abs().pow(power).mean()
    options = {"log_eps": 0.2, "log_fac": 3.0}
    loss = losses.STFTLoss(512, 128, 512, w_sc=0.0, mag_distance=distance, **options)
    torch.testing.assert_close(loss(estimate, target), expected, rtol=1e-9, atol=0)
    given = losses.STFTMagnitudeLoss(distance=distance, **options)
    torch.testing.assert_close(given(*magnitudes), expected, rtol=1e-9, atol=0)
