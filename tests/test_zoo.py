"""Published models by name, from a server on this machine: shown, fetched, imported, separated and scored with."""

import hashlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from goldens import snr
from networks import SMALL
from published import write_published
from serving import Server, serving
from songs import noise, write_song
from torchaudio.models import HDemucs

from sepkit import audio, downloads, load_model, registry, separate
from sepkit.cache import cache_directory, model_place
from sepkit.cli import evaluate_command, model_command, separate_command
from sepkit.disk import OutputError
from sepkit.downloads import DownloadError
from sepkit.importing._tensors import rename
from sepkit.importing.mdx23c import _NAMES
from sepkit.importing.open_unmix import _ORIGINAL
from sepkit.locks import LockedError, locked
from sepkit.model_folder import ModelError, locate_model, read_card
from sepkit.registry import BAGS, find_model_entry, list_models
from sepkit.separator import Separator
from sepkit.zoo import _choose_files, get_model

RATE = 8000
NAME = "msst/mdx23c"
ENTRIES = {model.name: model for model in list_models()}
CONFIG = {
    "audio": {
        "chunk_size": 4096, "dim_f": 128, "hop_length": 64, "n_fft": 256, "num_channels": 2, "sample_rate": RATE,
    },
    "model": {"norm": "InstanceNorm", "act": "gelu", "num_subbands": 4},
    "training": {"instruments": ["vocals", "drums"], "target_instrument": None},
    "inference": {"num_overlap": 2, "batch_size": 1},
}  # fmt: skip


def separator() -> Separator:
    torch.manual_seed(0)
    network = {"class": "MDX23C", **SMALL["MDX23C"], "n_subbands": 4, "n_used_bins": 128}
    return Separator(["vocals", "drums"], network, RATE, 2, 0.512, {"class": "STFT", "n_fft": 256, "hop_length": 64})


def checkpoint() -> bytes:
    """Write weights under the names that the community's toolkits give them."""
    names = {name.removeprefix("network."): tensor for name, tensor in separator().state_dict().items()}
    return saved({rename(name, _NAMES): tensor for name, tensor in names.items() if not name.startswith("transform")})


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


