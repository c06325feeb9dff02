"""Windows by the names of torch and of scipy."""

import numpy as np
import torch


def make_window(name: object, length: int) -> np.ndarray:
    """Build a periodic window.

    Args:
        name: a window of torch (`hann_window`), or anything `scipy.signal.get_window` takes (`flattop`,
            `("kaiser", 8.0)`).
        length: samples, >= 1.

    Returns:
        (length,), float32: the precision that the packages in their released versions have them in.

    Raises:
        ValueError: neither has the window.
    """
    if isinstance(name, str) and name.endswith("_window") and hasattr(torch, name):
        return getattr(torch, name)(length, dtype=torch.float32).numpy()
    from scipy.signal import get_window  # 0.2 s, and only some losses need a window

    wrong = f"window must be one of torch or scipy, such as hann_window, got {name!r}"
    try:
        with np.errstate(all="ignore"):
            window = get_window(name, length, fftbins=True).astype(np.float32)
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(wrong) from error
    if not np.isfinite(window).all():
        raise ValueError(wrong)
    return window
