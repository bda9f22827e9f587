"""The plan of a mixture: the rows and tokens that training reads, exactly."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from safelm.builder.files import write_json
from safelm.builder.terminal import align_columns
from safelm.corpora.mixing.rows import Layout, ReadingOrder, Rows, Tokens, cut_rows, hold_out

PLAN = "plan.json"
# Raise it when the fields of plan.json or the reading order change.
FORMAT = 4


@dataclass(frozen=True)
class PlannedPart:
    """One corpus in one phase: `rows` rows from position `first` of its reading order on."""

    corpus: str
    first: int
    rows: int
    tokens: int
    epochs: float


@dataclass(frozen=True)
class PlannedPhase:
    """A stretch of training in whole steps."""

    steps: int
    rows: int
    tokens: int
    parts: tuple[PlannedPart, ...]


@dataclass(frozen=True)
class PlannedCorpus:
    """A corpus on disk and how much of it the mixture reads.

    An empty corpus is listed, but not read. A dry run, which has no corpus on disk, leaves the
    fields with a default as they are.

    Attributes:
        left_out: where it is replaced, the documents that have no replacement.
        tags: how many of the tokens are the harmfulness tag.
        rows: the rows without those that are held out.
        held_out: the rows that training never reads.
        files: the sha256 of each file in tokens/<corpus>.
    """

    tokens: int
    rows: int
    read_rows: int
    read_tokens: int
    epochs: float
    documents: int = 0
    left_out: int = 0
    tags: int = 0
    held_out: int = 0
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The contents of plan.json."""

    mixture: str
    layout: Layout
    sequence: int
    batch: int
    seed: int
    held_out: int
    vocabulary: int
    width: int
    budget: int
    tokens: int
    steps: int
    phases: tuple[PlannedPhase, ...]
    corpora: dict[str, PlannedCorpus]

    @property
    def reads_tag(self) -> bool:
        """Whether any row may contain the tag; without it, p(tag) means nothing (paper §5)."""
        return any(corpus.tags and corpus.read_rows for corpus in self.corpora.values())

    @property
    def full_steps(self) -> float:
        """The steps that the budget would take in full rows; shorter rows take more."""
        return self.budget / (self.batch * self.sequence)

    def write(self, folder: Path) -> None:
        """Write plan.json; equal plans give equal bytes."""
        values = {"format": FORMAT, **asdict(self)}
        write_json(folder / PLAN, values, sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Read the plan of a mixture's folder. Raises ValueError for another format."""
        path = folder / PLAN
        values = json.loads(path.read_bytes())
        if (version := values.pop("format")) != FORMAT:
            raise ValueError(
                f"{path}: expected format {FORMAT} (got {version}); run `dvc repro` to plan again"
            )
        return TypeAdapter(cls).validate_python(values)

    def open_corpus(self, folder: Path, corpus: str) -> tuple[Tokens, Rows, ReadingOrder]:
        """Open a corpus for training: its tokens, rows and reading order.

        Args:
            folder: the mixture's folder, with the token files beside plan.json.
            corpus: a key of `corpora`.
        """
        tokens, rows, _ = self._split(folder, corpus)
        return tokens, rows, ReadingOrder(self.seed, corpus, len(rows))

    def open_held_out(self, folder: Path, corpus: str) -> tuple[Tokens, Rows]:
        """Open the rows of a corpus that training never reads."""
        tokens, _, rows = self._split(folder, corpus)
        return tokens, rows

    def _split(self, folder: Path, corpus: str) -> tuple[Tokens, Rows, Rows]:
        names = [name for name in sorted(self.corpora[corpus].files) if name.endswith(".ds")]
        paths = [folder / "tokens" / corpus / name for name in names]
        tokens = Tokens(paths, self.width)
        # Cut again rather than stored: the same settings give the same rows.
        rows = cut_rows(tokens.ends, self.sequence, self.layout)
        return tokens, *hold_out(rows, self.held_out, self.seed, corpus)

    def table(self) -> Iterator[str]:
        """Yield the plan as a table with a line for each part of each phase."""
        # A dry run knows the size of a corpus, but not its documents.
        is_dry_run = not any(corpus.documents for corpus in self.corpora.values())
        rows = [["phase", "part", "documents", "rows", "tokens", "epochs"]]
        for number, phase in enumerate(self.phases, 1):
            for part in phase.parts:
                documents = f"{self.corpora[part.corpus].documents:,}"
                counts = [f"{part.rows:,}", f"{part.tokens:,}", f"{part.epochs:.2f}"]
                rows.append([str(number), part.corpus, documents, *counts])
        if is_dry_run:
            rows = [row[:2] + row[3:] for row in rows]
        yield from align_columns(rows, 2)
