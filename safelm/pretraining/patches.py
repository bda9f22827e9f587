"""What must change in Nanotron 0.4 for it to be imported at all, to train a plain Llama, and to run
on a CPU.

The released wheel has an import cycle (upstream issues 191, 213, 235), its own rotary embedding,
and "cuda" spelled out in some twenty places. Each patch names the line it answers; all are
process-wide, so only worker.py applies them."""

import functools
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode

from safelm.pretraining import flash_attention, state
from safelm.pretraining.schedule import Style, factor

NANOTRON = "0.4"


class PatchError(RuntimeError):
    """The patches do not fit the installed Nanotron."""


def install(rope_theta: float, decay_style: Style, start: Path | None) -> None:
    """Apply every patch that this machine needs; call once, before anything of Nanotron is
    imported.
    """
    check_version(version("nanotron"))
    flash_attention.install()
    break_import_cycle()
    with without("datasets", "transformers"):
        _nanotron("trainer")
    plain_rotary(rope_theta)
    schedule(decay_style)
    plain_checkpoints(start)
    if not torch.cuda.is_available():
        run_on_cpu()


def _nanotron(name: str) -> Any:
    return import_module(f"nanotron.{name}")


def check_version(found: str) -> None:
    """Refuse any other Nanotron: the patches answer lines of this one."""
    if found != NANOTRON:
        raise PatchError(
            f"safelm/pretraining/patches.py is written for nanotron {NANOTRON} (got {found}); "
            f"install nanotron=={NANOTRON}, or check each patch against the new source"
        )


def break_import_cycle() -> None:
    """logging.py:38 imports config/config.py, which imports logging again by way of the pipeline
    engine (config.py:24).

    logging needs LoggingArgs for an annotation only: it is imported first, with a name in its
    place."""
    if "nanotron.logging" in sys.modules:
        return
    package, module = ModuleType("nanotron.config"), ModuleType("nanotron.config.config")
    package.__path__ = []
    module.LoggingArgs = object  # type: ignore[attr-defined]  # a module made by hand
    sys.modules.update({"nanotron.config": package, "nanotron.config.config": module})
    _nanotron("logging")
    del sys.modules["nanotron.config"], sys.modules["nanotron.config.config"]


@contextmanager
def without(*names: str) -> Iterator[None]:
    """dataloader.py:22-36 imports datasets and transformers if it can, seconds long, for loaders
    not used here.
    """
    modules: dict[str, Any] = sys.modules
    hidden = {name: modules.get(name) for name in names}
    modules.update(dict.fromkeys(names))  # None: an ImportError, which dataloader.py expects
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, module in hidden.items():
            if module is None:
                del modules[name]
            else:
                modules[name] = module


def plain_rotary(theta: float) -> None:
    """models/llama.py:324 asks for interleaved pairs and base 10,000; Llama has halves, and a base
    of its own.
    """
    llama = _nanotron("models.llama")
    rotary = import_module(
        "flash_attn.layers.rotary"
    ).RotaryEmbedding  # the real one, if it is installed
    llama.FlashRotaryEmbedding = lambda dim, interleaved: rotary(dim, base=theta, interleaved=False)


def schedule(style: Style) -> None:
    """helpers.py:75 has linear and cosine decay; our law is the same, and has SmolLM's 1-sqrt as
    well.
    """

    def build(optimizer: Any, lr_scheduler_args: Any, total_training_steps: int) -> Any:
        law = functools.partial(
            factor,
            warmup=lr_scheduler_args.lr_warmup_steps,
            start=lr_scheduler_args.lr_decay_starting_step,
            decay=lr_scheduler_args.lr_decay_steps,
            low=lr_scheduler_args.min_decay_lr / lr_scheduler_args.learning_rate,
            style=style,
        )
        return torch.optim.lr_scheduler.LambdaLR(optimizer.get_base_optimizer(), law)

    _nanotron("trainer").lr_scheduler_builder = build


