"""What is wrong with the plain data of a recipe: keys, types, classes, and how they fit together."""

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from sepkit.instantiate import InstantiationError, arguments_of, check, resolve_class
from sepkit.models.facts import read_outputs
from sepkit.objective import Objective
from sepkit.problems import Problem, did_you_mean, dotted, show
from sepkit.quantities import named_quantities
from sepkit.recipe.base import Base, Fit, wrapped_network
from sepkit.recipe.data_settings import (
    ActivitySettings,
    RemixSettings,
    RootSettings,
    SamplingSettings,
    VariantSettings,
)
from sepkit.recipe.document import Keys
from sepkit.recipe.dry_build import try_to_build
from sepkit.recipe.freezing import list_freezing_problems
from sepkit.recipe.settings import BaseSettings, Ramp, Recipe, RobustSettings, SeparatorSettings
from sepkit.separator import Separator, list_filter_problems
from sepkit.terms import ITEM_WISE, TERM_KEYS, find_pooling

_SIZES = ("n_sources", "n_channels", "n_bins", "n_frames", "sample_rate")
_SLOTS = (  # where a class mapping stands (* : each of a list), the module of its class, arguments that are derived
    (("separator", "transform"), "sepkit.transforms", ()),
    (("separator", "network"), "sepkit.models", _SIZES),
    (("separator", "postfilter"), "sepkit.masks", _SIZES),
    (("data", "augment", "*"), "sepkit.augment", ("sample_rate", "n_channels")),
    (("losses", "*"), "sepkit.losses", (*ITEM_WISE, "sample_rate")),
    (("training", "optimizer"), "torch.optim", ("params",)),
    (("training", "schedule"), "sepkit.schedules", ()),
    (("observers", "*"), "sepkit.observers", ()),
)
_INNER = {  # mappings within the sections
    ("losses", "weight"): Ramp,
    ("separator", "from"): BaseSettings,
    ("losses", "robust"): RobustSettings,
    ("data", "root"): RootSettings,
    ("data", "remix"): RemixSettings,
    ("data", "variants"): VariantSettings,
    ("data", "sampling"): SamplingSettings,
    ("data", "sampling", "activity"): ActivitySettings,
}
_CHOICES = (
    ("losses", "*", "weight"),
    ("data", "remix"),
    ("data", "root"),
    ("data", "root", "*"),
    ("training", "ema"),
)  # where a number or a mapping stands
_KINDS = tuple((kind,) for kind in ("number", "ramp", "mapping", "path", "list"))
_EXPECTATIONS = {  # pydantic's error types in our words
    "missing": "must be given",
    "int_type": "must be an int",
    "float_type": "must be a float",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "greater_than": "must be > {gt:g}",
    "greater_than_equal": "must be >= {ge:g}",
    "less_than": "must be < {lt:g}",
    "less_than_equal": "must be <= {le:g}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
}


def find_problems(values: dict[str, Any], base: Base | None = None) -> list[Problem]:
    """List all that is wrong with a recipe; what is built on the way is neither costly nor kept.

    Args:
        values: the outermost mapping, as it was read, with the settings of the base.
        base: the model that the separator begins as; None: none.

    Returns:
        At most one problem for each place; none: `Recipe` takes the values, and every class can be built.
    """
    problems = [*_check_keys(values), *_check_classes(values), *_check_optimizer(values)]
    wrong = [problem.path for problem in problems]
    problems += [problem for problem in _check_parts(values, wrong) if _is_right(problem.path, wrong)]
    problems += _check_by_building(values, [problem.path for problem in problems])
    if base is not None and _is_right(("separator",), [problem.path for problem in problems]):
        problems += Fit(base, SeparatorSettings.model_validate(values["separator"]).model_dump()).problems()
    first = {problem.path: problem for problem in reversed(problems)}
    return list(first.values())


