"""A run that is made longer, or shorter, than it was begun: where its schedule ends now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sepkit.recipe import Recipe

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer


def reason_to_stop(state: Mapping[str, Any], recipe: Recipe) -> str | None:
    """Return why a run is finished; None where it goes on, also since more epochs are asked for.

    Args:
        state: of the run.
        recipe: with which it is started again.

    Raises:
        ValueError: fewer epochs are asked for than lie behind it.
    """
    done, finished, wanted = state["progress"]["epoch"], state["progress"]["finished"], recipe.training.epochs
    if wanted < done or (wanted == done and not finished):
        more = "" if finished else " and has begun another"
        raise ValueError(
            f"training.epochs must be above what lies behind this run, which is {done} epochs{more}, got {wanted}: ask "
            "for more, or choose another folder with --run"
        )
    return None if finished == f"after {done} epochs" and wanted > done else finished


def move_horizon(trainer: "Trainer") -> str | None:
    """Move the end of a restored run to where its recipe says now, and describe what that changes; None: nothing.

    Args:
        trainer: after its state was restored.
    """
    former, wanted = trainer.horizon, trainer.recipe.training.epochs
    trainer.finished = None
    if former == wanted:
        return None
    rates = [trainer.base_rates[0] * trainer.schedule.factor(trainer.place)]
    trainer.horizon = wanted
    rates.append(trainer.base_rates[0] * trainer.schedule.factor(trainer.place))
    kept = f"at this step the rate stays {rates[0]:.3g}"
    moved = f"at this step the rate is {rates[1]:.3g}, where it would have been {rates[0]:.3g}"
    return f"the run ends with epoch {wanted} now, before with {former}: {kept if rates[0] == rates[1] else moved}"
