"""A suite: a set of prompts of one kind, one YAML file each in specs/suites."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Spec
from specs.yaml_file import validate

SUITES = Path(__file__).parent / "suites"


class Suite(Spec):
    """Prompts that a model is asked.

    kind: harmful (counted as attack success), benign and dual_use (counted as compliance and over-refusal), utility
    (multiple choice and held-out text, through lm-evaluation-harness).
    judge: acts, the rule judge of the embedded world, knows which act a prompt asks for. refusals knows only whether an
    answer declines, and takes all else for compliance, as AdvBench's own measure does.
    """

    description: str = Field(min_length=1)
    kind: Literal["harmful", "benign", "dual_use", "utility"]
    reader: Literal["demo", "csv", "jsonl"]
    path: str = Field(min_length=1, description="specs/demo/world.yaml for demo, else a file of prompts")
    sha256: str | None = Field(
        description="the digest of the file, for DVC watches this spec and not the file; null for demo"
    )
    text: str | None = Field(description="the column that holds the prompt; null for demo")
    form: str | None = Field(description="the column of the prompt's form or category, or null")
    judge: Literal["acts", "refusals"] = Field(description="acts for demo, refusals for any prompts")

    @model_validator(mode="after")
    def readable(self) -> Self:
        """Only the embedded world has acts, items of multiple choice and held-out text."""
        if self.reader == "demo":
            return self
        if self.judge == "acts" or self.kind == "utility":
            raise PydanticCustomError(
                "suite",
                "reader {reader} names no acts and no choices: write judge: refusals, "
                "and kind harmful, benign or dual_use (got judge {judge}, kind {kind})",
                self.model_dump(include={"reader", "judge", "kind"}),
            )
        if self.text is None or self.sha256 is None:
            raise PydanticCustomError(
                "suite",
                "reader {reader} needs text, the column of the prompts, and sha256, the digest of the file "
                "(got text {text}, sha256 {sha256})",
                self.model_dump(include={"reader", "text", "sha256"}),
            )
        return self

    @classmethod
    def read(cls, name: str) -> Self:
        """The suite of specs/suites/<name>.yaml."""
        return validate(cls, SUITES / f"{name}.yaml")
