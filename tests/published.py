"""Published networks with random weights, written to files in the shape in which the community passes them on."""

import json
import sys
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from goldens import read_golden
from networks import SMALL
from safetensors.torch import save_file
from torch import Tensor

from sepkit import models
from sepkit.importing import demucs, mdx23c, open_unmix
from sepkit.importing._tensors import rename

Tensors = dict[str, Tensor]


class Written(NamedTuple):
    """Files of a model, the options with which they are imported, and what it gives for an input."""

    weights: Path
    options: list[str]
    input: Tensor
    output: Tensor


class Noise:
    """Tensors with other values under the same names."""

    def __new__(cls, tensors: Tensors) -> Tensors:
        return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


WRAPPINGS: dict[str, Callable[[Tensors], Any]] = {
    "plain": lambda tensors: tensors,
    "state_dict": lambda tensors: {"epoch": 3, "state_dict": OrderedDict(tensors), "best_loss": torch.tensor(0.1)},
    "resumed": lambda tensors: {
        "model_state_dict": tensors,
        "optimizer_state_dict": {
            "state": {0: {"step": torch.tensor(1.0)}},
            "param_groups": [{"lr": 1e-4, "params": [0]}],
        },
        "epoch": 7,
        "best_metric": 9.5,
    },
    "distributed": lambda tensors: {"model_state_dict": {f"module.{name}": value for name, value in tensors.items()}},
    "compiled": lambda tensors: {f"module._orig_mod.{name}": value for name, value in tensors.items()},
    "averaged": lambda tensors: {
        "n_averaged": torch.tensor(100),
        **{f"module.{name}": value for name, value in tensors.items()},
    },
    "ema_pytorch": lambda tensors: {
        "initted": torch.tensor([True]),
        "step": torch.tensor([9]),
        **{f"online_model.{name}": value for name, value in Noise(tensors).items()},
        **{f"ema_model.{name}": value for name, value in tensors.items()},
    },
    "ema_pytorch alone": lambda tensors: {
        "ema": {
            "initted": torch.tensor([True]),
            "step": torch.tensor([9]),
            **{f"ema_model.module.{name}": value for name, value in tensors.items()},
        },
        "step": 9,
    },
    "lightning": lambda tensors: {
        "pytorch-lightning_version": "2.0.0",
        "state_dict": {f"model.{name}": value for name, value in tensors.items()},
        "hyper_parameters": {"lr": 1e-3, "size": torch.Size([2])},
        "callbacks": {},
    },
    "lightning with losses": lambda tensors: {
        "state_dict": {
            "loss_handler.loss.0.fft.window": torch.ones(4),
            **{f"model.{name}": value for name, value in tensors.items()},
            "val_metrics.total": torch.tensor(3.0),
        }
    },
    "ema": lambda tensors: {"ema_state": tensors, "epoch": 1},
    "one unknown key": lambda tensors: {"weights": tensors, "epoch": 1},
    "averages beside": lambda tensors: {"state_dict": tensors, "ema": Noise(tensors)},
    "compiled in parts": lambda tensors: {name.replace(".", "._orig_mod."): value for name, value in tensors.items()},
    "words about training": lambda tensors: {
        "state_dict": tensors,
        "args": Namespace(lr=0.1, folder=Path("/data")),
        "hyper_parameters": {"kinds": {1, 2}, "type": torch.float32, "device": torch.device("cpu"), "z": 1j},
        "metrics": [np.array([1.0, 2.0]), np.float32(3), defaultdict(list, a=[1])],
    },
    "official SCNet": lambda tensors: {
        "state": Noise(tensors),
        "best_state": tensors,
        "optimizer": {"state": {}, "param_groups": []},
        "ema_epoch_0": {"state": Noise(tensors)},
    },
}
TAKEN = {
    "plain": [],
    "state_dict": ["state_dict"],
    "resumed": ["model_state_dict"],
    "distributed": ["model_state_dict", "names without module."],
    "compiled": ["names without module.", "names without _orig_mod."],
    "averaged": ["averaged weights", "names without module."],
    "ema_pytorch": ["averaged weights, not online_model, which is there too", "names without ema_model."],
    "ema_pytorch alone": ["ema", "averaged weights", "names without ema_model.", "names without module."],
    "lightning": ["state_dict", "names without model."],
    "lightning with losses": [
        "state_dict",
        "not loss_handler.loss.0.fft.window and 1 more of losses and metrics",
        "names without model.",
    ],
    "ema": ["ema_state"],
    "one unknown key": ["weights"],
    "averages beside": ["state_dict, not ema, which is there too"],
    "compiled in parts": ["names without ._orig_mod."],
    "words about training": ["state_dict"],
    "official SCNet": ["best_state, not state or ema_epoch_0, which are there too"],
}


