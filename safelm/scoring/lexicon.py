"""Lexicon judge: word lists that stand in for the language model of paper §1.1 in the demo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import specs
from safelm.scoring.base import GradeDocuments, Grades
from safelm.text.hazards import Hazards

LEXICON = Path(specs.__file__).parent / "hazards.yaml"


class LexiconJudge:
    """Grades texts by the rules of safelm/text/hazards.py."""

    def __init__(self, hazards: Hazards) -> None:
        self.hazards = hazards

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the word lists of a file such as specs/hazards.yaml."""
        return cls(Hazards.read(path))

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text; no text is left without one."""
        return [self.hazards.grade(text) for text in texts]


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByLexicon(GradeDocuments):
    """Grade every document by the word lists of a file."""

    lexicon: Path

    def open(self) -> LexiconJudge:
        """Read the word lists."""
        return LexiconJudge.read(self.lexicon)
