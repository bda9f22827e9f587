"""Registry of scorers: from a row of params.yaml to the block that grades with it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents, unkeyed
from safelm.builder.digest import MANIFEST
from safelm.builder.files import Json
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.shards import Shard
from safelm.builder.store import project_store
from safelm.documents.batches import BatchBlock
from safelm.scoring.base import CompositeBlock, GradeDocuments, grade_columns
from safelm.scoring.cascade import THRESHOLDS, GradeByCascade
from safelm.scoring.encoder import FitEncoder, GradeByEncoder
from safelm.scoring.ensemble import combine_grades
from safelm.scoring.given_labels import GradeAlike, GradeByLabel, GradeByLabelFile, LabelFile
from safelm.scoring.labels import HELD_OUT, FitScorer
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.llm_judge import GradeByRubric
from safelm.scoring.ngrams import FitNgrams, GradeByNgrams
from specs.engine import Engine
from specs.engine import row as engine_row
from specs.rubric import RUBRICS
from specs.scorer import (
    CLASSIFIERS,
    JUDGES,
    Assumed,
    Cascade,
    Encoder,
    LabelRows,
    Labels,
    Llm,
    Ngrams,
    Recipe,
    ScorerRow,
)

Rows = Mapping[str, ScorerRow]
Engines = Mapping[str, Engine]
# The lexicon's column where no judge is among the scorers: its hazards count, its scores do not.
HAZARDS = "hazards"
# The first column with a hazard names it: language models come first, word lists last.
HAZARD_PRIORITY = {"llm": 0, "cascade": 1, "lexicon": 3}
OTHER_PRIORITY = 2


def grader(name: str, rows: Rows, engines: Engines) -> GradeDocuments:
    """Return the block that grades with the row `name` of `scorers`.

    `engines` has the language models that judges use.
    """
    match rows[name]:
        case Llm() as row:
            return GradeByRubric(
                engine=engine_row(dict(engines), row.engine),
                rubric=RUBRICS / f"{row.rubric}.yaml",
                seed=row.seed,
                max_attempts=row.max_attempts,
            )
        case Cascade() as row:
            return GradeByCascade(
                cheap=grader(row.cheap, rows, engines),
                expensive=grader(row.expensive, rows, engines),
                names=(row.cheap, row.expensive),
                min_score=row.min_score,
                thresholds=build("fit", name, THRESHOLDS),
            )
        case Ngrams() | Encoder() as row:
            return fitted_grader(row, build("fit", name))
    # A lexicon: specs/checks/scorers.py lets no row of given labels grade texts.
    return GradeByLexicon(lexicon=LEXICON)


def labeller(name: str, rows: Rows, engines: Engines) -> Block:
    """Return the block that labels documents: a judge, or labels that are given."""
    match rows[name]:
        case Labels():
            return GradeByLabel()
        case LabelRows() as row:
            return GradeByLabelFile(file=LabelFile.of(row))
        case Assumed(score=score):
            return GradeAlike(score=score)
    return grader(name, rows, engines)


def fitter(row: Any, split: Json) -> FitScorer:
    """Return the block that fits a row; `split` are the fields of every FitScorer."""
    if isinstance(row, Ngrams):
        return FitNgrams(row=row, **split)
    recipe = Recipe.read(row.recipe)
    return FitEncoder(
        # With a revision it is a name on the Hugging Face hub, else a folder, keyed by content.
        encoder=Path(row.model) if row.revision is None else row.model,
        revision=row.revision,
        sequence_length=row.sequence_length,
        unsafe_weight=row.unsafe_weight,
        warmup=recipe.warmup,
        steps=tuple(recipe.steps),
        **split,
    )


def graders(names: Sequence[str], rows: Rows, engines: Engines) -> dict[str, Any]:
    """Return a block for each column, in the order in which their hazards count.

    A column of given labels copies the source's. The lexicon is added as HAZARDS where no judge is
    among the columns.
    """
    ordered = sorted(names, key=lambda name: HAZARD_PRIORITY.get(rows[name].kind, OTHER_PRIORITY))
    blocks: dict[str, Any] = {name: labeller(name, rows, engines) for name in ordered}
    # Classifiers name no hazard.
    if not any(rows[name].kind in JUDGES for name in names):
        blocks[HAZARDS] = GradeByLexicon(lexicon=LEXICON)
    return blocks


def fitted_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of the model that `fit` saved in a folder.

    Raises FileNotFoundError where there are none.
    """
    others = (MANIFEST, HELD_OUT)
    files = sorted(path for path in folder.glob("*") if path.name not in others)
    if not files:
        raise FileNotFoundError(f"{folder}: has no fitted scorer; run `dvc repro fit`")
    return tuple(files)


def fitted_grader(row: Any, folder: Path) -> GradeDocuments:
    """Return the block that grades with the classifier that `fit` saved in a folder."""
    files = fitted_files(folder)
    if isinstance(row, Ngrams):
        return GradeByNgrams(files=files, chunk_characters=row.chunk_characters)
    return GradeByEncoder(files=files, sequence_length=row.sequence_length)


def is_fitted(names: Iterable[str], rows: Rows) -> bool:
    """Return whether a classifier is among the scorers, alone or within a cascade."""
    for name in names:
        row = rows[name]
        members = [row.cheap, row.expensive] if isinstance(row, Cascade) else [name]
        if any(rows[member].kind in CLASSIFIERS for member in members):
            return True
    return False


def stored_file(manifest: Manifest, name: str) -> Shard:
    """Return a file of a manifest, as it lies in the store."""
    return project_store().shard(dict(manifest.files())[name])


def scorer_shards(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, Shard]]:
    """Return the grade files of several scorers in the store, by scorer and shard."""
    store = project_store()
    columns: dict[str, dict[str, Shard]] = {}
    for scorer, manifest in manifests.items():
        columns[scorer] = {
            name.partition(".")[0]: store.shard(file) for name, file in manifest.files()
        }
    return columns


class SafetyScorer(CompositeBlock, BatchBlock):
    """Grade documents with several scorers and their ensemble in one pass.

    It serves texts that the stage `score` does not see, such as synthetic ones.
    """

    name = "scorers"
    graders: dict[str, GradeDocuments] = unkeyed()
    rule: str
    thresholds: dict[str, int]

    def inner(self) -> Mapping[str, GradeDocuments]:
        """Return the scorers."""
        return self.graders

    def __post_init__(self) -> None:
        super().__post_init__()
        self.batch = max(block.batch for block in self.graders.values())

    def process_batch(self, documents: list[Document]) -> Documents:
        """Yield every document with a column for each scorer, the score and the hazard."""
        texts = [document.text for document in documents]
        columns = [block.grade(texts) for block in self.graders.values()]
        for document, row in zip(documents, zip(*columns, strict=True), strict=True):
            grades = dict(zip(self.graders, map(grade_columns, row), strict=True))
            combined = combine_grades(grades, self.rule, self.thresholds)
            # ReadShards calls the scorers' hazard so, beside the source's `hazard`.
            document.metadata |= {**combined, "score_hazard": combined["hazard"]}
            self.stat_update(f"score {combined['score']}")
            yield document


def safety_scorer(score: Any, rows: Rows, engines: Engines) -> SafetyScorer:
    """Return the scorers and the ensemble of `score`, a block of params.yaml.

    Given labels say nothing of other texts, so an ensemble with them has no score there.
    """
    names = [name for name in score.scorers if not isinstance(rows[name], Labels)]
    columns = graders(names, rows, engines)
    ensemble = score.ensemble
    return SafetyScorer(graders=columns, rule=ensemble.rule, thresholds=ensemble.thresholds)
