"""The model that a separator of a recipe begins as: its settings, and what may be changed about them."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepkit.instantiate import InstantiationError, arguments_of, check, is_config, resolve_class
from sepkit.model_folder import locate_model, read_card, survey_weights
from sepkit.models.facts import derive_sizes
from sepkit.problems import Problem, show
from sepkit.recipe.dry_build import is_own, try_to_build
from sepkit.recipe.inheritance import Inheritance, Shapes, inherit, inherit_all

_FIXED = ("sample_rate", "n_channels", "transform", "normalize")  # what the weights were made for
_PARTS = {"network": "sepkit.models", "transform": "sepkit.transforms", "postfilter": "sepkit.masks"}
_NETWORK = "network."  # before the names of its weights


@dataclass(frozen=True)
class Base:
    """A model folder that a separator begins as.

    Attributes:
        name: as it was named, a folder or a model that was brought.
        folder: where it lies.
        settings: of its separator.
        weights: their hash.
        shapes: of the weights of its network, by name.
        licence: as its card states it.
        source: where it came from, as its card states it.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    weights: str
    shapes: Shapes
    licence: str
    source: Any = None


def read_base(stated: Any) -> Base:
    """Read a model that `separator.from` names.

    Args:
        stated: a folder or name; or a mapping with it as `model`, and the hash of its `weights`, or the `licence`, to
            be compared.

    Raises:
        ValueError: there is no such model, or it is not the one that is stated.
    """
    name = stated.get("model") if isinstance(stated, Mapping) else stated
    if not isinstance(name, str) or not name:
        raise ValueError(f"must name a model: its folder, or one that was brought, got {show(stated)}")
    folder = locate_model(name)
    card = read_card(folder)
    weights, shapes = survey_weights(folder)
    own = {key.removeprefix(_NETWORK): shape for key, shape in shapes.items() if key.startswith(_NETWORK)}
    licence = card.get("licence") or "not stated"
    base = Base(name, folder, card["separator"], weights, own, licence, card.get("source"))
    found = {"weights": base.weights, "licence": base.licence}
    for key, value in found.items():
        wanted = stated.get(key) if isinstance(stated, Mapping) else None
        if wanted is not None and wanted != value:
            raise ValueError(f"{name} is another model than is stated, its {key} are {value}, wanted is {wanted}")
    return base


def _refuse_foreign(base: Base, parts: Iterable[str]) -> None:
    for part in parts:
        config = base.settings.get(part)
        for problem in check(config, _PARTS[part], trusted=False) if is_config(config) else ():
            if problem.path[-1:] == ("class",):
                raise ValueError(f"{base.name} has a {part} of which {problem.message}")


def take_settings(values: dict[str, Any], base: Base, trust: bool) -> None:
    """Fill in the settings of a separator that a recipe leaves to its base.

    Args:
        values: the recipe's separator, which is changed.
        base: which it begins as.
        trust: let what is filled in name classes from outside this package.

    Raises:
        ValueError: it names such a class.
    """
    given = {key: value for key, value in values.items() if key != "from"}
    if not trust:
        own = [part for part in _PARTS if is_config(given.get(part)) and not _is_wrapper(given[part])]
        _refuse_foreign(base, [part for part in _PARTS if part not in own])
    network, own = base.settings["network"], given.get("network")
    if own is None:
        given["network"] = network
    elif isinstance(own, dict) and "class" not in own:
        given["network"] = {**network, **own}
    elif isinstance(own, dict) and _is_wrapper(own) and not is_config(own.get("network")):
        given["network"] = {**own, "network": {**network, **(own.get("network") or {})}}
    stated = {"model": base.name, "weights": base.weights, "licence": base.licence}
    settings = dict(base.settings)
    if given.get("sources") not in (None, settings["sources"]):
        settings.pop("residual", None)  # beside other sources it is something else
    values.clear()
    values.update({"from": stated, **settings, **given})


def _is_wrapper(config: Mapping[str, Any]) -> bool:
    """Return whether a mapping names a network around another."""
    try:
        return hasattr(resolve_class(config.get("class"), "sepkit.models"), "wrapped")
    except InstantiationError:
        return False


