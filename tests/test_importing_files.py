"""Nothing in a file of others can run, fill the memory or leave its place; what is refused is refused by its name."""

import io
import json
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from published import TAKEN, WRAPPINGS, write_package
from safetensors.torch import save_file
from torch import Tensor

from sepkit.importing._checkpoints import open_checkpoint
from sepkit.importing._given import check_numbers, read_config
from sepkit.importing._materials import read_file, read_folder
from sepkit.importing._pickles import CheckpointError, StoredTensor
from sepkit.importing._wrappings import unwrap
from sepkit.importing.model import read_model

PACKAGES = Path("goldens", "models", "demucs_package")


def tensors_of_all_kinds() -> dict[str, Tensor]:
    values = torch.arange(12, dtype=torch.float32)
    kinds = (
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
    return {
        "turned": values.view(3, 4).T,
        "part": values[3:7],
        "shared": values,
        "number": torch.tensor(3.5),
        "empty": torch.empty(0, 2),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "complex": torch.ones(2, dtype=torch.complex64),
        **{str(kind): torch.tensor([0, 1, 2]).to(kind) for kind in kinds},
    }


def read(path: Path) -> dict[str, Tensor]:
    with open_checkpoint(path) as checkpoint:
        return checkpoint.load(unwrap(checkpoint.content).tensors)


# What is read


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_of_all_kinds_are_read_as_torch_reads_them(tmp_path, old, protocol):
    tensors = tensors_of_all_kinds()
    path = tmp_path / "model.pth"
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    found = read(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor.detach()) for name, tensor in tensors.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_what_is_not_asked_for_is_not_read(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"a": torch.ones(2)}, "optimizer": {"state": {0: torch.ones(3)}}}, path)
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint.content["optimizer"]["state"][0], StoredTensor)
        assert unwrap(checkpoint.content).tensors.keys() == {"a"}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_are_taken_out_of_what_they_are_wrapped_in(tmp_path, wrapping):
    tensors = {"layer.weight": torch.rand(2, 3), "layer.bias": torch.rand(2)}
    torch.save(WRAPPINGS[wrapping](tensors), tmp_path / "model.ckpt")
    material = read_file(tmp_path / "model.ckpt")
    assert material.taken == TAKEN[wrapping]
    assert material.tensors.keys() == tensors.keys()
    assert all(torch.equal(material.tensors[name], tensor) for name, tensor in tensors.items())


def averaged_beside(averages: str = "ema_model.") -> dict:
    """Weights of ones as Lightning keeps them, beside averages, which are zeros."""
    ones = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.ones(2)}
    content = {f"model.{name}": tensor for name, tensor in ones.items()}
    content |= {f"{averages}{name}": torch.zeros_like(tensor) for name, tensor in ones.items()}
    return {"state_dict": {"loss.window": torch.ones(3), **content}}


@pytest.mark.parametrize("averages", ["ema_model.", "model_ema.", "ema.module.", "swa_model.", "avg."])
def test_weights_beside_their_averages_are_asked_for(tmp_path, averages):
    torch.save(averaged_beside(averages), tmp_path / "model.ckpt")
    part = averages.partition(".")[0]
    match = rf"below model and {part}: choose by --set weights={part} or weights=model$"
    with pytest.raises(CheckpointError, match=match):
        read_file(tmp_path / "model.ckpt")
    for chosen, value in ((part, 0), ("model", 1)):
        material = read_file(tmp_path / "model.ckpt", chosen)
        assert material.taken[:2] == ["state_dict", f"{chosen}, as chosen"]
        assert material.tensors.keys() == {"layer.weight", "layer.bias"}
        assert all(bool((tensor == value).all()) for tensor in material.tensors.values())


@pytest.mark.parametrize(("chosen", "value"), [("ema", 0), ("state_dict", 1), (None, 1)])
def test_weights_below_another_key_can_be_chosen(tmp_path, chosen, value):
    torch.save({"state_dict": {"a": torch.ones(2)}, "ema": {"a": torch.zeros(2)}}, tmp_path / "model.ckpt")
    material = read_file(tmp_path / "model.ckpt", chosen)
    assert bool((material.tensors["a"] == value).all())
    other = {"state_dict": "ema", "ema": "state_dict"}[chosen or "state_dict"]
    assert material.taken == [f"{chosen or 'state_dict'}, not {other}, which is there too"]


