"""The label pool: documents drawn from several sources, and the labellers that grade them.

The paper's pool has 30,000 pages of FineWeb and 3,000 texts each of 4chan, ToxiGen and Jigsaw
(paper §1.2). A draw depends on the seed, the documents' ids and, if it says so, their scores by
scorers of an earlier round.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents, Reader, Task, unkeyed
from safelm.builder.files import temporary_directory
from safelm.builder.paths import build, scratch
from safelm.builder.run import make_shards
from safelm.builder.shards import Shard, shards
from safelm.builder.stage import link_files
from safelm.documents.batches import SHARD, BatchBlock
from safelm.documents.shards import (
    ReadShards,
    WriteColumns,
    documents_of,
    input_tables,
    selected,
    shard_inputs,
)
from safelm.scoring.base import CompositeBlock, GradeDocuments, KeepGraded, grade_columns
from safelm.scoring.given_labels import GradeAsGiven, LabelFile, ReadGivenLabels
from safelm.scoring.registry import (
    Engines,
    Rows,
    fitted_grader,
    fitter,
    grader,
    labeller,
    scorer_shards,
)
from safelm.seeding import hash_rank, sample
from specs.document import GRADES, LABELS, POOL
from specs.scorer import CLASSIFIERS, PoolRow

PURPOSE = "annotate"  # of the draws
UNIFORM = "uniform"
GRADE = "grade"  # the columns of a document's labeller, until all labellers have read the others
Shards = Mapping[str, Shard]


class Page(NamedTuple):
    """A document that may be drawn, and its scores by the scorers of the draw."""

    id: str
    scores: tuple[int, ...]


def draw(rule: str, pages: Iterable[Page], count: int, seed: int) -> list[str]:
    """Return the ids of at most `count` pages; `rule` is that of a row's draw, or UNIFORM."""
    if rule == UNIFORM:
        return sample(PURPOSE, seed, (page.id for page in pages), count)
    ordered = sorted(pages, key=lambda page: (hash_rank(PURPOSE, seed, page.id), page.id))
    if rule == "disagreement":
        # sorted() keeps the order of the ranks among pages of the same spread.
        apart = sorted(filter(_spread, ordered), key=_spread, reverse=True)
        return [page.id for page in apart[:count]]
    # Stratified: the first of every score, then the second of every score, and so on.
    turns: Counter[int] = Counter()
    by_turn = []
    for page in ordered:
        score = page.scores[0]
        by_turn.append((turns[score], score, page.id))
        turns[score] += 1
    return [id for _, _, id in sorted(by_turn)[:count]]


def _spread(page: Page) -> int:
    return max(page.scores) - min(page.scores)


class ReadPool(Reader):
    """Read the documents of every row of the pool; others are dropped as not selected.

    `folders` has the documents of each source. By row, `judges` has the labeller, which may know
    only some documents, and `grades` the files of the scorers that the draw depends on, by scorer
    and shard. A document that an earlier row has drawn is not drawn again.
    """

    name = "pool"
    # Not part of a shard's key: the drawn ids are, as values of its task.
    quotas: Mapping[str, PoolRow] = unkeyed()
    folders: Mapping[str, Path] = unkeyed()
    judges: Mapping[str, Block] = unkeyed()
    grades: Mapping[str, Mapping[str, Shards]] = unkeyed()
    seed: int = unkeyed()

    def tasks(self) -> list[Task]:
        """Return a task for each shard of each source; its values are the drawn (id, row)."""
        listed = {source: shards(folder) for source, folder in self.folders.items()}
        drawn: dict[str, str] = {}
        for name, row in self.quotas.items():
            pages = chain.from_iterable(self._pages(name, shard) for shard in listed[row.source])
            rule = row.draw.rule if row.draw else UNIFORM
            fresh = (page for page in pages if page.id not in drawn)
            drawn |= dict.fromkeys(draw(rule, fresh, row.documents, self.seed), name)
        tasks = []
        for source, of_source in listed.items():
            # Shards of several sources have the same names.
            prefix = f"{source}/" if len(listed) > 1 else ""
            for shard in of_source:
                values = self._values(source, shard, drawn)
                task = Task(f"{prefix}{shard.name}", shard_inputs([shard]), values, shard.rows)
                tasks.append(task)
        return tasks

    def _pages(self, name: str, shard: Shard) -> Iterator[Page]:
        """Yield the documents of a shard that a row may draw."""
        table = shard.table(["id"])
        for scorer, files in self.grades[name].items():
            scores = files[shard.name].table(["score"])["score"]
            table = table.append_column(f"score by {scorer}", scores)
        judge = self.judges[name]
        known = judge.known(shard) if isinstance(judge, GradeAsGiven) else None
        # A document without a grade has no place in the draw.
        for row in table.drop_null().to_pylist():
            id, *grades = row.values()
            if known is None or id in known:
                yield Page(id, tuple(grades))

    def _values(
        self, source: str, shard: Shard, drawn: Mapping[str, str]
    ) -> tuple[tuple[str, str], ...]:
        ids = filter(drawn.__contains__, shard.table(["id"])["id"].to_pylist())
        # Two sources may have the same document; the row says which of them it is drawn from.
        return tuple((id, drawn[id]) for id in ids if self.quotas[drawn[id]].source == source)

    def read(self, task: Task) -> Documents:
        """Yield the drawn documents of one shard, each with its row as POOL."""
        rows = dict(task.values)
        documents = chain.from_iterable(map(documents_of, input_tables(task)))
        for document in selected(self, documents, rows):
            document.metadata[POOL] = rows[document.id]
            yield document


