"""The examples of auralflow's pages run with nothing but the import changed.

Left out is `.backward()` of the two on losses: none of their tensors asks for a gradient, so no version of torch can
do it. test_losses_examples.py does it with tensors that do.
"""

import warnings
from itertools import islice

import pytest
import torch
from songs import noise, write_song
from torch.nn.functional import l1_loss


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two mono songs of 5 s, laid out as auralflow says."""
    root = tmp_path_factory.mktemp("auralflow")
    for song in range(2):
        names = ("bass", "drums", "other", "vocals")
        stems = {name: noise(10 * song + i, 5 * 44100, 1) / 4 for i, name in enumerate(names)}
        write_song(root / "train" / f"song {song}", {"mixture": sum(stems.values()), **stems}, rate=44100)
    return root


def test_component_loss():
    from sepkit.losses import component_loss

    mask = torch.rand((16, 512, 173, 1)).float()
    target = torch.rand((16, 512, 173, 1)).float()
    residual = torch.rand((16, 512, 173, 1)).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the example's weights give the separation none
        loss = component_loss(mask=mask, target=target, residual=residual, alpha=0.2, beta=0.8)
    loss_val = loss.item()
    assert 0 < loss_val < 1


def test_kl_div_loss():
    from sepkit.losses import kl_div_loss

    mu = torch.zeros((16, 256, 256)).float()
    sigma = torch.ones((16, 256, 256)).float()
    estimate_spec = torch.rand((16, 512, 173, 1))
    target_spec = torch.rand((16, 512, 173, 1))
    kl_term = kl_div_loss(mu, sigma)
    recon_term = l1_loss(estimate_spec, target_spec)
    loss = kl_term + recon_term
    loss_val = loss.item()
    assert loss_val == pytest.approx(1 / 3, abs=0.01)  # of two uniform numbers; the divergence is 0


def test_create_audio_dataset(songs):
    from sepkit.datasets import create_audio_dataset

    train_dataset = create_audio_dataset(
        dataset_path=songs,
        split="train",
        targets=["vocals"],
        chunk_size=3,
        num_chunks=int(1e5),
        max_num_tracks=80,
        sample_rate=44100,
        mono=True,
    )
    mix_audio, target_audio = next(iter(train_dataset))
    assert len(train_dataset) == 100_000
    assert (mix_audio.shape, target_audio.shape) == ((1, 3 * 44100), (1, 1, 3 * 44100))


def test_audio_transform():
    from sepkit.transforms import AudioTransform

    transform = AudioTransform(num_fft=1024, hop_length=768, window_size=1024, sample_rate=44100)
    mix_audio = torch.rand((16, 1, 88200))
    mel_spec = transform.audio_to_mel(mix_audio, to_db=True)
    mix_spec = transform.to_spectrogram(mix_audio)
    assert torch.equal(mel_spec, transform.to_mel_scale(torch.abs(mix_spec), to_db=True))
    mix_audio_est = transform.to_audio(mix_spec)
    assert torch.allclose(mix_audio_est[..., :88200], mix_audio, atol=1e-5)  # float32, a quarter of overlap


def test_audio_folder(songs):
    from sepkit.datasets import AudioFolder

    train_dataset = AudioFolder(
        dataset_path=songs,
        targets=["vocals"],
        sample_length=3,
        subset="train",
        sample_rate=44100,
        num_channels=1,
    )
    for mix_audio, target_audio in islice(train_dataset, 2):
        assert (mix_audio.shape, target_audio.shape) == ((1, 3 * 44100), (1, 1, 3 * 44100))
        assert mix_audio.abs().max() > 0
