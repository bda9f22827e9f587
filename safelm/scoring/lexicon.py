"""Lexicon judge: word lists that stand in for the language model of paper §1.1 in the demo."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import specs
from safelm.scoring.base import GradeDocuments, Grades
from safelm.text.hazards import Hazards

LEXICON = Path(specs.__file__).parent / "hazards.yaml"


class LexiconJudge(NamedTuple):
    """Grades texts by the rules of safelm/text/hazards.py."""

    hazards: Hazards

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text; no text is left without one."""
        return [self.hazards.grade(text) for text in texts]


class GradeByLexicon(GradeDocuments):
    """Grade every document by the word lists of a file."""

    lexicon: Path

    def open(self) -> LexiconJudge:
        """Read the word lists."""
        return LexiconJudge(Hazards.read(self.lexicon))
