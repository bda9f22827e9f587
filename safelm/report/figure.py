"""What a page is made of: sections with figures, and tables that say in words and counts what the
figures show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from safelm.report.charts.numbers import NONE, interval, percent, plain
from safelm.report.inputs import Inputs
from safelm.report.rates import Measured
from safelm.report.roles import DecoderRoles, Group
from safelm.stats.rates import Rate
from specs.corpus import Corpus, TagRow
from specs.decoder import Branch, DecoderRow, SafeBeam
from specs.mixture import Mixture
from specs.paper import Paper

STYLES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
STAGE_NAMES = {
    "pretrain": "Base model",
    "instruct": "After safety instruction tuning",
    "finetune": "After benign finetuning",
}
SAFEBEAM = {
    "half": "SafeBeam, as printed",
    "boundary": "SafeBeam, at word boundaries",
    "absolute": "SafeBeam, absolute threshold",
}


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and in `small` below it; `lines` are items of a list, `mark` is a
    class of page.css.
    """

    text: str
    small: str = ""
    mark: str = ""
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table; the first `heads` cells of a row are its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the head: every number would stand under another name."""
        if wrong := {len(row) for row in self.rows} - {len(self.head)}:
            raise ValueError(
                f"{self.caption}: expected {len(self.head)} cells in every row (got {sorted(wrong)})"
            )

    @property
    def is_short(self) -> bool:
        """Short tables are open when the page is opened."""
        return len(self.rows) <= 14

    @property
    def is_long(self) -> bool:
        """Long tables are folded, also where no chart stands before them."""
        return len(self.rows) > 40


@dataclass(frozen=True)
class Panel:
    """A chart with its heading."""

    title: str
    chart: Markup


@dataclass(frozen=True)
class Figure:
    """Charts side by side, what their styles mean, a caption that says what one sees, and the
    numbers as tables.
    """

    id: str
    title: str
    caption: str
    panels: Sequence[Panel] = ()
    legend: Sequence[tuple[str, str]] = ()  # style, meaning
    paper: str = ""  # what the diamonds mean
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A heading of the page and what is under it."""

    id: str
    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()


@dataclass(frozen=True, eq=False)
class Book:
    """Everything that figures are drawn from. A book is itself alone, so that what is computed of
    it can be kept.
    """

    title: str
    confidence: float
    inputs: Inputs
    measured: Measured
    decoders: Mapping[str, DecoderRow]
    parts: DecoderRoles
    corpora: Mapping[str, Corpus]
    tags: Mapping[str, TagRow]
    mixtures: Mapping[str, Mixture]
    paper: Paper
    rephrased: Sequence[str]  # the scores that were rephrased lie in the corpora `sources`
    sources: Sequence[str]
    styles: Mapping[str, str] = field(default_factory=dict)

    @property
    def main(self) -> list[str]:
        """The two decoders of Figure 2."""
        return [name for name in (self.parts.plain, self.parts.safebeam) if name]

    def style(self, decoder: str) -> str:
        """The colour and pattern of a decoder, the same on the whole page."""
        return STYLES[list(self.decoders).index(decoder) % len(STYLES)]

    def legend(self, decoders: Sequence[str]) -> list[tuple[str, str]]:
        """What the styles of some decoders mean."""
        return [(self.style(name), self.meaning(name)) for name in decoders]

    def meaning(self, decoder: str) -> str:
        """A decoder in a few words."""
        row = self.decoders[decoder]
        if isinstance(row, Branch):
            most = row.max_tag_probability
            bound = f", refused above {most:g}" if most is not None else ""
            return f"{plain(decoder)} (ours: {row.branches} whole answers, weighed by the tag{bound})"
        if not isinstance(row, SafeBeam):
            return (
                f"{plain(decoder)} ({row.method.replace('_', '-')})"
                if plain(decoder) != row.method
                else row.method
            )
        rule = (
            "the control: a random half dropped"
            if row.drop == "random"
            else SAFEBEAM.get(row.drop, row.drop)
        )
        return f"{plain(decoder)} ({rule}{f' {row.max_tag_probability:g}' if row.drop == 'absolute' else ''})"

    def paper_asr(self, group: Group, stage: str, decoder: str) -> float | None:
        """What Figure 2 (and for the filtered model Figure 4) of the paper shows here, as a share."""
        row, roles = getattr(self.paper.asr, stage), self.measured.roles
        if group == roles.safe and decoder == self.parts.safebeam:
            return row.safebeam / 100
        if decoder != self.parts.plain:
            return None
        if group == roles.filtered and stage == self.paper.ladder.stage:
            return self.paper.ladder.rungs["score_0"] / 100
        named = {"standard": roles.standard, "safe": roles.safe}
        return next(
            (getattr(row, name) / 100 for name, which in named.items() if which == group), None
        )


def rate_cell(rate: Rate | None, paper: float | None = None) -> Cell:
    """A rate as a cell: percent, and below it the interval, the count, the seeds and the paper's
    value.
    """
    beside = [f"paper {percent(paper)}"] if paper is not None else []
    if rate is None or rate.value is None:
        return Cell(NONE, "\n".join(beside))
    seeds = [f"seeds {', '.join(f'{seed * 100:.1f}' for seed in rate.seeds)}"] if rate.seeds else []
    return Cell(
        percent(rate.value),
        "\n".join([f"{interval(rate)} {rate.count:,}/{rate.of:,}", *seeds, *beside]),
    )
