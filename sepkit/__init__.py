"""Train, run and score music source separation: mask estimation on torch."""

from sepkit.lazy import lazy_names

__version__ = "0.1.0"
__all__ = ["Separator", "__version__", "evaluate", "load_model", "separate", "separate_file", "train"]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Separator": "sepkit.separator",
        "evaluate": "sepkit.evaluation",
        "load_model": "sepkit.model_folder",
        "separate": "sepkit.inference",
        "separate_file": "sepkit.inference",
        "train": "sepkit.training",
    },
    ["__version__"],
)
