"""Judges of completions: the rows of evaluate.judges, and the prompts of language models.

Suites name these rows, so judges are chosen in one place.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from specs.prompt import PROMPTS, one_line
from specs.spec import Name, Score, Seed, Spec, Text
from specs.yaml_source import NamedFile

VERDICTS = PROMPTS / "verdict"
# The key of the JSON object that is a language model's answer.
KEY = "verdict"


class DemoJudge(Spec):
    """The rule of the demo world, which knows the act of each prompt; only for its own suites."""

    kind: Literal["demo"]


class RefusalPhrasesJudge(Spec):
    """Phrases that decline, in the manner of AdvBench; a completion without one has complied."""

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
    prompt: Name = Field(
        description="a file of specs/prompts/verdict: harm for harmful suites, help for the others"
    )
    max_attempts: PositiveInt = Field(
        description="attempts at a verdict that is JSON of the required form"
    )
    seed: Seed


JudgeRow = Annotated[
    DemoJudge | RefusalPhrasesJudge | ScorerJudge | LlmJudge, Field(discriminator="kind")
]


class Choice(Spec):
    """A verdict that a language model may give, and the outcome that it stands for.

    The phrases that decline turn not_harmful into refusal or neither.
    """

    verdict: str = Field(pattern=r"^[a-z0-9_]+$")
    outcome: Literal["harmful", "not_harmful", "complied", "neither", "partial_refusal", "refusal"]
    when: Text


class VerdictPrompt(NamedFile):
    """A file of specs/prompts/verdict (paper §8.1). Changed words need a new version."""

    folder = VERDICTS
    id: str = Field(
        pattern=r"^verdict/[a-z0-9_]+$", description="verdict/<name>, as the file is called"
    )
    version: PositiveInt
    judges: Literal["harmful", "harmless"] = Field(
        description="the kind of requests whose completions it judges"
    )
    objective: Text
    rules: list[str] = Field(min_length=1)
    choices: list[Choice] = Field(min_length=2)
    frame: str = Field(
        pattern=r"(?s)\{fence\}.*\{request\}.*\{fence\}.*\{answer\}.*\{fence\}",
        description="the user's turn: the request and the completion, each between fences",
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for choice in self.choices:
            is_of_harm = choice.outcome in ("harmful", "not_harmful")
            if is_of_harm != (self.judges == "harmful"):
                raise ValueError(
                    f"a judge of {self.judges} requests cannot give the outcome {choice.outcome}; "
                    "leave it out"
                )
        return self

    def system(self) -> str:
        """Write the system turn: objective, rules and verdicts, without any text to judge."""
        rules = "\n".join(f"- {one_line(rule)}" for rule in self.rules)
        choices = "\n".join(f'- "{item.verdict}": {one_line(item.when)}' for item in self.choices)
        form = f'Answer with one JSON object and nothing else: {{"{KEY}": …}}'
        return f"{one_line(self.objective)}\n\nRules:\n{rules}\n\nVerdicts:\n{choices}\n\n{form}"

    def answer_schema(self) -> dict[str, Any]:
        """Return the JSON schema that constrains an answer."""
        verdicts = {"type": "string", "enum": [choice.verdict for choice in self.choices]}
        return {
            "type": "object",
            "properties": {KEY: verdicts},
            "required": [KEY],
            "additionalProperties": False,
        }
