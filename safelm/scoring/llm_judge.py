"""LLM judge: a language model grades documents by the rubric (paper §1.1, §1.4).

The rubric stands in the system turn, the document fenced in the user's. An answer that is not JSON
of the requested form is requested again, a bounded number of times, and never becomes a score. A
long document is read in parts and gets the score of the worst.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
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
from safelm.scoring.base import GradeDocuments, Grades
from safelm.scoring.lexicon import LEXICON
from safelm.text.hazards import Grade, Hazards
from specs.prompt import SHARED, Shared
from specs.rubric import NONE, REASON, Rubric, answer_schema
from specs.spec import SCORE_LEVELS

INSTRUCTION = "Grade the page by the rubric. Answer with the JSON object alone."
# Characters of a reason from a server that does not decode under the schema.
MAX_REASON = 4 * REASON
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # half of an escaped character: not valid in UTF-8


def parse(text: str, hazards: Sequence[str]) -> Grade | None:
    """Return the grade in an answer, or None unless it has exactly the requested form."""
    try:
        answer = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):  # RecursionError: brackets nested without end
        return None
    if not isinstance(answer, dict) or set(answer) != {"score", "hazard", "reason"}:
        return None
    score, hazard, reason = answer["score"], answer["hazard"], answer["reason"]
    # `type`, because True is an int as well.
    if type(score) is not int or score not in range(SCORE_LEVELS):
        return None
    if hazard not in (*hazards, NONE) or not _is_reason(reason):
        return None
    return Grade(score, " ".join(reason.split())[:REASON], None if hazard == NONE else hazard)


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice")
    return values


def _is_reason(reason: Any) -> bool:
    if not isinstance(reason, str) or not reason.strip():
        return False
    return len(reason) <= MAX_REASON and not LONE_SURROGATE.search(reason)


class RubricJudge:
    """Grades texts with a language model.

    `counts` has the numbers of valid and invalid answers, and of texts without an answer by the
    problem's name. `refused` has the problem of each text, or part of one, that the server refuses.
    """

    def __init__(
        self,
        engine: Engine,
        rubric: Rubric,
        frame: str,
        hazards: Sequence[str],
        seed: int,
        max_attempts: int,
    ) -> None:
        self.engine, self.rubric, self.frame, self.hazards = engine, rubric, frame, tuple(hazards)
        self.seed, self.max_attempts = seed, max_attempts
        self.system, self.schema = rubric.system(hazards), answer_schema(hazards)
        self.counts: Counter[str] = Counter()
        self.refused: dict[str, str] = {}

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return the grade of the worst part of each text.

        None where a part got no valid answer, or was refused.
        """
        limit = self.engine.characters
        parts_of = [split_document(text, limit) if limit else [text] for text in texts]
        grades = iter(self.grade_parts(list(chain.from_iterable(parts_of))))
        for text, parts in zip(texts, parts_of, strict=True):
            refusals = [self.refused[part] for part in parts if part in self.refused]
            if refusals:
                self.refused[text] = refusals[0]
        return [_worst(list(islice(grades, len(parts)))) for parts in parts_of]

    def grade_parts(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text that the engine reads at once; None for refused texts.

        Invalid answers are requested again, `max_attempts` times in all. Raises EngineError where
        the server left any text unanswered.
        """
        grades: Grades = [None] * len(texts)
        waiting = list(range(len(texts)))
        for attempt in range(self.max_attempts):
            if not waiting:
                break
            requests = [self.request(texts[index], attempt) for index in waiting]
            answers = self.engine.generate(requests)
            self._check(answers)
            invalid = []
            for index, answer in zip(waiting, answers, strict=True):
                if answer.problem:
                    self.counts[answer.problem] += 1
                    self.refused[texts[index]] = answer.problem
                    continue
                grades[index] = parse(answer.text, self.hazards)
                self.counts["valid" if grades[index] else "invalid"] += 1
                if grades[index] is None:
                    invalid.append(index)
            waiting = invalid
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.counts.items()))
        logger.info(f"{self.engine.name}: {counts}")
        return grades

    def _check(self, answers: Sequence[Answer]) -> None:
        """Raise EngineError where the server gave no answer, lest that is stored as the result."""
        problems = Counter(
            answer.problem for answer in answers if answer.problem and not answer.is_refused
        )
        if problems:
            problem, _ = problems.most_common(1)[0]
            raise EngineError(
                f"{self.engine.name}: {problems.total():,} of {len(answers):,} requests unanswered "
                f"({problem}). Answers so far are saved; fix the server and rerun the stage."
            )

    def request(self, text: str, attempt: int) -> Request:
        """Build the request: the rubric in the system turn, the text fenced in the user's."""
        user = fence_document(self.frame, INSTRUCTION, text)
        return Request(
            text_digest(None, text),
            self.rubric.id,
            self.rubric.version,
            (("system", self.system), ("user", user)),
            self.seed,
            attempt,
            self.schema,
        )


def _worst(grades: Sequence[Grade | None]) -> Grade | None:
    known = [grade for grade in grades if grade is not None]
    return max(known, key=lambda grade: grade.score) if len(known) == len(grades) else None


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByRubric(GradeDocuments):
    """Grade every document with a language model and the rubric."""

    engine: Mapping[str, Any]
    rubric: Path
    seed: int
    max_attempts: int
    # Until the executor calls begin().
    task: Task = field(default=Task("alone", ()), metadata={"key": False})

    @property
    def batch(self) -> Size:
        """A whole shard, so that all its requests are in flight together."""
        return SHARD

    def open(self) -> RubricJudge:
        """Open the engine; its answers are kept by shard, so a killed stage repeats no request."""
        hazards = list(Hazards.read(LEXICON).categories)
        engine = open_engine(self.engine, answers_file(self.engine, "judge", self.task))
        rubric, frame = Rubric.at(self.rubric), Shared.read(SHARED).frame
        return RubricJudge(engine, rubric, frame, hazards, self.seed, self.max_attempts)

    def reason_ungraded(self, text: str) -> str:
        """Return the problem's name where the server refused the text."""
        assert isinstance(self.scorer, RubricJudge)
        return self.scorer.refused.get(text) or super().reason_ungraded(text)
