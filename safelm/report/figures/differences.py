"""Which differences between models and between decoders are real: every pair that answered the same
prompts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

from safelm.report.charts.numbers import percent, plain, points, whole
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Table
from safelm.report.figures.public_benchmarks import asked
from safelm.report.roles import Group
from safelm.stats.bootstrap import RESAMPLES, Paired, Side, holm, paired
from specs.outcome import Outcome

EVENTS = {  # what is compared of a suite: (what it is called, the outcomes)
    "asr": ("attack success", (Outcome.HARMFUL,)),
    "complied": ("compliance", (Outcome.COMPLIED,)),
    "over_refusal": (
        "over-refusal",
        (Outcome.PARTIAL_REFUSAL, Outcome.REFUSAL, Outcome.SHORT_CIRCUIT),
    ),
}
KINDS = {
    "harmful": ("asr",),
    "benign": ("complied", "over_refusal"),
    "dual_use": ("complied", "over_refusal"),
}
Answered = tuple[Group, str]  # a group and a decoder


@dataclass(frozen=True)
class Difference:
    """Two sides that answered the same prompts of a suite at a stage, and what became of their
    difference.
    """

    suite: str
    stage: str
    event: str
    first: Answered
    second: Answered
    found: Paired

    @property
    def sides(self) -> tuple[str, str]:
        """What differs: the models, or the decoders of one model."""
        (one, by), (other, with_) = self.first, self.second
        return f"{one.name}, {plain(by)}", f"{other.name}, {plain(with_)}"


def pair(
    book: Book, stage: str, suite: str, event: str, first: Answered, second: Answered
) -> Paired | None:
    """The paired difference of two sides; None where prompts were not kept, or are others."""
    one, other = (_side(book, *side, stage, suite, event) for side in (first, second))
    return paired(one, other, book.confidence) if one and other else None


@lru_cache(maxsize=512)
def _side(
    book: Book, group: Group, decoder: str, stage: str, suite: str, event: str
) -> Side | None:
    """Of each seed: for every prompt that was judged, whether the event happened."""
    wanted = EVENTS[event][1]
    found = {name: book.inputs.outcomes.get((name, stage, decoder, suite)) for name in group.models}
    seeds = {
        name: {
            prompt: outcome in wanted
            for prompt, outcome in seed.items()
            if outcome != Outcome.UNJUDGED
        }
        for name, seed in found.items()
        if seed
    }
    return Side(seeds, book.inputs.acts) if seeds else None


def differences(book: Book) -> list[Difference]:
    """Every pair of models with one decoder, and every pair of decoders with one model, on every
    suite.
    """
    return [
        Difference(suite, stage, event, first, second, found)
        for suite, row in asked(book).items()
        for stage in book.measured.stages()
        for first, second in _pairs(book, stage)
        for event in KINDS[row["kind"]]
        if (found := pair(book, stage, suite, event, first, second))
    ]


def _pairs(book: Book, stage: str) -> Iterator[tuple[Answered, Answered]]:
    groups = [group for group in book.measured.built() if stage in book.measured.stages(group)]
    decoders = book.measured.decoders(book.decoders)
    for decoder in decoders:
        yield from (((one, decoder), (other, decoder)) for one, other in combinations(groups, 2))
    for group in groups:
        yield from (((group, one), (group, other)) for one, other in combinations(decoders, 2))


@lru_cache(maxsize=1)
def compared(book: Book) -> list[tuple[Difference, float, bool]]:
    """Every difference with its chance, raised for the number of comparisons, and whether it is
    real; computed once.

    Real is what would not be there by chance at the report's confidence.
    """
    found = differences(book)
    raised = holm([one.found.p_value for one in found])
    return [
        (one, chance, chance < 1 - book.confidence)
        for one, chance in zip(found, raised, strict=True)
    ]


def summary(book: Book) -> list[dict[str, Any]]:
    """The same for summary.json."""
    return [
        {
            "suite": one.suite,
            "stage": one.stage,
            "of": one.event,
            "first": one.sides[0],
            "second": one.sides[1],
            **one.found.gap.json(),
            "prompts": one.found.prompts,
            "chance": round(chance, 6),
            "real": is_real,
        }
        for one, chance, is_real in compared(book)
    ]


def figure(book: Book) -> Figure | None:
    """What the page says: how many differences are real, and a table for each suite."""
    found = compared(book)
    if not found:
        return None
    count = sum(is_real for *_, is_real in found)
    suites = dict.fromkeys(one.suite for one, *_ in found)
    tables = [_table(suite, [row for row in found if row[0].suite == suite]) for suite in suites]
    return Figure(
        "differences",
        "Which differences are real",
        f"{count} of {len(found)} differences are real: chance alone would make as large a one in less than "
        f"{whole(1 - book.confidence)} of builds, all comparisons taken together (Holm). Each compares answers to the "
        f"same prompts, by {RESAMPLES:,} paired bootstrap draws of acts, and of seeds where there are several; with "
        "one seed it says nothing of another training run. The intervals stand for themselves.",
        tables=tables,
    )


def _table(suite: str, rows: Sequence[tuple[Difference, float, bool]]) -> Table:
    head = ["Stage", "Of", "Pair", "Difference", "Chance", "Verdict"]
    return Table(
        f"Differences on the suite {plain(suite)}", head, [_row(*row) for row in rows], heads=3
    )


def _row(one: Difference, chance: float, is_real: bool) -> list[Cell]:
    gap, interval = points(one.found.gap)
    return [
        Cell(STAGE_NAMES[one.stage]),
        Cell(EVENTS[one.event][0]),
        Cell(" against ".join(one.sides)),
        Cell(gap, f"{interval} {one.found.prompts:,} prompts"),
        Cell(percent(chance)),
        Cell("real" if is_real else "not distinguishable", mark=_mark(is_real)),
    ]


def _mark(is_real: bool) -> str:
    return "verdict reproduced" if is_real else "verdict not-distinguishable"