@pytest.mark.parametrize("chosen", ["ema", "mod", "model.", "layer", "optimizer"])
def test_weights_that_a_file_lacks_cannot_be_chosen(tmp_path, chosen):
    torch.save({**averaged_beside(), "optimizer": {"lr": 1.0}}, tmp_path / "model.ckpt")
    match = rf"weights are below, loss or model or ema_model, got {re.escape(chosen)}$"
    with pytest.raises(CheckpointError, match=match):
        read_file(tmp_path / "model.ckpt", chosen)


@pytest.mark.parametrize("chosen", [3, "", None, ["model"]])
def test_chosen_weights_must_be_a_name(tmp_path, chosen):
    torch.save(averaged_beside(), tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"weights must be a name, as in --set weights=ema_model, got "):
        read_model(tmp_path / "model.ckpt", overrides={"weights": chosen})


def test_numbers_of_numpy_are_read_in_a_package_of_demucs(reference_root):
    with open_checkpoint(reference_root / PACKAGES / "numpy_scalars.th") as checkpoint:
        assert checkpoint.content["training_args"] == {"best": 1.5, "steps": 7, "lr": 0.25}


@pytest.mark.parametrize("segment", [Fraction(39, 5), 44, 7.8])
def test_fractions_in_a_package_are_exact(tmp_path, segment):
    arguments = {"sources": ["a"], "segment": segment}
    write_package(tmp_path / "model.th", "demucs.htdemucs.HTDemucs", arguments, {"a": torch.ones(1)})
    material = read_file(tmp_path / "model.th")
    assert material.config["segment"] == segment
    assert material.class_name == "demucs.htdemucs.HTDemucs"


# Pickles


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


class State:
    """Pickled as an attribute of what a name stands for."""

    def __reduce__(self) -> tuple:
        return Fraction, (1, 2), {"numerator": 3}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Call(os.system, "touch gone"), f"{os.system.__module__}.system"),
        (Call(eval, "1 + 1"), "(__builtin__|builtins).eval"),
        (Call(print, "hello"), "(__builtin__|builtins).print"),
        (Call(getattr, "", "join"), "(__builtin__|builtins).getattr"),
        (io.BytesIO, "_io.BytesIO"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_a_pickle_that_names_anything_else_is_refused_by_that_name(tmp_path, monkeypatch, content, name, old):
    monkeypatch.chdir(tmp_path)
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "extra": content}, "model.ckpt", _use_new_zipfile_serialization=not old
    )
    with pytest.raises(CheckpointError, match=f"it names ({name}), which no weights need and which could run anything"):
        read_file(Path("model.ckpt"))
    assert not Path("gone").exists()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("hostile.th", "it names posix.getcwd, which no weights need"),
        ("huge_fraction.th", r"a fraction must be of two numbers below 1e12, got \('1e999999999',\)"),
        ("other_class.th", "it names collections.Counter"),
        (
            "quantised.th",
            "__quantized: its weights are packed by DiffQ, which is not supported: take the",
        ),
        ("quantised_v2.th", "compressed: its weights are packed by DiffQ"),
    ],
)
def test_packages_that_a_safe_reader_must_refuse_are(reference_root, file, message):
    with pytest.raises(CheckpointError, match=message):
        read_file(reference_root / PACKAGES / file)


