"""One score of several: the rule over the columns of the scorers (paper §1.5: the maximum, for
recall).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from statistics import fmean, median
from typing import ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Block, Input, Reader, Task
from safelm.builder.shards import Shard, tables
from specs.document import GUARDED
from specs.spec import SCORE_LEVELS

RULES: dict[str, Callable[[Mapping[str, int], Mapping[str, int]], float]] = {
    "max": lambda scores, _: max(scores.values()),
    "mean": lambda scores, _: fmean(scores.values()),
    "median": lambda scores, _: median(scores.values()),
    "any": lambda scores, of: max(
        (score for name, score in scores.items() if score >= of[name]), default=0
    ),
}


def ensemble_score(
    rule: str, scores: Mapping[str, int | None], of: Mapping[str, int]
) -> int | None:
    """The score of one document from the columns that `of` names, each with its threshold, which
    `any` asks for.

    A half is rounded up, to the less safe score. What a scorer could not tell may be any score:
    where the rule gives another one for the lowest than for the highest, there is none, lest the
    other scorers alone call a page safe."""
    ends = [
        {name: end if (score := scores[name]) is None else score for name in of}
        for end in (0, SCORE_LEVELS - 1)
    ]
    low, high = (floor(RULES[rule](known, of) + 0.5) for known in ends)
    return low if low == high else None


def ungraded(folder: Path, scorers: Sequence[str]) -> Iterator[str]:
    """A line on the documents of build/score that have no score, if there are any: how many each
    scorer left.
    """
    columns = {**{name: name for name in scorers}, "score": "ensemble_score"}
    counts: Counter[str] = Counter()
    for table in tables(folder, list(columns)):
        counts.update({shown: table[name].null_count for name, shown in columns.items()})
    if found := [f"{shown} {counts[shown]:,}" for shown in columns.values() if counts[shown]]:
        yield f"{'score':<18} ungraded: {', '.join(found)}"


@dataclass(kw_only=True, eq=False, repr=False)
class ReadGrades(Reader):
    """Read the files of several scorers beside each other; no text. `columns` has their files by
    shard of the web.
    """

    name: ClassVar[str] = "grades"
    columns: dict[str, dict[str, Shard]]

    def declared(self) -> list[object]:
        """The names alone: the files are inputs of the tasks."""
        return [type(self).__qualname__, list(self.columns)]

    def tasks(self) -> list[Task]:
        """One for each shard of the documents."""
        names = next(iter(self.columns.values()))
        rows = {name: [files[name] for files in self.columns.values()] for name in names}
        return [
            Task(name, tuple(Input(shard.path, shard.sha256) for shard in row))
            for name, row in rows.items()
        ]

    def read(self, task: Task) -> Iterator[Document]:
        """A document without text for each row; its metadata has, of every scorer, the score and
        the hazard.
        """
        tables = [Shard(item.path, 0, item.sha256).table().to_pylist() for item in task.inputs]
        for row in zip(*tables, strict=True):
            grades = dict(zip(self.columns, row, strict=True))
            assert len({grade["id"] for grade in grades.values()}) == 1, (
                f"{task.name}: rows of different documents"
            )
            yield Document(text="", id=row[0]["id"], metadata={"grades": grades})


@dataclass(kw_only=True, eq=False, repr=False)
class Combine(Block):
    """Make one score of the columns. `hazard` is that of the first scorer that names one."""

    name: ClassVar[str] = "ensemble_score"
    rule: str
    of: dict[str, int]

    def process(self, document: Document) -> Iterator[Document]:
        """The document with a column for each scorer, the score and the hazard."""
        document.metadata |= combine_grades(document.metadata.pop("grades"), self.rule, self.of)
        self.stat_update(f"score {document.metadata['score']}")
        yield document


def combine_grades(
    grades: Mapping[str, Mapping[str, object]], rule: str, of: Mapping[str, int]
) -> dict[str, int | str | None]:
    """The columns of specs/document.py scores_of_all for one document."""
    scores: dict[str, int | None] = {name: grade["score"] for name, grade in grades.items()}  # type: ignore[misc]  # rows of GRADES
    hazards = [str(grade["hazard"]) for grade in grades.values() if grade["hazard"]]
    hazard = next((name for name in hazards if name in GUARDED), hazards[0] if hazards else None)
    return {**scores, "score": ensemble_score(rule, scores, of), "hazard": hazard}