def wrapped_network(network: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the mapping of the network whose weights a base has, and where in the recipe's it stands."""
    path: tuple[str, ...] = ("separator", "network")
    while _is_wrapper(network) and is_config(network.get("network")):
        network, path = network["network"], (*path, "network")
    return network, path


class Fit:
    """Compare the separator of a recipe with the base that it begins as, by shapes of weights that are never drawn.

    Args:
        base: a model.
        separator: settings in which there is no other problem.
        foreign: build networks of classes from elsewhere, too.
    """

    def __init__(self, base: Base, separator: Mapping[str, Any], foreign: bool = False) -> None:
        self.base, self.separator, self.foreign = base, separator, foreign
        self.network, self.path = wrapped_network(separator["network"])
        self.sources, self.base_sources = separator["sources"], base.settings["sources"]

    @property
    def can_be_built(self) -> bool:
        """Return whether the network may be built to look at its weights."""
        return self.foreign or is_own(self.network, "sepkit.models")

    def problems(self) -> list[Problem]:
        """List the keys of the recipe that would make weights of the base useless."""
        fixed = list(self._fixed_problems())
        if fixed or not self.can_be_built:
            return fixed
        shapes = self._shapes(len(self.base_sources))
        if shapes is None:
            return []
        if shapes != self.base.shapes:
            return list(self._shape_problems(shapes))
        try:
            self.inheritance()
        except ValueError as error:
            remedy = f"give {show(self.base_sources)}, or leave sources out"
            return [Problem(("separator", "sources"), f"{error} in {self.base.name}: {remedy}")]
        return []

    def inheritance(self) -> Inheritance:
        """Return which weights are kept.

        Raises:
            ValueError: none would be, or they do not depend on the sources.
        """
        if self.sources == self.base_sources or not self.can_be_built:
            return inherit_all(self.base.shapes)
        n_base = len(self.base_sources)
        more = self._shapes(n_base + 1) or {}
        own = self._shapes(len(self.sources)) or {}
        ordered = is_own(self.network, "sepkit.models")
        return inherit(self.sources, own, self.base_sources, self.base.shapes, more, ordered)

    def _shapes(self, n_sources: int, **changed: Any) -> Shapes | None:
        """Return the shapes of the weights of the network; None where it cannot be built."""
        settings = {**self.separator, "network": self.network, **changed}
        transform, _ = try_to_build(settings["transform"], "sepkit.transforms", {}, self.foreign)
        if transform is None:
            return None
        numbers = (settings["n_channels"], settings["sample_rate"], settings["segment"])
        sizes = derive_sizes(transform, n_sources, *numbers)
        network, _ = try_to_build(settings["network"], "sepkit.models", sizes, self.foreign)
        return network and {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    def _fixed_problems(self) -> Iterator[Problem]:
        for key in _FIXED:
            own, theirs = self.separator.get(key), self.base.settings.get(key)
            if _filled(own, _PARTS.get(key)) != _filled(theirs, _PARTS.get(key)):
                wanted = f"must be {show(theirs)}, for which the weights of {self.base.name} were made, or left out"
                yield Problem(("separator", key), f"{wanted}, got {show(own)}")

    def _shape_problems(self, shapes: Shapes) -> Iterator[Problem]:
        """Name each key that gives other shapes by itself, or else the network."""
        base, theirs, name = self.base, self.base.settings["network"], self.base.name
        if self.network["class"] != theirs["class"]:
            wanted = f"must be {theirs['class']}, as in {name}, or left out"
            yield Problem((*self.path, "class"), f"{wanted}: its weights fit no {self.network['class']}")
            return
        own, filled = (_filled(network, _PARTS["network"]) for network in (self.network, theirs))
        former = {"network": theirs, "segment": base.settings["segment"]}
        changes = [((*self.path, key), filled.get(key), value, {"network": {**theirs, key: value}})
                   for key, value in own.items() if value != filled.get(key)]  # fmt: skip
        segment = self.separator["segment"]
        changes.append((("separator", "segment"), former["segment"], segment, {"segment": segment}))
        found = False
        for path, wanted, got, changed in changes:
            alone = self._shapes(len(self.base_sources), **{**former, **changed})
            if alone is not None and alone != base.shapes:
                found = True
                difference = _first_difference(alone, base.shapes)
                yield Problem(path, f"must be {show(wanted)}, as in {name}, or left out, got {show(got)}: {difference}")
        if not found:
            yield Problem(self.path, f"does not fit the weights of {name}: {_first_difference(shapes, base.shapes)}")


def _first_difference(own: Shapes, base: Shapes) -> str:
    """Describe the first weight whose shape is not the base's."""
    different = [name for name in {**own, **base} if own.get(name) != base.get(name)]
    shown, theirs = own.get(different[0], "none"), base.get(different[0], "none")
    more = f", and {len(different) - 1} more" if different[1:] else ""
    return f"{different[0]} would be {shown}, is {theirs}{more}"


def _filled(value: Any, module: str | None) -> Any:
    """Return a value as YAML would hold it, with the defaults of class mappings filled in."""
    if is_config(value):
        try:
            arguments = arguments_of(resolve_class(value["class"], module or "")) or {}
        except InstantiationError:
            arguments = {}
        defaults = {name: argument.default for name, argument in arguments.items()}
        known = {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}
        return {key: _filled(inner, module) for key, inner in {**known, **value}.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, module) for item in value]
    return value
