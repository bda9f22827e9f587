"""The plan of a mixture: what is read, to the row and the token. Training follows it and is held to
it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from safelm.builder.terminal import align_columns
from safelm.corpora.mixing.rows import Layout, Order, Rows, Tokens, cut, hold_out

PLAN = "plan.json"
FORMAT = 4


@dataclass(frozen=True)
class PlannedPart:
    """What a phase reads of a corpus: `rows` rows from place `first` of its order on, with `tokens`
    tokens in them.
    """

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
    """A corpus as it is on disk, and how much of it the mixture reads. An empty one is listed, and
    not read.
    """

    documents: int
    left_out: int  # where it is replaced: the documents of which nothing was made
    tokens: int
    tags: int  # how many of the tokens are the harmfulness tag
    rows: int  # without those that are held out
    held_out: int  # rows that no training reads
    read_rows: int
    read_tokens: int
    epochs: float
    files: dict[str, str]  # name of a token file in tokens/<corpus>: its sha256


@dataclass(frozen=True)
class Plan:
    """plan.json."""

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
        """Whether some row may hold the harmfulness tag; where none does, p(tag) means nothing
        (paper §5).
        """
        return any(corpus.tags and corpus.read_rows for corpus in self.corpora.values())

    @property
    def full_steps(self) -> float:
        """The steps that the budget takes in full rows; more are needed where documents are
        shorter.
        """
        return self.budget / (self.batch * self.sequence)

    def write(self, folder: Path) -> None:
        """plan.json: same plan, same bytes."""
        values = {"format": FORMAT, **asdict(self)}
        (folder / PLAN).write_text(
            json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """The plan of a mixture's folder."""
        path = folder / PLAN
        values = json.loads(path.read_bytes())
        if (found := values.pop("format")) != FORMAT:
            raise ValueError(
                f"{path}: expected format {FORMAT} (got {found}); run `dvc repro` to plan again"
            )
        phases = tuple(
            PlannedPhase(
                **{**phase, "parts": tuple(PlannedPart(**part) for part in phase["parts"])}
            )
            for phase in values.pop("phases")
        )
        corpora = {name: PlannedCorpus(**corpus) for name, corpus in values.pop("corpora").items()}
        return cls(phases=phases, corpora=corpora, **values)

    def stock(self, folder: Path, corpus: str) -> tuple[Tokens, Rows, Order]:
        """The tokens, rows and reading order of a corpus, from the token files beside plan.json."""
        tokens, rows, _ = self._split(folder, corpus)
        return tokens, rows, Order(self.seed, corpus, len(rows))

    def held(self, folder: Path, corpus: str) -> tuple[Tokens, Rows]:
        """The tokens of a corpus, and its rows that no training reads."""
        tokens, _, rows = self._split(folder, corpus)
        return tokens, rows

    def _split(self, folder: Path, corpus: str) -> tuple[Tokens, Rows, Rows]:
        names = [name for name in sorted(self.corpora[corpus].files) if name.endswith(".ds")]
        tokens = Tokens([folder / "tokens" / corpus / name for name in names], self.width)
        rows = cut(tokens.ends, self.sequence, self.layout)
        return tokens, *hold_out(rows, self.held_out, self.seed, corpus)

    def table(self) -> Iterator[str]:
        """The plan for people: a line for each part of each phase."""
        parts = [
            (number, part) for number, phase in enumerate(self.phases, 1) for part in phase.parts
        ]
        columns = [
            ["phase", *(str(number) for number, _ in parts)],
            ["part", *(part.corpus for _, part in parts)],
            ["documents", *(f"{self.corpora[part.corpus].documents:,}" for _, part in parts)],
            ["rows", *(f"{part.rows:,}" for _, part in parts)],
            ["tokens", *(f"{part.tokens:,}" for _, part in parts)],
            ["epochs", *(f"{part.epochs:.2f}" for _, part in parts)],
        ]
        if not any(corpus.documents for corpus in self.corpora.values()):
            del columns[2]  # a dry run
        yield from align_columns(list(zip(*columns, strict=True)), 2)
