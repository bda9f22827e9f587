"""The scorers, by name, and the block that grades documents with all of them and makes one score of their columns."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datatrove.data import Document

from safelm.batches import batches
from safelm.blocks import Block
from safelm.hazards import Grade
from safelm.paths import build
from safelm.scoring.ensemble import ensemble
from safelm.scoring.judge import LEXICON, LexiconJudge, Scorer
from safelm.scoring.ngrams import NgramScorer

SCORERS: dict[str, Callable[[Path], Scorer]] = {"judge": LexiconJudge.read, "ngrams": NgramScorer.read}


def scorer_files() -> dict[str, Path]:
    """What each scorer of the table reads: the lexicon, and the classifier that `fit` made."""
    return {"judge": LEXICON, "ngrams": build("fit", "ngrams")}


@dataclass(kw_only=True, eq=False, repr=False)
class SafetyScorer(Block):
    """Grade documents with every scorer, side by side, and by the ensemble rule over the named ones (paper §1.5).

    `hazard` is that of the first scorer, in the order of the table, that names one. Paper §1.3 takes the maximum over
    chunks of a document because its encoders read a few hundred tokens; these scorers read the whole document.
    """

    name: ClassVar[str] = "scorer"
    files: dict[str, Path]
    scorers: tuple[str, ...]
    ensemble: str

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Every document, with a column for each scorer, the score and the hazard in its metadata."""
        scorers = {name: SCORERS[name](path) for name, path in self.files.items()}
        for batch in batches(data or ()):
            texts = [document.text for document in batch]
            grades = [scorer.grade(texts) for scorer in scorers.values()]
            for document, row in zip(batch, zip(*grades, strict=True), strict=True):
                document.metadata |= self.columns(dict(zip(scorers, row, strict=True)))
                self.stat_update(f"score {document.metadata['score']}")
                yield document

    def columns(self, grades: dict[str, Grade]) -> dict[str, int | str | None]:
        """The columns of specs/document.py SCORES for one document. ReadShards calls the hazard `score_hazard`."""
        hazard = next((grade.hazard for grade in grades.values() if grade.hazard), None)
        score = ensemble(self.ensemble, [grades[name].score for name in self.scorers])
        columns = {name: grade.score for name, grade in grades.items()}
        return {**columns, "score": score, "hazard": hazard, "score_hazard": hazard}