def plain_checkpoints(start: Path | None) -> None:
    """Training goes on from the checkpoint `start`, and from nothing else.

    trainer.py:176 and :190 would unpickle the optimizer and the schedule; ours are safetensors, and
    numbers. What loads the weights is safetensors already. serialize/weights.py:45 draws a progress
    bar; serialize/metadata.py:49 writes shapes as "(np.int64(384), 128)" under numpy 2, which it
    cannot read again."""
    trainer = _nanotron("trainer")
    trainer.parse_ckpt_path = lambda config: start

    def load(optimizer: Any, parallel_context: Any, root_folder: Path, **_: Any) -> None:
        group = parallel_context.tp_pg
        rank = _nanotron("distributed").get_rank(group)
        state.load_optimizer(optimizer, root_folder / state.state_file(rank, group.size()))

    def schedule_at(lr_scheduler: Any, root_folder: Path) -> None:
        metadata = json.loads((root_folder / "checkpoint_metadata.json").read_bytes())
        state.set_step(lr_scheduler, metadata["metas"]["last_train_step"])

    trainer.load_optimizer, trainer.load_lr_scheduler = load, schedule_at
    _nanotron("serialize.weights").tqdm = lambda items, **_: items
    metadata = _nanotron("serialize.metadata").TensorMetadata
    to_strings = metadata.to_str_dict

    def plain(self: Any) -> dict[str, str]:
        return {**to_strings(self), "unsharded_shape": str(tuple(map(int, self.unsharded_shape)))}

    metadata.to_str_dict = plain


def run_on_cpu() -> None:
    """Everything that stands in the way of a CPU; nothing of it is applied where CUDA is."""
    trainer, llama = _nanotron("trainer"), _nanotron("models.llama")
    context = _nanotron("parallel.context")
    context.ParallelContext.set_device = lambda self: (
        None
    )  # parallel/context.py:118 torch.cuda.set_device
    llama.RotaryEmbedding.init_rotary_embeddings = lambda self: (
        None
    )  # llama.py:77 asserts cuda; used to generate only
    trainer.build_model = functools.partial(
        trainer.build_model, device=torch.device("cpu")
    )  # models/base.py:159
    trainer.log_memory = lambda logger: None  # logging.py:257 torch.cuda.reset_peak_memory_stats
    trainer.sanity_check_dataloader = lambda dataloader, **_: (
        dataloader
    )  # dataloader.py:48 .to("cuda")
    _collectives()
    if int(os.environ["WORLD_SIZE"]) == 1:
        _no_compiler()


def _collectives() -> None:
    """Gloo averages in place, which autograd forbids on a leaf (trainer.py:582); random.py:143
    names a cuda device.

    A group of one has nothing to reduce, and some 25 such calls a step cost a twentieth of it.
    """
    distributed = _nanotron("distributed")
    reduce, broadcast = distributed.all_reduce, distributed.broadcast_object_list

    def all_reduce(
        tensor: torch.Tensor,
        op: Any = torch.distributed.ReduceOp.SUM,
        group: Any = None,
        async_op: bool = False,
    ) -> Any:
        if group is not None and group.size() == 1:
            return None
        return reduce(tensor.detach(), op=op, group=group, async_op=async_op)

    def broadcast_object_list(
        items: list[Any], src: int = 0, group: Any = None, device: Any = None
    ) -> Any:
        return broadcast(items, src=src, group=group)

    distributed.all_reduce, distributed.broadcast_object_list = all_reduce, broadcast_object_list


def _no_compiler() -> None:
    """torch/optim/optimizer.py:61 imports torch._dynamo, 1.5 seconds, to say that nothing is
    compiled. Nothing is.
    """
    if "torch._dynamo" in sys.modules:
        return
    module = ModuleType("torch._dynamo")
    module.graph_break = lambda: None  # type: ignore[attr-defined]  # a module made by hand
    module.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    sys.modules["torch._dynamo"] = torch._dynamo = module


class _CudaIsCpu(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = _there(kwargs["device"])
        if func is torch.Tensor.to:
            args = tuple(map(_there, args))
        return func(*args, **kwargs)


def _there(value: Any) -> Any:
    if isinstance(value, str | torch.device) and torch.device(value).type == "cuda":
        return torch.device("cpu")
    return value


@contextmanager
def cuda_is_cpu() -> Iterator[None]:
    """Read "cuda" as the device there is (trainer.py:632, optim/gradient_accumulator.py:95,
    sanity_checks.py:245).

    For building and saving only: during steps it would cost more than it answers.
    """
    if torch.cuda.is_available():
        yield
    else:
        with _CudaIsCpu():
            yield
