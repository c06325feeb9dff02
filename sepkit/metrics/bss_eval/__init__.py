"""BSS Eval version 4 and 3: estimates taken apart into target, interference, artifacts and spatial distortion."""

from sepkit.metrics.bss_eval.decomposition import BSSEval, bss_eval

__all__ = ["BSSEval", "bss_eval"]