def write_pickle(path: Path, raw: bytes) -> Path:
    """Write a file of torch around the bytes of a pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        archive.writestr("archive/data/0", bytes(8))
    return path


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"


def tensor_pickle(n_values: bytes, offset: bytes, shape: bytes, stride: bytes) -> bytes:
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + n_values + b"tQ" + offset + shape + stride + b"\x89NtR"
    return b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "it names os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "it names os.system"),
        (b"\x80\x02cfractions\nFraction\nK\x01K\x00\x86R.", "a fraction divides by 0"),
        (b"\x80\x02cfractions\nFraction\nK\x01K\x02\x86R}X\x01\x00\x00\x00aK\x01sb.", "it sets attributes of what has"),
        (b"\x80\x02cdemucs.htdemucs\nHTDemucs\n)R.", "it calls what cannot be called"),
        (b"\x80\x02cdemucs.htdemucs\nHTDemucs\n)\x81.", "it calls what cannot be called"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
            "bytes must be written as latin1",
        ),
        (b"\x80\x02}))s.", "a mapping has keys that are no names"),
        (b"\x80\x02(i__builtin__\neval\n.", "instruction 105 is not known"),
        (b"\x80\x02\x82\x01.", "instruction 130 is not known"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "it holds no weights by name but a list"),  # memory for 2 ** 32 places, in C
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x00.", "what describes its tensors is larger than 16 MB"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "what describes its tensors is larger than 16 MB"),
        (b"\x80\x02" + b"(" * 3000 + b".", "it is damaged"),
        (b"\x80\x02]", "it is damaged .EOFError.: download it again"),
        (
            tensor_pickle(b"K\x02", b"K\x00", b"J\x00\x00\x00\x40\x85", b"K\x01\x85"),
            "a tensor of the shape .* has 2 values",
        ),
        (
            tensor_pickle(b"K\x02", b"K\x00", b"J\x00\x00\x00\x40\x85", b"K\x00\x85"),
            "a tensor of the shape .* has 2 values",
        ),
        (
            tensor_pickle(b"K\x02", b"K\x05", b"K\x01\x85", b"K\x01\x85"),
            r"of the shape \(1,\) has 2 values in the file",
        ),
        (tensor_pickle(b"K\x02", b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), r"has the shape \(-1,\)"),
        (tensor_pickle(b"K\x02", b"K\x00", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"), r"strides \(-1,\)"),
        (tensor_pickle(b"K\x09", b"K\x00", b"K\x09\x85", b"K\x01\x85"), "archive/data/0 must have 36 bytes, got 8"),
        (
            tensor_pickle(b"J\x00\x00\x00\x7f", b"K\x00", b"K\x01\x85", b"K\x01\x85"),
            "must have 8522825728 bytes, got 8",
        ),
    ],
)
def test_pickles_made_by_hand_are_refused(tmp_path, raw, message):
    with pytest.raises(CheckpointError, match=message):
        read_file(write_pickle(tmp_path / "model.ckpt", raw))


def test_tensors_that_repeat_a_storage_without_end_are_refused(tmp_path):
    values = torch.zeros(1 << 20)
    torch.save({f"a{number}": values for number in range(40)}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"its tensors have 167772160 bytes in a file of .* repeat each other"):
        read_file(tmp_path / "model.ckpt")


def test_keys_that_would_take_for_ever_to_hash_are_refused(tmp_path):
    raw = b"\x80\x02}" + b")" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"Ns."
    with pytest.raises(CheckpointError, match="a mapping has keys that are no names"):
        read_file(write_pickle(tmp_path / "model.ckpt", raw))


# Archives and other forms


def rewrite(path: Path, compression: int, extra: dict[str, bytes]) -> Path:
    """Write an archive of torch again."""
    other = path.with_suffix(".zip")
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w", compression) as written:
        for info in archive.infolist():
            written.writestr(info.filename, archive.read(info))
        for name, raw in extra.items():
            written.writestr(name, raw)
    return other


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.save({"a": torch.ones(1000), "b": torch.zeros(3)}, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def test_a_zip_bomb_is_refused(saved):
    bomb = rewrite(saved, zipfile.ZIP_DEFLATED, {"model/data/9": bytes(1 << 24)})
    with pytest.raises(CheckpointError, match="torch compresses and encrypts nothing, and here something is"):
        read_file(bomb)


def test_members_that_overlap_are_refused(saved):
    archive = bytearray(rewrite(saved, zipfile.ZIP_STORED, {}).read_bytes())
    place = archive.rindex(b"PK\x01\x02")
    archive[place + 24 : place + 28] = struct.pack("<I", 1 << 30)
    saved.write_bytes(archive)
    with pytest.raises(CheckpointError, match=r"its parts are larger than itself|it is damaged"):
        read_file(saved)


def test_a_program_is_refused(saved):
    program = rewrite(saved, zipfile.ZIP_STORED, {"model/constants.pkl": b"\x80\x02).", "model/code/a.py": b""})
    with pytest.raises(CheckpointError, match="it is a TorchScript program, not weights"):
        read_file(program)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_file_that_was_cut_off_is_refused(tmp_path, old, kept):
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=not old)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(kept * len(raw))])
    with pytest.raises(CheckpointError, match=r"model.ckpt cannot be read: .*(damaged|cut off|download it again)"):
        read_file(path)


def test_damaged_values_are_noticed(saved):
    raw = bytearray(saved.read_bytes())
    raw[raw.index(struct.pack("<f", 1.0) * 20) + 4] ^= 0xFF
    saved.write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"data/0 is damaged .*: download it again"):
        read_file(saved)


def test_values_of_an_old_file_are_counted_before_they_are_made(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    assert raw.count(b"K\x03N") == 1
    path.write_bytes(
        raw.replace(b"K\x03N", b"J\x00\x00\x00\x7fN").replace(struct.pack("<q", 3), struct.pack("<q", 127 << 24))
    )
    with pytest.raises(CheckpointError, match="8522825728 bytes of values are more than it has left"):
        read_file(path)


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        (b"", "model.ckpt", "it is empty: download it again"),
        (b"<html>Not Found</html>", "model.ckpt", r"it is no file of torch or safetensors \(a page that a server sent"),
        (
            b"\x1f\x8b\x08\x00" + bytes(20),
            "demucs.th",
            "it is compressed, as Demucs' first version wrote",
        ),
        (b"\x08\x07\x12\x00" + bytes(20), "model.onnx", r"ONNX \(MDX-Net\) holds a program, not weights by name"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "model.ckpt",
            "it is a pointer of Git LFS, not the",
        ),
        (pickle.dumps({"a": 1}, 2), "model.pkl", "it is a pickle that torch.save did not write"),
        (b"PK\x05\x06" + bytes(18), "model.ckpt", "it is no file of torch or safetensors"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, raw, name, message):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(CheckpointError, match=message):
        read_file(tmp_path / name)


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(CheckpointError, match=r"it is no file of torch: it holds notes.txt"):
        read_file(tmp_path / "model.ckpt")


def write_header(path: Path, header: object, length: int | None = None) -> Path:
    raw = json.dumps(header).encode() if not isinstance(header, bytes) else header
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(64))
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 64]}}, "it is damaged or cut off"),
        ({"a": {"dtype": "F32", "shape": [1 << 62, 16], "data_offsets": [0, 64]}}, "it is damaged or cut off"),
        ({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 1 << 40]}}, "it is damaged or cut off"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]}}, "it is damaged or cut off"),
        (b'{"a": ' + b"[" * 5000, "nested more than 50 deep|it is damaged"),
        (b"{nothing", "it is damaged or cut off"),
    ],
)
def test_hostile_headers_of_safetensors_are_refused(tmp_path, header, message):
    with pytest.raises(CheckpointError, match=message):
        read_file(write_header(tmp_path / "model.safetensors", header))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"structure": "[1]"}, "structure: its weights are packed by DiffQ, which is not supported"),
        ({"klass": "demucs.htdemucs.HTDemucs", "kwargs": "{"}, "kwargs in its metadata are no JSON"),
        ({"klass": "demucs.htdemucs.HTDemucs", "kwargs": "[" * 9999}, "kwargs in its metadata are no JSON"),
        ({"klass": "demucs.htdemucs.HTDemucs", "kwargs": "[]"}, "args must be empty and kwargs a mapping"),
        (
            {"klass": "demucs.htdemucs.HTDemucs", "kwargs": "{}", "args": "[1]"},
            "args must be empty and kwargs a mapping",
        ),
        (
            {"klass": "demucs.htdemucs.HTDemucs", "kwargs": '{"segment": {"_type": "fraction", "numerator": 1e99}}'},
            "a fraction must be of two numbers below 1e12",
        ),
    ],
)
def test_metadata_that_cannot_be_used_are_refused(tmp_path, metadata, message):
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match=message):
        read_file(tmp_path / "model.safetensors")


# What holds no weights


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "it holds no weights by name but a list"),
        (torch.ones(1), "it holds no weights by name but one tensor"),
        ({0: torch.ones(1)}, "its tensors have numbers in place of names"),
        ({"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}, "it holds no weights by name but a, b"),
        ({"w": torch.tensor([1, float("nan")])}, "must hold finite numbers, got others in w: its training failed"),
        ({"w": torch.ones(1, dtype=torch.complex64).conj()}, "a tensor is stored negated or conjugated"),
        ({"w": torch.eye(2).to_sparse()}, r"it holds sparse tensors \(_rebuild_sparse_tensor\), which are not supp"),
        ({}, "it holds no weights by name but nothing"),
        ({"epoch": 1, "loss": 0.5}, "it holds no weights by name but epoch, loss"),
        ({"a": torch.ones(1), "note": "hello"}, "note stands among its weights and is no tensor"),
        (
            {"state_dict": {"layer.lora_A": torch.ones(1), "layer.lora_B": torch.ones(1)}},
            "it holds LoRA adapters alone",
        ),
        ({"n_averaged": torch.tensor(1)}, "it holds no weights but a counter of averages"),
        ({"klass": "HTDemucs", "kwargs": {}, "state": {"a": torch.ones(1)}}, "klass is no network of demucs"),
        ({"model_name": "DPRNNTasNet", "model_args": {}, "state_dict": {}}, "asteroid's ConvTasNet alone is supported"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path, content, message):
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        read_file(tmp_path / "model.ckpt")


def test_a_package_with_arguments_by_position_is_refused(tmp_path):
    write_package(tmp_path / "model.th", "demucs.htdemucs.HTDemucs", {}, {"a": torch.ones(1)}, (["vocals"],))
    with pytest.raises(CheckpointError, match="args must be empty and kwargs a mapping, as demucs writes them"):
        read_file(tmp_path / "model.th")


def test_a_hash_in_the_name_is_checked(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "0a1b2c3d-00000000.th")
    with pytest.raises(CheckpointError, match="must have a sha256 that begins with 00000000, as its name says, got"):
        read_file(tmp_path / "0a1b2c3d-00000000.th")


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: No such file or directory, check the path"):
        read_file(tmp_path / name)


@pytest.mark.parametrize("reader", [read_file, read_config])
def test_what_is_no_file_is_refused_before_it_is_read(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(CheckpointError, match=f"{path} must be a file, which a device or a pipe is not"):
            reader(path)
    with pytest.raises(CheckpointError, match="must be a file, which a folder is not: check the path"):
        reader(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read: File name too long, check the path"):
        reader(tmp_path / ("x" * 400))


def test_what_a_file_is_called_inside_steers_no_terminal(tmp_path):
    torch.save({"\x1b[2Jepoch": 1, "\nloss" * 1000: 0.5}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"it holds no weights by name but \?\[2Jepoch, \?loss\?loss") as raised:
        read_file(tmp_path / "model.ckpt")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 2000


# Configs


def test_tuples_in_a_config_are_lists(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "model:\n  bands: !!python/tuple\n  - 2\n  - 3\n  other: !!python/tuple [1]\n"
    )
    assert read_config(tmp_path / "config.yaml") == {"model": {"bands": [2, 3], "other": [1]}}


LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [touch gone]", "python/object/apply:os.system"),
        ("a: !!python/object/new:os.system [touch gone]", "python/object/new:os.system"),
        ("a: !!python/name:os.system", "python/name:os.system"),
        ("a: !!python/module:os", "python/module:os"),
        ("a: !!python/object:fractions.Fraction {}", "python/object:fractions.Fraction"),
        ("a: !!python/tuple 1", "expected a sequence node"),
        ("? !!python/tuple [1]\n: 2", "found unhashable key"),
        (LAUGHS, "there are more than 20000 values"),
        ("a: " + "[" * 100, "nested more than 50 deep"),
        ("a: " + "x" * (1 << 20), "it is larger than 1 MB"),
        ("[1]", "must hold a mapping, as configs do, got"),
        ("a: &a [*a]", "nested more than 50 deep|recursive"),
    ],
)
def test_hostile_configs_are_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_config(Path("config.yaml"))
    assert not Path("gone").exists()


def test_a_number_that_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match=r"chunk_size must be at most 10000000000, got int with too many digits"):
        check_numbers({"audio": {"chunk_size": 16**5000}})


def test_a_config_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes("# caf\xe9".encode("latin1"))
    with pytest.raises(CheckpointError, match="it is not UTF-8, as configs are: give yaml or JSON, or save it as that"):
        read_config(tmp_path / "config.yaml")


def test_a_hostile_config_in_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"a": ' + "[" * 9999)
    with pytest.raises(CheckpointError, match="nested more than 50 deep"):
        read_config(tmp_path / "config.json")


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold weights of Open-Unmix, TARGET.pth, and holds none"):
        read_folder(tmp_path)


def test_two_files_of_a_target_are_refused(tmp_path):
    for name in ("vocals.pth", "vocals-00000000.pth"):
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=r"must hold one file of vocals, got vocals-00000000.pth and vocals.pth"):
        read_folder(tmp_path)


def test_a_hostile_file_takes_no_memory(reference_root, tmp_path):
    bomb = write_pickle(tmp_path / "model.ckpt", b"\x80\x02]r\xff\xff\xff\xff.")
    tracemalloc.start()
    try:
        for path in (bomb, reference_root / PACKAGES / "huge_fraction.th"):
            with pytest.raises(CheckpointError):
                read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22  # bytes
    finally:
        tracemalloc.stop()
