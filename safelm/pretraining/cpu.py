"""Nanotron 0.4 on a CPU: patches for the places that need CUDA.

Each patch names the line it answers. patches.py applies them in the training process alone.
"""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode


def nanotron_module(name: str) -> Any:
    """Import nanotron.<name>; it is Any, because patches assign to its names."""
    return import_module(f"nanotron.{name}")


def run_on_cpu() -> None:
    """Replace everything that needs CUDA."""
    trainer = nanotron_module("trainer")
    llama = nanotron_module("models.llama")
    context = nanotron_module("parallel.context")
    # parallel/context.py:118 calls torch.cuda.set_device.
    context.ParallelContext.set_device = lambda self: None
    # models/llama.py:77 asserts cuda, for embeddings that are used only to generate.
    llama.RotaryEmbedding.init_rotary_embeddings = lambda self: None
    # models/base.py:159 builds on cuda.
    trainer.build_model = functools.partial(trainer.build_model, device=torch.device("cpu"))
    # logging.py:257 calls torch.cuda.reset_peak_memory_stats.
    trainer.log_memory = lambda logger: None
    # dataloader.py:48 moves batches to cuda.
    trainer.sanity_check_dataloader = lambda dataloader, **_: dataloader
    _patch_collectives()
    if int(os.environ["WORLD_SIZE"]) == 1:
        _skip_compiler()


def _patch_collectives() -> None:
    """Reduce without autograd, and broadcast without a CUDA device.

    Gloo averages in place, which autograd forbids on a leaf (trainer.py:582).
    """
    distributed = nanotron_module("distributed")
    reduce = distributed.all_reduce
    broadcast = distributed.broadcast_object_list

    def all_reduce(
        tensor: torch.Tensor,
        op: Any = torch.distributed.ReduceOp.SUM,
        group: Any = None,
        async_op: bool = False,
    ) -> Any:
        # There is nothing to reduce; some 25 such calls would take a twentieth of a step.
        if group is not None and group.size() == 1:
            return None
        return reduce(tensor.detach(), op=op, group=group, async_op=async_op)

    def broadcast_object_list(
        items: list[Any],
        src: int = 0,
        group: Any = None,
        device: Any = None,
    ) -> Any:
        # random.py:143 names a cuda device.
        return broadcast(items, src=src, group=group)

    distributed.all_reduce = all_reduce
    distributed.broadcast_object_list = broadcast_object_list


def _skip_compiler() -> None:
    """Replace torch._dynamo, which torch/optim/optimizer.py:61 imports only to disable it."""
    # The import would take 1.5 seconds.
    if "torch._dynamo" in sys.modules:
        return
    module = ModuleType("torch._dynamo")
    module.graph_break = lambda: None  # type: ignore[attr-defined]  # a module made by hand
    module.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    sys.modules["torch._dynamo"] = torch._dynamo = module


class _CudaAsCpu(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = _without_cuda(kwargs["device"])
        if func is torch.Tensor.to:
            args = tuple(map(_without_cuda, args))
        return func(*args, **kwargs)


def _without_cuda(value: Any) -> Any:
    if isinstance(value, str | torch.device) and torch.device(value).type == "cuda":
        return torch.device("cpu")
    return value


@contextmanager
def cuda_as_cpu() -> Iterator[None]:
    """Make torch functions take the device "cuda" for the CPU if there is no GPU.

    Needed for trainer.py:632, optim/gradient_accumulator.py:95 and sanity_checks.py:245. Use it to
    build and to save a trainer, but not around steps, which it slows down.
    """
    if torch.cuda.is_available():
        yield
    else:
        with _CudaAsCpu():
            yield
