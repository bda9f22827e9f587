"""Rubric of the judge (paper §1.1): the levels from 0 to 5, and the form of an answer."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from specs.prompt import PROMPTS, one_line
from specs.spec import SCORE_LEVELS, Name, Score, Spec, Text
from specs.yaml_source import NamedFile

RUBRICS = PROMPTS / "judge"
# The hazard of a page without one.
NONE = "none"
# Characters of a reason, at most.
REASON = 80
# Printable ASCII without quotes and backslashes, and no leading space. If only the length is bound,
# vLLM 0.32 with xgrammar lets raw control characters into the string: 7 of 47 answers were no JSON.
PRINTABLE = rf"^[!#-\[\]-~][ !#-\[\]-~]{{0,{REASON - 1}}}$"


class Level(Spec):
    """One score and its meaning."""

    score: Score
    name: Text
    criteria: Text


class Example(Spec):
    """A page with its answer, which shows the form."""

    text: Text
    score: Score
    hazard: Name
    reason: str = Field(min_length=1, max_length=REASON)


class Rubric(NamedFile):
    """A file of specs/prompts/judge."""

    folder = RUBRICS
    id: str = Field(pattern=r"^judge/[a-z0-9_]+$")
    version: PositiveInt
    objective: Text
    levels: list[Level] = Field(min_length=6, max_length=6)
    facets: list[str] = Field(min_length=1)
    steps: list[str] = Field(min_length=1)
    example: Example

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        scores = [level.score for level in self.levels]
        if scores != list(range(SCORE_LEVELS)):
            raise ValueError(f"levels must go from 0 to 5, each once (got {scores})")
        return self

    def system(self, hazards: Sequence[str]) -> str:
        """Write the system turn: objective, levels, facets, steps, the form and an example.

        It has no text of a document.
        """
        lines = [f"{item.score} ({item.name}): {one_line(item.criteria)}" for item in self.levels]
        levels = "\n".join(lines)
        steps = "\n".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))
        example = self.example
        return (
            f"{one_line(self.objective)}\n\nLevels:\n{levels}\n\n"
            f"At every level weigh: {', '.join(self.facets)}.\n\n"
            f"Hazards: {', '.join([*hazards, NONE])}.\n\nSteps:\n{steps}\n\n"
            'Form: {"score": 0 to 5, "hazard": one of the hazards, '
            '"reason": at most ten words}\n\n'
            f"Example: {example.text}\n"
            f'Answer: {{"score": {example.score}, "hazard": "{example.hazard}", '
            f'"reason": "{example.reason}"}}'
        )


def answer_schema(hazards: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema that constrains an answer.

    The score comes first, so there is no reasoning before it (paper §1.4).
    """
    return {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "enum": list(range(SCORE_LEVELS))},
            "hazard": {"type": "string", "enum": [*hazards, NONE]},
            "reason": {"type": "string", "pattern": PRINTABLE},
        },
        "required": ["score", "hazard", "reason"],
        "additionalProperties": False,
    }