WEIGHTS = checkpoint()
SHA = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch) -> Server:
    """A server, an empty cache and folder, and a registry whose first model is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_PAUSES", ())
    with serving() as running:
        publish(monkeypatch, running, CONFIG)
        yield running


def publish(monkeypatch, running: Server, config: object, name: str = NAME, **fields) -> None:
    urls = {
        "weights_url": running.put("/mdx23c.ckpt", WEIGHTS),
        "config_url": running.put("/mdx23c.yaml", yaml.safe_dump(config).encode()),
    }
    entry = replace(ENTRIES[name], file="mdx23c.ckpt", **{**urls, "sha256": SHA, "size": len(WEIGHTS), **fields})
    monkeypatch.setattr(registry, "_models", lambda: {**ENTRIES, name: entry})


def fill(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").touch()


def test_a_model_is_fetched_separated_with_and_scored_by_its_name(server, capsys):
    assert model_command(["get", NAME, "--yes"]) == 0
    out = capsys.readouterr().out
    assert f"model      {cache_directory()}/models/msst_mdx23c\nnext       sepkit-separate SONG --model {NAME}\n" in out
    write_song(Path("songs/test/one"), {name: noise(k, RATE) for k, name in enumerate(["vocals", "drums"])}, rate=RATE)
    audio.write(Path("song.wav"), torch.from_numpy(noise(7, RATE).T).float(), RATE)
    assert separate_command(["song.wav", "--model", NAME, "--device", "cpu"]) == 0
    waveform, _ = audio.read("song.wav")
    with torch.no_grad():
        estimate = separator().eval()(waveform[None, :, :4096])[0, 0]
    separated, _ = audio.read("separated/song/vocals.wav")
    torch.testing.assert_close(separated[:, :1024], estimate[:, :1024], rtol=0, atol=1e-4)
    call = ["--model", NAME, "--data", "songs", "--metrics", "uSDR", "--no-baselines", "--device", "cpu"]
    assert evaluate_command(call) == 0
    assert Path("evaluation/msst_mdx23c/scores.csv").is_file()
    assert model_command(["info", NAME]) == 0
    described = capsys.readouterr().out
    assert f"{server.url}/mdx23c.ckpt" in described
    assert "10.17" in described


def test_what_is_known_is_said_before_anything_is_loaded(server):
    log = []
    get_model(NAME, log=lambda line: log.append((line, len(server.requests))))
    before = "\n".join(line for line, n_requests in log if not n_requests)
    for said in (
        "licence    not stated for the weights, which",
        f"{server.url}/mdx23c.ckpt",
        "vocals: 10.17 [SDR, Multisong",
    ):
        assert said in before


def test_the_card_says_what_the_registry_states(server):
    card = read_card(get_model(NAME))
    assert card["licence"] == "not stated"
    assert card["score"] == {
        "stated": "vocals: 10.17",
        "metric": "SDR",
        "data set": "Multisong (MVSEP)",
        "by": "MSST docs",
    }
    source = card["source"]
    assert (source["name"], source["address"], source["sha256"]) == (NAME, f"{server.url}/mdx23c.ckpt", SHA)


def test_a_model_that_was_fetched_is_not_fetched_again(server):
    folder, log = get_model(NAME), []
    server.files.clear()
    assert get_model(NAME, log=log.append) == folder
    assert log == [f"{NAME} was fetched before"]
    assert get_model(NAME, "elsewhere", log=log.append) == Path("elsewhere")
    assert len(server.requests) == 2
    assert load_model(NAME).settings == load_model("elsewhere").settings


def test_what_is_set_is_set_anew_without_fetching(server):
    get_model(NAME)
    assert load_model(get_model(NAME, overrides={"audio.chunk_size": 8192})).segment == 1.024
    assert len(server.requests) == 2


def test_a_download_that_broke_off_goes_on(server, capsys):
    server.files["/mdx23c.ckpt"].cuts = [5000]
    assert model_command(["get", NAME, "--yes"]) == 1
    assert "broke off after 5000 of" in capsys.readouterr().err
    assert model_command(["get", NAME, "--yes"]) == 0
    assert ("/mdx23c.ckpt", "bytes=5000-") in server.requests


def test_a_wrong_hash_leaves_no_model(server, monkeypatch, capsys):
    publish(monkeypatch, server, CONFIG, sha256="0" * 64)
    assert model_command(["get", NAME, "--yes"]) == 1
    assert f"gave a file whose sha256 is {SHA}, but {'0' * 64} is wanted: it was removed" in capsys.readouterr().err
    assert not model_place(NAME).exists()


def test_a_config_is_no_larger_than_configs_are(server):
    server.put("/mdx23c.yaml", bytes(2 << 20))
    with pytest.raises(DownloadError, match="has 2097152 bytes, but such a file has 1048576 at most"):
        get_model(NAME)


def test_what_no_file_states_is_asked_for_by_name(server, monkeypatch, capsys):
    lacking = {**CONFIG, "model": {"act": "gelu", "num_subbands": 4}}
    publish(monkeypatch, server, lacking)
    assert model_command(["get", NAME, "--yes"]) == 2
    assert "--set model.norm=InstanceNorm" in capsys.readouterr().err
    assert model_command(["get", NAME, "--yes", "--set", "model.norm=InstanceNorm"]) == 0


def test_another_process_waits():
    place = cache_directory() / "downloads" / NAME
    place.mkdir(parents=True)
    with (
        locked(place, ""),
        pytest.raises(LockedError, match=r"download of msst/mdx23c is in use .*: wait until"),
    ):
        get_model(NAME)


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: get_model(NAME, path), fill])
def test_what_is_there_is_not_replaced(server, make):
    make(Path("mine"))
    n_requests = len(server.requests)
    with pytest.raises(ModelError, match="mine is there already: give another --output, or remove it"):
        get_model(NAME, "mine")
    assert len(server.requests) == n_requests


@pytest.mark.parametrize("output", ["x" * 300, "a\0b"], ids=["long", "null"])
def test_a_name_that_no_folder_can_have_is_answered_before_anything_is_fetched(server, output):
    with pytest.raises(ValueError, match=r"cannot be a folder: .*, give another by --output"):
        get_model(NAME, output)
    assert server.requests == []


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_fetched(server):
    Path("file").touch()
    with pytest.raises(OutputError, match=r"model cannot be written to: .*; give another --output"):
        get_model(NAME, Path("file", "model"))
    assert server.requests == []


def test_an_empty_folder_is_filled():
    Path("mine").mkdir()
    assert load_model(get_model(NAME, "mine")).sources == ["vocals", "drums"]


# Asking


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_a_terminal_is_asked_once(server, monkeypatch, capsys, answer, code):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert model_command(["get", NAME]) == code
    out = capsys.readouterr()
    assert out.out.count("fetch msst/mdx23c, as it is described above? [y/N]") == 1
    assert bool(server.requests) == (code == 0)
    if code:
        assert "msst/mdx23c was not fetched, because the question was not answered with yes" in out.err


def test_without_a_terminal_yes_must_be_said(server, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert model_command(["get", NAME]) == 2
    assert "there is no terminal to ask on: agree to what is stated above with --yes" in capsys.readouterr().err
    assert server.requests == []


def test_a_mistyped_name_is_answered(capsys):
    assert model_command(["get", "htdemucs_tf", "--yes"]) == 2
    assert "got 'htdemucs_tf'; did you mean 'htdemucs_ft'?" in capsys.readouterr().err


def test_bandit_2_is_fetched_and_asked_for_nothing(server, monkeypatch, tmp_path, reference_root):
    written = write_published(reference_root, tmp_path, "bandit_second")
    config, name = Path(written.options[1]), "uvr/bandit-v2-multilang"
    entry = replace(ENTRIES[name], file="m.ckpt", weights_url=server.put("/m", written.weights.read_bytes()))
    entry = replace(entry, sha256="", size=None, config_url=server.put("/c", config.read_bytes()))
    monkeypatch.setattr(registry, "_models", lambda: {name: entry})
    model = load_model(get_model(name))
    with torch.no_grad():
        assert snr(model(written.input), written.output) > 90


@pytest.mark.parametrize("text", ["model.norm", "=x", " =x"])
def test_what_is_set_has_a_key_and_a_value(capsys, text):
    assert model_command(["get", NAME, "--yes", "--set", text]) == 2
    assert f"--set wants KEY=VALUE, got {text}" in capsys.readouterr().err


def test_a_value_that_is_no_yaml_is_told(capsys):
    assert model_command(["get", NAME, "--yes", "--set", "a=[1"]) == 2
    assert "--set a wants a value in YAML, got [1:" in capsys.readouterr().err


# Which file is what


def test_a_bag_of_open_unmix_is_one_model(server, monkeypatch):
    network = {"class": "OpenUnmix", **SMALL["OpenUnmix"]}
    rows = []
    for stem in ("vocals", "drums"):
        own = Separator([stem], network, 44100, 2, 6.0, {"class": "STFT", "n_fft": 4096, "hop_length": 1024})
        content = saved(unmixed(own))
        row = replace(ENTRIES[f"umxl/{stem}"], file=f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth")
        rows.append(replace(row, weights_url=server.put(f"/{row.file}", content)))
    models = {row.name: row for row in rows} | {"umxl": registry._join("umxl", tuple(rows))}
    monkeypatch.setattr(registry, "_models", lambda: models)
    log = []
    model = load_model(get_model("umxl", log=log.append))
    assert model.sources == ["vocals", "drums"]
    assert "set        n_hop=1024, which its files do not state (--set n_hop=VALUE for another)" in log
    assert load_model(get_model("umxl/drums")).sources == ["drums"]
    assert len(server.requests) == 2
    assert read_card(locate_model("umxl"))["licence"] == "CC BY-NC-SA 4.0"


def unmixed(own: Separator) -> dict[str, torch.Tensor]:
    """Write one target's weights under the names of openunmix."""
    content = {}
    for name, tensor in own.network.state_dict().items():
        _, _, part, *rest = name.split(".")
        content[".".join([_ORIGINAL[part], *rest])] = -tensor if part == "mean" else tensor
    return content


