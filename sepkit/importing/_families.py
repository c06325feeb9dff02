"""The families of networks: which module reads one, which keys it leaves alone, how its recordings are separated."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor

from sepkit.importing import band_split_roformer, bandit, conv_tasnet, demucs, mdx23c, open_unmix, scnet
from sepkit.importing._config import listed_names, normalization, required, stated

MOST_CHUNKS = 10  # over each sample, of what separates here
_SECTIONED = ("demucs", "hdemucs", "htdemucs")
_PUBLISHED = "demucs.demucs", "demucs.hdemucs", "demucs.htdemucs", "demucs.wdemucs"


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        name: for people.
        module: with `detect`, `settings` and `convert`.
        unused: keys of configs, or sections that end in a dot, of which the module checks those that it does not read.
    """

    name: str
    module: ModuleType
    unused: tuple[str, ...] = ()


_BANDIT = (
    "fs require_no_overlap require_no_gap hidden_activation_kwargs n_fft win_length hop_length window_fn wkwargs power "
    "center normalized pad_mode onesided normalize_input mult_add_mask freeze_encoder name stft_precisions "
    "bandsplit_precisions tf_model_precisions mask_estim_precisions"
)
_OF_BANDIT = ("model", "kwargs")
FAMILIES = (
    Family("RoFormer", band_split_roformer, ("model.",)),
    Family("MDX23C", mdx23c),
    Family("SCNet", scnet),
    Family(
        "bandit", bandit, (*(f"{section}.{name}" for section in ("model", "kwargs") for name in _BANDIT.split()), "cls")
    ),
    Family("Demucs", demucs),
    Family("Conv-TasNet", conv_tasnet),
    Family("Open-Unmix", open_unmix),
)
_REFUSED = {  # what gives away a network that there is not
    "bandsequence.bsrnn.": "the BandSplitRNN of amanteur",
    "sd_blocks.": "amanteur's SCNet",
    "separator.network.": "the Conv-TasNet of Demucs' second version",
    "crosstransformer_": "a variant of HTDemucs",
    "stg1_low_band_net.": "a VR model of Ultimate Vocal Remover",
    "stages.0.": "a VR model of Ultimate Vocal Remover",
    "mamba": "a network with Mamba",
    "conformer": "a network with conformers",
}


def drop_common(tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], str]:
    """Drop what all names begin with, as `student.`, where names of a supported network are left.

    Returns:
        The tensors, and what was dropped.
    """
    dropped, left = "", tensors
    while left and not any(family.module.detect(left) for family in FAMILIES):
        starts = {name.partition(".")[0] if "." in name else "" for name in left}
        if len(starts) > 1 or "" in starts:
            return tensors, ""
        start = f"{starts.pop()}."
        dropped += start
        left = {name.removeprefix(start): tensor for name, tensor in left.items()}
    return left, dropped


def find_family(tensors: Mapping[str, Tensor]) -> Family:
    """Return the family that tensors are of.

    Raises:
        ValueError: it is none that is supported.
    """
    for family in FAMILIES:
        if family.module.detect(tensors):
            return family
    for part, what in _REFUSED.items():
        for name in tensors:
            if part in name:
                raise ValueError(f"{what} is not supported; {name} is of one")
    _refuse_mixed(tensors)
    names, found = ", ".join(family.name for family in FAMILIES), ", ".join(list(tensors)[:3])
    raise ValueError(f"weights must be of one of {names}, which are supported, got {found} ..")