def _check_parts(values: dict[str, Any], wrong: list[Keys]) -> Iterator[Problem]:
    """Collect what the separator and the objective list as wrong with their settings."""
    separator, losses, quantities = _get(values, "separator"), _get(values, "losses"), None
    network = _declaring_class(_get(values, "separator", "network"))
    if network and not isinstance(getattr(network, "outputs", None), property):  # unknown before it is built
        try:
            outputs = read_outputs(network)
            quantities = named_quantities(outputs)
            if _get(values, "separator", "postfilter") is not None:
                yield from (problem.below("separator") for problem in list_filter_problems(outputs))
        except ValueError as error:
            yield Problem(("separator", "network", "class"), str(error))
    if isinstance(separator, dict):
        yield from (problem.below("separator") for problem in Separator.problems(separator))
    if isinstance(losses, list):
        sources = separator["sources"] if _is_right(("separator", "sources"), wrong) else ()
        segment = SeparatorSettings.model_fields["segment"].default
        if _get(values, "separator", "segment") is not None:
            segment = separator["segment"] if _is_right(("separator", "segment"), wrong) else None
        yield from Objective.problems(losses, sources, quantities, segment)


def _get(values: Any, *path: str | int) -> Any:
    """Return the value at a path; None where the data ends early."""
    for key in path:
        if isinstance(values, list) and isinstance(key, int):
            values = values[key]
        else:
            values = values.get(key) if isinstance(values, dict) else None
    return values


def _declaring_class(config: Any) -> type | None:
    """Return the class of the network that declares outputs: that within a wrapper; None where there is none."""
    path = wrapped_network(config)[1][1:] if isinstance(config, dict) else ("network",)
    return _class_at({"network": config}, path, "sepkit.models")


# Keys and types


def _check_keys(values: dict[str, Any]) -> Iterator[Problem]:
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        for finding in error.errors(include_url=False):
            yield _translate(finding, values)


def _translate(finding: dict[str, Any], values: dict[str, Any]) -> Problem:
    """Translate what pydantic found into our words."""
    kind, context = finding["type"], finding.get("ctx", {})
    path = tuple(key for key in finding["loc"] if key != "[key]")
    for choice in _CHOICES:
        if _matches(path[: len(choice)], choice) and path[len(choice) : len(choice) + 1] in _KINDS:
            path = (*path[: len(choice)], *path[len(choice) + 1 :])  # without which kind it is
    if kind == "invalid_key":
        return Problem(path, f"keys must be words, got {show(path[-1])}", at_key=True)
    if kind == "extra_forbidden":
        return Problem(path, "unknown key" + _right_key(path, values), at_key=True)
    expectation = _EXPECTATIONS[kind].format(**context) if kind in _EXPECTATIONS else finding["msg"]
    if kind == "missing":
        return Problem(path, expectation)
    choices = context.get("expected", "").split("'")[1::2]
    return Problem(path, f"{expectation}, got {show(finding['input'])}{did_you_mean(finding['input'], choices)}")


def _matches(path: Keys, pattern: Keys) -> bool:
    """Return whether a path is one of a pattern, in which "*" stands for any key."""
    return len(path) == len(pattern) and all(wanted in ("*", key) for key, wanted in zip(path, pattern, strict=True))


def _right_key(path: Keys, values: dict[str, Any]) -> str:
    """Find the nearest key of the same section, or the same key in another section."""
    sections = {(name,): field.annotation for name, field in Recipe.model_fields.items()}
    sections = {path: model for path, model in sections.items() if hasattr(model, "model_fields")}
    key, section = str(path[-1]), tuple(k for k in path[:-1] if isinstance(k, str))
    siblings = _keys_of({**_INNER, (): Recipe, **sections}[section])
    others = [(*outer, name) for outer, model in sections.items() for name in _keys_of(model)]
    for slot, module, derived in _SLOTS:
        cls = _class_at(values, slot, module)
        others += [(*slot, name) for name in (cls and arguments_of(cls)) or () if name not in derived]
    elsewhere: dict[str, str] = {}
    for other in others:
        elsewhere.setdefault(other[-1], dotted(other))
    if key in elsewhere:
        return f"; did you mean '{elsewhere[key]}'?"
    suggestion = did_you_mean(key, siblings)
    farther = (f"; did you mean '{elsewhere[k]}'?" for k in elsewhere if did_you_mean(key, [k], 0.8))
    return suggestion or next(farther, f" (there are: {', '.join(siblings)})")


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


# Classes


