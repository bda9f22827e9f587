"""Nanotron's configuration, made from a shape and a plan."""

import math
from pathlib import Path

import yaml

from safelm.builder.files import Json
from safelm.corpora.mixing.plan import Plan
from safelm.corpora.mixing.rows import END_ID
from safelm.pretraining.schedule import warmup_and_decay
from specs.shape import Shape, TrainingRecipe

# Relative to the folder of the run, so that no checkpoint contains a path of the machine.
CHECKPOINTS = "checkpoints"


def nanotron_config(
    model: str,
    shape: Shape,
    plan: Plan,
    seed: int,
    dp: int,
    tp: int,
    start: str | None = None,
) -> Json:
    """Build the configuration of a run (Nanotron 0.4, config/config.py:295).

    The run trains all steps of the plan.

    Args:
        model: the name of the run.
        shape: architecture and training recipe.
        plan: the mixture's plan.
        seed: seeds the weights.
        dp: ranks of data parallelism.
        tp: ranks of tensor parallelism.
        start: a folder of weights to start from, relative to the run's, or None.
    """
    recipe = shape.recipe
    micro_batch = micro_batch_size(recipe, plan.batch, dp)
    return {
        "general": {"project": "safelm", "run": model, "seed": seed, "ignore_sanity_checks": True},
        # Nanotron saves at multiples of the interval alone: here, at the end. PlanTrainer saves the
        # checkpoints before.
        "checkpoints": {"checkpoints_path": CHECKPOINTS, "checkpoint_interval": plan.steps},
        # PlanTrainer brings its own batches.
        "data": {"dataset": None, "seed": seed, "num_loading_workers": 0},
        "logging": {
            "log_level": "error",
            "log_level_replica": "error",
            # PlanTrainer logs every step.
            "iteration_step_info_interval": 1,
        },
        "model": {
            "dtype": shape.dtype,
            "init_method": {"path": start} if start else {"std": shape.init_std},
            # No padding (helpers.py:48), which the converted model would not have.
            "make_vocab_size_divisible_by": 1,
            "model_config": _architecture(shape, plan.sequence),
        },
        "optimizer": _optimizer(recipe, plan, shape.dtype),
        "parallelism": {"dp": dp, "tp": tp, "pp": 1, "pp_engine": "1f1b", "tp_mode": "ALL_REDUCE"},
        "tokenizer": {"tokenizer_name_or_path": None},
        "tokens": {
            "sequence_length": plan.sequence,
            "train_steps": plan.steps,
            "micro_batch_size": micro_batch,
            "batch_accumulation_per_replica": plan.batch // (micro_batch * dp),
        },
    }


def micro_batch_size(recipe: TrainingRecipe, batch: int, dp: int) -> int:
    """Return the rows that a rank computes at once: the recipe's micro-batch, if it divides evenly.

    Otherwise it is the greatest common divisor with the rank's share of the batch. Raises
    ValueError if `dp` ranks cannot share the batch.
    """
    if batch % dp:
        raise ValueError(f"SAFELM_DP: expected a divisor of the batch of {batch} rows (got {dp})")
    return math.gcd(recipe.micro_batch, batch // dp)


def _architecture(shape: Shape, sequence: int) -> Json:
    """Return Nanotron's LlamaConfig (config/models_config.py:22)."""
    # It has no rope_theta; patches.py sets that.
    return {
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "hidden_size": shape.hidden,
        "initializer_range": shape.init_std,
        "intermediate_size": shape.ffn,
        "is_llama_config": True,
        "max_position_embeddings": sequence,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.norm_eps,
        "tie_word_embeddings": shape.tied,
        "vocab_size": shape.vocab_size,
    }


def _optimizer(recipe: TrainingRecipe, plan: Plan, dtype: str) -> Json:
    warmup, decay = warmup_and_decay(recipe, plan.steps, plan.full_steps)
    # Nanotron has no 1-sqrt; patches.py replaces its schedule.
    decay_style = "cosine" if recipe.decay_style == "cosine" else "linear"
    return {
        # Nanotron asserts that float32 parameters do not use it (gradient_accumulator.py:184).
        "accumulate_grad_in_fp32": dtype != "float32",
        "adam_beta1": recipe.beta1,
        "adam_beta2": recipe.beta2,
        "adam_eps": recipe.epsilon,
        "clip_grad": recipe.clip,
        "torch_adam_is_fused": True,
        "weight_decay": recipe.weight_decay,
        "zero_stage": 0,
        "learning_rate_scheduler": {
            "learning_rate": recipe.learning_rate,
            "lr_warmup_steps": warmup,
            "lr_warmup_style": "linear",
            "lr_decay_style": decay_style,
            "lr_decay_steps": decay,
            "lr_decay_starting_step": plan.steps - decay,
            "min_decay_lr": recipe.min_learning_rate,
        },
    }


def write_config(config: Json, path: Path) -> None:
    """Write the YAML file that Nanotron reads."""
    path.write_text(yaml.safe_dump(config, sort_keys=True), encoding="utf-8")
