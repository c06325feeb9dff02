"""Pictures: spectrograms, waveforms, separations, training curves, scores. Arrays in, matplotlib axes out.

Without axes to draw on, a figure of its own is made, which needs no display and no global state: `axes.figure` is
it, and its `savefig` writes it. Waveforms are tensors or numpy arrays in floating point; of what is not finite
nothing is drawn. Several axes may come as a list or as the grid that `plt.subplots` returns, row by row.
"""

from sepkit.lazy import lazy_names
from sepkit.plots._axes import literal_text, load_matplotlib, new_figure
from sepkit.plots.curves import plot_history
from sepkit.plots.scores import plot_scores
from sepkit.plots.spectrograms import plot_difference, plot_separation, plot_spectrogram
from sepkit.plots.waveforms import plot_waveforms

__all__ = [
    "literal_text",
    "load_matplotlib",
    "new_figure",
    "plot_difference",
    "plot_history",
    "plot_scores",
    "plot_separation",
    "plot_spectrogram",
    "plot_waveforms",
    "spec_show_diff",
    "waveform_show_diff",
]

__getattr__, __dir__ = lazy_names(
    __name__, dict.fromkeys(("spec_show_diff", "waveform_show_diff"), "sepkit.auralflow.plots"), __all__
)
