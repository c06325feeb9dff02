"""Windows, filter banks and bands are constants: no change of precision rounds them, in any module."""

import pytest
import torch
from torch import nn

from sepkit import models
from sepkit.separator import Separator
from sepkit.transforms import STFT, AudioTransform

BANDED = [name for name in models.__all__ if name == "BLSTM" or name.startswith("SpectrogramNet")]
MODULES = {
    "STFT": lambda: STFT(1000, 250),
    "AudioTransform": lambda: AudioTransform(1024, 256, 1000),
    **{name: lambda name=name: getattr(models, name)(2, 2, 513, 44100, n_bands=32) for name in BANDED},
    "Separator": lambda: Separator(["vocals"], {"class": "BLSTM", "hidden_size": 8}),
}
CHANGES = {
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "to": lambda module: module.to(torch.bfloat16),
    "there and back": lambda module: module.half().float(),
    "with a device": lambda module: module.to("cpu", torch.float16),
}


def constants(module: nn.Module) -> dict[str, torch.Tensor]:
    saved = module.state_dict()
    return {name: buffer.clone() for name, buffer in module.named_buffers() if name not in saved}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MODULES)
def test_no_change_of_precision_rounds_a_constant(name, change):
    module = MODULES[name]()
    before = constants(module)
    after = constants(CHANGES[change](module))
    assert before
    assert before.keys() == after.keys()
    for constant, value in before.items():
        assert torch.equal(after[constant], value), constant
        assert after[constant].dtype == torch.float32


@pytest.mark.parametrize("change", CHANGES)
def test_the_spectrum_is_the_same_after_a_change_of_precision(change):
    waveform = torch.rand(2, 3000, generator=torch.Generator().manual_seed(0)) - 0.5
    wanted = STFT(1000, 250)(waveform)
    changed = CHANGES[change](STFT(1000, 250))
    assert torch.equal(changed(waveform), wanted)
    torch.testing.assert_close(changed.inverse(wanted, 3000), waveform, rtol=0, atol=1e-6)


def test_bands_are_taken_in_the_precision_of_the_weights():
    network = models.BLSTM(2, 2, 513, 44100, hidden_size=8).double().eval()
    spectrogram = torch.rand(1, 2, 513, 20, dtype=torch.complex128)
    assert network(spectrogram).dtype == torch.float64
