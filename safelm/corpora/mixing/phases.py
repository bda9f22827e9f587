"""The phases of a plan: the rows that each phase reads of every corpus."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from safelm.corpora.mixing.budget import (
    Cursors,
    allot_rows,
    budget_rows,
    part_shares,
    tokens_of,
)
from safelm.corpora.mixing.cursor import CorpusCursor, check_epochs
from safelm.corpora.mixing.plan import Plan, PlannedCorpus, PlannedPart, PlannedPhase
from specs.mixture import Phase
from specs.tokens import token_bytes


def make_plan(
    mixture: str,
    phases: Sequence[Phase],
    cursors: Cursors,
    max_epochs: Mapping[str, float],
    facts: Mapping[str, Mapping[str, Any]],
    **cut: Any,
) -> Plan:
    """Plan a mixture and move the cursors to its end.

    Args:
        mixture: a row of `mixtures`.
        phases: its phases, in order.
        cursors: one for each slot, at the beginning.
        max_epochs: how often each slot may be read.
        facts: by slot, the fields of PlannedCorpus that a dry run does not know.
        cut: the fields budget, sequence, batch, layout, seed, held_out and vocabulary of the plan.

    Raises:
        MixtureError: the corpora cannot provide what the mixture asks for.
    """
    at = f"mixtures.{mixture}"
    # Moves the cursors, whose positions the next lines read.
    planned = plan_phases(phases, cursors, cut["budget"], cut["batch"], at)
    check_epochs(cursors, max_epochs, cut["budget"], cut["batch"] * cut["sequence"], at)
    read_tokens = dict.fromkeys(cursors, 0)
    for phase in planned:
        for part in phase.parts:
            read_tokens[part.corpus] += part.tokens
    corpora = {}
    for slot, cursor in cursors.items():
        corpora[slot] = PlannedCorpus(
            tokens=cursor.size,
            rows=len(cursor.rows),
            read_rows=cursor.position,
            read_tokens=read_tokens[slot],
            epochs=round(cursor.epochs, 6),
            **facts.get(slot, {}),
        )
    return Plan(
        mixture=mixture,
        width=token_bytes(cut["vocabulary"]),
        tokens=sum(phase.tokens for phase in planned),
        steps=sum(phase.steps for phase in planned),
        phases=tuple(planned),
        corpora=corpora,
        **cut,
    )


def plan_phases(
    phases: Sequence[Phase],
    cursors: Cursors,
    budget: int,
    batch: int,
    at: str,
) -> list[PlannedPhase]:
    """Plan the phases of a mixture, each in whole batches, and move the cursors to their ends.

    Each phase aims at its end in the whole budget, so the rounding of the phases before it does not
    add up: the plan misses the budget by at most half a batch.

    Args:
        phases: phases, in order.
        cursors: one for each slot of the phases.
        budget: the tokens of the whole mixture.
        batch: rows in a step.
        at: the mixture's path in params.yaml, for messages.

    Raises:
        MixtureError: the corpora cannot provide a phase.
    """
    planned: list[PlannedPhase] = []
    total_share = sum(phase.share for phase in phases)
    share_so_far = 0
    for number, phase in enumerate(phases):
        share_so_far += phase.share
        planned_tokens = sum(item.tokens for item in planned)
        end = int(budget * Fraction(share_so_far, total_share))
        target = end - planned_tokens
        rows = _phase_rows(phase, cursors, budget, target, batch, f"{at}.phases.{number}")
        parts = tuple(_plan_part(slot, cursors[slot], rows) for slot in phase.slots)
        count = sum(rows.values())
        tokens = sum(part.tokens for part in parts)
        planned.append(PlannedPhase(count // batch, count, tokens, parts))
        # After the parts are planned: a part begins where the phase before it ended.
        for slot, slot_rows in rows.items():
            cursors[slot].position += slot_rows
    return planned


def _phase_rows(
    phase: Phase,
    cursors: Cursors,
    budget: int,
    target: int,
    batch: int,
    at: str,
) -> dict[str, int]:
    """Choose the rows of parts with a budget share, and divide the rest by the weights."""
    is_natural = phase.proportions == "natural"
    sizes = {}
    for slot, cursor in cursors.items():
        # A corpus that does not fill a row has no natural share; a fixed share is an error.
        sizes[slot] = 0 if is_natural and not len(cursor.rows) else cursor.size
    ratios = part_shares(phase, sizes, at)
    # A share of the whole budget, so that a later start leaves the amount as it is (paper §12).
    fixed = {}
    for slot, share in phase.budget_shares.items():
        fixed[slot] = budget_rows(cursors[slot], share * budget, f"{at}.parts.{slot}")
    weighted = allot_rows(
        {slot: cursors[slot] for slot in ratios},
        ratios,
        target - tokens_of(fixed, cursors),
        batch,
        at,
        min_rows=int(is_natural),
        fixed_rows=sum(fixed.values()),
    )
    return fixed | weighted


def _plan_part(slot: str, cursor: CorpusCursor, rows: Mapping[str, int]) -> PlannedPart:
    count = rows.get(slot, 0)
    if not count:
        # The part of an empty corpus.
        return PlannedPart(slot, 0, 0, 0, 0.0)
    epochs = round(count / len(cursor.rows), 6)
    return PlannedPart(slot, cursor.position, count, cursor.tokens(count), epochs)
