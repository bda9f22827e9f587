"""The table of scorers: a row of params.yaml becomes the block that grades with it, and the block
that fits it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Block, Task
from safelm.builder.digest import MANIFEST
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.shards import Shard
from safelm.builder.store import Store
from safelm.documents.batches import batches
from safelm.scoring.base import GradeDocuments, grade_columns
from safelm.scoring.cascade import THRESHOLDS, GradeByCascade
from safelm.scoring.encoder import GradeByEncoder
from safelm.scoring.ensemble import combine_grades
from safelm.scoring.labels import HELD_OUT, GradeByLabel
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.llm_judge import GradeByRubric
from safelm.scoring.ngrams import GradeByNgrams
from specs.engine import Engine
from specs.engine import row as engine_row
from specs.rubric import RUBRICS
from specs.scorer import JUDGES, Encoder, Labels, ScorerRow

Rows = Mapping[str, ScorerRow]
Engines = Mapping[str, Engine]
HAZARDS = "hazards"  # the column of the lexicon where no judge is among the scorers: it names hazards and scores nothing
ORDER = {
    "llm": 0,
    "cascade": 1,
    "lexicon": 3,
}  # who names hazards comes first: language models, word lists last


def grader(name: str, rows: Rows, engines: Engines) -> GradeDocuments:
    """The block that grades with a row of `scorers`; a language model is a row of `engines`."""
    return GRADERS[rows[name].kind](name, rows, engines)


def labeller(name: str, rows: Rows, engines: Engines) -> Block:
    """The block that labels the sample: a judge that reads the text, or what the source says of it."""
    return GradeByLabel() if isinstance(rows[name], Labels) else grader(name, rows, engines)


def graders(names: Sequence[str], rows: Rows, engines: Engines) -> dict[str, GradeDocuments]:
    """A block for each column, those first whose word on hazards counts most.

    Classifiers name no hazard; where no judge is among the columns, the lexicon is added for the
    hazards alone."""
    ordered = sorted(names, key=lambda name: ORDER.get(rows[name].kind, 2))
    found = {name: grader(name, rows, engines) for name in ordered}
    has_judge = any(rows[name].kind in JUDGES for name in names)
    return found if has_judge else {**found, HAZARDS: GradeByLexicon(lexicon=LEXICON)}


def fitted(name: str) -> tuple[Path, ...]:
    """The files of the model that `fit` made of a row. Raises FileNotFoundError where there are
    none.
    """
    files = sorted(
        path for path in build("fit", name).glob("*") if path.name not in (MANIFEST, HELD_OUT)
    )
    if not files:
        raise FileNotFoundError(f"{build('fit', name)}: has no fitted scorer; run `dvc repro fit`")
    return tuple(files)


def scorer_shards(made: Mapping[str, Manifest]) -> dict[str, dict[str, Shard]]:
    """The files of several scorers' manifests by shard, where the store has them."""
    store = Store(cache(), scratch())
    return {
        scorer: {
            name.partition(".")[0]: Shard(store.object(file.md5), file.rows, file.sha256)
            for name, file in manifest.files()
        }
        for scorer, manifest in made.items()
    }


def _llm(name: str, rows: Any, engines: Engines) -> GradeDocuments:
    row = rows[name]
    engine, rubric = engine_row(dict(engines), row.engine), RUBRICS / f"{row.rubric}.yaml"
    return GradeByRubric(engine=engine, rubric=rubric, seed=row.seed, tries=row.max_attempts)


def _cascade(name: str, rows: Any, engines: Engines) -> GradeDocuments:
    row = rows[name]
    cheap, dear = (grader(part, rows, engines) for part in (row.cheap, row.expensive))
    thresholds = build("fit", name, THRESHOLDS)
    return GradeByCascade(
        cheap=cheap,
        dear=dear,
        names=(row.cheap, row.expensive),
        level=row.min_score,
        thresholds=thresholds,
    )


def _embedding(name: str, rows: Rows, engines: Engines) -> GradeDocuments:
    row = rows[name]
    assert isinstance(row, Encoder)
    return GradeByEncoder(files=fitted(name), sequence=row.sequence_length)


GRADERS: dict[str, Callable[[str, Rows, Engines], GradeDocuments]] = {
    "lexicon": lambda name, rows, engines: GradeByLexicon(lexicon=LEXICON),
    "llm": _llm,
    "ngrams": lambda name, rows, engines: GradeByNgrams(files=fitted(name)),
    "encoder": _embedding,
    "cascade": _cascade,
}


@dataclass(kw_only=True, eq=False, repr=False)
class SafetyScorer(Block):
    """Grade documents with several scorers and make one score of them, in one go: for corpora that
    `score` has not scored. ReadShards calls the hazard `score_hazard`, and so does this block."""

    name: ClassVar[str] = "scorers"
    graders: dict[str, GradeDocuments] = field(metadata={"key": False})
    rule: str
    of: dict[str, int]

    def declared(self) -> list[Any]:
        """Its own values and those of every scorer."""
        return [
            *super().declared(),
            {name: block.declared() for name, block in self.graders.items()},
        ]

    def begin(self, task: Task, attempt: Path) -> None:
        """Every scorer has the task too: a judge keeps its answers by it."""
        super().begin(task, attempt)
        for block in self.graders.values():
            block.begin(task, attempt)

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Every document, with a column for each scorer, the score and the hazard in its metadata."""
        size = max(block.batch for block in self.graders.values())
        for batch in batches(data or (), size):
            texts = [document.text for document in batch]
            columns = {name: block.grade(texts) for name, block in self.graders.items()}
            for place, document in enumerate(batch):
                grades = {name: grade_columns(column[place]) for name, column in columns.items()}
                found = combine_grades(grades, self.rule, self.of)
                document.metadata |= {**found, "score_hazard": found["hazard"]}
                self.stat_update(f"score {found['score']}")
                yield document


def safety_scorer(score: Any, rows: Rows, engines: Engines) -> SafetyScorer:
    """Build the scorer of the block `score` of params.yaml, with its ensemble."""
    columns, ensemble = graders(score.scorers, rows, engines), score.ensemble
    return SafetyScorer(graders=columns, rule=ensemble.rule, of=ensemble.thresholds)
