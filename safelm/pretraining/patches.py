"""Patches to Nanotron 0.4, so that it can be imported, trains a plain Llama and runs on a CPU.

The released wheel has an import cycle (upstream issues 191, 213, 235), its own rotary embedding,
and the literal "cuda" in some twenty places. Each patch names the line that makes it necessary. All
of them are process-wide, so only worker.py applies them.
"""

import functools
import json
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

from safelm.pretraining import flash_attention, state
from safelm.pretraining.cpu import nanotron_module, run_on_cpu
from safelm.pretraining.schedule import DecayStyle, rate_factor

NANOTRON = "0.4"


class PatchError(RuntimeError):
    """The patches do not fit the installed Nanotron."""


def install(rope_theta: float, decay_style: DecayStyle, start: Path | None) -> None:
    """Apply every patch that this machine needs.

    Call it once, before anything of Nanotron is imported.

    Args:
        rope_theta: the base of the rotary embedding.
        decay_style: the form of the learning rate's decay.
        start: the checkpoint to continue from, or None.
    """
    check_version(version("nanotron"))
    flash_attention.install()
    break_import_cycle()
    with hide_modules("datasets", "transformers"):
        nanotron_module("trainer")
    use_llama_rotary(rope_theta)
    use_schedule(decay_style)
    use_safe_checkpoints(start)
    if not torch.cuda.is_available():
        run_on_cpu()


def check_version(installed: str) -> None:
    """Raise PatchError for any other Nanotron, because the patches depend on lines of this one."""
    if installed != NANOTRON:
        raise PatchError(
            f"safelm/pretraining/patches.py is written for nanotron {NANOTRON} (got {installed}); "
            f"install nanotron=={NANOTRON}, or check each patch against the new source"
        )


def break_import_cycle() -> None:
    """Import nanotron.logging first, without the module that would import it again.

    logging.py:38 imports config/config.py, which imports logging by way of the pipeline engine
    (config.py:24).
    """
    if "nanotron.logging" in sys.modules:
        return
    package = ModuleType("nanotron.config")
    module = ModuleType("nanotron.config.config")
    package.__path__ = []
    # logging uses it only in an annotation.
    module.LoggingArgs = object  # type: ignore[attr-defined]  # a module made by hand
    sys.modules.update({"nanotron.config": package, "nanotron.config.config": module})
    nanotron_module("logging")
    del sys.modules["nanotron.config"], sys.modules["nanotron.config.config"]


@contextmanager
def hide_modules(*names: str) -> Iterator[None]:
    """Make imports of these modules fail.

    dataloader.py:22-36 imports datasets and transformers if they are installed. That takes seconds,
    and serves loaders that are not used here.
    """
    modules: dict[str, Any] = sys.modules
    hidden = {name: modules.get(name) for name in names}
    # With None in sys.modules an import raises ImportError, which dataloader.py expects.
    modules.update(dict.fromkeys(names))
    try:
        with warnings.catch_warnings():
            # dataloader.py:35 warns that they are not installed.
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, module in hidden.items():
            if module is None:
                del modules[name]
            else:
                modules[name] = module


def use_llama_rotary(theta: float) -> None:
    """Rotate halves with the base `theta`, as transformers' Llama does.

    models/llama.py:324 rotates interleaved pairs with base 10,000.
    """
    # Of the real flash-attn, if it is installed.
    rotary = import_module("flash_attn.layers.rotary").RotaryEmbedding
    llama = nanotron_module("models.llama")
    llama.FlashRotaryEmbedding = lambda dim, interleaved: rotary(dim, base=theta, interleaved=False)


def use_schedule(style: DecayStyle) -> None:
    """Replace the learning rates of helpers.py:76 by `rate_factor`, which also has 1-sqrt."""

    def build(optimizer: Any, lr_scheduler_args: Any, total_training_steps: int) -> Any:
        factor = functools.partial(
            rate_factor,
            warmup=lr_scheduler_args.lr_warmup_steps,
            start=lr_scheduler_args.lr_decay_starting_step,
            decay=lr_scheduler_args.lr_decay_steps,
            low=lr_scheduler_args.min_decay_lr / lr_scheduler_args.learning_rate,
            style=style,
        )
        return torch.optim.lr_scheduler.LambdaLR(optimizer.get_base_optimizer(), factor)

    nanotron_module("trainer").lr_scheduler_builder = build


def use_safe_checkpoints(start: Path | None) -> None:
    """Continue from the checkpoint `start`, or from nothing, without unpickling.

    Nanotron's weights are safetensors already, but trainer.py:175 and :190 would unpickle the
    optimizer and the schedule.
    """
    trainer = nanotron_module("trainer")
    trainer.parse_ckpt_path = lambda config: start

    def load(optimizer: Any, parallel_context: Any, root_folder: Path, **_: Any) -> None:
        group = parallel_context.tp_pg
        rank = nanotron_module("distributed").get_rank(group)
        state.load_optimizer(optimizer, root_folder / state.state_file(rank, group.size()))

    def load_schedule(lr_scheduler: Any, root_folder: Path) -> None:
        metadata = json.loads((root_folder / "checkpoint_metadata.json").read_bytes())
        state.set_step(lr_scheduler, metadata["metas"]["last_train_step"])

    trainer.load_optimizer = load
    trainer.load_lr_scheduler = load_schedule
    # serialize/weights.py:45 draws a progress bar.
    nanotron_module("serialize.weights").tqdm = lambda items, **_: items
    metadata = nanotron_module("serialize.metadata").TensorMetadata
    to_strings = metadata.to_str_dict

    def to_readable_strings(self: Any) -> dict[str, str]:
        # Under numpy 2 serialize/metadata.py:49 writes "(np.int64(384), 128)", and cannot read it.
        shape = tuple(map(int, self.unsharded_shape))
        return {**to_strings(self), "unsharded_shape": str(shape)}

    metadata.to_str_dict = to_readable_strings
