"""Names that tensors of Demucs' networks have originally."""

import re
from collections.abc import Iterable, Mapping

_CODERS = {"encoder": "encoder", "decoder": "decoder", "wave_encoder": "tencoder", "wave_decoder": "tdecoder"}
_LAYERS = {
    "encoder": {"convolution": "conv", "norm": "norm1", "rewrite": "rewrite", "rewrite_norm": "norm2"},
    "decoder": {"convolution": "conv_tr", "norm": "norm2", "rewrite": "rewrite", "rewrite_norm": "norm1"},
}
_PLACES = {
    "core.embedding": "freq_emb.embedding.weight",
    "core.middle.enter": "channel_upsampler",
    "core.middle.leave": "channel_downsampler",
    "core.middle.wave_enter": "channel_upsampler_t",
    "core.middle.wave_leave": "channel_downsampler_t",
    "core.middle.transformer.norm": "crosstransformer.norm_in",
    "core.middle.transformer.wave_norm": "crosstransformer.norm_in_t",
}
_BRANCH = {"narrow": 0, "narrow_norm": 1, "recurrence": 3, "attention": 3, "widen": 3, "widen_norm": 4, "scale": 6}
_LOCAL = {"decay": "query_decay", "output": "proj"}
_ATTENTION = {"inputs.weight": "in_proj_weight", "inputs.bias": "in_proj_bias"}
_TRANSFORMER = {
    "attention_scale": "gamma_1.scale",
    "feed_scale": "gamma_2.scale",
    "widen": "linear1",
    "narrow": "linear2",
    "norm": "norm1",
    "other_norm": "norm2",
    "output_norm": "norm_out",
}


def original_hybrid(name: str, tensors: Iterable[str]) -> str:
    """Return the original name of a tensor of HTDemucs or HDemucs.

    Args:
        name: this package's.
        tensors: all original names, which tell what each part consists of.
    """
    place, _, kind = name.rpartition(".")
    if name in _PLACES or place in _PLACES:
        return _PLACES.get(name) or f"{_PLACES[place]}.{kind}"
    if match := re.fullmatch(r"core\.middle\.transformer\.(wave_)?layers\.(\d+)\.(.+)", name):
        layer = f"crosstransformer.layers{'_t' if match[1] else ''}.{match[2]}"
        return f"{layer}.{_transformer_name(match[3], f'{layer}.cross_attn.in_proj_weight' in tensors)}"
    match = re.fullmatch(r"core\.((?:wave_)?(encoder|decoder))\.(\d+)\.((?:layers\.\d+\.)?)(.+)", name)
    coder, kind, index, band, rest = match.groups()
    layer = f"{_CODERS[coder]}.{index}.{band}"
    if match := re.fullmatch(r"residuals\.(\d+)\.(.+)", rest):
        return original_branch(f"{layer}dconv.layers.{match[1]}", match[2], tensors)
    module, _, rest = rest.partition(".")
    return f"{layer}{_LAYERS[kind][module]}.{rest}"


def original_branch(branch: str, rest: str, tensors: Iterable[str]) -> str:
    """Return the original name of a tensor in a residual branch, whose parts are numbered as they follow each other.

    Args:
        branch: the branch's original name.
        rest: this package's name within it.
        tensors: all original names.
    """
    module, _, kind = rest.partition(".")
    recurrent, attentive = f"{branch}.3.linear.weight" in tensors, f"{branch}.4.proj.weight" in tensors
    attentive = attentive or f"{branch}.3.proj.weight" in tensors
    number = _BRANCH[module]
    if module == "attention":
        part, _, kind = kind.partition(".")
        return f"{branch}.{number + recurrent}.{_LOCAL.get(part, part)}.{kind}"
    if module in ("widen", "widen_norm", "scale"):
        number += recurrent + attentive
    return f"{branch}.{number}.{kind or module}"


def original_time(name: str, tensors: Iterable[str]) -> str:
    """Return the original name of a tensor of the time-domain Demucs, whose layers are numbered sequences.

    Args:
        name: this package's.
        tensors: all original names, which tell what each layer consists of.
    """
    _, coder, rest = name.split(".", 2)
    if coder == "recurrence":
        return f"lstm.{rest}"
    index, module, rest = rest.split(".", 2)
    layer = f"{coder}.{index}"
    if module == "residuals":
        branch, _, rest = rest.partition(".")
        return original_branch(f"{layer}.3.layers.{branch}", rest, tensors)
    first, second = ("convolution", "rewrite") if coder == "encoder" else ("rewrite", "convolution")
    has_branches = any(other.startswith(f"{layer}.3.layers.") for other in tensors)
    place = 2 if f"{layer}.2.weight" in tensors else 4 if has_branches else 3
    norms = ("norm", "rewrite_norm") if coder == "encoder" else ("rewrite_norm", "norm")
    return f"{layer}.{ {first: 0, norms[0]: 1, second: place, norms[1]: place + 1}[module] }.{rest}"


def rename_torchaudio(tensors: Mapping[str, object]) -> dict[str, object]:
    """Put tensors of torchaudio's HDemucs under demucs' names; what it holds and never uses is left out."""
    if not any(name.startswith("freq_encoder.") for name in tensors):
        return dict(tensors)
    prefixes = {
        "freq_encoder": "encoder",
        "freq_decoder": "decoder",
        "time_encoder": "tencoder",
        "time_decoder": "tdecoder",
    }
    renamed = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        renamed[f"{prefixes.get(part, part)}.{rest}"] = tensor
    last = max(int(name.split(".")[1]) for name in renamed if name.startswith("tencoder."))
    return {name: tensor for name, tensor in renamed.items() if not name.startswith(f"tencoder.{last}.norm1.")}


def _transformer_name(rest: str, across: bool) -> str:
    module, _, kind = rest.partition(".")
    if module == "attention":
        attention = "cross_attn" if across else "self_attn"
        return f"{attention}.{_ATTENTION.get(kind) or kind.replace('output', 'out_proj')}"
    if module == "feed_norm":
        return f"{'norm3' if across else 'norm2'}.{kind}"
    return f"{_TRANSFORMER[module]}.{kind}" if kind else _TRANSFORMER[module]
