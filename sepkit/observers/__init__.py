"""Observers: what is called while a separator is trained.

An observer is any object with one or more of the methods `on_step(view)`, `on_epoch(view)`, after validation and
saving, and `on_end(view)`, once, whether the training is finished, was stopped or failed. It must not change what it is
shown: weights, gradients and modules are those of the training. It is called without gradients, and torch's random
state and the mode of every module are restored afterwards. An observer that raises is reported in a warning and left
out from then on. Two that would write the same are refused: each names in `writes` what that is. A recipe names
observers under `observers`, and `train(observers=[...])` takes objects.
"""

from sepkit.lazy import lazy_names
from sepkit.observers.tensorboard import TensorBoard
from sepkit.observers.training_view import TrainingView
from sepkit.observers.weights_and_biases import WeightsAndBiases

__all__ = [
    "AudioPlayerCallback",
    "LayersVisualCallback",
    "LossCallback",
    "SpectrogramVisualCallback",
    "TensorBoard",
    "TrainingView",
    "WaveformVisualCallback",
    "WeightsAndBiases",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(
        [f"{kind}Callback" for kind in ("AudioPlayer", "LayersVisual", "Loss", "SpectrogramVisual", "WaveformVisual")],
        "sepkit.auralflow.callbacks",
    ),
    __all__,
)
