"""Files of others are imported by the command, and give what their authors' code gives."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import read_golden, snr
from published import (
    CASES,
    arguments_of,
    community_config,
    write_package,
    write_published,
    write_weights,
    write_yaml,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from sepkit.cli import model_command
from sepkit.importing._given import read_config
from sepkit.importing._materials import read_file
from sepkit.importing.card import describe_model
from sepkit.importing.model import import_model, read_model
from sepkit.inference import separate
from sepkit.model_folder import ModelError, load_model, read_card, save_model
from sepkit.separator import Separator

PACKAGES = Path("goldens", "models", "demucs_package")
HYBRID, TWIN = "4e5f6071-8f50764d.th", "0a1b2c3d.safetensors"


@pytest.fixture
def run(tmp_path, capsys):
    """Import by the command into a folder; return its lines."""

    def call(*arguments: str | Path, output: str | None = "out", code: int = 0) -> str:
        given = [] if output is None else ["--output", str(tmp_path / output)]
        assert model_command(["import", *map(str, arguments), *given]) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return call


@torch.no_grad()
def separate_plainly(model: Separator, mixture: Tensor) -> Tensor:
    """Run the network on a mixture as it is, as the references were."""
    return model(mixture, (0.0, 1.0)) if model.normalize else model(mixture)


def arrays_of(root: Path, name: str) -> dict[str, Tensor]:
    with np.load(root / "goldens" / "models" / name / "io.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


# As published


@pytest.mark.parametrize("name", CASES)
def test_an_imported_model_gives_what_the_published_one_gives(reference_root, tmp_path, run, name):
    written = write_published(reference_root, tmp_path, name)
    run(written.weights, *written.options)
    found = separate_plainly(load_model(tmp_path / "out"), written.input)
    assert snr(found[..., : written.output.shape[-1]], written.output) > 90


@pytest.mark.parametrize("file", ["0a1b2c3d-4dc10e6a.th", HYBRID, TWIN])
def test_a_package_of_demucs_gives_what_demucs_gives(reference_root, tmp_path, run, file):
    run(reference_root / PACKAGES / file)
    model, arrays = load_model(tmp_path / "out"), arrays_of(reference_root, "demucs_package")
    output = arrays[f"output_{file[:8]}"]
    assert snr(separate_plainly(model, arrays["input"][..., : output.shape[-1]]), output) > 90
    assert model.normalize == "recording"
    assert (model.chunking.overlap, model.chunking.window, model.chunking.last) == (0.25, "triangle", "short")


@pytest.fixture
def bag(reference_root, tmp_path):
    """Copy a bag of Demucs."""
    for name in ("bag.yaml", "0a1b2c3d-4dc10e6a.th", HYBRID):
        shutil.copyfile(reference_root / PACKAGES / name, tmp_path / name)
    return tmp_path / "bag.yaml"


def test_a_version_2_of_demucs_is_imported_with_what_its_file_does_not_tell(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "demucs_v2")
    path = write_weights(tmp_path / "demucs.th", golden.tensors, old=True)
    asked = run(path, code=2)
    assert "sources, samplerate, segment must be stated" in asked
    assert "--set sources=[stem1,stem2,stem3,stem4] samplerate=44100 segment=10" in asked
    run(path, "--set", "sources=[drums,bass,other,vocals]", "samplerate=44100", "segment=10")
    core = load_model(tmp_path / "out").network.core
    with torch.no_grad():
        assert snr(core(golden.input), golden.output) > 90


def write_folder(root: Path, folder: Path, name: str = "umx_separator") -> tuple[Path, dict[str, Tensor]]:
    """Write a folder of Open-Unmix: a target's weights as they were published, another's as training leaves them."""
    tensors = load_file(root / "goldens" / "models" / name / "weights.safetensors")
    folder.mkdir()
    for target in ("vocals", "drums"):
        start = f"target_models.{target}."
        own = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
        if target == "vocals":
            own |= {"sample_rate": torch.tensor(44100.0), "stft.window": torch.ones(4)}
            write_weights(folder / "vocals.pth", own, old=True)
            (folder / "vocals.chkpnt").write_bytes(b"beside weights, not read")
        else:
            write_weights(folder / "drums.chkpnt", {"epoch": 3, "state_dict": own, "best_loss": 0.5, "optimizer": {}})
        arguments = {"nfft": 1024, "nhop": 256, "nb_channels": 2, "hidden_size": 8, "seq_dur": 6.0, "seed": 42}
        (folder / f"{target}.json").write_text(json.dumps({"epochs_trained": 3, "args": arguments}))
    settings = {"nfft": 1024, "nhop": 256, "sample_rate": 44100.0, "nb_channels": 2}  # as openunmix writes the rate
    (folder / "separator.json").write_text(json.dumps(settings))
    return folder, arrays_of(root, name)


@pytest.mark.parametrize(
    ("options", "variant", "least"),
    [
        ([], "niter1", 90),
        (["niter=0"], "niter0", 90),
        (["niter=2"], "niter2", 70),
        (["wiener_win_len=40"], "niter1_win40", 90),
        (["softmask=true"], "niter1_soft", 90),
        (["softmask=true", "niter=0"], "niter0_soft", 90),
        (["residual=true"], "niter1_residual", 90),
        (["residual=true", "niter=2", "wiener_win_len=0"], "niter2_winNone_residual", 70),
    ],
)
def test_a_folder_of_open_unmix_gives_what_openunmix_gives(reference_root, tmp_path, run, options, variant, least):
    folder, arrays = write_folder(reference_root, tmp_path / "umx")
    run(folder, *(["--set", *options] if options else []))
    model = load_model(tmp_path / "out")
    assert model.sources == ["vocals", "drums"]
    assert snr(separate_plainly(model, arrays["input"]), arrays[f"output_{variant}"][:, :2]) > least


def test_a_single_target_of_open_unmix_is_asked_for_its_name(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "umx")
    path = write_weights(tmp_path / "vocals.pth", golden.tensors)
    asked = run(path, code=2)
    assert "--set sources=[stem1] sample_rate=44100 segment=10 n_hop=1024" in asked
    run(path, "--set", "sources=[vocals]", "sample_rate=44100", "segment=6", "n_hop=1024")
    model = load_model(tmp_path / "out")
    assert model.sources == ["vocals"]
    with torch.no_grad():
        mask = model.network(golden.input)[:, 0]
    assert snr(mask * golden.input, golden.output) > 90


def test_torchaudios_names_are_those_of_demucs(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "hdemucs")
    theirs = {"encoder": "freq_encoder", "decoder": "freq_decoder", "tencoder": "time_encoder"}
    theirs |= {"tdecoder": "time_decoder"}
    names = {name: name.split(".", 1) for name in golden.tensors}
    tensors = {f"{theirs.get(part, part)}.{rest}": golden.tensors[name] for name, (part, rest) in names.items()}
    path = write_weights(tmp_path / "hdemucs_high_trained.pt", tensors)
    stated = {**arguments_of(golden)}
    options = [f"{key}={json.dumps(value)}" for key, value in stated.items()]
    run(path, "--set", *options)
    assert snr(separate_plainly(load_model(tmp_path / "out"), golden.input), golden.output) > 90


def test_a_package_with_a_config_of_the_community_has_no_length_of_training(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "htdemucs")
    arguments = arguments_of(golden)
    path = write_package(tmp_path / "model.th", golden.config["cls"], arguments, golden.tensors)
    own = {
        key: value for key, value in golden.config["kwargs"].items() if key not in ("sources", "samplerate", "segment")
    }
    own.pop("audio_channels")
    training = {"instruments": arguments["sources"], "samplerate": 48000, "segment": 11, "channels": 2}
    config = {"model": "htdemucs", "training": training, "htdemucs": {**own, "num_subbands": 1, "channels_time": None}}
    run(path, "--config", write_yaml(tmp_path / "config.yaml", config))
    model = load_model(tmp_path / "out")
    assert model.network.training_length is None
    assert (model.segment, model.normalize) == (11, None)
    other = {**config, "htdemucs": {**own, "channels": 6}}
    refused = run(path, "--config", write_yaml(tmp_path / "other.yaml", other), "--overwrite", code=2)
    assert "channels must be 3, as the weights' file has it, got 6 in the config" in refused


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_become_float32(reference_root, tmp_path, run, dtype):
    written = write_published(reference_root, tmp_path, "mel_band_roformer")
    tensors = torch.load(written.weights, weights_only=True)
    halved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    torch.save(halved, written.weights)
    run(written.weights, *written.options)
    torch.save({name: tensor.float() for name, tensor in halved.items()}, written.weights)
    run(written.weights, *written.options, output="again")
    found, wanted = (load_model(tmp_path / name).state_dict() for name in ("out", "again"))
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == torch.float32 for name, tensor in wanted.items()
    )


# What is kept


def test_chunk_overlap_and_batch_of_the_config_are_how_it_separates(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "bs_roformer")
    run(written.weights, *written.options)
    model = load_model(tmp_path / "out")
    assert (model.segment, model.chunking.overlap, model.chunking.batch_size) == (1.0, 0.75, 2)
    assert model.normalize is None


@pytest.mark.parametrize(
    ("instruments", "residual"),
    [
        (["vocals", "Instrumental"], "Instrumental"),
        (["No Reverb", "Vocals"], "No Reverb"),
        (["vocals", "other"], None),  # which is a stem's name elsewhere
        (["vocals", "drums", "bass"], None),
        (["vocals"], None),
    ],
)
def test_what_is_beside_the_target_is_named_as_the_config_names_it(
    reference_root, tmp_path, run, instruments, residual
):
    changes = {"training__instruments": instruments, "training__target_instrument": "vocals"}
    run(*write_roformer_config(reference_root, tmp_path, **changes))
    model = load_model(tmp_path / "out")
    assert (model.sources, model.residual) == (["vocals"], residual)
    assert [*separate(model, torch.randn(2, 4000))] == ["vocals", residual or "accompaniment"]
    assert (f"beside     {residual}" in describe_model(tmp_path / "out")) == (residual is not None)


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("inference.normalize=true", "normalize", "recording"),
        ("inference.chunk_size=88200", "segment", 2.0),
        ("audio.chunk_size=22050", "segment", 0.5),
    ],
)
def test_what_is_set_is_read(reference_root, tmp_path, run, option, name, value):
    written = write_published(reference_root, tmp_path, "mel_band_roformer")
    run(written.weights, *written.options, "--set", option)
    assert getattr(load_model(tmp_path / "out"), name) == value
    key, _, text = option.partition("=")
    assert read_card(tmp_path / "out")["source"]["set"] == {key: json.loads(text)}


def test_a_chunk_in_frames_is_as_long_as_its_hops(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "mdx23c")
    config = json.loads((reference_root / "goldens" / "models" / "mdx23c" / "config.json").read_text())["config"]
    del config["audio"]["chunk_size"]
    run(written.weights, "--config", write_yaml(tmp_path / "frames.yaml", config))
    assert load_model(tmp_path / "out").segment * 44100 == 256 * 111


def test_the_card_says_where_a_model_is_from(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "bs_roformer_value_residual")
    lines = run(written.weights, *written.options)
    source = read_card(tmp_path / "out")["source"]
    assert source["file"] == "model.ckpt"
    assert re.fullmatch("[0-9a-f]{64}", source["sha256"])
    assert source["taken"] == ["state_dict", "names without model."]
    assert source["config"]["file"] == "config.yaml"
    assert f"file       model.ckpt, sha256 {source['sha256'][:16]}.." in lines
    assert "taken      state_dict; names without model." in lines
    assert "licence    not stated" in lines
    assert f"model      {tmp_path / 'out'}" in lines
    described = describe_model(tmp_path / "out")
    for text in (
        "sources    vocals",
        "BandSplitRoFormer, ",
        "44100 Hz, stereo",
        "n_fft 256",
        "chunks     1 s, overlap 0.75",
    ):
        assert text in described
    assert f"file       model.ckpt, sha256 {source['sha256']}" in described
    assert "score      not stated" in described


def test_what_a_caller_knows_is_written_on_the_card(reference_root, tmp_path):
    known = {
        "licence": "CC0",
        "score": {"SDR": 9.2, "data": "MUSDB18"},
        "source": {"address": "https://example.org/a.th"},
    }
    import_model(reference_root / PACKAGES / HYBRID, output=tmp_path / "out", card=known)
    card = read_card(tmp_path / "out")
    assert (card["licence"], card["score"]) == ("CC0", known["score"])
    assert card["source"]["file"] == HYBRID
    described = describe_model(tmp_path / "out")
    for text in ("licence    CC0", "score      SDR 9.2, data MUSDB18", "address    https://example.org/a.th"):
        assert text in described


def test_a_licence_in_the_file_is_kept(reference_root, tmp_path):
    path = reference_root / PACKAGES / TWIN
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    save_file(load_file(path), tmp_path / "model.safetensors", {**header["__metadata__"], "license": "MIT"})
    assert read_model(tmp_path / "model.safetensors").card["licence"] == "MIT"


def test_the_licence_of_a_file_of_asteroids_hub_is_kept(reference_root, tmp_path):
    written = write_published(reference_root, tmp_path, "conv_tasnet")
    content = torch.load(written.weights, weights_only=True)
    torch.save({**content, "infos": {"license": "CC BY-SA 3.0"}}, written.weights)
    assert read_model(written.weights, None, {"sources": ["a", "b"], "segment": 3}).card["licence"] == "CC BY-SA 3.0"


def test_without_output_the_folder_is_named_after_the_weights(reference_root, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    run(reference_root / PACKAGES / HYBRID, output=None)
    assert load_model(HYBRID.removesuffix(".th")).sources == ["drums", "vocals"]


def test_a_model_that_is_there_is_replaced_only_when_asked(reference_root, tmp_path, run):
    path = reference_root / PACKAGES / HYBRID
    run(path)
    assert "out holds a model already: give another folder by --output, or --overwrite" in run(path, code=2)
    run(path, "--overwrite")
    (tmp_path / "out" / "training").mkdir()
    assert "is a training run, which nothing replaces" in run(path, "--overwrite", code=2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    assert "other is there and is no model folder" in run(path, "--overwrite", output="other", code=2)


def test_weights_without_a_name_are_refused(run):
    assert "weights must be a file or a folder, got no name" in run("", code=2)
    assert "File name too long" in run("x" * 5000, code=2)


def test_what_is_refused_leaves_no_folder(reference_root, tmp_path, run):
    run(reference_root / PACKAGES / "hostile.th", code=2)
    assert not (tmp_path / "out").exists()


# What is asked for, and refused


def write_roformer_config(root: Path, folder: Path, **changes: Any) -> list[Any]:
    golden = read_golden(root, "bs_roformer")
    config = community_config(golden)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if value is None:
            config[section].pop(name)
        elif name:
            config.setdefault(section, {})[name] = value
        else:
            config[section] = value
    return [write_weights(folder / "model.ckpt", golden.tensors), "--config", write_yaml(folder / "a.yaml", config)]


def test_all_that_is_missing_is_asked_for_at_once(reference_root, tmp_path, run):
    missing = {"model__zero_dc": None, "model__stft_hop_length": None, "audio__chunk_size": None}
    asked = run(*write_roformer_config(reference_root, tmp_path, **missing), code=2)
    assert "model.stft_hop_length, audio.chunk_size, model.zero_dc must be stated" in asked
    assert "--set model.stft_hop_length=441 audio.chunk_size=352800 model.zero_dc=false" in asked
    assert "model.zero_dc is true for what Music-Source-Separation-Training trained since 2025-09-23" in asked
    options = ["model.stft_hop_length=147", "audio.chunk_size=44100", "model.zero_dc=true"]
    run(*write_roformer_config(reference_root, tmp_path, **missing), "--set", *options)
    written = write_published(reference_root, tmp_path, "bs_roformer")
    assert snr(separate_plainly(load_model(tmp_path / "out"), written.input), written.output) > 90


@pytest.mark.parametrize("start", ["student.", "generator.net.model.module."])
def test_what_all_names_begin_with_is_dropped_and_said(reference_root, tmp_path, start):
    golden = read_golden(reference_root, "umx")
    plain = write_weights(tmp_path / "plain.pth", golden.tensors)
    path = write_weights(tmp_path / "model.pth", {start + name: tensor for name, tensor in golden.tensors.items()})
    given = {"sources": ["vocals"], "sample_rate": 44100, "n_hop": 1024, "segment": 6}
    found, expected = read_model(path, None, given), read_model(plain, None, given)
    assert found.card["source"]["taken"] == [*expected.card["source"]["taken"], f"names without {start}"]
    assert found.settings == expected.settings
    assert all(torch.equal(found.state[name], tensor) for name, tensor in expected.state.items())


def test_the_command_takes_the_averages_that_lightning_keeps_beside_the_weights(reference_root, tmp_path, run):
    _, *options = write_roformer_config(reference_root, tmp_path)
    golden = read_golden(reference_root, "bs_roformer")
    state = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in golden.tensors.items()}
    state |= {f"ema_model.{name}": tensor for name, tensor in golden.tensors.items()}
    weights, options = write_weights(tmp_path / "model.ckpt", {"state_dict": state}), [*options, "--set"]
    refused = run(weights, *options, "model.zero_dc=true", code=2)
    assert "model.ckpt cannot be read: it holds weights below model and ema_model: choose by --set weights=" in refused
    run(weights, *options, "model.zero_dc=true", "weights=ema_model")
    assert snr(separate_plainly(load_model(tmp_path / "out"), golden.input), golden.output) > 90
    assert read_card(tmp_path / "out")["source"]["set"]["weights"] == "ema_model"


def test_weights_alone_are_asked_for_all_that_they_do_not_tell(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "bs_roformer_6stem")
    asked = run(write_weights(tmp_path / "model.safetensors", golden.tensors), code=2)
    assert "audio.sample_rate, model.stft_n_fft must be stated" in asked


def test_weights_in_half_precision_are_imported_without_a_config(reference_root, tmp_path, run):
    golden = read_golden(reference_root, "bs_roformer_6stem")
    stated = {"audio.sample_rate": 44100, "audio.chunk_size": 44100, "model.stft_n_fft": 256, "model.zero_dc": False}
    stated |= {
        "model.stft_hop_length": 100,
        "model.stft_win_length": 256,
        "training.instruments": golden.config["stems"],
    }
    options = [f"{key}={json.dumps(value)}" for key, value in stated.items()]
    run(reference_root / "goldens" / "models" / "bs_roformer_6stem" / "weights.safetensors", "--set", *options)
    model = load_model(tmp_path / "out")
    assert model.sources == golden.config["stems"]
    assert snr(separate_plainly(model, golden.input), golden.output) > 90


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__dim": 16}, "model.dim must be 12, as the tensors have it, got 16 in the config"),
        ({"model__use_hyper": 1}, "model.use_hyper of the config is of a variant that is not supported"),
        ({"inference__tta": True}, "inference.tta of the config is not understood and could change what the model"),
        ({"segm": {"a": 1}}, "segm.a of the config is not understood"),
        ({"model__stft_n_fft": 1 << 30}, "model.stft_n_fft must be at most 131072, got 1073741824"),
        ({"audio__chunk_size": 1 << 60}, "audio.chunk_size must be at most 10000000000"),
        ({"audio__chunk_size": -1}, "audio.chunk_size must be a whole number of samples, at least 1, got -1"),
        ({"audio__chunk_size": "long"}, "audio.chunk_size must be a whole number of samples, at least 1, got 'long'"),
        (
            {"model__dim": 16},
            "give the config that came with these weights, or correct it by --set model.dim=12",
        ),
        ({"audio__sample_rate": 0}, "audio.sample_rate must be 1 to 1000000 Hz, got 0"),
        (
            {"audio__chunk_size": 10**9},
            "a chunk must have at most 30000000 samples, got 1000000000",
        ),
        (
            {"training__target_instrument": ["vocals"]},
            "training.target_instrument must be a name, or null for all instruments, got ['vocals']",
        ),
        (
            {"training__target_instrument": "../vocals"},
            "got '../vocals': correct the config by --set training.target_instrument=NAME",
        ),
        (
            {"training__instruments": ["a/b"]},
            "got 'a/b': correct the config by --set training.instruments=[NAME,..]",
        ),
        (
            {"training__instruments": ["vocals", "../x"], "training__target_instrument": "vocals"},
            "residual: must be a name like those of sources, and another: a source must be a name that files can have, "
            "got '../x': correct the config by --set training.instruments=[NAME,..]",
        ),
        (
            {"audio__part": 0.5},
            "audio.part of the config is not understood and could change what the model gives: give",
        ),
        ({"model__stft_n_fft": "many"}, "model.stft_n_fft must be an even number, at least 2, got 'many': correct it"),
        (
            {"inference__num_overlap": 0},
            "inference.num_overlap must be a number of chunks over each sample",
        ),
        ({"inference__batch_size": 0}, "inference.batch_size must be a whole number, at least 1, got 0"),
        ({"training__instruments": ["../vocals"]}, "a source must be a name that files can have, got '../vocals'"),
        (
            {"training__instruments": "vocals"},
            "training.instruments must be a list of names, [vocals] for one, got 'vocals'",
        ),
        (
            {"training__instruments": ["a", "b"]},
            "1 sources, as the tensors have it, got a, b: correct it by --set training.target_instrument=NAME",
        ),
        ({"model__output_stem_names": ["a"]}, "model_type must be one of bs_roformer, mel_roformer, mdx23c"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(reference_root, tmp_path, run, changes, message):
    assert message in run(*write_roformer_config(reference_root, tmp_path, **changes), code=2)
    assert not (tmp_path / "out").exists()


def test_a_key_that_nobody_knows_is_taken_out_as_the_message_says(reference_root, tmp_path, run):
    arguments = write_roformer_config(reference_root, tmp_path, audio__part=0.5)
    remedy = re.search(r"take it out by --set (\S+)$", run(*arguments, code=2))[1]
    run(*arguments, "--set", remedy)


def test_numbers_that_a_config_has_as_text_are_numbers(reference_root, tmp_path, run):
    changes = {"audio__sample_rate": "44100", "model__stft_hop_length": "147", "model__stft_n_fft": 512.0}
    changes |= {"model__dim": "12", "model__zero_dc": "True", "inference__normalize": "false", "model__lora": "None"}
    changes |= {"inference__batch_size": "3", "inference__num_overlap": "50", "training__instruments": ["808"]}
    lines = run(*write_roformer_config(reference_root, tmp_path, **changes))
    assert "taken      overlap 0.9, the most, for num_overlap 50" in lines
    model, golden = load_model(tmp_path / "out"), read_golden(reference_root, "bs_roformer")
    assert snr(separate_plainly(model, golden.input), golden.output) > 90
    assert (model.sources, model.sample_rate, model.normalize) == (["808"], 44100, None)
    assert (model.chunking.batch_size, model.chunking.overlap) == (3, 0.9)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.zero_dcc=true", "model.zero_dcc"),
        ("zero_dc=true", "--set zero_dc is read by nothing in this model: model.zero_dc is there"),
        ("training.lr=1", "--set training.lr is read by nothing in this model"),
        ("audio.chunk_size.a=1", "audio.chunk_size.a cannot be set, since chunk_size is 44100 in the config"),
        ("weights=ema", "weights must name what its weights are below, "),
        ("hop", "--set wants KEY=VALUE, got hop"),
        ("a=[", "--set a wants a value in YAML, got ["),
    ],
)
def test_what_is_set_in_vain_is_refused(reference_root, tmp_path, run, option, message):
    assert message in run(*write_roformer_config(reference_root, tmp_path), "--set", option, code=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mask_estimators.0.segm.a",
            "a RoFormer with HyperACE masks is not supported; mask_estimators.0.segm.a",
        ),
        ("layers.0.0.layers.0.0.branch.norm.gamma", "a RoFormer with hyper-connections is not supported; layers.0.0."),
        ("mask_estimators.0.layers.0.a", "a RoFormer with transformers in the mask estimators is not supported"),
        ("extra.weight", "extra.weight is too many"),
    ],
)
def test_a_variant_is_refused_by_the_tensor_that_gives_it_away(reference_root, tmp_path, run, name, message):
    arguments = write_roformer_config(reference_root, tmp_path)
    tensors = read_golden(reference_root, "bs_roformer").tensors
    write_weights(arguments[0], {**tensors, name: torch.ones(2)})
    assert message in run(*arguments, code=2)


def test_a_config_of_another_scnet_is_refused_by_its_key(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "scnet")
    model = {"dims": [4, 32, 64, 128], "bandsplit_ratios": [0.175, 0.392, 0.433], "n_fft": 4096}
    write_yaml(Path(written.options[1]), {"audio": {"sample_rate": 44100, "chunk_size": 264600}, "model": model})
    message = "model.bandsplit_ratios of the config is of amanteur's SCNet, another network than that of these weights"
    assert message in run(written.weights, *written.options, code=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"band_type": "bark"}, "kwargs.band_type must be one of musical, which are supported, got bark"),
        ({"pad_mode": "circular"}, "kwargs.pad_mode must be constant or reflect, which are supported, got circular"),
        ({"window_fn": "hamming_window"}, "kwargs.window_fn must be hann_window, as no other is supported"),
        ({"n_bands": 7}, "kwargs.n_bands must be"),
        ({"hop_length": None}, "kwargs.hop_length must be stated"),
        ({"in_channels": 2}, "kwargs.in_channels must be 1, as no other is supported, got 2"),
        ({"n_fft": 1024}, "kwargs.win_length must be from kwargs.hop_length, 512, to 1024 samples, got 2048"),
    ],
)
def test_what_bandit_2_cannot_be_is_refused_by_its_key(reference_root, tmp_path, run, changes, message):
    written = write_published(reference_root, tmp_path, "bandit_second")
    config = read_config(Path(written.options[1]))
    write_yaml(Path(written.options[1]), {**config, "kwargs": {**config["kwargs"], **changes}})
    assert message in run(written.weights, *written.options, code=2)


def test_what_bandit_2_repeats_is_the_same(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "bandit_second")
    tensors = read_file(written.weights).tensors
    name = next(name for name in tensors if name.endswith("combined.1.0.bias"))
    write_weights(written.weights, {**tensors, name: tensors[name] + 1})
    assert f"{name} must be mask_estim." in run(written.weights, *written.options, code=2)


def test_a_tensor_that_is_missing_is_named(reference_root, tmp_path, run):
    arguments = write_roformer_config(reference_root, tmp_path)
    tensors = dict(read_golden(reference_root, "bs_roformer").tensors)
    del tensors["final_norm.gamma"], tensors["mask_estimators.0.to_freqs.1.0.0.bias"]
    write_weights(arguments[0], tensors)
    assert "model.freqs_per_bands must not be stated" in run(*arguments, code=2)
    write_weights(arguments[0], {"final_norm.gamma": torch.ones(12), **tensors})
    assert "mask_estimators.0.to_freqs.1.0.0.bias is missing" in run(*arguments, code=2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["bandsequence.bsrnn.0.0.fc.weight"], "the BandSplitRNN of amanteur is not supported"),
        (["encoder.conv1d_U.weight", "separator.network.0.weight"], "the Conv-TasNet of Demucs' second version is not"),
        (["stg1_low_band_net.enc1.conv1.weight"], "a VR model of Ultimate Vocal Remover is not supported"),
        (
            ["layer.weight", "layer.bias"],
            "weights must be of one of RoFormer, MDX23C, SCNet, .*, got layer.weight",
        ),
        (
            ["model.fc1.weight", "model.input_mean", "other.window"],
            "those below model. are Open-Unmix's, and other.window stands beside them; save those below model. alone",
        ),
        (["band_split.to_features.0.0.gamma", "layers.0.a"], "layers.0 must have transformers over frames and over"),
        (
            ["sd_blocks.0.global_conv2d.weight", "dualpath_blocks.layers.0.a"],
            "amanteur's SCNet is not supported; sd_blocks",
        ),
    ],
)
def test_networks_that_there_are_not_are_refused_by_name(tmp_path, run, names, message):
    path = write_weights(tmp_path / "model.pth", {name: torch.ones(2) for name in names})
    assert re.search(message, run(path, code=2))


@pytest.mark.parametrize(
    ("class_name", "changes", "message"),
    [
        (
            "demucs.hdemucs.HDemucs",
            {},
            "klass must be demucs' HTDemucs, as the tensors have it, got",
        ),
        ("demucs.htdemucs.HTDemucs", {"t_sparse_self_attn": True}, "t_sparse_self_attn must be"),
        ("demucs.htdemucs.HTDemucs", {"new": 1}, "config must hold arguments of the original network alone, got new"),
        ("demucs.htdemucs.HTDemucs", {"channels": 4}, "channels must be 3, as the tensors have it, got 4"),
        ("demucs.htdemucs.HTDemucs", {"sources": None}, "sources must be stated"),
        (
            "demucs.htdemucs.HTDemucs",
            {"segment": -1},
            "segment must be a number above 0, got -1: correct it by --set segment=VALUE",
        ),
    ],
)
def test_a_package_that_does_not_fit_is_refused(reference_root, tmp_path, run, class_name, changes, message):
    golden = read_golden(reference_root, "htdemucs")
    arguments = {**arguments_of(golden), **changes}
    assert message in run(write_package(tmp_path / "model.th", class_name, arguments, golden.tensors), code=2)


def test_subbands_of_the_community_are_refused(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "hdemucs")
    golden = read_golden(reference_root, "htdemucs")
    write_weights(written.weights, golden.tensors)
    training = {"instruments": ["a", "b", "c", "d"], "samplerate": 48000, "segment": 11, "channels": 2}
    config = {"model": "htdemucs", "training": training, "htdemucs": {"num_subbands": 2}}
    refused = run(written.weights, "--config", write_yaml(tmp_path / "config.yaml", config), code=2)
    assert "num_subbands must be 1, which alone is supported" in refused


def test_weights_of_something_else_in_a_folder_are_named(reference_root, tmp_path, run):
    folder, _ = write_folder(reference_root, tmp_path / "umx")
    write_weights(folder / "resnet50.pth", {"conv1.weight": torch.ones(2)})
    assert "resnet50.pth must hold weights of Open-Unmix, as the folder of a model does, got conv1.weight: move" in run(
        folder, code=2
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"instruments": ["speech"]}},
            "training.instruments must be music, speech, as the tensors have it, got speech",
        ),
        (
            {"training": {"instruments": ["music", "speech"]}},
            r"training.instruments must be \['speech', 'music'\], as mo",
        ),
        ({"training": {"instruments": ["music", "effects"]}}, "instruments must be .*, got music, effects"),
    ],
)
def test_names_of_a_bandit_that_contradict_each_other_are_told(reference_root, tmp_path, run, changes, message):
    written = write_published(reference_root, tmp_path, "bandit")
    config = {**read_config(tmp_path / "config.yaml"), **changes}
    assert re.search(message, run(written.weights, "--config", write_yaml(tmp_path / "other.yaml", config), code=2))


def test_the_order_of_a_bandit_is_that_of_its_training_where_no_other_is_stated(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "bandit")
    config = {**read_config(tmp_path / "config.yaml"), "training": {"instruments": ["music", "speech"]}}
    del config["model"]["stems"]
    run(written.weights, "--config", write_yaml(tmp_path / "other.yaml", config))
    model = load_model(tmp_path / "out")
    assert model.sources == ["music", "speech"]
    assert snr(separate_plainly(model, written.input), written.output.flip(1)) > 90


def test_files_of_a_folder_that_contradict_each_other_are_refused(reference_root, tmp_path, run):
    folder, _ = write_folder(reference_root, tmp_path / "umx")
    (folder / "drums.json").write_text(json.dumps({"args": {"nhop": 512}}))
    refused = run(folder, code=2)
    assert "nhop must be the same in all files of the folder, got 256 and, in drums.json, 512" in refused
    (folder / "drums.json").unlink()
    (folder / "separator.json").write_text(json.dumps({"nhop": 256, "sample_rate": 48000}))
    assert "sample_rate must be" in run(folder, code=2)


@pytest.mark.parametrize("name", ["config.yaml", "out"])
def test_what_is_no_file_of_weights_is_answered(reference_root, tmp_path, run, name):
    run(reference_root / PACKAGES / HYBRID)
    write_yaml(tmp_path / "config.yaml", {"audio": {}, "model": {}})
    message = {
        "config.yaml": "must list the models of a bag of Demucs, got audio, model: give the weights first",
        "out": "out is a model folder of sepkit already: use it as it is",
    }
    assert message[name] in run(tmp_path / name, output="another", code=2)


def test_an_asteroid_file_of_another_filterbank_is_refused(reference_root, tmp_path, run):
    written = write_published(reference_root, tmp_path, "conv_tasnet")
    content = torch.load(written.weights, weights_only=True)
    content["model_args"]["fb_name"] = "STFTFB"
    torch.save(content, written.weights)
    assert "fb_name must be free, which alone is supported, got STFTFB" in run(
        written.weights, *written.options, code=2
    )


# Bags


def test_a_bag_gives_what_demucs_gives(reference_root, bag, tmp_path, run):
    lines = run(bag)
    assert "taken      bag of 2; package of demucs; state" in lines
    model, arrays = load_model(tmp_path / "out"), arrays_of(reference_root, "demucs_package")
    model.normalize = None  # the reference was made without
    stems = separate(model, arrays["input"][0], sample_rate=44100)
    assert snr(torch.stack([stems[name] for name in ("drums", "vocals")]), arrays["output_bag"][0]) > 90
    source = read_card(tmp_path / "out")["source"]
    assert [file["file"] for file in source["files"]] == ["0a1b2c3d-4dc10e6a.th", HYBRID]
    assert "Bag of HTDemucs, HDemucs, 17480 parameters" in describe_model(tmp_path / "out")


def test_the_twin_in_safetensors_comes_first(reference_root, bag, tmp_path, run):
    shutil.copyfile(reference_root / PACKAGES / TWIN, tmp_path / TWIN)
    run(bag)
    assert [file["file"] for file in read_card(tmp_path / "out")["source"]["files"]] == [TWIN, HYBRID]


def test_a_bag_of_one_is_that_model(bag, tmp_path, run):
    bag.write_text("models: [4e5f6071]\nsegment: 2")
    run(bag)
    model = load_model(tmp_path / "out")
    assert type(model.network).__name__ == "HDemucs"
    assert model.segment == 2


def test_models_without_weight_are_left_out(bag, tmp_path, run):
    bag.write_text("models: [0a1b2c3d, 4e5f6071]\nweights: [[0, 0], [1, 1]]")
    assert "0a1b2c3d-4dc10e6a.th has weight 0" in run(bag)
    assert type(load_model(tmp_path / "out").network).__name__ == "HDemucs"


def test_a_segment_of_the_bag_is_that_of_its_models(bag, tmp_path, run):
    bag.write_text("models: [0a1b2c3d]\nsegment: 0.1")
    run(bag)
    model = load_model(tmp_path / "out")
    assert (model.segment, model.network.training_length) == (0.1, 4410)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [../4e5f6071]", "must name models by letters and digits, got '../4e5f6071'"),
        ("models: ['*']", "must name models by letters and digits, got '*'"),
        (
            "models: [99999999]",
            "must hold 99999999-xxxxxxxx.th, 99999999.th or 99999999.safetensors",
        ),
        ("models: []", "must list the models of a bag of Demucs"),
        ("models: [4e5f6071]\nweights: [[1, 0]]", "weights must be above 0 in one model at least for each source"),
        ("models: [4e5f6071]\nweights: [[1, 1, 1]]", "weights must be of 2 sources, got 3 for each model"),
        ("models: [4e5f6071]\nweights: [[1, -1]]", "must have weights of 1 models, as many for each, got"),
        ("models: [4e5f6071]\nsegment: no", "must have a segment in seconds, got false"),
        ("models: [4e5f6071]\nnew: 1", "must hold models, weights and segment alone, got 'new'"),
        (
            "models: [0a1b2c3d]\nsegment: 1",
            "segment must not be longer than that of the training of an HTDemucs",
        ),
    ],
)
def test_a_bag_that_cannot_be_is_refused(bag, run, text, message):
    bag.write_text(text)
    assert message in run(bag, code=2)


def test_two_files_of_a_model_of_a_bag_are_refused(bag, tmp_path, run):
    shutil.copyfile(tmp_path / HYBRID, tmp_path / "4e5f6071.th")
    refused = run(bag, code=2)
    assert f"must hold one file of 4e5f6071, got {HYBRID} and 4e5f6071.th: move one away" in refused


def test_models_of_a_bag_go_together(reference_root, bag, tmp_path, run):
    golden = read_golden(reference_root, "hdemucs")
    write_package(tmp_path / "aaaaaaaa.th", golden.config["cls"], arguments_of(golden), golden.tensors)
    bag.write_text("models: [4e5f6071, aaaaaaaa]")
    assert "members must agree in sources" in run(bag, code=2)


# Describing


def test_a_folder_is_described_by_the_command(reference_root, tmp_path, run, capsys):
    run(reference_root / PACKAGES / HYBRID)
    assert model_command(["info", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["sources    drums, vocals", "network    HDemucs, 5924 parameters"]
    assert "chunks     44 s, overlap 0.25, window triangle, last short; normalised by the whole recording" in lines
    assert model_command(["info", str(tmp_path)]) == 2
    assert "is no model folder" in capsys.readouterr().err


def test_a_model_that_was_trained_here_is_described(tmp_path):
    network = {"class": "BLSTM", "hidden_size": 8}
    card = {"recipe": "vocals", "data": "demo", "licence": None, "validation": {"epoch": 3, "loss": -1.25, "SDR": None}}
    model = Separator(["vocals"], network)
    save_model(model, tmp_path, card)
    lines = describe_model(tmp_path).splitlines()
    assert lines[1] == f"network    BLSTM, {model.n_parameters} parameters"
    assert {"recipe     vocals", "data       demo", "validation epoch 3, loss -1.25", "licence    not stated"} < {
        *lines
    }


def test_a_network_that_is_not_of_the_package_is_described_and_not_imported(tmp_path):
    save_model(Separator(["vocals"], {"class": "networks.Filterbank"}), tmp_path)
    text = (tmp_path / "model.json").read_text().replace("networks.Filterbank", "somebody_elses.Filterbank")
    (tmp_path / "model.json").write_text(text)
    assert "network    Filterbank, 38 values; its class is not of sepkit" in describe_model(tmp_path)
    (tmp_path / "model.json").write_text(text.replace('"network": {', '"network": 1, "x": {'))
    with pytest.raises(ModelError, match="describes no separator: copy it again"):
        describe_model(tmp_path)


# Mixed-up files, and folders that others have damaged


@pytest.mark.parametrize(
    ("weights", "config", "key"),
    [
        ("bs_roformer", "mdx23c", "MDX23C, as its model.num_subbands"),
        ("mdx23c", "bs_roformer", "RoFormer, as its model.time_transformer_depth"),
        ("htdemucs", "scnet", "SCNet, as its model.band_SR"),
        ("scnet", "bandit", "bandit, as its model.band_specs"),
    ],
)
def test_the_config_of_another_family_is_named_as_such(reference_root, tmp_path, run, weights, config, key):
    for name in ("weights", "config"):
        (tmp_path / name).mkdir()
    one = write_published(reference_root, tmp_path / "weights", weights)
    other = write_published(reference_root, tmp_path / "config", config)
    assert f"of a network of the family {key} tells" in run(one.weights, "--config", other.options[1], code=2)


@pytest.mark.parametrize("name", ["", "model.safetensors", "model.json"])
def test_what_is_of_a_model_folder_is_used_as_it_is(reference_root, tmp_path, run, name):
    written = write_published(reference_root, tmp_path, "mdx23c")
    run(written.weights, *written.options)
    said = run(tmp_path / "out" / name, output="again", code=2)
    assert said == f"sepkit-model: {tmp_path / 'out'} is a model folder of sepkit already: use it as it is\n"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["long", "null"])
def test_a_name_that_no_folder_can_have_is_answered(reference_root, tmp_path, name):
    written = write_published(reference_root, tmp_path, "mdx23c")
    with pytest.raises(ValueError, match=r"cannot be a folder: .*, give another by --output"):
        import_model(written.weights, written.options[1], tmp_path / name)


def test_a_folder_that_another_process_wrote_meanwhile_is_not_replaced(reference_root, tmp_path):
    written = write_published(reference_root, tmp_path, "mdx23c")
    arguments = (written.weights, written.options[1], tmp_path / "out")

    def log(line: str) -> None:
        if line.startswith("network"):
            import_model(*arguments)

    with pytest.raises(ValueError, match=f"{tmp_path / 'out'} holds a model already"):
        import_model(*arguments, log=log)


@pytest.mark.parametrize(("name", "option"), [("a b", "--model 'a b'"), ("-n", "--model=-n"), ("é", "--model 'é'")])
def test_what_to_do_next_can_be_typed(reference_root, tmp_path, monkeypatch, run, name, option):
    monkeypatch.chdir(tmp_path)
    written = write_published(reference_root, tmp_path, "mdx23c")
    written.weights.rename(tmp_path / f"{name}.ckpt")
    lines = run(f"./{name}.ckpt", *written.options, output=None)
    assert lines.endswith(f"next       sepkit-separate SONG {option}\n")


CARD_VALUES = (3, "text", None, [3], {"a": 3}, {"files": 3}, {"files": [3]}, {"config": {"file": 3}})


@pytest.mark.parametrize("value", CARD_VALUES, ids=repr)
@pytest.mark.parametrize("key", ["format", "source", "score", "licence", "base", "validation", "data", "recipe"])
def test_a_card_that_was_changed_is_described_or_answered(described, key, value):
    rewrite(described, **{key: value})
    _describe_or_answer(described)


@pytest.mark.parametrize("value", CARD_VALUES, ids=repr)
@pytest.mark.parametrize("key", ["sources", "network", "transform", "chunking", "segment", "n_channels", "postfilter"])
def test_a_separator_that_was_changed_is_described_or_answered(described, key, value):
    separator = read_card(described)["separator"]
    rewrite(described, separator={**separator, key: value})
    _describe_or_answer(described)


def test_weights_that_were_cut_off_are_not_described(described):
    weights = described / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model.safetensors is damaged .*: copy it again"):
        describe_model(described)


@pytest.fixture
def described(tmp_path):
    network = {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "n_bands": 4}
    save_model(
        Separator(["a"], network, 8000, 1, 1.0, {"class": "STFT", "n_fft": 64, "hop_length": 16}), tmp_path / "m"
    )
    return tmp_path / "m"


def rewrite(folder: Path, **changes: Any) -> None:
    card = read_card(folder)
    (folder / "model.json").write_text(json.dumps({**card, **changes}))


def _describe_or_answer(folder: Path) -> None:
    try:
        said = describe_model(folder)
    except ModelError as error:
        said = str(error)
        assert "\n" not in said
    assert str(folder) in said
