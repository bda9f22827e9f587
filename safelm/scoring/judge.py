"""The judges of `annotate`, by name, and the block that grades a sample with one (paper §1.1)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self

from datatrove.data import Document

import specs
from safelm.blocks import Block
from safelm.hazards import Grade, Hazards

LEXICON = Path(specs.__file__).parent / "hazards.yaml"


class Scorer(Protocol):
    """What grades texts from 0 to 5; the same texts always get the same grades, alone or in a batch."""

    def grade(self, texts: Sequence[str]) -> list[Grade]:
        """One grade for each text."""


class LexiconJudge:
    """The rule of safelm/hazards.py, in place of paper §1.1's language model (GPT-4o-mini). It needs no weights."""

    def __init__(self, hazards: Hazards) -> None:
        self.hazards = hazards

    @classmethod
    def read(cls, path: Path) -> Self:
        """From specs/hazards.yaml."""
        return cls(Hazards.read(path))

    def grade(self, texts: Sequence[str]) -> list[Grade]:
        """One grade for each text, with a reason."""
        return [self.hazards.grade(text) for text in texts]


JUDGES: dict[str, Callable[[Path], Scorer]] = {"lexicon": LexiconJudge.read}


@dataclass(kw_only=True, eq=False, repr=False)
class Annotate(Block):
    """Grade each document with a judge: its score, a short reason and, where one is named, the hazard.

    A label that the source itself gives stays beside the judge's score, so that the two can be compared.
    """

    name: ClassVar[str] = "judge"
    judge: str
    file: Path

    def each(self, document: Document) -> Iterator[Document]:
        """The document with score, reason and hazard in its metadata."""
        if not hasattr(self, "_judge"):
            self._judge = JUDGES[self.judge](self.file)
        (grade,) = self._judge.grade([document.text])
        document.metadata |= {"score": grade.score, "reason": grade.reason, "hazard": grade.hazard}
        self.stat_update(f"score {grade.score}")
        yield document
