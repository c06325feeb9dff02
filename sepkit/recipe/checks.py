"""What is wrong with the plain data of a recipe: keys, types, classes, and how they fit together."""

import inspect
from collections.abc import Iterator
from typing import Any, get_origin

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from sepkit.instantiate import (
    InstantiationError,
    Problem,
    arguments_of,
    check,
    did_you_mean,
    dotted,
    resolve_class,
    show,
)
from sepkit.objective import ITEM_WISE, find_pooling
from sepkit.quantities import QUANTITIES
from sepkit.recipe.dry_build import try_to_build
from sepkit.recipe.settings import LossSettings, Ramp, Recipe, SeparatorSettings, TrainingSettings
from sepkit.transforms import STFT

_LOSS_KEYS = tuple(field.alias or name for name, field in LossSettings.model_fields.items())
_TERM_KEYS = tuple(key for key in _LOSS_KEYS if key != "class")
_SLOTS = (  # where a class mapping stands (* : each of a list), the shelf, the names that it is given
    (("separator", "transform"), "sepkit.transforms", ()),
    (("separator", "network"), "sepkit.models", ("n_sources", "n_channels", "n_bins", "n_frames", "sample_rate")),
    (("data", "augment", "*"), "sepkit.augment", ()),
    (("losses", "*"), "sepkit.losses", ("reduction", "sample_rate")),
    (("training", "optimizer"), "torch.optim", ("params",)),
    (("training", "schedule"), "sepkit.schedules", ()),
    (("observers", "*"), "sepkit.observers", ()),
)
_GIVERS = {
    "reduction": "the objective sets it, to get a value for each item",
    "params": "the training gives it",
}
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
}


def find_problems(values: dict[str, Any]) -> list[Problem]:
    """List all that is wrong with a recipe; what is built on the way is neither costly nor kept.

    Args:
        values: the outermost mapping, as it was read.

    Returns:
        At most one problem for each place; none: `Recipe` takes the values, and every class can be built.
    """
    found = [
        *_check_keys(values),
        *_check_classes(values),
        *_check_sources(values),
        *_check_losses(values),
        *_check_weights(values),
        *_check_batches(values),
    ]
    found += _check_by_building(values, [problem.path for problem in found])
    first = {problem.path: problem for problem in reversed(found)}
    return list(first.values())


def _get(values: Any, *path: str | int) -> Any:
    """Follow a path as far as the data has the right shape; None where it ends early."""
    for key in path:
        if isinstance(values, list) and isinstance(key, int):
            values = values[key]
        else:
            values = values.get(key) if isinstance(values, dict) else None
    return values


# Keys and types


def _check_keys(values: dict[str, Any]) -> Iterator[Problem]:
    try:
        Recipe.model_validate(values)
    except ValidationError as error:
        for finding in error.errors(include_url=False):
            yield _translate(finding, values)


def _translate(finding: dict[str, Any], values: dict[str, Any]) -> Problem:
    path = _path_of(finding["loc"])
    if finding["type"] == "extra_forbidden":
        return Problem(path, "unknown key" + _right_key(path, values), at_key=True)
    if finding["type"] == "invalid_key":
        return Problem(path, f"keys must be words, got {show(path[-1])}", at_key=True)
    template = _EXPECTATIONS.get(finding["type"])
    expectation = template.format(**finding.get("ctx", {})) if template else finding["msg"]
    if finding["type"] == "missing":
        return Problem(path, expectation)
    choices = finding.get("ctx", {}).get("expected", "").split("'")[1::2]
    return Problem(path, f"{expectation}, got {show(finding['input'])}{did_you_mean(finding['input'], choices)}")


