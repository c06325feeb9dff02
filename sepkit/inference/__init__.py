"""Separate recordings of any length, in bounded memory."""

from sepkit.chunking import Chunking
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
from sepkit.inference.overlap_add import Separates
from sepkit.inference.stems import choose_stems, residual_name
from sepkit.inference.streaming import StreamSeparator, choose_chunking, measure_statistics

__all__ = [
    "CatalogueResult",
    "Chunking",
    "Separated",
    "Separates",
    "StreamSeparator",
    "choose_chunking",
    "choose_stems",
    "describe_separated",
    "find_model",
    "find_recordings",
    "measure_statistics",
    "output_name",
    "residual_name",
    "separate",
    "separate_catalogue",
    "separate_file",
]
