"""Dry runs: a plan for corpora of which only the sizes are known, and its estimated cost."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from safelm.corpora.mixing.cursor import CorpusCursor
from safelm.corpora.mixing.phases import make_plan
from safelm.corpora.mixing.plan import Plan
from safelm.corpora.mixing.rows import ReadingOrder, packed_rows, part_name
from safelm.pretraining.config import micro_batch_size
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import GPUS, flops_per_token, memory, parameters
from safelm.pretraining.schedule import warmup_and_decay
from specs.corpus import Corpus
from specs.estimate import Estimate
from specs.mixture import Budget, Mixture
from specs.shape import Shape

# The part of a GPU's memory that training may fill; the rest is for workspaces and fragments.
MAX_MEMORY_SHARE = 0.92


def plan_sizes(
    name: str,
    mixture: Mixture,
    budget: Budget,
    corpora: Mapping[str, Corpus],
    estimate: Estimate,
    shape: Shape,
) -> Plan:
    """Plan the mixture `name` as if every row were full, from the sizes of its corpora.

    Raises:
        MixtureError: corpora of these sizes cannot provide what the mixture asks for.
    """
    cursors = {}
    max_epochs = {}
    for slot, corpus in mixture.slots.items():
        # Of a corpus made from several, a replacement reads what was made from the part it
        # replaces.
        size = estimate.size(corpus, None if slot == corpus else part_name(slot))
        cursors[slot] = _cursor(slot, size, budget.sequence_length)
        max_epochs[slot] = corpora[corpus].epochs
    return make_plan(
        name,
        mixture.phases,
        cursors,
        max_epochs,
        {},
        budget=budget.tokens,
        sequence=budget.sequence_length,
        batch=shape.recipe.batch(budget),
        layout=budget.layout,
        seed=0,
        held_out=0,
        vocabulary=shape.vocab_size,
    )


def _cursor(slot: str, tokens: int, sequence: int) -> CorpusCursor:
    count = tokens // sequence
    # Only the number of rows matters, so a broadcast zero serves as the position of each.
    rows = packed_rows(np.broadcast_to(np.int64(0), count), sequence)
    return CorpusCursor(rows, ReadingOrder(0, slot, count), tokens)


def report(plan: Plan, shape: Shape, name: str, cluster: Estimate) -> Iterator[str]:
    """Yield the plan and its cost, line by line.

    Args:
        plan: the plan of `plan_sizes`.
        shape: the shape that it trains.
        name: the shape's name.
        cluster: the machines.
    """
    yield (
        f"{plan.tokens:,} of {plan.budget:,} tokens in {plan.steps:,} steps of "
        f"{plan.batch:,} x {plan.sequence:,}"
    )
    yield from plan.table()
    size = parameters(shape)
    yield f"{name}: {size:,} parameters, {plan.tokens / size:,.0f} tokens each"
    warmup, decay = warmup_and_decay(shape.recipe, plan.steps, plan.full_steps)
    yield f"warm-up {warmup:,} steps, decay over the last {decay:,}"
    if plan.layout == "document":
        yield "note: layout is document; rows that are not full take more steps than these"
    yield from _cost(plan, shape, cluster)
    rows = micro_batch_size(shape.recipe, plan.batch, cluster.gpus // cluster.tp)
    yield _memory(memory(shape, plan.sequence, rows, cluster.tp), rows, cluster)


def _cost(plan: Plan, shape: Shape, cluster: Estimate) -> Iterator[str]:
    flops = flops_per_token(shape, plan.sequence) * plan.tokens
    hours = flops / (GPUS[cluster.gpu].flops * cluster.mfu) / 3600
    days = hours / cluster.gpus / 24
    rate = plan.tokens / (hours * 3600)
    yield f"{flops:.3g} FLOPs; at {cluster.mfu:.0%} of one {cluster.gpu}: {hours:,.2f} GPU hours"
    yield f"{cluster.gpus} GPUs: {days:.1f} days, {rate:,.0f} tokens/s each"


def _memory(parts: Mapping[str, float], rows: int, cluster: Estimate) -> str:
    available = GPUS[cluster.gpu].memory
    total = sum(parts.values())
    sizes = [f"{name} {size / 2**30:.1f}" for name, size in parts.items()]
    verdict = "fits"
    if total >= MAX_MEMORY_SHARE * available:
        verdict = "does not fit: write a smaller recipe.micro_batch, or a larger tp"
    return (
        f"{rows} rows at once: {total / 2**30:.1f} of {available / 2**30:.0f} GiB a GPU "
        f"({', '.join(sizes)}): {verdict}"
    )


def check_parameters(shape: Shape) -> None:
    """Raise RuntimeError if the model has another number of parameters than the cost assumes."""
    # On the meta device a model of any size takes no memory.
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape)))
    size = sum(parameter.numel() for parameter in model.parameters())
    if size != parameters(shape):
        raise RuntimeError(
            f"expected {parameters(shape):,} parameters, but the model has {size:,}; "
            "correct `parameters` in safelm/pretraining/cost.py"
        )
