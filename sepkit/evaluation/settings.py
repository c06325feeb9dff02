"""How tracks are scored: what must be equal for two scores to be compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from sepkit.arguments import is_number
from sepkit.metrics.units import NOT_DECIBELS

FRAMEWISE = ("SDR", "ISR", "SIR", "SAR")
DEFAULT_METRICS = (*FRAMEWISE, "SI-SDR", "SI-SDRi", "uSDR")
METRICS = (
    *DEFAULT_METRICS,
    "SNR",
    "SD-SDR",
    "SI-SIR",
    "SI-SAR",
    *NOT_DECIBELS,
)
WITH_MIXTURE = ("SI-SDRi", "log_wmse")  # metrics that need the mixture
ENGINES = ("sepkit", "museval")
MODES = ("v4", "v3")
SILENT = ("nan", "museval", "error")
PROTOCOLS = ("sepkit", "musdb")


@dataclass(frozen=True)
class Settings:
    """Settings of a score.

    Attributes:
        metrics: which, in the order of `METRICS`.
        mode: version of BSS Eval, "v4" (filters of the whole track) or "v3" (of each frame).
        window: seconds per frame.
        hop: seconds between frames.
        silent: what silence leads to, as in `sepkit.metrics.bss_eval`.
        protocol: which targets are scored together, "sepkit" (all) or "musdb" (as museval.eval_mus_track).
        engine: what computes SDR, ISR, SIR and SAR, "sepkit" or "museval".
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    mode: str = "v4"
    window: float = 1.0
    hop: float = 1.0
    silent: str = "nan"
    protocol: str = "sepkit"
    engine: str = "sepkit"

    @property
    def framewise(self) -> tuple[str, ...]:
        """Those metrics that are measured in frames."""
        return tuple(name for name in self.metrics if name in FRAMEWISE)


def without_mixture(settings: Settings) -> Settings:
    """Leave out the metrics that need the mixture."""
    return replace(settings, metrics=tuple(name for name in settings.metrics if name not in WITH_MIXTURE))


def check_settings(
    metrics: Sequence[str],
    mode: str,
    window: float,
    hop: float,
    silent: str | None,
    protocol: str,
    engine: str,
) -> Settings:
    """Put settings together.

    Args:
        metrics: in any order.
        mode: see `Settings`.
        window: seconds per frame.
        hop: seconds between frames.
        silent: None: "nan", and with the protocol of musdb "museval".
        protocol: see `Settings`.
        engine: see `Settings`.

    Raises:
        ValueError: a name is unknown, or window or hop is out of range.
    """
    chosen = {"mode": (mode, MODES), "protocol": (protocol, PROTOCOLS), "engine": (engine, ENGINES)}
    silent = ("museval" if protocol == "musdb" else "nan") if silent is None else silent
    for name, (value, known) in {**chosen, "silent": (silent, SILENT)}.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if not all(is_number(value) and 0 < value < math.inf for value in (window, hop)):
        raise ValueError(f"window and hop must be > 0 s and finite, got {window} and {hop}")
    ordered = _ordered([metrics] if isinstance(metrics, str) else metrics)
    return Settings(ordered, mode, float(window), float(hop), silent, protocol, engine)


def _ordered(metrics: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        nearest = get_close_matches(unknown[0], METRICS, 1, 0.4) if unknown else []
        hint = f", nearest is {nearest[0]}" if nearest else ""
        raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}{hint}")
    return tuple(name for name in METRICS if name in metrics)