def _path_of(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Leave out what pydantic adds to a path: which kind of weight, and that a key is meant."""
    kept = [
        key
        for before, key in zip(("", *location), location, strict=False)
        if before != "weight" or key not in ("number", "ramp")
    ]
    return tuple(key for key in kept if key != "[key]")


def _right_key(path: tuple[str | int, ...], values: dict[str, Any]) -> str:
    """Suggest the nearest key of the same section, or the same key in another section."""
    key, section = str(path[-1]), tuple(k for k in path[:-1] if isinstance(k, str))
    beside = _keys_of({("losses", "weight"): Ramp, (): Recipe, **_sections()}[section])
    elsewhere: dict[str, str] = {}
    for full in _all_keys(values):
        elsewhere.setdefault(full.rpartition(".")[2], full)
    if key in elsewhere:
        return f"; did you mean '{elsewhere[key]}'?"
    near = did_you_mean(key, beside)
    farther = (f"; did you mean '{elsewhere[k]}'?" for k in elsewhere if did_you_mean(key, [k], 0.8))
    return near or next(farther, f" (there are: {', '.join(beside)})")


def _sections() -> dict[tuple[str], type[BaseModel]]:
    annotations = {name: field.annotation for name, field in Recipe.model_fields.items()}
    return {(name,): model for name, model in annotations.items() if _is_section(model)}


def _is_section(annotation: Any) -> bool:
    """Tell a section from a list of them, which is a type too on Python 3.10."""
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _keys_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _all_keys(values: dict[str, Any]) -> Iterator[str]:
    """List the dotted keys of all sections, and the arguments of the classes that the recipe names there."""
    for (section,), model in _sections().items():
        yield from (f"{section}.{key}" for key in _keys_of(model))
    for path, shelf, provided in _SLOTS:
        cls = _class_at(values, path, shelf)
        names = arguments_of(cls) if cls else None
        yield from (f"{dotted(path)}.{name}" for name in names or () if name not in provided)


# Classes


def _check_classes(values: dict[str, Any]) -> Iterator[Problem]:
    for slot, shelf, provided in _SLOTS:
        beside = _LOSS_KEYS if slot[0] == "losses" else ()
        for path, spec in _specs(values, slot):
            if isinstance(spec, dict) and not ("class" in beside and "class" not in spec):
                problems = [*_check_provided(spec, provided), *check(spec, shelf, provided, beside=beside)]
                yield from (problem.below(*path) for problem in problems)


def _check_provided(spec: dict[str, Any], provided: tuple[str, ...]) -> Iterator[Problem]:
    for name in provided:
        if name in spec:
            yield Problem((name,), f"must be left out: {_GIVERS.get(name, 'the separator gives it')}", at_key=True)


def _check_by_building(values: dict[str, Any], wrong: list[tuple[str | int, ...]]) -> Iterator[Problem]:
    """Build what can be built without data, apart from what has a problem already, at one of the places in `wrong`."""
    wrong = [path for path in wrong if not (path[:1] == ("losses",) and path[2:3] and path[2] in _TERM_KEYS)]
    facts = _facts(values, wrong)
    for slot, shelf, provided in _SLOTS:
        for path, spec in _specs(values, slot):
            if not _is_right(path, wrong) or not facts.keys() >= set(provided):
                continue
            arguments = {key: value for key, value in spec.items() if slot[0] != "losses" or key not in _TERM_KEYS}
            given = {name: facts[name] for name in provided}
            built, problems = try_to_build(arguments, shelf, {**given, **(ITEM_WISE if slot[0] == "losses" else {})})
            yield from (problem.below(*path) for problem in problems)
            if slot[0] == "losses" and built is not None:
                yield from (Problem(path, message) for message in find_pooling(built))
            if slot == ("separator", "transform"):
                facts |= _frame_facts(built, facts)


def _facts(values: dict[str, Any], wrong: list[tuple[str | int, ...]]) -> dict[str, Any]:
    """List what constructors are given beside their arguments, as far as it is right."""
    facts = {**ITEM_WISE, "params": [nn.Parameter(torch.zeros(1))]}
    for key in ("sources", "sample_rate", "n_channels", "segment"):
        if _is_right(("separator", key), wrong):
            given = _get(values, "separator", key)
            facts[key] = SeparatorSettings.model_fields[key].default if given is None else given
    if "sources" in facts:
        facts["n_sources"] = len(facts["sources"])
    if _get(values, "separator", "transform") is None:
        facts |= _frame_facts(STFT(), facts)
    return facts


def _frame_facts(transform: object, facts: dict[str, Any]) -> dict[str, int]:
    """Return the bins of a transform, and the frames of a segment, where both are right."""
    if not hasattr(transform, "n_frames") or not {"segment", "sample_rate"} <= set(facts):
        return {}
    n_samples = round(facts["segment"] * facts["sample_rate"])
    return {"n_bins": transform.n_bins, "n_frames": transform.n_frames(n_samples)}


def _is_right(path: tuple[str | int, ...], wrong: list[tuple[str | int, ...]]) -> bool:
    """Tell whether there is no problem at a place, above or below it."""
    return not any(path[: len(place)] == place[: len(path)] for place in wrong)


def _specs(values: dict[str, Any], slot: tuple[str, ...]) -> list[tuple[tuple[str | int, ...], Any]]:
    """List the class mappings at a slot with their paths."""
    if slot[-1] != "*":
        spec = _get(values, *slot)
        return [] if spec is None else [(slot, spec)]
    specs = _get(values, *slot[:-1])
    items = enumerate(specs) if isinstance(specs, list) else ()
    return [((*slot[:-1], position), spec) for position, spec in items]


def _class_at(values: dict[str, Any], path: tuple[str | int, ...], shelf: str) -> type | None:
    """Return the class that is named at a path; None where there is none (which is reported elsewhere)."""
    try:
        return resolve_class(_get(values, *path, "class"), shelf)
    except InstantiationError:
        return None


# How the parts fit together


def _check_sources(values: dict[str, Any]) -> Iterator[Problem]:
    sources = _names(_get(values, "separator", "sources"))
    for position, name in enumerate(sources):
        path = ("separator", "sources", position)
        if name in sources[:position]:
            yield Problem(path, f"each source must be named once, got '{name}' again")
        elif name == "mixture":
            yield Problem(path, "'mixture' is what the sources are separated from; it cannot be one of them")
        elif not name.strip() or set(name) & set('/\\:*?"<>|') or name.startswith("."):
            yield Problem(path, f"a source must be a name that files can have, got {show(name)}")


def _names(value: Any) -> list[str]:
    return value if isinstance(value, list) and all(isinstance(name, str) for name in value) else []


def _check_batches(values: dict[str, Any]) -> Iterator[Problem]:
    batch_size, parts = (_training(values, key) for key in ("batch_size", "accumulate"))
    if isinstance(batch_size, int) and isinstance(parts, int) and parts > 0 and batch_size % parts:
        message = f"must divide training.batch_size, which is {batch_size}, got {parts}"
        yield Problem(("training", "accumulate"), message)


def _training(values: dict[str, Any], key: str) -> Any:
    given = _get(values, "training", key)
    return TrainingSettings.model_fields[key].default if given is None else given


def _check_losses(values: dict[str, Any]) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, spec in _specs(values, ("losses", "*")):
        if isinstance(spec, dict):
            problems = [*_check_loss(spec, values), *_check_loss_name(spec, seen)]
            yield from (problem.below(*path) for problem in problems)


def _check_weights(values: dict[str, Any]) -> Iterator[Problem]:
    weights = [spec.get("weight", 1.0) for _, spec in _specs(values, ("losses", "*")) if isinstance(spec, dict)]
    if weights and not any(map(_is_felt, weights)):
        yield Problem(("losses", 0, "weight"), "must be above 0 in one of the losses: with 0 in all nothing is learned")


def _is_felt(weight: Any) -> bool:
    ends = [weight.get("from"), weight.get("to")] if isinstance(weight, dict) else [weight]
    return any(end != 0 for end in ends)


def _check_loss_name(spec: dict[str, Any], seen: set[str]) -> Iterator[Problem]:
    name = spec.get("name") or str(spec.get("class")).rpartition(".")[2]
    if name == "loss":
        yield Problem(("name",), "'loss' is the sum of all terms; give this one another name")
    if name in seen:
        yield Problem(("name",), f"another loss is called '{name}' too; give this one a name of its own")
    seen.add(str(name))


def _check_loss(spec: dict[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
    sources = _names(_get(values, "separator", "sources"))
    for position, name in enumerate(_names(spec.get("sources")) if sources else ()):
        if name not in sources:
            wanted = f"must be one of separator.sources ({', '.join(sources)}), got '{name}'"
            yield Problem(("sources", position), wanted + did_you_mean(name, sources))
    cls = _class_at(spec, (), "sepkit.losses")
    if cls is None:
        return
    taken = _forward_arguments(cls)
    if taken is None:
        yield Problem(("class",), f"{cls.__name__} is not a loss: it has no forward that names what it takes")
    else:
        yield from _check_inputs(spec, cls, taken, values)


def _forward_arguments(cls: type) -> dict[str, inspect.Parameter] | None:
    """Return the named parameters of a loss's forward; None where it has none."""
    forward = getattr(cls, "forward", None)
    if forward is None:
        return None
    parameters = list(inspect.signature(forward).parameters.items())[1:]
    return {name: p for name, p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} or None


def _check_inputs(
    spec: dict[str, Any], cls: type, taken: dict[str, inspect.Parameter], values: dict[str, Any]
) -> Iterator[Problem]:
    """Compare what a loss takes with what a separation has."""
    inputs = spec.get("inputs") if isinstance(spec.get("inputs"), dict) else {}
    for name in inputs:
        if name not in taken:
            wanted = f"{cls.__name__}'s forward has no such argument (it has: {', '.join(taken)})"
            yield Problem(("inputs", name), wanted + did_you_mean(name, taken), at_key=True)
    network = _class_at(values, ("separator", "network"), "sepkit.models")
    declared = getattr(network, "outputs", ("mask",))
    if network is None or not isinstance(declared, tuple | list | dict):  # unknown before it is built
        return
    known = [*dict.fromkeys([*(name for name in QUANTITIES if name != "mask"), *declared])]
    lacking = f"which neither every separation has nor {network.__name__} declares (it declares: {', '.join(declared)})"
    for name, quantity in inputs.items():
        if name in taken and isinstance(quantity, str) and quantity not in known:
            yield Problem(
                ("inputs", name), f"must be a quantity, got '{quantity}', {lacking}{did_you_mean(quantity, known)}"
            )
    required = [name for name, parameter in taken.items() if parameter.default is parameter.empty]
    missing = [f"'{name}'" for name in required if name not in (*inputs, *known)]
    if missing:
        message = f"{cls.__name__} takes {' and '.join(missing)}, {lacking}; say in `inputs` what it is to take"
        yield Problem(("class",), message)
