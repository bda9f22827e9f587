"""The optimizer's state as safetensors; Nanotron would pickle it with torch.save.

Nothing else needs saving. A Llama without dropout makes no random draws after its weights are
initialised, and the learning rate is a function of the step.
"""

from pathlib import Path
from typing import Any

import torch

from safelm.builder.files import make_parent
from safelm.pretraining.tensors import Tensor, read, write

# The float32 copy of a bfloat16 weight, which the optimizer updates.
MASTER = "master"


def state_file(rank: int, ranks: int) -> str:
    """Return the file of a tensor-parallel rank, which data-parallel ranks share."""
    return f"optimizer/state_tp-rank-{rank}-of-{ranks}.safetensors"


def save_optimizer(optimizer: Any, path: Path) -> None:
    """Write every tensor of the state, all float32, as `<parameter>:<kind>`."""
    state = optimizer.state_dict()
    # torch numbers the parameters; names survive a change of their order.
    names = _parameter_names(optimizer)
    tensors = {}
    for index, values in state["state"].items():
        for kind, value in values.items():
            tensors[f"{names[index]}:{kind}"] = _array(value)
    for name, value in state.get("gradient_accumulator", {}).items():
        tensors[f"{name}:{MASTER}"] = _array(value)
    make_parent(path)
    write(path, tensors, {})


def _array(value: torch.Tensor) -> Tensor:
    return Tensor("F32", value.detach().cpu().numpy())


def load_optimizer(optimizer: Any, path: Path) -> None:
    """Load the saved tensors into a new optimizer of the same parameters."""
    state = optimizer.state_dict()
    names = _parameter_names(optimizer)
    indices = {name: index for index, name in enumerate(names)}
    masters: dict[str, torch.Tensor] = {}
    for key, tensor in read(path)[0].items():
        # The kind follows the last colon.
        name, _, kind = key.rpartition(":")
        # Copied, because the file is mapped read-only, and the optimizer writes in place.
        value = torch.from_numpy(tensor.values.copy())
        if kind == MASTER:
            masters[name] = value
        else:
            state["state"].setdefault(indices[name], {})[kind] = value
    state["names"] = dict(enumerate(names))
    if masters:
        state["gradient_accumulator"] = masters
    optimizer.load_state_dict(state)


def _parameter_names(optimizer: Any) -> list[str]:
    """Return the parameters' names in the order in which torch numbers them."""
    names = optimizer.id_to_name
    parameters = []
    for group in optimizer.param_groups:
        parameters += group["params"]
    return [names[id(parameter)] for parameter in parameters]


def set_step(scheduler: Any, step: int) -> None:
    """Put a new scheduler into the state after `step` steps."""
    # Nanotron loads the scheduler's state alone. The optimizer would then take its first step with
    # the learning rate of step 0.
    scheduler.last_epoch = step
    scheduler._step_count = step + 1
    factors = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    rates = [base * factor(step) for base, factor in factors]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates
