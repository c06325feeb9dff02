"""Recipe YAML -> checked settings, with every mistake answered at its line before anything is built."""

from sepkit.recipe.data_settings import (
    ActivitySettings,
    DataSettings,
    RemixSettings,
    RootSettings,
    SamplingSettings,
    VariantSettings,
)
from sepkit.recipe.document import RecipeError
from sepkit.recipe.loader import importable, load_recipe, recipe_names
from sepkit.recipe.settings import (
    BaseSettings,
    LossSettings,
    Ramp,
    Recipe,
    RobustSettings,
    SeparatorSettings,
    TrainingSettings,
    ValidationSettings,
)

__all__ = [
    "ActivitySettings",
    "BaseSettings",
    "DataSettings",
    "LossSettings",
    "Ramp",
    "Recipe",
    "RecipeError",
    "RemixSettings",
    "RobustSettings",
    "RootSettings",
    "SamplingSettings",
    "SeparatorSettings",
    "TrainingSettings",
    "ValidationSettings",
    "VariantSettings",
    "importable",
    "load_recipe",
    "recipe_names",
]