PACKAGES = {"mdx/0d19c1c6": "0a1b2c3d-4dc10e6a.th", "mdx/7ecf8ec1": "4e5f6071-8f50764d.th"}


def test_a_bag_of_demucs_is_one_model(server, monkeypatch, reference_root):
    golden = reference_root / "goldens" / "models" / "demucs_package"
    config_url = server.put("/mdx.yaml", (golden / "bag.yaml").read_bytes())
    rows = [
        replace(ENTRIES[name], file=file, weights_url=server.put(f"/{file}", (golden / file).read_bytes()))
        for name, file in PACKAGES.items()
    ]
    rows = tuple(replace(row, config_url=config_url) for row in rows)
    models = {row.name: row for row in rows} | {"mdx": registry._join("mdx", rows)}
    monkeypatch.setattr(registry, "_models", lambda: models)
    bag, member = load_model(get_model("mdx")), load_model(get_model("mdx/7ecf8ec1"))
    assert [path for path, _ in server.requests] == [*(f"/{file}" for file in PACKAGES.values()), "/mdx.yaml"]
    assert len(bag.settings["network"]["members"]) == 2
    bag.normalize = None  # the reference value is without
    arrays = np.load(golden / "io.npz")
    separated = separate(bag, torch.from_numpy(arrays["input"][0]), sample_rate=bag.sample_rate)
    assert snr(torch.stack([*separated.values()]), torch.from_numpy(arrays["output_bag"][0])) > 90
    assert member.sources == bag.sources
    source = read_card(locate_model("mdx"))["source"]
    assert source["address"] == config_url
    assert [file["file"] for file in source["files"]] == [*PACKAGES.values()]


