"""Budgets: how many rows of each part a phase reads, so that tokens and proportions come out as
asked.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from safelm.corpora.mixing.plan import PlannedPart, PlannedPhase
from safelm.corpora.mixing.rows import Order, Rows, named
from specs.mixture import Phase

HELP = (
    "write a larger weight, larger mix.tokens or smaller mix.sequence_length, or leave the part out"
)


class MixtureError(ValueError):
    """A mixture that cannot be read as asked; the message names the part and says what to change."""


class CorpusCursor:
    """A corpus, its reading order, and the place in it that the phases have come to."""

    def __init__(self, rows: Rows, order: Order, size: int) -> None:
        self.rows, self.order, self.size = rows, order, size
        self.place = 0
        self._sums: dict[int, np.ndarray] = {}

    def tokens(self, rows: int) -> int:
        """The tokens of the next rows."""
        return self._before(self.place + rows) - self._before(self.place)

    def quota(self, tokens: float) -> float:
        """How many of the next rows hold so many tokens; a fraction where that is inside a row."""
        if self.rows.length:
            return tokens / self.rows.length
        epoch, rest = divmod(self._before(self.place) + tokens, self.rows.tokens)
        within = np.interp(rest, self._sum(int(epoch)), np.arange(len(self.rows) + 1))
        return int(epoch) * len(self.rows) + float(within) - self.place

    def _before(self, place: int) -> int:
        if self.rows.length:
            return place * self.rows.length
        epoch, within = divmod(place, len(self.rows))
        return epoch * self.rows.tokens + int(self._sum(epoch)[within])

    def _sum(self, epoch: int) -> np.ndarray:
        if epoch not in self._sums:
            lengths = self.rows.lengths[self.order.epoch(epoch)]
            self._sums[epoch] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return self._sums[epoch]


def shares(phase: Phase, sizes: Mapping[str, int], at: str) -> dict[str, Fraction]:
    """The share that each part with a weight gets of what the doses leave; the part of an empty
    corpus gets none.

    natural: a corpus weighs its own tokens times its part. fixed: the parts are the shares.
    """
    asked = phase.weights
    empty = [name for name in asked if not sizes[name]]
    if len(empty) == len(asked):
        raise MixtureError(
            f"{at}: expected documents to read, but {', '.join(empty)} hold none; name another corpus"
        )
    if empty and phase.proportions == "fixed":
        raise MixtureError(
            f"{at}.parts.{named(empty[0])}: expected documents for {asked[empty[0]]:g} parts (the corpus is empty); "
            "leave the part out, change what the corpus selects, or write proportions: natural"
        )
    natural = phase.proportions == "natural"
    weights = {
        name: Fraction(part) * (sizes[name] if natural else 1) for name, part in asked.items()
    }
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight}


def largest_remainder(quotas: Mapping[str, float], total: int, least: int = 0) -> dict[str, int]:
    """Whole numbers that add up to `total` in proportion to the quotas: floors, then one more for
    the largest rests.

    Nobody gets fewer than `least` while the largest number can spare it.
    """
    scale = total / sum(quotas.values())
    whole = {name: int(quota * scale) for name, quota in quotas.items()}
    rests = sorted(quotas, key=lambda name: (whole[name] - quotas[name] * scale, name))
    for name in rests[: total - sum(whole.values())]:
        whole[name] += 1
    for name in sorted(quotas):
        largest = max(whole, key=lambda other: (whole[other], other))
        if whole[name] < least < whole[largest]:
            whole[name], whole[largest] = whole[name] + 1, whole[largest] - 1
    return whole


def plan_phases(
    phases: Sequence[Phase], readers: Mapping[str, CorpusCursor], budget: int, batch: int, at: str
) -> list[PlannedPhase]:
    """The phases of a mixture, each in whole batches; every reader goes on where the phase before
    left it.

    What one phase reads too much, the next reads less: the whole is off by half a batch, not by
    half a batch a phase."""
    planned: list[PlannedPhase] = []
    for number, phase in enumerate(phases):
        natural, place = phase.proportions == "natural", f"{at}.phases.{number}"
        sizes = {
            name: reader.size if len(reader.rows) or not natural else 0
            for name, reader in readers.items()
        }
        share = Fraction(
            sum(item.share for item in phases[: number + 1]), sum(item.share for item in phases)
        )
        target = int(budget * share) - sum(item.tokens for item in planned)
        ratios = shares(phase, sizes, place)
        doses = {
            name: dose_of(readers[name], dose * budget, f"{place}.parts.{name}")
            for name, dose in phase.budget_shares.items()
        }
        rows = doses | allot(
            {name: readers[name] for name in ratios},
            ratios,
            target - sum(readers[name].tokens(count) for name, count in doses.items()),
            batch,
            place,
            least=int(natural),
            dosed=sum(doses.values()),
        )
        parts = tuple(_part(name, readers[name], rows.get(name, 0)) for name in phase.slots)
        total = sum(rows.values())
        planned.append(
            PlannedPhase(total // batch, total, sum(part.tokens for part in parts), parts)
        )
        for name, count in rows.items():
            readers[name].place += count
    return planned


def dose_of(reader: CorpusCursor, tokens: float, at: str) -> int:
    """The rows of a dose: those next in order, as many as come nearest to its tokens."""
    rows = round(reader.quota(tokens)) if len(reader.rows) else 0
    if not rows:
        raise MixtureError(
            f"{at}: rounds to no row: its budget_share is {tokens:,.1f} tokens, its corpus has {reader.size:,}; "
            "write a larger budget_share or larger mix.tokens, or leave the part out"
        )
    return rows


def allot(
    readers: Mapping[str, CorpusCursor],
    ratios: Mapping[str, Fraction],
    target: int,
    batch: int,
    at: str,
    *,
    least: int,
    dosed: int,
) -> dict[str, int]:
    """The rows of each part with a weight: as many as make whole batches with the rows of the
    doses.

    Of these numbers the one that comes nearest to the target in tokens. A part of natural
    proportions reads one row at least: how small it is was found in the data, not asked for."""
    for name, reader in readers.items():
        if not len(reader.rows):
            raise MixtureError(
                f"{at}.parts.{named(name)}: rounds to no row: its {reader.size:,} tokens do not fill one; {HELP}"
            )
    quotas = {
        name: reader.quota(float(ratios[name] * max(target, 0))) for name, reader in readers.items()
    }
    asked = sum(quotas.values())
    if dosed and not asked:
        raise MixtureError(
            f"{at}.share: expected tokens for the parts with a weight, but the budget shares take all of the phase's; "
            "write a smaller budget_share or a larger share"
        )
    steps = (asked + dosed) / batch
    if steps < 0.5:
        raise MixtureError(
            f"{at}: rounds to no batch: its {max(target, 0):,} tokens are {steps * batch:.1f} of {batch} rows; "
            "write a larger share or larger mix.tokens, or a smaller mix.batch_size"
        )
    counts = range(
        max(1, int(steps) - 1, dosed // batch + 1), max(int(steps), dosed // batch + 1) + 3
    )
    choices = [largest_remainder(quotas, count * batch - dosed, least) for count in counts]
    rows = min(
        choices,
        key=lambda rows: abs(
            sum(readers[name].tokens(count) for name, count in rows.items()) - target
        ),
    )
    for name, count in rows.items():
        if not count:
            raise MixtureError(
                f"{at}.parts.{named(name)}: rounds to no row: its share is {float(ratios[name] * target):,.1f} of the "
                f"phase's {target:,} tokens, {quotas[name]:.2f} of a row; {HELP}"
            )
    return rows


def _part(name: str, reader: CorpusCursor, rows: int) -> PlannedPart:
    if not rows:
        return PlannedPart(name, 0, 0, 0, 0.0)
    return PlannedPart(
        name, reader.place, rows, reader.tokens(rows), round(rows / len(reader.rows), 6)
    )


def refuse_overreading(
    readers: Mapping[str, CorpusCursor], allowed: Mapping[str, float], budget: int, slack: int, at: str
) -> None:
    """A corpus is read no more often than corpora.<name>.epochs says; `slack` is what rounding may
    add, in tokens.
    """
    epochs = {
        name: reader.place / len(reader.rows)
        for name, reader in readers.items()
        if len(reader.rows)
    }
    too_many = [name for name, read in epochs.items() if read > allowed[name]]
    if not too_many:
        return
    told = ", ".join(
        f"corpus {name} {epochs[name]:.2f} times ({readers[name].place:,} rows of {len(readers[name].rows):,}), "
        f"allowed are {allowed[name]:g}"
        for name in too_many
    )
    fits = min(int(budget * allowed[name] / epochs[name]) for name in too_many) - slack
    limits = {}
    for name in sorted(
        too_many, key=epochs.__getitem__
    ):  # a corpus that replaces several stands there once
        limits[name.rpartition("-")[2]] = math.ceil(epochs[name] * 100) / 100
    advice = [f"mix.tokens: {fits}"] if fits > 0 else []
    advice += [
        " and ".join(
            f"corpora.{corpus}.epochs: {most:g}" for corpus, most in sorted(limits.items())
        )
    ]
    raise MixtureError(f"{at}: reads {told}; write {' or '.join([*advice, 'a smaller weight'])}")
