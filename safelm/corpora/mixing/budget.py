"""Budgets: the rows of each part of a phase that meet its tokens and proportions."""

from collections.abc import Mapping
from fractions import Fraction

from safelm.corpora.mixing import MixtureError
from safelm.corpora.mixing.cursor import CorpusCursor
from safelm.corpora.mixing.rows import part_name
from specs.mixture import Phase

ADVICE = (
    "write a larger weight, more `tokens` or a smaller `sequence_length` in the budget, "
    "or leave the part out"
)

Cursors = Mapping[str, CorpusCursor]


def part_shares(phase: Phase, sizes: Mapping[str, int], at: str) -> dict[str, Fraction]:
    """Return each weighted part's share of the tokens that the budget shares leave.

    In natural proportions the shares follow the corpora's tokens times their weights, and an empty
    corpus is left out; in fixed ones they follow the weights alone.

    Raises:
        MixtureError: every corpus is empty, or one of fixed proportions is.
    """
    empty = [slot for slot in phase.weights if not sizes[slot]]
    if len(empty) == len(phase.weights):
        raise MixtureError(
            f"{at}: expected documents to read, but {', '.join(empty)} have none; "
            "name another corpus"
        )
    is_natural = phase.proportions == "natural"
    if empty and not is_natural:
        raise MixtureError(
            f"{at}.parts.{part_name(empty[0])}: expected documents for a weight of "
            f"{phase.weights[empty[0]]:g} (the corpus is empty); leave the part out, change what "
            "the corpus selects, or write proportions: natural"
        )
    # Fractions are exact, so the shares add up to 1.
    weights = {slot: Fraction(weight) for slot, weight in phase.weights.items()}
    if is_natural:
        weights = {slot: weight * sizes[slot] for slot, weight in weights.items()}
    total = sum(weights.values())
    return {slot: weight / total for slot, weight in weights.items() if weight}


def budget_rows(cursor: CorpusCursor, tokens: float, at: str) -> int:
    """Return how many of the next rows come nearest to a budget share of `tokens` tokens.

    Raises:
        MixtureError: the share is less than half a row.
    """
    rows = round(cursor.quota(tokens)) if len(cursor.rows) else 0
    if not rows:
        raise MixtureError(
            f"{at}: rounds to no row: its budget share is {tokens:,.1f} tokens, its corpus has "
            f"{cursor.size:,}; write a larger budget_share or more `tokens` in the budget, "
            "or leave the part out"
        )
    return rows


def allot_rows(
    cursors: Cursors,
    ratios: Mapping[str, Fraction],
    target: int,
    batch: int,
    at: str,
    *,
    min_rows: int,
    fixed_rows: int,
) -> dict[str, int]:
    """Choose the rows of each weighted part, so that the phase has whole batches.

    Rows differ in length, so several numbers of batches are tried. The one whose tokens come
    nearest to the target is taken.

    Args:
        cursors: one for each weighted part.
        ratios: each part's share of the target.
        target: the tokens of all weighted parts.
        batch: rows in a step.
        at: the phase's path in params.yaml, for messages.
        min_rows: the fewest rows of a part. It is 1 in natural proportions, where a small share
            comes from the data and not from params.yaml.
        fixed_rows: the rows of parts with a budget share, which fill the same batches.

    Raises:
        MixtureError: a part rounds to no row, or the phase to no batch.
    """
    for slot, cursor in cursors.items():
        if not len(cursor.rows):
            raise MixtureError(
                f"{at}.parts.{part_name(slot)}: rounds to no row: its {cursor.size:,} tokens do "
                f"not fill one; {ADVICE}"
            )
    tokens = {slot: float(ratios[slot] * max(target, 0)) for slot in cursors}
    quotas = {slot: cursor.quota(tokens[slot]) for slot, cursor in cursors.items()}
    steps = _possible_steps(sum(quotas.values()), fixed_rows, target, batch, at)
    choices = [largest_remainder(quotas, count * batch - fixed_rows, min_rows) for count in steps]
    # Of two that come equally near, the one of fewer steps.
    rows = min(choices, key=lambda choice: abs(tokens_of(choice, cursors) - target))
    for slot, count in rows.items():
        if not count:
            raise MixtureError(
                f"{at}.parts.{part_name(slot)}: rounds to no row: its share is "
                f"{float(ratios[slot] * target):,.1f} of the phase's {target:,} tokens, "
                f"{quotas[slot]:.2f} of a row; {ADVICE}"
            )
    return rows


def _possible_steps(
    weighted_rows: float,
    fixed_rows: int,
    target: int,
    batch: int,
    at: str,
) -> range:
    """Return numbers of batches near the wanted one that leave a row for the weighted parts."""
    # Fixed rows alone seldom fill whole batches, so the weighted parts must have some.
    if fixed_rows and not weighted_rows:
        raise MixtureError(
            f"{at}.share: expected tokens for the parts with a weight, but the budget shares take "
            "all of the phase's; write a smaller budget_share or a larger share"
        )
    steps = (weighted_rows + fixed_rows) / batch
    if steps < 0.5:
        raise MixtureError(
            f"{at}: rounds to no batch: its {max(target, 0):,} tokens are {steps * batch:.1f} of "
            f"{batch} rows; write a larger share, more `tokens` "
            "or a smaller batch in the budget"
        )
    # The weighted parts complete the batch that the fixed rows begin.
    fewest = fixed_rows // batch + 1
    wanted = int(steps)
    return range(max(1, wanted - 1, fewest), max(wanted, fewest) + 3)


def largest_remainder(quotas: Mapping[str, float], total: int, min_rows: int = 0) -> dict[str, int]:
    """Divide `total` in proportion to the quotas by the largest remainder method.

    Each key gets the floor of its scaled quota, and those with the largest remainders one more.
    Keys below `min_rows` then take one from the largest, if it has more than that.
    """
    scale = total / sum(quotas.values())
    whole = {name: int(quota * scale) for name, quota in quotas.items()}
    negative_remainders = {name: whole[name] - quota * scale for name, quota in quotas.items()}
    # Equal remainders are ordered by name, so that every machine plans alike.
    by_remainder = sorted(quotas, key=lambda name: (negative_remainders[name], name))
    for name in by_remainder[: total - sum(whole.values())]:
        whole[name] += 1
    # One row from the largest changes its share the least.
    for name in sorted(quotas):
        largest = max(whole, key=lambda other: (whole[other], other))
        if whole[name] < min_rows < whole[largest]:
            whole[name] += 1
            whole[largest] -= 1
    return whole


def tokens_of(rows: Mapping[str, int], cursors: Cursors) -> int:
    """Count the tokens of the next rows of several corpora."""
    return sum(cursors[slot].tokens(count) for slot, count in rows.items())
