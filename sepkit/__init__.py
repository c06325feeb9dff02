"""Train, run and score music source separation: mask estimation on torch."""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Separator": "separator",
    "load_model": "checkpoint",
    "separate": "inference",
    "separate_file": "inference",
    "train": "training",
    "evaluate": "evaluation",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"sepkit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sepkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