def write_yaml(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a config as the community does, tuples as `!!python/tuple`."""
    path.write_text(yaml.dump(dict(config), sort_keys=False))
    return path


def write_weights(path: Path, content: Any, old: bool = False) -> Path:
    """Write weights by the suffix of their file, with torch's format of before 2020 on demand."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def community_config(golden: Any, chunk_size: int = 44100, **sections: Any) -> dict[str, Any]:
    """Make a config in the shape of Music-Source-Separation-Training."""
    model, rate = dict(golden.config["kwargs"]), golden.config["sample_rate"]
    for name in ("freqs_per_bands",):
        if name in model:
            model[name] = tuple(model[name])
    return {
        "audio": {"chunk_size": chunk_size, "num_channels": 2, "sample_rate": rate, "min_mean_abs": 0.0},
        "model": model,
        "training": {"instruments": ["vocals"], "target_instrument": None, "lr": 1e-5, "batch_size": 2},
        "augmentations": {"enable": True},
        "inference": {"batch_size": 2, "num_overlap": 4},
        **sections,
    }


def arguments_of(golden: Any) -> dict[str, Any]:
    """Return arguments of Demucs' constructor, fractions as such."""
    given = {"samplerate": golden.config["sample_rate"], "segment": 10, **golden.config["kwargs"]}
    if isinstance(given["segment"], dict):
        given["segment"] = Fraction(given["segment"]["numerator"], given["segment"]["denominator"])
    return given


@contextmanager
def class_named(module: str, name: str):
    """Make a class that is pickled under another package's name, for as long as the context lasts."""
    made = type(name, (), {"__module__": module})
    names = [module.rpartition(".")[0], module]
    before = {each: sys.modules.get(each) for each in names}
    sys.modules |= {each: ModuleType(each) for each in names}
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for each, old in before.items():
            del sys.modules[each]
            if old is not None:
                sys.modules[each] = old


def write_package(
    path: Path, class_name: str, arguments: Mapping[str, Any], tensors: Tensors, positional: tuple = ()
) -> Path:
    """Write a package as demucs does, in the precision of its weights."""
    with class_named(*class_name.rsplit(".", 1)) as made:
        torch.save(
            {"klass": made, "args": positional, "kwargs": dict(arguments), "state": tensors, "training_args": {}}, path
        )
    return path


def write_roformer(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    golden = read_golden(root, name)
    training = {"instruments": golden.config.get("stems", ["vocals", "other"]), "target_instrument": None}
    if "stems" not in golden.config:
        training["target_instrument"] = "vocals"
    config = community_config(golden, training=training)
    weights = write_weights(folder / "model.ckpt", WRAPPINGS[wrapping](golden.tensors))
    options = ["--config", str(write_yaml(folder / "config.yaml", config))]
    if "value_residual" not in name and "zero_dc" not in golden.config["kwargs"]:
        options += ["--set", "model.zero_dc=true"]
    output = golden.output if golden.output.dim() == 4 else golden.output[:, None]
    return Written(weights, options, golden.input, output)


def write_mdx23c(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    golden = read_golden(root, name)
    config = {**golden.config["config"], "inference": {"batch_size": 1, "dim_t": 112, "num_overlap": 8}}
    weights = write_weights(folder / "model.ckpt", WRAPPINGS[wrapping](golden.tensors))
    options = ["--config", str(write_yaml(folder / "config.yaml", config))]
    return Written(weights, options, golden.input, golden.output)


def write_scnet(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    golden = read_golden(root, name)
    training = {"instruments": golden.config["kwargs"]["sources"], "target_instrument": None}
    config, options = community_config(golden, training=training), []
    if name == "scnet_official":
        config = {"model": golden.config["kwargs"], "data": {"samplerate": 44100, "segment": 11, "shift": 1}, "seed": 1}
        options = ["--set", "model.standardize=true"]
    weights = write_weights(folder / "model.th", WRAPPINGS[wrapping](golden.tensors), old=wrapping == "state_dict")
    return Written(
        weights, ["--config", str(write_yaml(folder / "config.yaml", config)), *options], golden.input, golden.output
    )


def write_bandit(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    golden = read_golden(root, name)
    training = {"instruments": golden.config["kwargs"]["stems"]}
    config = {"name": "MultiMaskMultiSourceBandSplitRNN", **community_config(golden, training=training)}
    weights = write_weights(folder / "model.chpt", WRAPPINGS[wrapping](golden.tensors))
    options = ["--config", str(write_yaml(folder / "config.yaml", config))]
    return Written(weights, options, golden.input, golden.output)


_SECOND_BANDIT = (
    (r"(norm_fc_modules\.\d+)\.norm", r"\1.combined.0"),
    (r"(norm_fc_modules\.\d+)\.fc", r"\1.combined.1"),
    (r"seqband\.(\d+)", lambda found: f"seqband.{2 * int(found[1])}"),
)
_TWICE_IN_BANDIT = tuple(
    (rf"(norm_mlp\.\d+)\.{name}", rf"\1.combined.{number}") for number, name in enumerate(("norm", "hidden", "output"))
)


def write_second_bandit(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    """Write a golden of bandit's first version as the second has it, which with these settings gives the same."""
    golden = read_golden(root, name.removesuffix("_second"))
    tensors = {}
    for old, tensor in golden.tensors.items():
        new = rename(old.removeprefix("bsrnn."), _SECOND_BANDIT)
        if new.startswith("band_split.") and not new.endswith("combined.1.bias"):  # parts of a bin in turn
            tensor = tensor.unflatten(-1, (2, -1)).mT.flatten(-2).contiguous()
        tensors |= {new: tensor, rename(new, _TWICE_IN_BANDIT): tensor}
    given = dict(golden.config["kwargs"])
    given = {key: given[key] for key in given if key not in ("in_channel", "band_specs", "fs")}
    given |= {"in_channels": 1, "band_type": "musical", "n_fft": 2048, "win_length": 2048, "hop_length": 512}
    given |= {"pad_mode": "constant", "normalized": True, "window_fn": "hann_window", "wkwargs": None, "power": None}
    config = community_config(golden, training={"instruments": given["stems"]})
    config = {"cls": "Bandit", **config, "kwargs": given}
    del config["model"]
    weights = write_weights(folder / "model.ckpt", WRAPPINGS[wrapping](tensors))
    options = ["--config", str(write_yaml(folder / "config.yaml", config))]
    return Written(weights, options, golden.input, golden.output)


def write_conv_tasnet(root: Path, folder: Path, name: str, wrapping: str) -> Written:  # noqa: ARG001
    golden = read_golden(root, name)
    own = {"fb_name": "FreeFB", "in_chan": 48, "out_chan": 48, "encoder_activation": None}
    content = {
        "model_name": "ConvTasNet",
        "state_dict": golden.tensors,
        "model_args": {**golden.config["kwargs"], **own},
        "infos": {"software_versions": {"torch_version": "1.7"}},
    }
    weights = write_weights(folder / "pytorch_model.bin", content)
    return Written(weights, ["--set", "sources=[one,two]", "segment=3"], golden.input, golden.output[:, :, None])


def write_demucs(root: Path, folder: Path, name: str, wrapping: str) -> Written:
    golden = read_golden(root, name)
    arguments = arguments_of(golden)
    if wrapping == "package":
        weights = write_package(folder / "model.th", golden.config["cls"], arguments, golden.tensors)
        return Written(weights, [], golden.input, golden.output)
    section = golden.config["cls"].rpartition(".")[2].lower()
    own = dict(golden.config["kwargs"])
    training = {"instruments": own.pop("sources"), "samplerate": own.pop("samplerate", 44100), "segment": 11}
    training |= {"channels": own.pop("audio_channels", 2), "normalize": True}
    own.pop("segment", None)
    config = {"audio": {"chunk_size": 485100}, "training": training, "model": section, section: own}
    config["inference"] = {"batch_size": 4, "num_overlap": 4}
    weights = write_weights(folder / "model.ckpt", WRAPPINGS[wrapping](golden.tensors))
    return Written(weights, ["--config", str(write_yaml(folder / "config.yaml", config))], golden.input, golden.output)


CASES = {
    "bs_roformer": (write_roformer, "resumed"),
    "bs_roformer_pope": (write_roformer, "compiled"),
    "bs_roformer_6stem": (write_roformer, "state_dict"),
    "bs_roformer_value_residual": (write_roformer, "lightning"),
    "mel_band_roformer": (write_roformer, "plain"),
    "mdx23c": (write_mdx23c, "averaged"),
    "scnet": (write_scnet, "state_dict"),
    "scnet_masked": (write_scnet, "distributed"),
    "scnet_official": (write_scnet, "official SCNet"),
    "bandit": (write_bandit, "plain"),
    "bandit_second": (write_second_bandit, "lightning"),
    "bsrnn": (write_bandit, "lightning"),
    "conv_tasnet": (write_conv_tasnet, "hub"),
    "htdemucs": (write_demucs, "package"),
    "hdemucs": (write_demucs, "plain"),
    "hdemucs_masked": (write_demucs, "ema"),
    "hdemucs_multi": (write_demucs, "package"),
    "demucs_time": (write_demucs, "package"),
}


def write_published(root: Path, folder: Path, name: str) -> Written:
    """Write the files of a published network in the shape of its family."""
    write, wrapping = CASES[name]
    return write(root, folder, name, wrapping)


def write_examples(folder: Path) -> None:
    """Write small files of others: a checkpoint with its config, a bag of Demucs and its model, Open-Unmix' folder."""
    torch.manual_seed(0)
    arguments = {"n_fft": 512, "hop_length": 256}
    network = models.MDX23C(2, 2, 257, **SMALL["MDX23C"], n_subbands=4, n_used_bins=256)
    tensors = {rename(name, mdx23c._NAMES): tensor for name, tensor in network.state_dict().items()}
    sizes = {"num_channels": 4, "growth": 2, "num_scales": 2, "num_blocks_per_scale": 1, "num_subbands": 4}
    config = {
        "audio": {**arguments, "chunk_size": 22016, "dim_f": 256, "num_channels": 2, "sample_rate": 44100},
        "model": {**sizes, "act": "gelu", "norm": "InstanceNorm", "scale": (2, 2)},
        "training": {"instruments": ["vocals", "other"], "target_instrument": None},
        "inference": {"batch_size": 1, "num_overlap": 4},
    }
    write_weights(folder / "model.ckpt", tensors)
    write_yaml(folder / "config.yaml", config)
    (folder / "demucs").mkdir()
    layers = {"hidden_channels": 4, "depth": 2, "residual_depth": 1, "residual_compression": 2, "n_layers": 2}
    network = models.HTDemucs(2, 2, 513, **layers, n_heads=2, bottleneck_channels=8)
    across = [f"crosstransformer.{stack}.1.cross_attn.in_proj_weight" for stack in ("layers", "layers_t")]
    tensors = {demucs.original_hybrid(name, across): tensor for name, tensor in network.state_dict().items()}
    own = {
        "sources": ["drums", "vocals"],
        "samplerate": 44100,
        "segment": Fraction(1, 2),
        "t_heads": 2,
        "norm_starts": 4,
    }
    write_package(folder / "demucs" / "955717e8.th", "demucs.htdemucs.HTDemucs", own, tensors)
    write_yaml(folder / "demucs" / "bag.yaml", {"models": ["955717e8"]})
    (folder / "umxl").mkdir()
    for target in ("vocals", "drums"):
        state = models.OpenUnmix(1, 2, 257, 44100, hidden_size=8, n_layers=2).core[0].state_dict()
        parts = {name: name.split(".", 1) for name in state}
        own = {".".join([open_unmix._ORIGINAL[part], *rest]): state[name] for name, (part, *rest) in parts.items()}
        write_weights(folder / "umxl" / f"{target}.pth", own, old=True)
    settings = {"nfft": 512, "nhop": 256, "sample_rate": 44100, "nb_channels": 2}
    (folder / "umxl" / "separator.json").write_text(json.dumps(settings))
