"""The weights that a training begins with, which of them it trains, and which it leaves behind."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sepkit.files import atomic_file
from sepkit.model_folder import ModelError, read_weights
from sepkit.models.facts import describe_network
from sepkit.models.lora import LoRA
from sepkit.problems import Problem
from sepkit.recipe import Recipe
from sepkit.recipe.base import Base, Fit
from sepkit.recipe.freezing import find_frozen, list_freezing_problems
from sepkit.recipe.inheritance import Inheritance
from sepkit.separator import Separator

ADAPTERS = Path("training") / "adapters.safetensors"


def plan_inheritance(recipe: Recipe) -> Inheritance | None:
    """Decide which weights the base gives; None where there is no base.

    Raises:
        sepkit.recipe.RecipeError: they do not fit.
    """
    if recipe.base is None:
        return None
    fit = Fit(recipe.base, recipe.separator_settings(), foreign=True)
    problems = fit.problems()
    if problems:
        raise recipe.error(problems)
    return fit.inheritance()


def load_base(separator: Separator, base: Base, inheritance: Inheritance) -> None:
    """Load the weights that a separator has from its base; what is new stays as it was drawn.

    Raises:
        sepkit.model_folder.ModelError: the weights do not fit, or are not those that the recipe was checked with.
    """
    prefix = "network."
    weights = {name.removeprefix(prefix): tensor for name, tensor in read_weights(base.folder).items()}
    own = plain_state(separator.network)
    unfit = [
        share.name
        for name, shares in inheritance.shares.items()
        for share in shares
        if name not in own or share.name not in weights or _kind(own[name]) != _kind(weights[share.name])
    ]
    if unfit:
        raise ModelError(
            f"the weights of {base.folder} do not fit this separator: {unfit[0]} differs, give another model"
        )
    inheritance.load(own, weights)


def _kind(tensor: Tensor) -> tuple[int, bool, bool]:
    return tensor.dim(), tensor.is_complex(), tensor.is_floating_point()


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network, of that within a LoRA, by name; they share memory with it."""
    state = network.state_dict()
    names = network.names() if isinstance(network, LoRA) else dict(zip(state, state, strict=True))
    return {plain: state[name] for plain, name in names.items()}


def limit_training(separator: Separator, recipe: Recipe, inheritance: Inheritance | None) -> None:
    """Mark the parameters that are trained: all that is new, and what neither a LoRA nor the recipe freezes.

    Raises:
        sepkit.recipe.RecipeError: a pattern of `training.freeze` matches nothing, or something that is new, or all.
    """
    network, patterns = separator.network, recipe.training.freeze
    parameters = dict(network.named_parameters())
    new = inheritance.new if inheritance else {}
    if isinstance(network, LoRA):
        for plain, name in network.names().items():
            if plain in new and name in parameters:
                parameters[name].requires_grad_(True)
    problems = list_freezing_problems(network, patterns)
    for position, pattern in enumerate(patterns):
        fresh = [name for name in find_frozen(network, [pattern]) if name in new]
        if fresh:
            message = f"'{pattern}' would keep {min(fresh)} as it was drawn, which is new for {new[min(fresh)][0]}"
            problems.append(Problem(("training", "freeze", position), message))
    if problems:
        raise recipe.error(problems)
    for name in find_frozen(network, patterns):
        parameters[name].requires_grad_(False)
    for part in network.modules():
        own = list(part.parameters(recurse=False))
        if isinstance(part, _NormBase) and own and not any(parameter.requires_grad for parameter in own):
            part.eval()  # its statistics belong to what is frozen


def describe_weights(separator: Separator, recipe: Recipe, inheritance: Inheritance | None) -> Iterator[str]:
    """Describe in lines where weights come from, which are new, and how many are trained."""
    base, network = recipe.base, separator.network
    if base is not None and inheritance is not None:
        n_new = len(inheritance.new)
        yield (
            f"weights from {base.name} ({base.weights[:8]}, licence {base.licence}): "
            f"{len(inheritance.shares)} kept, {n_new or 'none'} new"
        )
        yield from _describe_new(inheritance)
    if isinstance(network, LoRA):
        if base is None:
            yield "LoRA is around weights that were drawn and are not trained: name a model with separator.from"
        recurrences = [name for name, part in network.network.named_modules() if isinstance(part, nn.RNNBase)]
        others = f"{', '.join(recurrences[:3])}{' and others' if recurrences[3:] else ''}"
        ignored = f"; recurrences cannot be adapted: {others}" if recurrences else ""
        yield f"LoRA of rank {network.rank} on {len(network.adapted)} weights{ignored}"
    counts = [(p.numel(), p.requires_grad) for p in separator.parameters()]
    trained, total = sum(n for n, is_trained in counts if is_trained), sum(n for n, _ in counts)
    if trained < total:
        yield f"{trained:,} of {total:,} values are trained, the others stay as they are"


def _describe_new(inheritance: Inheritance) -> Iterator[str]:
    """Name what is new, a line for those sources for which the same weights are."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for name, sources in inheritance.new.items():
        groups.setdefault((", ".join(sources), name in inheritance.shares), []).append(name)
    for (sources, is_shared), names in groups.items():
        others = ", where other stems keep theirs" if is_shared else ""
        more = f" and {len(names) - 3} more" if names[3:] else ""
        yield f"  new for {sources}{others}: {', '.join(names[:3])}{more}"


def plain_separator(separator: Separator) -> Separator:
    """Return a separator without LoRA that separates alike: itself where it has none, else a merged copy."""
    network = separator.network
    if not isinstance(network, LoRA):
        return separator
    merged = copy.copy(separator)
    merged._modules = dict(separator._modules)
    merged.network, merged._network = network.merge(), separator.settings["network"]["network"]
    merged.facts = describe_network(merged.network)
    return merged


def save_updates(separator: Separator, folder: Path, base: Base | None) -> None:
    """Write the updates of a LoRA into a run folder, with what they belong to; nothing where there is none."""
    network = separator.network
    if not isinstance(network, LoRA):
        return
    facts = {"rank": network.rank, "alpha": network.alpha, "base": base.weights if base else None}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.updates().items()}
    with atomic_file(folder / ADAPTERS) as temporary:
        temporary.write_bytes(save(tensors, {"LoRA": json.dumps(facts)}))  # several keys come in any order


def describe_base(base: Base) -> Mapping[str, Any]:
    """Describe a base for the card of a model that began as it; the card travels with the weights: no path of here."""
    source = {"source": base.source} if base.source else {}
    return {"model": base.folder.resolve().name, "weights": base.weights, "licence": base.licence, **source}