def test_a_file_of_torchaudio_needs_no_config(server, monkeypatch):
    torch.manual_seed(0)
    sources = ["drums", "bass", "other", "vocals"]
    original = HDemucs(sources, channels=4).eval()
    url, name = server.put("/h.pt", saved(original.state_dict())), "torchaudio/hdemucs_high_musdb"
    monkeypatch.setattr(registry, "_models", lambda: {name: replace(ENTRIES[name], file="h.pt", weights_url=url)})
    log = []
    model = load_model(get_model(name, log=log.append))
    assert "set        sources=[drums,bass,other,vocals], which its files do not state" in "\n".join(log)
    mixture = torch.rand(1, 2, 16384, generator=torch.Generator().manual_seed(1)) - 0.5
    model.normalize = None  # as the original's forward
    with torch.no_grad():
        assert snr(model(mixture), original(mixture)) > 90
    assert (model.sources, model.sample_rate, model.segment) == (sources, 44100, 10)


def test_a_roformer_needs_nothing_by_hand(server, monkeypatch, tmp_path, reference_root):
    written = write_published(reference_root, tmp_path, "bs_roformer")
    config, name = Path(written.options[written.options.index("--config") + 1]), "msst/bs-roformer-viperx-edition"
    entry = replace(ENTRIES[name], file="m.ckpt", weights_url=server.put("/m", written.weights.read_bytes()))
    entry = replace(entry, sha256="", size=None, config_url=server.put("/c", config.read_bytes()))
    monkeypatch.setattr(registry, "_models", lambda: {name: entry})
    log = []
    model = load_model(get_model(name, log=log.append))
    said = "set        model.zero_dc=true, which its files do not state (--set model.zero_dc=VALUE for another)"
    assert (said in log) == ("model.zero_dc=true" in written.options)
    with torch.no_grad():
        assert snr(model(written.input), written.output) > 90


