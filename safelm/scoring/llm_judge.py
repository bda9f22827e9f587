"""A language model as the judge (paper §1.1, §1.4): the rubric in the system turn, the document
fenced in the user's.

An answer is valid or it is not: what is no JSON of the asked form is asked for again a bounded
number of times, counted, and never becomes a score. A long document is read in pieces and has the
score of the worst."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from safelm.builder.blocks import Task
from safelm.documents.batches import SHARD, Size
from safelm.documents.shards import text_digest
from safelm.llm import (
    Answer,
    Engine,
    EngineError,
    Request,
    answers_file,
    fence_document,
    open_engine,
    split_document,
)
from safelm.scoring.base import GradeDocuments
from safelm.scoring.lexicon import LEXICON
from safelm.text.hazards import Grade, Hazards
from specs.prompt import SHARED, Shared
from specs.rubric import NONE, REASON, Rubric, answer_schema
from specs.spec import SCORE_LEVELS

INSTRUCTION = "Grade the page by the rubric. Answer with the JSON object alone."
LONGEST = 4 * REASON  # of a reason from a server that does not decode under the schema
HALF = re.compile("[\ud800-\udfff]")  # half of an escaped character, which no file can hold


def parse(text: str, hazards: Sequence[str]) -> Grade | None:
    """The grade in an answer, or None where it is not exactly what was asked for."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):  # the latter of brackets in brackets without end
        return None
    if not isinstance(found, dict) or set(found) != {"score", "hazard", "reason"}:
        return None
    score, hazard, reason = found["score"], found["hazard"], found["reason"]
    if type(score) is not int or score not in range(SCORE_LEVELS) or hazard not in (*hazards, NONE):
        return None
    if (
        not isinstance(reason, str)
        or not reason.strip()
        or len(reason) > LONGEST
        or HALF.search(reason)
    ):
        return None
    return Grade(score, " ".join(reason.split())[:REASON], None if hazard == NONE else hazard)


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


class RubricJudge:
    """Grades by asking an engine. `counts` has its valid and invalid answers, and by name those
    that it did not give.

    `refused` has the reason for each text, or piece of one, that a server will not answer questions
    on."""

    def __init__(
        self,
        engine: Engine,
        rubric: Rubric,
        frame: str,
        hazards: Sequence[str],
        seed: int,
        tries: int,
    ) -> None:
        self.engine, self.rubric, self.frame, self.hazards = engine, rubric, frame, tuple(hazards)
        self.seed, self.tries = seed, tries
        self.system, self.schema = rubric.system(hazards), answer_schema(hazards)
        self.counts: Counter[str] = Counter()
        self.refused: dict[str, str] = {}

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """The worst piece of each text; None where a piece got no valid answer, or was refused."""
        limit = self.engine.characters
        parts = [split_document(text, limit) if limit else [text] for text in texts]
        found = iter(self.generate([piece for pieces_of in parts for piece in pieces_of]))
        for text, pieces_of in zip(texts, parts, strict=True):
            if reasons := [self.refused[piece] for piece in pieces_of if piece in self.refused]:
                self.refused[text] = reasons[0]
        return [_worst([next(found) for _ in pieces_of]) for pieces_of in parts]

    def generate(self, texts: Sequence[str]) -> list[Grade | None]:
        """One grade for each text that an engine reads at once; invalid answers are asked for
        again.

        What the server refuses has no grade. Raises EngineError where it left any text unanswered.
        """
        grades: list[Grade | None] = [None] * len(texts)
        waiting = list(range(len(texts)))
        for attempt in range(self.tries):
            answers = (
                self.engine.generate([self.request(texts[place], attempt) for place in waiting])
                if waiting
                else []
            )
            self._check(answers)
            invalid = []
            for place, answer in zip(waiting, answers, strict=True):
                grades[place] = None if answer.problem else parse(answer.text, self.hazards)
                self.counts[answer.problem or ("valid" if grades[place] else "invalid")] += 1
                if answer.problem:
                    self.refused[texts[place]] = answer.problem
                elif grades[place] is None:
                    invalid.append(place)
            waiting = invalid
        logger.info(
            f"{self.engine.name}: {', '.join(f'{count:,} {kind}' for kind, count in sorted(self.counts.items()))}"
        )
        return grades

    def _check(self, answers: Sequence[Answer]) -> None:
        """Raises EngineError where the server left pages without any answer: such a null must not
        be kept as theirs.
        """
        down = Counter(
            answer.problem for answer in answers if answer.problem and not answer.is_refused
        )
        if down:
            problem, _ = down.most_common(1)[0]
            raise EngineError(
                f"{self.engine.name}: {down.total():,} of {len(answers):,} questions on pages unanswered ({problem}); "
                "answers are kept: mend the server and run the stage again"
            )

    def request(self, text: str, attempt: int) -> Request:
        """The rubric in the system turn, and the text as data."""
        messages = (
            ("system", self.system),
            ("user", fence_document(self.frame, INSTRUCTION, text)),
        )
        return Request(
            text_digest(None, text),
            self.rubric.id,
            self.rubric.version,
            messages,
            self.seed,
            attempt,
            self.schema,
        )


def _worst(grades: Sequence[Grade | None]) -> Grade | None:
    known = [grade for grade in grades if grade is not None]
    return max(known, key=lambda grade: grade.score) if len(known) == len(grades) else None


def judge(row: Mapping[str, Any], rubric: Path, seed: int, tries: int, task: Task) -> RubricJudge:
    """The judge of an engine's row. Answers are kept by shard, so that a stage that was killed asks
    nothing twice.
    """
    hazards = list(Hazards.read(LEXICON).categories)
    engine = open_engine(row, answers_file(row, "judge", task))
    return RubricJudge(engine, Rubric.at(rubric), Shared.read(SHARED).frame, hazards, seed, tries)


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByRubric(GradeDocuments):
    """Grade every document by a language model with the rubric."""

    engine: Mapping[str, Any]
    rubric: Path
    seed: int
    tries: int
    task: Task = field(
        default=Task("alone", ()), metadata={"key": False}
    )  # until the executor gives one

    @property
    def batch(self) -> Size:
        """A shard: its questions are all in flight together."""
        return SHARD

    def open(self) -> RubricJudge:
        """The engine of the row."""
        return judge(self.engine, self.rubric, self.seed, self.tries, self.task)

    def why(self, text: str) -> str:
        """The name of the refusal, where it was one."""
        assert isinstance(self.scorer, RubricJudge)
        return self.scorer.refused.get(text) or super().why(text)
