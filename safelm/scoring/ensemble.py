"""Ensemble of scorers: one score from several columns.

Paper §1.5 takes the maximum of two scorers, for the recall of unsafe documents.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import floor
from pathlib import Path
from statistics import fmean, median
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents, Reader, Task
from safelm.builder.files import Json
from safelm.builder.shards import Shard, tables
from safelm.documents.shards import input_tables, shard_inputs
from specs.document import GUARDED
from specs.spec import SCORE_LEVELS

Scores = Mapping[str, int | None]
Thresholds = Mapping[str, int]

RULES: dict[str, Callable[[list[int]], float]] = {
    "max": max,
    "any": max,
    "mean": fmean,
    "median": median,
}


def ensemble_score(rule: str, scores: Scores, thresholds: Thresholds) -> int | None:
    """Return the score of one document from the columns that `thresholds` names.

    A score below its threshold counts as 0; only the rule `any` has thresholds above 0. Returns
    None where the result depends on a missing grade.
    """
    # A missing grade is not left out: the other scorers alone could call an unsafe page safe.
    low = _apply(rule, scores, thresholds, missing=0)
    high = _apply(rule, scores, thresholds, missing=SCORE_LEVELS - 1)
    return low if low == high else None


def _apply(rule: str, scores: Scores, thresholds: Thresholds, missing: int) -> int:
    values = []
    for name, threshold in thresholds.items():
        score = scores.get(name)
        if score is None:
            score = missing
        values.append(score if score >= threshold else 0)
    return floor(RULES[rule](values) + 0.5)  # a half is rounded up, to the less safe score


def ungraded_summary(folder: Path, scorers: Sequence[str]) -> Iterator[str]:
    """Yield a line that counts the documents without a score by scorer, if there are any."""
    counts: Counter[str] = Counter()
    for table in tables(folder, [*scorers, "score"]):
        for name in table.column_names:
            title = "ensemble" if name == "score" else name
            counts[title] += table[name].null_count
    shown = [f"{title} {count:,}" for title, count in counts.items() if count]
    if shown:
        yield f"{'score':<18} ungraded: {', '.join(shown)}"


class ReadGrades(Reader):
    """Read the grade files of several scorers side by side, without texts.

    `columns` maps each scorer to its files, by the name of the shard they belong to.
    """

    name = "grades"
    columns: dict[str, dict[str, Shard]]

    def declared(self) -> list[Any]:
        """Return the class and the names of the columns."""
        # The files are inputs of the tasks, and count there.
        return [type(self).__qualname__, list(self.columns)]

    def tasks(self) -> list[Task]:
        """Return one task for each shard of the documents."""
        tasks = []
        for name in next(iter(self.columns.values())):
            files = [shards[name] for shards in self.columns.values()]
            tasks.append(Task(name, shard_inputs(files), rows=files[0].rows))
        return tasks

    def read(self, task: Task) -> Documents:
        """Yield a document without text for each row, with every scorer's grade as metadata."""
        columns = [table.to_pylist() for table in input_tables(task)]
        for row in zip(*columns, strict=True):
            grades = dict(zip(self.columns, row, strict=True))
            ids = {grade["id"] for grade in row}
            assert len(ids) == 1, f"{task.name}: rows of different documents"
            yield Document(text="", id=row[0]["id"], metadata={"grades": grades})


class CombineGrades(Block):
    """Combine the grades of several scorers into one score.

    `thresholds` names the columns that count. The others are kept, but do not shape the score.
    """

    name = "ensemble"
    rule: str
    thresholds: dict[str, int]

    def process(self, document: Document) -> Documents:
        """Yield the document with a column for each scorer, the score and the hazard."""
        grades = document.metadata.pop("grades")
        document.metadata |= combine_grades(grades, self.rule, self.thresholds)
        self.stat_update(f"score {document.metadata['score']}")
        yield document


def combine_grades(grades: Mapping[str, Json], rule: str, thresholds: Thresholds) -> Json:
    """Return the columns of specs/document.py scores_of_all for one document.

    The hazard is that of the first scorer that names one, but guarded hazards take precedence.
    """
    scores = {name: grade["score"] for name, grade in grades.items()}
    hazards = [grade["hazard"] for grade in grades.values() if grade["hazard"]]
    # min() returns the first of equals.
    hazard = min(hazards, key=lambda hazard: hazard not in GUARDED, default=None)
    return {**scores, "score": ensemble_score(rule, scores, thresholds), "hazard": hazard}
