"""Sharding: weights, gradients and optimizer state of a network are spread over processes, by torch's FSDP2."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sepkit.instantiate import resolve_class
from sepkit.processes import Processes
from sepkit.recipe import Recipe
from sepkit.separator import Separator
from sepkit.training.optimizers import make_optimizer
from sepkit.training.recomputation import outermost
from sepkit.training.rows import gather_rows, gather_tensor, is_sharded, own_rows
from sepkit.training.weight_average import WeightAverage, WeightAverages

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

_BY_ELEMENT = ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
_WITHOUT = "leave training.sharding out"


def list_sharding_problems(recipe: Recipe, separator: Separator, processes: Processes) -> list[str]:
    """List why a training cannot be sharded over processes, each with its remedy.

    Args:
        recipe: which is trained.
        separator: its separator.
        processes: over which.
    """
    settings, network = recipe.training, separator.network
    name, problems = type(network).__name__, []
    if not outermost(network, separator.facts.blocks):
        problems.append(f"needs a network that declares its `blocks`, {name} has none: {_WITHOUT}")
    if hasattr(network, "wrapped"):
        problems.append(f"cannot spread {name}, whose weights are small: {_WITHOUT}")
    scalars = [key for key, weight in network.named_parameters() if not weight.dim()]
    if scalars:
        problems.append(f"cannot cut {scalars[0]} of {name}, a single number: give it shape (1,), or {_WITHOUT}")
    elsewhere = [key for key, _ in separator.named_parameters() if not key.startswith("network.")]
    if elsewhere:
        problems.append(f"cannot spread {elsewhere[0]}, which is not of the network: {_WITHOUT}")
    optimizer = resolve_class(settings.optimizer["class"], "torch.optim")
    if optimizer not in [getattr(torch.optim, known) for known in _BY_ELEMENT]:
        problems.append(
            f"needs an optimizer that treats each value by itself ({', '.join(_BY_ELEMENT)}), got "
            f"{optimizer.__name__}: choose one of these, or {_WITHOUT}"
        )
    part = settings.batch_size // settings.accumulate
    if part % processes.world:
        problems.append(
            f"needs parts of a batch that {processes.world} processes share equally, got {part} examples: change "
            f"training.batch_size or training.accumulate, or {_WITHOUT}"
        )
    if recipe.data.items_per_epoch % settings.batch_size:
        problems.append(
            f"needs whole batches, got data.items_per_epoch {recipe.data.items_per_epoch} and training.batch_size "
            f"{settings.batch_size}: choose a multiple, or {_WITHOUT}"
        )
    return problems


class ShardedWeights:
    """A separator with sharded weights as a part of a training, whose state is that of one which is not sharded."""

    def __init__(self, separator: Separator, processes: Processes) -> None:
        self.separator, self.processes = separator, processes

    def state_dict(self) -> dict[str, Any]:
        """Return the weights whole; all processes ask for them at the same time."""
        state = self.separator.state_dict()
        for name, value in state.items():
            state[name] = gather_tensor(value, self.processes)
        return state

    @torch.no_grad()
    def copy_to(self, separator: Separator) -> None:
        """Set the weights of another separator, which is not sharded, to these."""
        separator.load_state_dict(self.state_dict())


class ShardedOptimizer:
    """An optimizer of sharded weights as a part of a training, whose state is that of one which is not sharded."""

    def __init__(self, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
        self.optimizer, self.processes = optimizer, processes
        weights = [each for group in optimizer.param_groups for each in group["params"]]
        self._is_mixed = len({is_sharded(weight) for weight in weights}) > 1
        self._forms: list[dict[str, Any]] = [{} for _ in optimizer.param_groups]  # of that which is not sharded

    def state_dict(self) -> dict[str, Any]:
        """Return the state whole; all processes ask for it at the same time."""
        state = self.optimizer.state_dict()
        held = {
            key: {name: self._gather(value) for name, value in values.items()} for key, values in state["state"].items()
        }
        groups = [{**group, **forms} for group, forms in zip(state["param_groups"], self._forms, strict=True)]
        return {"state": held, "param_groups": groups}

    def _gather(self, value: Any) -> Any:
        return gather_tensor(value, self.processes) if isinstance(value, Tensor) else value

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a whole state, of which each process keeps its rows."""
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        held = {
            key: {name: self._cut(value, parameters[key]) for name, value in values.items()}
            for key, values in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": held})
        if self._is_mixed:
            self._forms = [self._take_one_by_one(group) for group in self.optimizer.param_groups]

    def _take_one_by_one(self, group: dict[str, Any]) -> dict[str, Any]:
        """Set a step to move weight by weight, as torch takes no sharded and whole ones at once; return the former."""
        former = {form: group[form] for form in ("fused", "foreach") if form in group}
        group.update(dict.fromkeys(former, False))
        return former

    def _cut(self, value: Any, parameter: Tensor) -> Any:
        if not (is_sharded(parameter) and isinstance(value, Tensor) and value.shape == parameter.shape):
            return value
        from torch.distributed.tensor import DTensor

        rows = own_rows(value, self.processes).to(parameter.device, copy=True)
        return DTensor.from_local(
            rows, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
        )


def check_sharding(trainer: "Trainer") -> None:
    """Refuse what cannot be spread over the processes of a training, if its recipe asks for it.

    Args:
        trainer: before it begins.

    Raises:
        ValueError: with the first reason.
    """
    if trainer.recipe.training.sharding is None or trainer.processes.world == 1:
        return
    if not _has_fsdp():
        raise ValueError(f"training.sharding needs torch 2.8 or later, here is {torch.__version__}: {_WITHOUT}")
    for problem in list_sharding_problems(trainer.recipe, trainer.separator, trainer.processes):
        raise ValueError(f"training.sharding {problem}")


def _has_fsdp() -> bool:
    try:
        from torch.distributed.fsdp import FSDPModule
    except ImportError:
        return False
    return hasattr(FSDPModule, "set_gradient_divide_factor")


def shard_training(trainer: "Trainer") -> str | None:
    """Divide a training that is about to begin, or to go on, among its processes, if its recipe asks for it.

    Args:
        trainer: with its weights, averages and optimizer as they are to be, the same in all processes.

    Returns:
        A line for the user; None: the recipe asks for nothing.
    """
    processes, recipe = trainer.processes, trainer.recipe
    if recipe.training.sharding is None:
        return None
    if processes.world == 1:
        return "training.sharding spreads nothing, since one process trains: `torchrun` starts several"
    state = trainer.optimizer.state_dict()
    if trainer.ema is None:
        trainer.whole = copy.deepcopy(trainer.separator)
    for average in _list_averages(trainer.ema):
        average.shard(
            lambda weight: own_rows(weight, processes), lambda rows, whole: gather_rows(rows, whole, processes)
        )
    shard_blocks(trainer.separator, trainer.device, processes)
    _renew_optimizer(trainer, state)
    trainer.checkpointer.parts["separator"] = ShardedWeights(trainer.separator, processes)
    n_values = sum(parameter.numel() for parameter in trainer.separator.network.parameters())
    shared = f"{n_values / 1e6:.2f} M weights, their gradients and the optimizer's state"
    return f"{shared} are spread over {processes.world} processes"


def _list_averages(ema: WeightAverage | WeightAverages | None) -> list[WeightAverage]:
    if ema is None:
        return []
    return list(ema.averages.values()) if isinstance(ema, WeightAverages) else [ema]


def shard_blocks(separator: Separator, device: torch.device, processes: Processes) -> None:
    """Cut the weights of the blocks of a separator's network, and what is left of them, over processes.

    Args:
        separator: is changed in place; names of its weights stay.
        device: where they are.
        processes: over which.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.world,))
    blocks = outermost(separator.network, separator.facts.blocks)
    for part in dict.fromkeys([*blocks, separator.network]):
        fully_shard(part, mesh=mesh)
        part.set_gradient_divide_factor(1.0)  # losses of processes add up
        part.set_force_sum_reduction_for_comms(True)


def _renew_optimizer(trainer: "Trainer", state: Mapping[str, Any]) -> None:
    """Make the optimizer anew, for the weights that this process has."""
    parameters = [*trainer.separator.parameters(), *trainer.objective.parameters()]
    trainer.parameters = [parameter for parameter in parameters if parameter.requires_grad]
    trainer.optimizer = make_optimizer(trainer.recipe.training.optimizer, trainer.parameters, trainer.device)
    part = ShardedOptimizer(trainer.optimizer, trainer.processes)
    part.load_state_dict(state)
    trainer.checkpointer.parts["optimizer"] = part


def whole_separator(trainer: "Trainer") -> Separator:
    """Return the separator that the optimizer changes; where it is sharded, what `gather_weights` filled."""
    return trainer.averaged if _is_sharded(trainer) else trainer.separator


def _is_sharded(trainer: "Trainer") -> bool:
    return isinstance(trainer.checkpointer.parts["separator"], ShardedWeights)


def gather_weights(trainer: "Trainer") -> None:
    """Fill the separators that are validated and saved with the weights of all processes, where these are sharded."""
    if not _is_sharded(trainer):
        return
    sharded = trainer.checkpointer.parts["separator"]
    if trainer.whole is not None:
        sharded.copy_to(trainer.whole)
    for average in _list_averages(trainer.ema):
        average.complete()


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Limit the norm of the gradients of weights, some of which may be sharded, and return it as it was.

    Args:
        parameters: all that are trained.
        limit: of the norm, > 0.

    Returns:
        ().
    """
    sharded = [parameter for parameter in parameters if is_sharded(parameter)]
    if not sharded:
        return nn.utils.clip_grad_norm_(parameters, limit).detach()
    whole = [parameter for parameter in parameters if not is_sharded(parameter)]
    grads = [[each.grad for each in kind if each.grad is not None] for kind in (sharded, whole)]
    norms = [nn.utils.get_total_norm(kind) for kind in grads if kind]
    total = torch.stack([norm.full_tensor() if is_sharded(norm) else norm for norm in norms]).norm().detach()
    for kind in filter(None, (sharded, whole)):
        nn.utils.clip_grads_with_norm_(kind, limit, total)
    return total
