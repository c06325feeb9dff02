"""Separate recordings of any length, in bounded memory."""

from sepkit.inference.catalogue import (
    CatalogueResult,
    describe_separated,
    find_model,
    find_recordings,
    separate_catalogue,
)
from sepkit.inference.files import (
    Separated,
    output_name,
    separate,
    separate_file,
)
from sepkit.inference.overlap_add import Chunking, Separates
from sepkit.inference.stems import choose_stems, residual_name
from sepkit.inference.streaming import StreamSeparator

__all__ = [
    "CatalogueResult",
    "Chunking",
    "Separated",
    "Separates",
    "StreamSeparator",
    "choose_stems",
    "describe_separated",
    "find_model",
    "find_recordings",
    "output_name",
    "residual_name",
    "separate",
    "separate_catalogue",
    "separate_file",
]
