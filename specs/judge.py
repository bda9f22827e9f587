"""Judges of completions: the rows of evaluate.judges, and the files of specs/judges.

Suites name the rows, so judges are chosen in one place. A row of kind llm names a file: what a
language model reads, and how its reply becomes a verdict.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from specs import SPECS
from specs.spec import Name, Score, Seed, Spec, Text
from specs.yaml_source import NamedFile

JUDGES = SPECS / "judges"
# The key of the JSON object that is a reply of kind json.
KEY = "verdict"
# {fence} is a line that neither text contains.
SLOT = re.compile(r"\{(request|answer|fence)\}")
GRADES = [1, 2, 3, 4, 5]  # as in StrongREJECT (Souly et al. 2024, arXiv 2402.10260)

Outcome = Literal["harmful", "not_harmful", "complied", "neither", "partial_refusal", "refusal"]
# The outcomes of each kind of request.
OUTCOMES = {
    "harmful": {"harmful", "not_harmful", "refusal", "neither"},
    "harmless": {"complied", "neither", "partial_refusal", "refusal"},
}
MinScore = Annotated[
    float, Field(gt=0, le=1, description="the lowest score, from 0 to 1, that is harmful")
]


class DemoJudge(Spec):
    """The rule of the demo world, which knows the act of each prompt; only for its own suites."""

    kind: Literal["demo"]


class RefusalPhrasesJudge(Spec):
    """Phrases that decline, a detector of refusals; a completion without one has complied."""

    kind: Literal["refusal_phrases"]


class ScorerJudge(Spec):
    """A fitted scorer, for harmful suites: a score of at least `min_score` is harmful."""

    kind: Literal["scorer"]
    scorer: Name = Field(description="a row of scorers")
    min_score: Score = Field(description="the lowest score that is harmful")


class LlmJudge(Spec):
    """A language model. If it is down, the stage fails; no other judge takes its place."""

    kind: Literal["llm"]
    engine: Name = Field(description="a row of engines that is a language model")
    prompt: Name = Field(description="a file of specs/judges, which says what it may judge")
    max_attempts: PositiveInt = Field(
        description="attempts at a verdict of the form that the file requires"
    )
    seed: Seed


JudgeRow = Annotated[
    DemoJudge | RefusalPhrasesJudge | ScorerJudge | LlmJudge, Field(discriminator="kind")
]


class Turn(Spec):
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Text

    @model_validator(mode="after")
    def _data_is_no_instruction(self) -> Self:
        if self.role == "system" and SLOT.search(self.content):
            raise ValueError("content of a system turn must hold no slot: it is not for data")
        return self


class Chat(Spec):
    """Messages, to which the server applies the chat template of the model's tokenizer."""

    kind: Literal["chat"]
    turns: list[Turn] = Field(min_length=1)


class Completion(Spec):
    """One text that the model continues, with the control tokens of its format written out."""

    kind: Literal["completion"]
    text: Text
    adds_special_tokens: bool = Field(
        description="whether the tokenizer puts its own first token before the text"
    )


class Choice(Spec):
    """A verdict and the outcome that it stands for.

    The phrases that decline turn not_harmful into refusal or neither.
    """

    verdict: Text = Field(
        description="kind text: a regular expression found in the reply, without regard to case; "
        "kind json: the value"
    )
    outcome: Outcome

    @field_validator("verdict")
    @classmethod
    def _is_a_pattern(cls, verdict: str) -> str:
        try:
            re.compile(verdict)
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error} (got {verdict})") from error
        return verdict


class Choices(Spec):
    """A verdict in words: lines of a text, or the value of a JSON object. The first that fits."""

    kind: Literal["text", "json"]
    harmful: list[Choice] = Field(description="for harmful requests; [] if it cannot judge them")
    harmless: list[Choice] = Field(description="for other requests; [] if it cannot judge them")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        for kind in OUTCOMES:
            for choice in getattr(self, kind):
                if choice.outcome not in OUTCOMES[kind]:
                    raise ValueError(
                        f"a judge of {kind} requests cannot give the outcome {choice.outcome}; "
                        "leave it out"
                    )
        return self


class TokenScores(Spec):
    """A score from 0 to 1: the mean of `scores`, weighted by the probabilities of the tokens.

    They are those of the first token that is not blank. Only words of `scores` count, without
    regard to case and spaces.
    """

    kind: Literal["tokens"]
    scores: dict[str, float] = Field(min_length=2)
    min_score: MinScore


class Grades(Spec):
    """A score from 0 to 1: the mean of grades from 1 to 5, and 0 where the answer declines."""

    kind: Literal["grades"]
    declines: Name = Field(description="the key that is 1 if the answer declines, 0 otherwise")
    grades: list[Name] = Field(min_length=1, description="keys of grades from 1 to 5")
    min_score: MinScore


class JudgePrompt(NamedFile):
    """A file of specs/judges (paper §8.1). Changed words need a new version."""

    folder = JUDGES
    id: str = Field(
        pattern=r"^judges/[a-z0-9_]+$", description="judges/<name>, as the file is called"
    )
    version: PositiveInt
    model: Text = Field(description="the model whose format it is")
    license: Text = Field(description="of that model; what its users must agree to")
    template: Annotated[Chat | Completion, Field(discriminator="kind")]
    reads: Annotated[Choices | TokenScores | Grades, Field(discriminator="kind")]

    @field_validator("template")
    @classmethod
    def _has_both_texts(cls, template: Chat | Completion) -> Chat | Completion:
        slots = set(SLOT.findall(text_of(template)))
        if not {"request", "answer"} <= slots:
            raise ValueError("must have the slots {request} and {answer}")
        return template

    @property
    def kinds(self) -> list[str]:
        """The kinds of requests whose completions it judges: harmful, harmless or both."""
        if isinstance(self.reads, Choices):
            return [kind for kind in OUTCOMES if getattr(self.reads, kind)]
        return ["harmful"]

    def answer_schema(self, kind: str) -> dict[str, Any] | None:
        """Return the JSON schema that constrains a reply; None for one that is no JSON."""
        match self.reads:
            case Choices(kind="json") as choices:
                verdicts = [choice.verdict for choice in getattr(choices, kind)]
                values: dict[str, Any] = {KEY: {"type": "string", "enum": verdicts}}
            case Grades(declines=declines, grades=grades):
                values = {declines: {"type": "integer", "enum": [0, 1]}}
                values |= {name: {"type": "integer", "enum": GRADES} for name in grades}
            case _:
                return None
        return {
            "type": "object",
            "properties": values,
            "required": list(values),
            "additionalProperties": False,
        }


def text_of(template: Chat | Completion) -> str:
    """Return all text of a template."""
    if isinstance(template, Completion):
        return template.text
    return "\n".join(turn.content for turn in template.turns)
