"""Stems rendered from MIDI by FluidSynth and sound fonts."""

from sepkit.datasets.rendering.errors import RenderingError
from sepkit.datasets.rendering.rendering import RenderSettings, render

__all__ = ["RenderSettings", "RenderingError", "render"]
