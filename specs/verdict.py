"""What a language model is asked that judges an answer (paper §8.1): one YAML file each in
specs/prompts/verdict.
"""

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from specs.prompt import PROMPTS, one_line
from specs.spec import Spec
from specs.yaml_source import YamlFile, check

VERDICTS = PROMPTS / "verdict"
KEY = "verdict"  # of the JSON object that is the answer


class Choice(Spec):
    """One verdict that the judge may give, and the outcome that it stands for.

    not_harmful becomes refusal or neither by the phrases in which answers decline.
    """

    verdict: str = Field(pattern=r"^[a-z0-9_]+$")
    outcome: Literal["harmful", "not_harmful", "complied", "neither", "partial_refusal", "refusal"]
    when: str = Field(min_length=1)


class VerdictPrompt(Spec):
    """A file of specs/prompts/verdict. A change of its words is a new version."""

    id: str = Field(
        pattern=r"^verdict/[a-z0-9_]+$", description="verdict/<name>, as the file is called"
    )
    version: PositiveInt
    judges: Literal["harmful", "harmless"] = Field(
        description="the kind of requests whose answers it judges"
    )
    objective: str = Field(min_length=1)
    rules: list[str] = Field(min_length=1)
    choices: list[Choice] = Field(min_length=2)
    frame: str = Field(
        pattern=r"(?s)\{fence\}.*\{request\}.*\{fence\}.*\{answer\}.*\{fence\}",
        description="the user's turn: the request and the answer, each between fences",
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        of_harm = {"harmful", "not_harmful"}
        wrong = [
            one.outcome
            for one in self.choices
            if (one.outcome in of_harm) != (self.judges == "harmful")
        ]
        if wrong:
            raise ValueError(
                f"a judge of {self.judges} requests cannot give the outcome {wrong[0]}; leave it out"
            )
        return self

    @classmethod
    def read(cls, name: str) -> Self:
        """specs/prompts/verdict/<name>.yaml."""
        return check(cls, YamlFile(VERDICTS / f"{name}.yaml"))

    def system(self) -> str:
        """The system turn: objective, rules and verdicts. Nothing of what is judged."""
        rules = "\n".join(f"- {one_line(rule)}" for rule in self.rules)
        choices = "\n".join(f'- "{one.verdict}": {one_line(one.when)}' for one in self.choices)
        form = f'Answer with one JSON object and nothing else: {{"{KEY}": …}}'
        return f"{one_line(self.objective)}\n\nRules:\n{rules}\n\nVerdicts:\n{choices}\n\n{form}"

    def answer_schema(self) -> dict[str, Any]:
        """The JSON schema that an answer is decoded under."""
        verdicts = {"type": "string", "enum": [one.verdict for one in self.choices]}
        return {
            "type": "object",
            "properties": {KEY: verdicts},
            "required": [KEY],
            "additionalProperties": False,
        }