BAG_CONFIG = {"models": ["a", "b"], "segment": 44}


@pytest.mark.parametrize(
    ("name", "config", "weights", "by", "known"),
    [
        ("mdx", BAG_CONFIG, "c.yaml", None, {}),
        ("hdemucs_mmi", BAG_CONFIG, "c.yaml", None, {}),
        ("mdx/0d19c1c6", BAG_CONFIG, "0d19c1c6-0f06f20e.th", None, {"segment": 44}),
        ("htdemucs_ft/drums", {"models": []}, "f7e0c4bc-ba3fe64a.th", None, {}),
        ("umxl", None, "", None, {"sample_rate": 44100, "n_hop": 1024, "segment": 6.0}),
        ("umxhq/bass", None, "bass-8d85a5bd.pth", None, {"sample_rate": 44100, "n_hop": 1024, "segment": 6.0}),
        ("msst/bs-polarformer", {"model": {}}, "model_bs_polarformer_float16.ckpt", "c.yaml", {"model.zero_dc": True}),
        ("msst/bs-polarformer", {"model": {"zero_dc": False}}, "model_bs_polarformer_float16.ckpt", "c.yaml", {}),
        ("msst/bs-polarformer", ["damaged"], "model_bs_polarformer_float16.ckpt", "c.yaml", {"model.zero_dc": True}),
        ("splifft/bs_roformer-unwa-inst_exp_value_residual", {}, "BS_Inst_EXP_VRL.ckpt", "c.yaml", {}),
        ("msst/scnet-xl-musdb18hq", {}, "model_scnet_ep_54_sdr_9.8051.ckpt", "c.yaml", {}),
        (
            "torchaudio/hdemucs_high_musdb",
            None,
            "hdemucs_high_musdbhq_only.pt",
            None,
            {"samplerate": 44100, "nfft": 4096, "segment": 10, "sources": ["drums", "bass", "other", "vocals"]},
        ),
    ],
)
def test_each_kind_is_imported_by_what_belongs_to_it(tmp_path, name, config, weights, by, known):
    path = None
    if config is not None:
        path = tmp_path / "c.yaml"
        path.write_text(json.dumps(config))
    found = _choose_files(find_model_entry(name), tmp_path, path)
    if name == "umxhq/bass":
        known = {**known, "sources": ["bass"]}
    assert found == (tmp_path / weights, by and tmp_path / by, known)


@pytest.mark.parametrize("bag", BAGS)
def test_files_of_a_bag_lie_together(bag):
    model = find_model_entry(bag)
    assert {row.group for row in model.members} == {model.group} == {bag}
    assert len({row.file for row in model.members}) == len(model.members)


# Names where folders are taken


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("htdemucs", "htdemucs is a published model that was not fetched: `sepkit-model get htdemucs` fetches it"),
        ("htdemux", "htdemux is no model folder: .*; did you mean 'htdemucs'.* `sepkit-model get NAME` fetches one"),
        (
            "runs/vocals",
            "runs/vocals is no model folder: model.json and model.safetensors missing, give a training run",
        ),
    ],
)
def test_a_model_that_is_not_here_says_how_to_get_it(name, said):
    with pytest.raises(ModelError, match=said):
        load_model(name)


def test_a_folder_comes_before_a_name():
    get_model(NAME)
    assert locate_model(NAME) == model_place(NAME)
    Path(NAME).mkdir(parents=True)
    assert locate_model(NAME) == model_place(NAME)
    (Path(NAME) / "model.json").touch()
    assert locate_model(NAME) == Path(NAME)


def test_the_variable_takes_a_name(monkeypatch):
    get_model(NAME)
    audio.write(Path("song.wav"), torch.from_numpy(noise(7, 2000).T).float(), RATE)
    monkeypatch.setenv("SEPKIT_MODEL", NAME)
    assert separate_command(["song.wav", "--device", "cpu"]) == 0
