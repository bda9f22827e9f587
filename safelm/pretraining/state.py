"""The optimizer's state as safetensors. Nanotron would write it with torch.save, which is a pickle,
and unpickle it.

A Llama without dropout draws nothing after its weights are made, so there is no state of chance to
keep; the learning rate is a function of the step."""

from pathlib import Path
from typing import Any

import torch

from safelm.pretraining.tensors import Tensor, read, write

MASTER = "master"  # the float32 copy of a bfloat16 weight, which the optimizer updates


def state_file(rank: int, ranks: int) -> str:
    """Where a rank of tensor parallelism keeps its share; data parallel ranks have the same state."""
    return f"optimizer/state_tp-rank-{rank}-of-{ranks}.safetensors"


def save_optimizer(optimizer: Any, path: Path) -> None:
    """Every tensor of the state as `<parameter>:<what it is>`; all are float32."""
    state, names = optimizer.state_dict(), _names(optimizer)
    tensors = {
        f"{names[index]}:{kind}": value
        for index, values in state["state"].items()
        for kind, value in values.items()
    }
    masters = state.get("gradient_accumulator", {})
    tensors |= {f"{name}:{MASTER}": value for name, value in masters.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(
        path,
        {name: Tensor("F32", value.detach().cpu().numpy()) for name, value in tensors.items()},
        {},
    )


def load_optimizer(optimizer: Any, path: Path) -> None:
    """Put the saved tensors into a fresh optimizer of the same parameters."""
    state, names = optimizer.state_dict(), _names(optimizer)
    index_of = {name: index for index, name in enumerate(names)}
    masters: dict[str, torch.Tensor] = {}
    for key, tensor in read(path)[0].items():
        name, _, kind = key.rpartition(":")
        value = torch.from_numpy(tensor.values.copy())
        if kind == MASTER:
            masters[name] = value
        else:
            state["state"].setdefault(index_of[name], {})[kind] = value
    state["names"] = dict(enumerate(names))
    if masters:
        state["gradient_accumulator"] = masters
    optimizer.load_state_dict(state)


def _names(optimizer: Any) -> list[str]:
    """The parameters' names in the order in which torch numbers them."""
    names = optimizer.id_to_name
    return [
        names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]
    ]


def set_step(scheduler: Any, step: int) -> None:
    """Put a fresh scheduler where it is after `step` steps.

    Loading its state, as Nanotron does, would leave the optimizer with the rate of step 0 for the
    first step."""
    scheduler.last_epoch, scheduler._step_count = step, step + 1
    groups = zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    )
    for group, base, law in groups:
        group["lr"] = base * law(step)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