def _refuse_mixed(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a supported network's weights with others beside them, by the others' names."""
    for start in sorted({f"{name.partition('.')[0]}." for name in tensors}):
        own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
        family = next((family for family in FAMILIES if family.module.detect(own)), None)
        if family is not None:
            other = next(name for name in tensors if not name.startswith(start))
            raise ValueError(
                f"weights must be of one network: those below {start} are {family.name}'s, and {other} stands beside "
                f"them; save those below {start} alone"
            )


_SIGNS = {  # keys of a section `model` that one family alone has
    "RoFormer": "time_transformer_depth freqs_per_bands num_bands stft_hop_length dim_head",
    "MDX23C": "num_subbands num_blocks_per_scale bottleneck_factor",
    "SCNet": "band_SR band_stride num_dplayer",
    "bandit": "band_specs n_sqm_modules",
}


def refuse_other_family(family: Family, config: Mapping[str, Any]) -> None:
    """Refuse the config of another network than that of the weights.

    Raises:
        ValueError: it is one, by a key that only such configs have.
    """
    section = stated(config, "model")
    for name, keys in _SIGNS.items():
        key = next((key for key in keys.split() if isinstance(section, Mapping) and key in section), None)
        if key is not None and name != family.name:
            raise ValueError(
                f"the config is of a network of the family {name}, as its model.{key} tells, and the weights are of "
                f"one of {family.name}: give the config that came with them"
            )


def flatten_demucs(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """Return the arguments of a network of Demucs, of which the community's configs state some in other sections.

    Args:
        config: these arguments, or `model`, the name of a section, `training` and this section.
        tensors: which tell whether there is a transformer.

    Raises:
        ValueError: the config lacks something.
    """
    section = stated(config, "model")
    if section not in _SECTIONED:
        return {key: value for key, value in config.items() if value is not None}
    arguments = {key: value for key, value in required(config, section).items() if value is not None}
    arguments["sources"] = listed_names(config, "training.instruments")
    for key, theirs in (("samplerate", "samplerate"), ("segment", "segment"), ("audio_channels", "channels")):
        arguments[key] = required(config, f"training.{theirs}")
    if any(name.startswith("crosstransformer.") for name in tensors):
        arguments.setdefault("use_train_segment", False)
        if arguments.pop("num_subbands", 1) != 1:
            raise ValueError("num_subbands must be 1, which alone is supported, got another in the config")
    return arguments


def read_settings(
    family: Family, tensors: Mapping[str, Tensor], class_name: str | None
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return what reads the settings of a Separator from a config.

    Args:
        family: of the network.
        tensors: its weights.
        class_name: of the original network, where a file names it.
    """

    def read(config: Mapping[str, Any]) -> dict[str, Any]:
        is_demucs = family.module is demucs
        settings = family.module.settings(tensors, flatten_demucs(config, tensors) if is_demucs else config)
        if is_demucs:
            _compare_class(settings, class_name)
        if is_demucs and stated(config, "model") not in _SECTIONED:
            return settings
        return {**settings, "normalize": normalization(config), "chunking": _chunking(config)}

    return read


def _compare_class(settings: Mapping[str, Any], class_name: str | None) -> None:
    found, told = settings["network"]["class"], (class_name or "").rpartition(".")[2].replace("WDemucs", "HDemucs")
    if class_name and (told != found or class_name.rpartition(".")[0] not in _PUBLISHED):
        raise ValueError(f"klass must be demucs' {found}, as the tensors have it, got {class_name[:100]}")


def name_residual(config: Mapping[str, Any], sources: list[str]) -> dict[str, str]:
    """Return the name of what is beside the only source, where a config names both.

    "other" is no such name, since it is a stem's in most data: the usual name stays then.

    Args:
        config: with the section `training`.
        sources: which are estimated.

    Returns:
        The argument `residual` of a Separator, or nothing.
    """
    names, target = stated(config, "training.instruments"), stated(config, "training.target_instrument")
    if not target or len(sources) != 1 or not isinstance(names, list | tuple):
        return {}
    others = [str(name) for name in names if str(name).casefold() != sources[0].casefold()]
    return {"residual": others[0]} if len(others) == 1 and others[0].casefold() != "other" else {}


def _chunking(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how recordings are cut, by the section `inference` of a config."""
    chunking = {}
    n_overlap, batch_size = stated(config, "inference.num_overlap"), stated(config, "inference.batch_size")
    if n_overlap is not None:
        if type(n_overlap) not in (int, float) or not n_overlap >= 1:
            raise ValueError(
                f"inference.num_overlap must be a number of chunks over each sample, at least 1, got {n_overlap!r}: "
                "correct it by --set inference.num_overlap=4"
            )
        chunking["overlap"] = round(1 - 1 / min(n_overlap, MOST_CHUNKS), 6)
    if batch_size is not None:
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"inference.batch_size must be a whole number, at least 1, got {batch_size!r}")
        chunking["batch_size"] = batch_size
    return chunking or None
