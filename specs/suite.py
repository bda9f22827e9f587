"""A suite: a set of prompts of one kind, one YAML file each in specs/suites."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from specs.spec import Spec
from specs.yaml_file import validate

SUITES = Path(__file__).parent / "suites"


class Suite(Spec):
    """Prompts that a model is asked.

    kind: harmful (counted as attack success), benign and dual_use (counted as compliance and over-refusal), utility
    (multiple choice, through lm-evaluation-harness).
    """

    description: str = Field(min_length=1)
    kind: Literal["harmful", "benign", "dual_use", "utility"]
    reader: Literal["demo", "csv", "jsonl"]
    path: str = Field(min_length=1, description="specs/demo/world.yaml for demo, else a file of prompts")
    text: str = Field(min_length=1, description="the column that holds the prompt (csv, jsonl)")
    judge: Literal["acts"] = Field(description="acts: the rule judge of the embedded world")

    @classmethod
    def read(cls, name: str) -> Self:
        """The suite of specs/suites/<name>.yaml."""
        return validate(cls, SUITES / f"{name}.yaml")
