"""What an Objective makes of a pass, as plain numbers by name."""

from torch import Tensor

from sepkit.objective import Objective
from sepkit.separator import Separation


def costs(
    objective: Objective, separation: Separation, present: Tensor | None = None, epoch: float = 0.0
) -> dict[str, Tensor]:
    """Judge a pass that is a whole batch: the loss, and the means of terms, sources and parts."""
    judgement = objective(separation, present)
    means = {name: mean.detach() for name, mean in judgement.means().items()}
    return {"loss": objective.loss(judgement, epoch=epoch), **means}