def _check_classes(values: dict[str, Any]) -> Iterator[Problem]:
    for slot, module, derived in _SLOTS:
        for path, config in _configs(values, slot):
            if isinstance(config, dict):
                for name in [name for name in derived if name in config and name not in ITEM_WISE]:
                    giver = "training" if name == "params" else "separator"
                    yield Problem((*path, name), f"must be left out: the {giver} gives it", at_key=True)
                problems = check(config, module, derived) if slot[0] != "losses" else ()  # which the objective lists
                yield from (problem.below(*path) for problem in problems)


def _check_by_building(values: dict[str, Any], wrong: list[Keys]) -> Iterator[Problem]:
    """Build what can be built without data, apart from what has a problem already, at one of the places in `wrong`."""
    wrong = [path for path in wrong if not (path[:1] == ("losses",) and set(TERM_KEYS) & set(path[2:3]))]
    separator = {key: field.default for key, field in SeparatorSettings.model_fields.items()}
    separator |= {key: value for key in separator if (value := _get(values, "separator", key)) is not None}
    facts = {key: value for key, value in separator.items() if _is_right(("separator", key), wrong)}
    facts |= {**ITEM_WISE, "params": [nn.Parameter(torch.zeros(1))]}
    if "sources" in facts:
        facts["n_sources"] = len(facts["sources"])
    for slot, module, derived in _SLOTS:
        for path, config in _configs({**values, "separator": separator}, slot):
            if not _is_right(path, wrong) or not facts.keys() >= set(derived):
                continue
            arguments = {key: value for key, value in config.items() if slot[0] != "losses" or key not in TERM_KEYS}
            built, problems = try_to_build(arguments, module, {name: facts[name] for name in derived})
            yield from (problem.below(*path) for problem in problems)
            if slot[0] == "losses" and built is not None:
                yield from (Problem(path, message) for message in find_pooling(built))
            if slot[-1] == "network" and built is not None:
                yield from _check_freezing(built, _get(values, "training", "freeze"))
            if slot[-1] == "transform" and hasattr(built, "n_frames") and facts.keys() >= {"segment", "sample_rate"}:
                n_samples = round(facts["segment"] * facts["sample_rate"])
                facts |= {"n_bins": built.n_bins, "n_frames": built.n_frames(n_samples)}


def _check_optimizer(values: dict[str, Any]) -> Iterator[Problem]:
    """Refuse optimizers whose step is not the one of a training: once for each batch, with dense gradients."""
    path = ("training", "optimizer")
    cls = _class_at(values, path, "torch.optim")
    closure = signature(cls.step).parameters.get("closure") if hasattr(cls, "step") else None
    if closure is not None and closure.default is closure.empty:
        message = "computes the loss several times a step, by a closure, which no training here does"
    elif cls is not None and issubclass(cls, torch.optim.SparseAdam):
        message = "takes sparse gradients alone, and those of all networks here are dense"
    else:
        return
    yield Problem((*path, "class"), f"{cls.__name__} {message}: choose AdamW, Adam or SGD")


def _check_freezing(network: nn.Module, patterns: Any) -> list[Problem]:
    """List what is wrong with the patterns of frozen parameters, where they are patterns."""
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        return []
    return list_freezing_problems(network, patterns)


def _is_right(path: Keys, wrong: list[Keys]) -> bool:
    """Return whether there is no problem at a path, above or below it."""
    return not any(path[: len(place)] == place[: len(path)] for place in wrong)


def _configs(values: dict[str, Any], slot: tuple[str, ...]) -> list[tuple[Keys, Any]]:
    """List the class mappings at a slot with their paths."""
    if slot[-1] != "*":
        config = _get(values, *slot)
        return [] if config is None else [(slot, config)]
    configs = _get(values, *slot[:-1])
    items = enumerate(configs) if isinstance(configs, list) else ()
    return [((*slot[:-1], position), config) for position, config in items]


def _class_at(values: dict[str, Any], path: Keys, module: str) -> type | None:
    """Return the class that is named at a path; None where there is none (which is reported elsewhere)."""
    try:
        return resolve_class(_get(values, *path, "class"), module)
    except InstantiationError:
        return None
