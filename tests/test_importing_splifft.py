"""splifft's JSON configs are read, and give what the yaml of the same weights gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from goldens import read_golden, snr
from published import write_published, write_weights

from sepkit.importing._pickles import CheckpointError
from sepkit.importing.model import import_model, read_model
from sepkit.model_folder import load_model


def splifft_config(root: Path, name: str) -> dict[str, Any]:
    """Make what splifft would have in place of the yaml of a golden."""
    golden = read_golden(root, name)
    config: dict[str, Any] = {"identifier": name, "waveform_chunking": {}, "inference": {"batch_size": 2}}
    if name == "mdx23c":
        audio, model = golden.config["config"]["audio"], dict(golden.config["config"]["model"])
        model["hidden_channels"] = model.pop("num_channels")
        model["norm_type"], model["act_type"] = model.pop("norm"), model.pop("act")
        names = golden.config["config"]["training"]["instruments"]
        config |= {"model_type": name, "model": {**model, "dim_f": audio["dim_f"], "output_stem_names": names}}
        sizes = {"n_fft": audio["n_fft"], "hop_length": audio["hop_length"], "win_length": audio["n_fft"]}
        return {**config, "model": {**config["model"], "chunk_size": audio["chunk_size"]}, "transform": sizes}
    given = dict(golden.config["kwargs"])
    sizes = {key: given.pop(f"stft_{key}") for key in ("n_fft", "hop_length", "win_length")}
    bands = {key: given.pop(key) for key in ("freqs_per_bands", "num_bands", "sample_rate") if key in given}
    kind = "mel" if "num_bands" in bands else "fixed"
    model = {key: given[key] for key in ("dim", "depth", "stereo", "dim_head", "heads") if key in given}
    model |= {"norm_output": kind == "mel", "band_config": {"kind": kind, **bands}, "chunk_size": 44100}
    n_stems = given.get("num_stems", 1)
    model["output_stem_names"] = golden.config.get("stems", [f"stem{number}" for number in range(n_stems)])
    return {**config, "model_type": "bs_roformer", "model": model, "stft": sizes}


def write_config(folder: Path, config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("name", ["bs_roformer", "mel_band_roformer", "bs_roformer_6stem", "mdx23c"])
def test_a_config_of_splifft_gives_what_the_published_model_gives(reference_root, tmp_path, name):
    golden, config = read_golden(reference_root, name), splifft_config(reference_root, name)
    config["audio_io"] = {"target_sample_rate": golden.config.get("sample_rate", 44100)}
    weights = write_weights(tmp_path / "model.ckpt", golden.tensors)
    zero_dc = golden.config.get("kwargs", {}).get("zero_dc", True)
    overrides = {} if name == "mdx23c" else {"model.zero_dc": zero_dc}
    model = load_model(import_model(weights, write_config(tmp_path, config), tmp_path / "out", overrides))
    assert model.sources == config["model"]["output_stem_names"]
    assert (model.chunking.overlap, model.chunking.batch_size, model.normalize) == (0.5, 2, None)
    output = golden.output if golden.output.dim() == 4 else golden.output[:, None]
    assert snr(model(golden.input).detach()[..., : output.shape[-1]], output) > 90


def test_what_splifft_takes_where_its_config_is_silent_is_taken_and_said(reference_root, tmp_path):
    weights = write_weights(tmp_path / "model.ckpt", read_golden(reference_root, "bs_roformer").tensors)
    config = splifft_config(reference_root, "bs_roformer")
    config["normalization"], config["model"]["rms_norm_eps"] = {"enabled": True}, 2**-24
    imported = read_model(weights, write_config(tmp_path, config))
    assert imported.settings["network"]["zero_dc"] is False
    assert (imported.settings["sample_rate"], imported.settings["normalize"]) == (44100, "recording")
    assert any("no zero_dc as splifft's code has them" in line for line in imported.card["source"]["taken"])
    assert any("rms_norm_eps" in line for line in imported.card["source"]["taken"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "beat_this", "model_type must be one of bs_roformer, mel_roformer, mdx23c, .*got 'beat_this'"),
        ("model.mask_estimator", {"kind": "hyperace_residual_v2"}, "mask_estimator.kind must be 'baseline'.*hyperace"),
        ("model.band_config.kind", "bark", "band_config.kind must be fixed or mel"),
        ("model.ff_mult", 2, "model.ff_mult must be 4, which alone is supported here, got 2"),
        ("model.norm_output", True, "model.norm_output must be false"),
        ("model.stft_hop_length", 99, "model.stft_hop_length must be 147"),
        ("model.dim", 99, "model.dim must be 12, as the tensors have it, got 99"),
        ("model.dim", "wide", "model.dim must be 12, as the tensors have it, got wide"),
        ("model.output_stem_names", 3, "training.instruments must be a list of names"),
        ("model.learned", True, "model.learned of the config is not understood, as one of splifft's"),
        ("logmel_chunking.trim_margin", 3, "logmel_chunking.trim_margin of the config is not understood"),
        ("stft.normalized", True, "stft.normalized must be false"),
        ("waveform_chunking.overlap_ratio", 1, "waveform_chunking.overlap_ratio must be a number from 0 to below 1"),
    ],
)
def test_what_a_config_of_splifft_cannot_ask_for_is_refused_by_its_key(reference_root, tmp_path, key, value, message):
    config = splifft_config(reference_root, "bs_roformer")
    *sections, last = key.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    weights = write_weights(tmp_path / "model.ckpt", read_golden(reference_root, "bs_roformer").tensors)
    with pytest.raises(CheckpointError, match=message):
        read_model(weights, write_config(tmp_path, config))


def test_a_config_of_both_kinds_is_refused_by_what_stands_apart(reference_root, tmp_path):
    written = write_published(reference_root, tmp_path, "mdx23c")
    config = {**splifft_config(reference_root, "mdx23c"), "training": {"instruments": ["a"]}}
    with pytest.raises(CheckpointError, match=r"training\.instruments of the config is not understood, as one of spli"):
        read_model(written.weights, write_config(tmp_path, config))
