"""LLM judge: a language model grades documents by the rubric (paper §1.1, §1.4).

The rubric is the system message; the document is fenced in the user's message. An answer that is
not the requested JSON is requested again, up to a limit, and never becomes a score. A long document
is graded in parts, and gets the highest score of them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from safelm.builder.blocks import Task, unkeyed
from safelm.documents.batches import SHARD
from safelm.documents.shards import text_digest
from safelm.llm import (
    Engine,
    Request,
    answers_file,
    ask,
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
from specs.yaml_source import validate

INSTRUCTION = "Grade the page by the rubric. Answer with the JSON object alone."
# In characters. A server that does not decode under the schema may exceed REASON a little.
MAX_REASON = 4 * REASON
# Half of an escaped character, such as "\\ud800" in JSON: it cannot be written as UTF-8.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(text: str, hazards: Sequence[str]) -> Grade | None:
    """Return the grade in an answer; None unless the answer has exactly the requested form."""
    # No repair and no default: paper §1.4 saw 25 % malformed JSON, and none of it may become a 0.
    try:
        answer = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None
    if not isinstance(answer, dict) or set(answer) != {"score", "hazard", "reason"}:
        return None
    score = answer["score"]
    hazard = answer["hazard"]
    reason = answer["reason"]
    # Not isinstance(), which accepts True as well.
    if type(score) is not int or score not in range(SCORE_LEVELS):
        return None
    if hazard not in (*hazards, NONE) or not _is_reason(reason):
        return None
    short_reason = " ".join(reason.split())[:REASON]
    return Grade(score, short_reason, None if hazard == NONE else hazard)


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    # Python would keep the last of equal keys without a word.
    if len(values) < len(pairs):
        raise ValueError("duplicate key")
    return values


def _is_reason(reason: Any) -> bool:
    if not isinstance(reason, str) or not reason.strip():
        return False
    return len(reason) <= MAX_REASON and not LONE_SURROGATE.search(reason)


@dataclass
class RubricJudge:
    """Grades texts with a language model and the rubric.

    `refused` holds the problem of each text, or part of a text, that the server refuses.
    """

    engine: Engine
    rubric: Rubric
    frame: str
    hazards: tuple[str, ...]
    seed: int
    max_attempts: int

    def __post_init__(self) -> None:
        self.system = self.rubric.system(self.hazards)
        self.schema = answer_schema(self.hazards)
        self.refused: dict[str, str] = {}

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return the highest grade of each text's parts.

        A text is None where a part got no valid answer or was refused.
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
        """Return one grade for each text that fits a request; None where none was given.

        Every text is requested at most `max_attempts` times.
        """
        found, refused = ask(
            self.engine,
            range(len(texts)),
            lambda index, attempt: self.request(texts[index], attempt),
            lambda _, answer: parse(answer, self.hazards),
            self.max_attempts,
        )
        self.refused |= {texts[index]: problem for index, problem in refused.items()}
        return [found.get(index) for index in range(len(texts))]

    def request(self, text: str, attempt: int) -> Request:
        """Build the request for one text."""
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
    # A part without a grade may be the worst.
    if len(known) < len(grades):
        return None
    return max(known, key=lambda grade: grade.score)


class GradeByRubric(GradeDocuments):
    """Grade every document with a language model and the rubric."""

    batch = SHARD  # so that the server gets all its requests together
    engine: Mapping[str, Any]
    rubric: Path
    seed: int
    max_attempts: int
    # Replaced when the executor calls begin().
    task: Task = unkeyed(default=Task("alone", ()))

    def open(self) -> RubricJudge:
        """Open the engine."""
        # Answers are stored by shard, so a stage that was killed repeats no request.
        hazards = tuple(Hazards.read(LEXICON).categories)
        engine = open_engine(self.engine, answers_file(self.engine, "judge", self.task))
        rubric = validate(Rubric, self.rubric)
        frame = Shared.read(SHARED).frame
        return RubricJudge(engine, rubric, frame, hazards, self.seed, self.max_attempts)

    def reason_ungraded(self, text: str) -> str:
        """Return the problem where the server refused the text, else UNGRADED."""
        assert isinstance(self.scorer, RubricJudge)
        return self.scorer.refused.get(text) or super().reason_ungraded(text)
