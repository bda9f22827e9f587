"""Labels that are given: by a column of the source, by a file, or for a whole source.

A document without a label stays unlabelled; it never becomes a 0.
"""

import gzip
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datatrove.data import Document

from safelm.builder.blocks import Block, Documents, Reader, Task
from safelm.builder.shards import Shard
from safelm.documents.shards import text_digest
from safelm.scoring.base import grade_columns
from safelm.scoring.labels import Label
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

GZIP = b"\x1f\x8b"
FILE_REASON = "a label of a file"
Row = Mapping[str, Any]


class LabelError(ValueError):
    """A row of a label file cannot be read."""


@dataclass(frozen=True)
class LabelFile:
    """A file of labels, or a folder of them; the settings are those of specs/scorer.py LabelFile.

    Of several labels of one document the highest counts.
    """

    path: Path
    id: str | None
    text: str | None
    where: Mapping[str, str]
    label: str
    scores: Mapping[str, int] | None

    @classmethod
    def of(cls, row: Any) -> "LabelFile":
        """Create it from a row of `scorers` of kind label_file."""
        return cls(**{**row.model_dump(exclude={"kind"}), "path": Path(row.path)})

    @cached_property
    def labels(self) -> dict[str, Label]:
        """The labels by id, in the order of ids. Raises LabelError for a row without its fields."""
        found: dict[str, Label] = {}
        for place, row in _rows(self.path):
            if any(row.get(name) != value for name, value in self.where.items()):
                continue
            score = self._score(row, place)
            if score is None:
                continue
            text = "" if self.text is None else _text(row, self.text, place)
            id = text_digest(None, text) if self.id is None else _text(row, self.id, place)
            known = found.get(id)
            if known is None or known.score < score:
                found[id] = Label(id, text, score, FILE_REASON, None, None)
        return dict(sorted(found.items()))

    def _score(self, row: Row, place: str) -> int | None:
        value = row.get(self.label)
        if value is None:
            return None
        if self.scores is None:
            # Not isinstance(), which accepts True as well.
            if type(value) is int and value in range(SCORE_LEVELS):
                return value
            raise LabelError(
                f"{place} {self.label}: expected a score from 0 to 5 (got {_short(value)}); for "
                "categories that are 0 or 1 give each its score in `scores`"
            )
        if not isinstance(value, Mapping) or not value.keys() <= self.scores.keys():
            raise LabelError(
                f"{place} {self.label}: expected a table of {', '.join(self.scores)} "
                f"(got {_short(value)}); give every category its score in `scores`"
            )
        found = [self.scores[name] for name, is_of in value.items() if is_of == 1]
        if found:
            return max(found)
        # A category that is missing is unknown, so the text need not be harmless.
        is_known = all(value.get(name) == 0 for name in self.scores)
        return 0 if is_known else None


def _rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield every row of a file or of a folder's files, with its place for messages."""
    files = [path]
    if path.is_dir():
        # A copy of an output has a manifest beside its tables.
        files = [file for file in sorted(path.rglob("*")) if file.suffix in (".parquet", ".jsonl")]
    for file in files:
        if file.suffix == ".parquet":
            for number, row in enumerate(pq.ParquetFile(file).read().to_pylist(), 1):
                yield f"{file}: row {number}", row
            continue
        content = file.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        # Of bytes: splitlines of a text would also cut at U+2028, which JSON allows in strings.
        for number, line in enumerate(content.splitlines(), 1):
            yield f"{file}:{number}", _json_row(line, f"{file}:{number}")


def _json_row(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise LabelError(f"{place}: expected a JSON object; correct or remove the line") from error
    if not isinstance(row, dict):
        raise LabelError(f"{place}: expected a JSON object (got {_short(row)})")
    return row


def _text(row: Row, name: str, place: str) -> str:
    value = row.get(name)
    if isinstance(value, str):
        return value
    fields = ", ".join(sorted(row))
    raise LabelError(f"{place} {name}: expected text (got {_short(value)}; fields are {fields})")


def _short(value: Any) -> str:
    # Never a text as a whole: the rows are untrusted.
    return repr(value)[:40]


class GradeAsGiven(Block):
    """The base of blocks that grade documents without reading them."""

    @abstractmethod
    def grade(self, document: Document) -> Grade | None:
        """Return the grade of a document; None where none is given."""

    def known(self, documents: Shard) -> set[str]:
        """Return the ids of the documents of a shard that have a grade."""
        ids = set()
        for row in documents.table(["id", "label"]).to_pylist():
            if self.grade(Document(text="", id=row["id"], metadata=row)) is not None:
                ids.add(row["id"])
        return ids

    def process(self, document: Document) -> Documents:
        """Yield the document with its grade."""
        document.metadata |= grade_columns(self.grade(document))
        yield document


class GradeByLabel(GradeAsGiven):
    """Grade every document with the label of its source, and the source's hazard."""

    name = "label"

    def grade(self, document: Document) -> Grade | None:
        """Return the label as a grade."""
        score = document.metadata.get("label")
        hazard = document.metadata.get("hazard")
        return None if score is None else Grade(score, "the source's label", hazard)


class GradeByLabelFile(GradeAsGiven):
    """Grade every document with its label in a file."""

    name = "label file"
    file: LabelFile

    def grade(self, document: Document) -> Grade | None:
        """Return the label as a grade."""
        label = self.file.labels.get(document.id)
        return None if label is None else Grade(label.score, FILE_REASON, None)


class GradeAlike(GradeAsGiven):
    """Give every document the same score, assumed of its whole source."""

    name = "assumed"
    score: int

    def grade(self, document: Document) -> Grade:
        """Return the score as a grade."""
        return Grade(self.score, "assumed of its source", None)


class ReadGivenLabels(Reader):
    """Read a label file with its texts in one task, in place of the labels of `annotate`."""

    name = "given labels"
    file: LabelFile

    def tasks(self) -> list[Task]:
        """Return one task without a name, as ReadLabels does."""
        return [Task("", ())]

    def read(self, task: Task) -> Documents:
        """Yield a document for each label that has a text, sorted by id."""
        for label in self.file.labels.values():
            yield Document(text=label.text, id=label.id, metadata={"label": label})
