"""The scores of frames and of tracks, taken together."""

import math
from collections.abc import Collection
from functools import partial

import numpy as np
from numpy.typing import ArrayLike


def median(scores: ArrayLike) -> np.ndarray:
    """Take the median of those scores that are numbers: of an even number the mean of the two in the middle.

    Args:
        scores: (..., N), of frames or tracks, N >= 0; NaN counts as no score, infinities count.

    Returns:
        (...,), float64; NaN where there is no score.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))  # NaN comes last
    last = (~np.isnan(ordered)).sum(-1, keepdims=True) - 1
    ordered = np.concatenate([ordered, np.full((*ordered.shape[:-1], 1), np.nan)], -1)  # NaN at place -1, too
    with np.errstate(invalid="ignore"):  # the mean of infinities
        middle = (np.take_along_axis(ordered, place, -1) for place in (last // 2, (last + 1) // 2))
        return (next(middle) + next(middle))[..., 0] / 2


_RESAMPLES = 2000
_OVER_TRACKS = {"median": median, "mean": partial(np.mean, axis=-1)}
STATISTICS = tuple(_OVER_TRACKS)
INTERVAL = (
    f"95 % interval, percentiles of {_RESAMPLES} bootstrap resamples of\nthe tracks, seed 0; none below two tracks"
)


def bootstrap_interval(values: Collection[float], statistic: str) -> tuple[float, float, float]:
    """Take the median or the mean over tracks, with the 95 % interval of its bootstrap.

    Args:
        values: one a track, without NaN.
        statistic: "median" or "mean".

    Returns:
        The value, and where its interval begins and ends; NaN what cannot be told.

    Source:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3: percentile interval, of 2000
        resamples, seed 0.
    """
    found, take = np.array(list(values), dtype=float), _OVER_TRACKS[statistic]
    if not len(found):
        return math.nan, math.nan, math.nan
    with np.errstate(invalid="ignore"):  # the mean of infinities
        if len(found) == 1:
            return float(found[0]), math.nan, math.nan
        resamples = np.random.default_rng(0).integers(len(found), size=(_RESAMPLES, len(found)))
        ordered = np.sort(take(found[resamples]))
        low, high = (ordered[round(share * (_RESAMPLES - 1))] for share in (0.025, 0.975))
        return float(take(found)), float(low), float(high)