class LabelPool(CompositeBlock, BatchBlock):
    """Grade every document with the labeller of its row of the pool.

    Labellers that stand beside it give columns of their own, named after them. `judges` and
    `beside` are by row.
    """

    name = "labellers"
    batch = SHARD  # as judges have it
    labellers: Mapping[str, Block] = unkeyed()
    judges: Mapping[str, str]
    beside: Mapping[str, tuple[str, ...]]

    def inner(self) -> Mapping[str, Block]:
        """Return the labellers."""
        return self.labellers

    def process_batch(self, documents: list[Document]) -> Documents:
        """Yield every document with the columns of LABELS, and those of further labellers."""
        for name in self.labellers:
            self._grade(name, documents)
        for document in documents:
            document.metadata |= document.metadata.pop(GRADE)
            yield document

    def _grade(self, name: str, batch: Sequence[Document]) -> None:
        asked = [document for document in batch if name in self._labellers_of(document)]
        # Copies, for a labeller writes the columns of its grade, and the source's are read by all.
        copies = [replace(document, metadata=dict(document.metadata)) for document in asked]
        for document, graded in zip(asked, self.labellers[name].run(copies), strict=True):
            if name == self.judges[document.metadata[POOL]]:
                columns = grade_columns(None)
                document.metadata[GRADE] = {key: graded.metadata[key] for key in columns}
            else:
                document.metadata[name] = graded.metadata["score"]

    def _labellers_of(self, document: Document) -> tuple[str, ...]:
        row = document.metadata[POOL]
        return (self.judges[row], *self.beside[row])


def label_pool(settings: Any, scorers: Rows, engines: Engines) -> list[Block]:
    """Return the blocks that draw, label and write the pool of `annotate` in params.yaml."""
    rows: Mapping[str, PoolRow] = settings.pool
    folders = {row.source: build("clean", row.source) for row in rows.values()}
    judges = {name: row.judge or settings.judge for name, row in rows.items()}
    beside = {name: tuple(row.beside) for name, row in rows.items()}
    further = sorted(set(chain.from_iterable(beside.values())))
    names = sorted({*judges.values(), *further})
    grades = {name: _grades_of_draw(row, folders, scorers, engines) for name, row in rows.items()}
    labellers = {name: labeller(name, scorers, engines) for name in names}
    of_rows = {name: labellers[judges[name]] for name in rows}
    columns = dict(LABELS)
    if len(rows) > 1 or further:
        columns |= {POOL: "string", **dict.fromkeys(further, "int8")}
    return [
        ReadPool(quotas=rows, folders=folders, judges=of_rows, grades=grades, seed=settings.seed),
        LabelPool(labellers=labellers, judges=judges, beside=beside),
        KeepGraded(),
        WriteColumns(columns=columns),
    ]


def _grades_of_draw(
    row: PoolRow, folders: Mapping[str, Path], scorers: Rows, engines: Engines
) -> Mapping[str, Shards]:
    """Grade the whole source of a row with the scorers that its draw depends on."""
    if row.draw is None:
        return {}
    manifests = {}
    for name in row.draw.of:
        with _first_scorer(name, row.draw.labels, scorers, engines) as grade:
            blocks = [
                ReadShards(folder=folders[row.source]),
                grade,
                WriteColumns(columns=dict(GRADES)),
            ]
            manifests[name] = make_shards(f"annotate/{name}", blocks)
    return scorer_shards(manifests)


@contextmanager
def _first_scorer(
    name: str, labels: str | None, scorers: Rows, engines: Engines
) -> Iterator[GradeDocuments]:
    """Provide a scorer of the draw; a classifier is fitted on the labels of a file first."""
    row = scorers[name]
    if row.kind not in CLASSIFIERS:
        yield grader(name, scorers, engines)
        return
    assert labels is not None, "a draw by a classifier names its labels (specs/checks/scorers.py)"
    read = ReadGivenLabels(file=LabelFile.of(scorers[labels]))
    # All of the labels: nothing is measured on them here.
    fit = fitter(row, {"held_out_share": 0.0, "seed": 0})
    manifest = make_shards(f"annotate/fit/{name}", [read, fit])
    # Classifiers are read from a folder, and build/ has none before the stage is done.
    with temporary_directory(scratch("first"), name) as folder:
        link_files(manifest, folder / "fitted")
        yield fitted_grader(row, folder / "fitted")
