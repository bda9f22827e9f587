"""Ensemble of scorers: one score from several columns (paper §1.5: the maximum, for recall)."""

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

Scores = Mapping[str, int]


def _highest_at_threshold(scores: Scores, thresholds: Scores) -> int:
    reached = [score for name, score in scores.items() if score >= thresholds[name]]
    return max(reached, default=0)


RULES: dict[str, Callable[[Scores, Scores], float]] = {
    "max": lambda scores, thresholds: max(scores.values()),
    "mean": lambda scores, thresholds: fmean(scores.values()),
    "median": lambda scores, thresholds: median(scores.values()),
    "any": _highest_at_threshold,
}


def ensemble_score(rule: str, scores: Mapping[str, int | None], thresholds: Scores) -> int | None:
    """Return the score of one document from the columns that `thresholds` names.

    Only the rule `any` uses the thresholds themselves. A half is rounded up, to the less safe
    score. A missing grade may stand for any score: if the rule gives different scores for the
    lowest and the highest, there is none. Otherwise the other scorers alone would call a page safe.
    """
    low, high = (_apply(rule, scores, thresholds, missing) for missing in (0, SCORE_LEVELS - 1))
    return low if low == high else None


def _apply(rule: str, scores: Mapping[str, int | None], thresholds: Scores, missing: int) -> int:
    known = {}
    for name in thresholds:
        score = scores[name]
        known[name] = missing if score is None else score
    return floor(RULES[rule](known, thresholds) + 0.5)


def ungraded_summary(folder: Path, scorers: Sequence[str]) -> Iterator[str]:
    """Yield a line on the documents of build/score without a score, counted by scorer, if any."""
    titles = {**{name: name for name in scorers}, "score": "ensemble"}
    counts: Counter[str] = Counter()
    for table in tables(folder, list(titles)):
        for name, title in titles.items():
            counts[title] += table[name].null_count
    shown = [f"{title} {counts[title]:,}" for title in titles.values() if counts[title]]
    if shown:
        yield f"{'score':<18} ungraded: {', '.join(shown)}"


@dataclass(kw_only=True, eq=False, repr=False)
class ReadGrades(Reader):
    """Read the grade files of several scorers side by side, without texts.

    `columns` maps each scorer to its files, by the name of the shard they belong to.
    """

    name: ClassVar[str] = "grades"
    columns: dict[str, dict[str, Shard]]

    def declared(self) -> list[object]:
        """Return the names alone: the files are inputs of the tasks."""
        return [type(self).__qualname__, list(self.columns)]

    def tasks(self) -> list[Task]:
        """Return one task for each shard of the documents."""
        tasks = []
        for name in next(iter(self.columns.values())):
            files = [shards[name] for shards in self.columns.values()]
            inputs = tuple(Input(shard.path, shard.sha256) for shard in files)
            tasks.append(Task(name, inputs))
        return tasks

    def read(self, task: Task) -> Iterator[Document]:
        """Yield a document without text for each row, with every scorer's grade in its metadata."""
        files = [Shard(item.path, 0, item.sha256) for item in task.inputs]
        for row in zip(*(file.table().to_pylist() for file in files), strict=True):
            grades = dict(zip(self.columns, row, strict=True))
            ids = {grade["id"] for grade in row}
            assert len(ids) == 1, f"{task.name}: rows of different documents"
            yield Document(text="", id=row[0]["id"], metadata={"grades": grades})


@dataclass(kw_only=True, eq=False, repr=False)
class CombineGrades(Block):
    """Combine the grades of several scorers into one score.

    `of` holds the columns that count, each with its threshold.
    """

    name: ClassVar[str] = "ensemble"
    rule: str
    of: dict[str, int]

    def process(self, document: Document) -> Iterator[Document]:
        """Yield the document with a column for each scorer, the score and the hazard."""
        document.metadata |= combine_grades(document.metadata.pop("grades"), self.rule, self.of)
        self.stat_update(f"score {document.metadata['score']}")
        yield document


def combine_grades(
    grades: Mapping[str, Mapping[str, object]], rule: str, thresholds: Scores
) -> dict[str, int | str | None]:
    """Return the columns of specs/document.py scores_of_all for one document.

    The hazard is that of the first scorer that names one; a guarded hazard comes before all others.
    """
    scores: dict[str, int | None] = {name: grade["score"] for name, grade in grades.items()}  # type: ignore[misc]  # rows of GRADES
    hazards = [str(grade["hazard"]) for grade in grades.values() if grade["hazard"]]
    guarded = [hazard for hazard in hazards if hazard in GUARDED]
    hazard = next(iter([*guarded, *hazards]), None)
    return {**scores, "score": ensemble_score(rule, scores, thresholds), "hazard": hazard}
