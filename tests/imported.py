"""Separators from weights of other packages."""

from types import ModuleType
from typing import Any

from torch import Tensor

from sepkit.separator import Separator


def build_imported(family: ModuleType, tensors: dict[str, Tensor], config: dict[str, Any]) -> Separator:
    """Build a separator by a module of `sepkit.importing`, strictly, in evaluation mode.

    Recordings are not normalised: what the original network gives is known without.
    """
    assert family.detect(tensors)
    settings = family.settings(tensors, config)
    separator = Separator(**{**settings, "normalize": None})
    separator.load_state_dict(family.convert(tensors, settings), strict=True)
    return separator.eval()
