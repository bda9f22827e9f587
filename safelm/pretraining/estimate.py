"""A dry run: plan a mixture of corpora that are known by their size alone, and count what training
on it would cost.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from transformers.models.llama import LlamaConfig, LlamaForCausalLM

from safelm.corpora.mixing.budget import plan_phases
from safelm.corpora.mixing.cursor import CorpusCursor, check_epochs
from safelm.corpora.mixing.plan import Plan, PlannedCorpus
from safelm.corpora.mixing.rows import ReadingOrder, Rows, part_name, token_bytes
from safelm.pretraining.config import rows_at_once
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import GPUS, flops_per_token, memory, parameters
from safelm.pretraining.schedule import warmup_and_decay
from specs.scale import Cluster, Made, Packed, Scale, Size
from specs.shape import Shape


def plan_sizes(mixture: str, scale: Scale, shape: Shape) -> Plan:
    """The plan of a mixture. Raises MixtureError where corpora of these sizes cannot give what it
    asks for.
    """
    mix, phases = scale.mix, scale.mixtures[mixture].phases
    slots = scale.mixtures[mixture].slots
    sizes = {slot: _tokens(scale.corpora[corpus], slot, corpus) for slot, corpus in slots.items()}
    readers = {slot: _reader(slot, size, mix.sequence_length) for slot, size in sizes.items()}
    planned = plan_phases(phases, readers, mix.tokens, mix.batch_size, f"mixtures.{mixture}")
    allowed = {slot: scale.corpora[corpus].epochs for slot, corpus in slots.items()}
    check_epochs(
        readers, allowed, mix.tokens, mix.batch_size * mix.sequence_length, f"mixtures.{mixture}"
    )
    return Plan(
        mixture=mixture,
        layout=mix.layout,
        sequence=mix.sequence_length,
        batch=mix.batch_size,
        seed=0,
        held_out=0,
        vocabulary=shape.vocabulary,
        width=token_bytes(shape.vocabulary),
        budget=mix.tokens,
        tokens=sum(phase.tokens for phase in planned),
        steps=sum(phase.steps for phase in planned),
        phases=tuple(planned),
        corpora={slot: _corpus(reader) for slot, reader in readers.items()},
    )


def _tokens(row: Size | Made, slot: str, corpus: str) -> int:
    """The tokens of a part: of its corpus, or of what in that is made of the corpus it replaces."""
    return row.made_of[part_name(slot)] if isinstance(row, Made) and slot != corpus else row.tokens


def _reader(slot: str, tokens: int, sequence: int) -> CorpusCursor:
    """Rows of one length, of which none needs to be written down."""
    count = tokens // sequence
    rows = Rows(np.broadcast_to(np.int64(0), count), np.broadcast_to(np.int64(sequence), count))
    return CorpusCursor(rows, ReadingOrder(0, slot, count), tokens)


def _corpus(reader: CorpusCursor) -> PlannedCorpus:
    count = len(reader.rows)  # 0 where a corpus does not fill a row
    epochs, read = round(reader.place / max(count, 1), 6), reader.place * reader.rows.length
    return PlannedCorpus(0, 0, reader.size, 0, count, 0, reader.place, read, epochs, {})


def report(plan: Plan, shape: Shape, name: str, cluster: Cluster, mix: Packed) -> Iterator[str]:
    """The plan and its cost, line by line."""
    warmup, decay = warmup_and_decay(shape.recipe, plan.steps, plan.full_steps)
    rows = rows_at_once(shape.recipe, plan.batch, cluster.gpus // cluster.tp)
    yield f"{plan.tokens:,} of {plan.budget:,} tokens in {plan.steps:,} steps of {plan.batch:,} x {plan.sequence:,}"
    yield from plan.table()
    yield f"{name}: {parameters(shape):,} parameters, {plan.tokens / parameters(shape):,.0f} tokens each"
    yield f"warm-up {warmup:,} steps, decay over the last {decay:,}"
    yield from _differences(shape, name, mix)
    yield from _cost(plan, shape, cluster)
    yield from _memory(memory(shape, plan.sequence, rows, cluster.tp), rows, cluster)


def _differences(shape: Shape, name: str, mix: Packed) -> Iterator[str]:
    if mix.batch_size != shape.recipe.batch:
        yield f"note: mix.batch_size is {mix.batch_size:,}; the recipe of {name} was made for {shape.recipe.batch:,}"


def _cost(plan: Plan, shape: Shape, cluster: Cluster) -> Iterator[str]:
    flops = flops_per_token(shape, plan.sequence) * plan.tokens
    rate = GPUS[cluster.gpu].flops * cluster.mfu
    hours = flops / rate / 3600
    yield f"{flops:.3g} FLOPs; at {cluster.mfu:.0%} of an {cluster.gpu}: {hours:,.0f} GPU hours"
    per_gpu = plan.tokens / (hours * 3600)
    yield f"{cluster.gpus} GPUs: {hours / cluster.gpus / 24:.1f} days, {per_gpu:,.0f} tokens/s each"


def _memory(parts: Mapping[str, float], rows: int, cluster: Cluster) -> Iterator[str]:
    room, total = GPUS[cluster.gpu].memory, sum(parts.values())
    words = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in parts.items())
    fits = (
        "fits"
        if total < 0.92 * room
        else "does not fit: write a smaller recipe.micro_batch, or a larger tp"
    )
    yield f"{rows} rows at once: {total / 2**30:.1f} of {room / 2**30:.0f} GiB a GPU ({words}): {fits}"


def refuse_other_size(shape: Shape) -> None:
    """The model has the parameters that the cost is counted with."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape)))
    found = sum(parameter.numel() for parameter in model.parameters())
    if found != parameters(shape):
        raise RuntimeError(
            f"expected {parameters(shape):,} parameters, the model has {found:,}: see training/cost.py"
        )
