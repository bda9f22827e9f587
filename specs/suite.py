"""Suites: sets of prompts of one kind, one YAML file each in specs/suites."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs import SPECS
from specs.spec import Name, Spec, Text
from specs.yaml_source import YamlFile, check

SUITES = SPECS / "suites"
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt")
# Tasks of the harness whose own task file shows examples in the prompt.
SHOWING = ("gsm8k",)
Columns = list[Text]


def _known_format(path: str) -> str:
    if Path(path.removesuffix(".gz")).suffix not in SUFFIXES:
        raise PydanticCustomError(
            "suffix",
            "must end in {suffixes}, or one of these with .gz (got {path})",
            {"suffixes": ", ".join(SUFFIXES), "path": path},
        )
    return path


Known = Annotated[str, AfterValidator(_known_format)]


class Suite(Spec):
    """The keys of every suite.

    Its `kind` decides what is counted: attack success of harmful suites, compliance and
    over-refusal of benign and dual_use ones. Those of kind utility are multiple choice and held-out
    text, measured by lm-evaluation-harness.
    """

    description: Text
    kind: Literal["harmful", "benign", "dual_use", "utility"]
    usage: Literal["report", "calibration"] = Field(
        default="report",
        description="calibration: its prompts choose the bounds of decoders, and are never "
        "reported; without the key, they are",
    )
    judges: list[Name] = Field(
        description="rows of evaluate.judges; the first gives the rates, the others are shown "
        "beside it; [] for utility"
    )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if not self.judges and self.kind != "utility":
            raise ValueError("judges must name at least one row of evaluate.judges (got [])")
        return self

    @property
    def is_harmful(self) -> bool:
        """Whether it does harm to comply with its prompts."""
        return self.kind == "harmful"

    @classmethod
    def read(cls, name: str) -> "AnySuite":
        """Read specs/suites/<name>.yaml. Raises SpecError."""
        return cls.at(SUITES / f"{name}.yaml")

    @classmethod
    def at(cls, path: Path) -> "AnySuite":
        """Read the suite of a file. Raises SpecError."""
        suite: AnySuite = check(SuiteFile, YamlFile(path))
        return suite


class DemoSuite(Suite):
    """Prompts of the demo world, which knows the act that each asks for."""

    reader: Literal["demo"]
    path: Text = Field(description="specs/demo/world.yaml")

    @property
    def acts(self) -> str:
        """The kind of acts that its prompts are about."""
        return "unseen" if self.usage == "calibration" else self.kind


class FileSuite(Suite):
    """Prompts of a public file.

    Editions differ in their column names, so a key lists several, and the first that is filled is
    read. Case, spaces and _ do not count; `instances.0.input` is a value inside another.
    """

    kind: Literal["harmful", "benign", "dual_use"]
    reader: Literal["file"]
    path: Known = Field(description="the path of your copy, relative to the project")
    source: Text = Field(description="the place to fetch it from")
    sha256: str | None = Field(
        description="the digest of your file, because DVC watches this spec and not the file; null "
        "until you have the file: then `safelm check` says what to write"
    )
    text: Columns = Field(
        min_length=1, description="the column of the prompt; of a list of texts, any name"
    )
    context: Columns = Field(description="the column of the text that a prompt is about, or []")
    joined: str = Field(description="{context} and {text} put together, if there is a context")
    form: Columns = Field(description="the column of the prompt's form or category, or []")
    target: Columns = Field(
        default=[], description="the column of the beginning of a harmful answer, for attacks"
    )
    only: dict[str, str] = Field(
        description="column: a regular expression that is found in its values; {} for every row"
    )
    prompt_as: Literal["request", "beginning"] = Field(
        description="request: a tuned model gets it as a user's turn; beginning: every model "
        "continues it as it stands"
    )

    @model_validator(mode="after")
    def _joined_and_patterns(self) -> Self:
        if "{text}" not in self.joined or (self.context and "{context}" not in self.joined):
            raise ValueError(
                "joined must hold {text}, and {context} where there is one "
                f'(got "{self.joined}")'
            )
        for column, pattern in self.only.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise PydanticCustomError(
                    "pattern",
                    "only.{column} must be a regular expression: {error} (got {pattern})",
                    {"column": column, "error": str(error), "pattern": pattern},
                ) from error
        return self

    def mistake(self) -> tuple[str, str] | None:
        """Read the file; return (key, message) if it is missing or not the pinned one."""
        return _mistake("path", self.path, "sha256", self.sha256, self.source)


class HarnessSuite(Suite):
    """A task of lm-evaluation-harness, by its own task file, with rows of the hub or of your files.

    A file has the columns of the data set on the hub, or those of Mosaic's evaluation gauntlet.
    Either way, the model reads the prompts that the harness would make of the hub's rows.
    """

    kind: Literal["utility"]
    reader: Literal["harness"]
    task: Literal[
        "arc_easy",
        "arc_challenge",
        "commonsense_qa",
        "gsm8k",
        "openbookqa",
        "piqa",
        "triviaqa",
        "truthfulqa_mc1",
        "winogrande",
        "wmdp_bio",
        "wmdp_chem",
        "wmdp_cyber",
        "mmlu",
    ]
    path: Known | None = Field(
        description="your file of its questions; null to fetch them from the hub"
    )
    source: Text = Field(description="the place to fetch it from")
    sha256: str | None = Field(
        description="the digest of your file; null for the hub, and until you have one"
    )
    shots: Known | None = Field(
        description="your file of examples, for a task that shows some, or null"
    )
    shots_sha256: str | None = Field(description="the digest of that file, or null")

    @model_validator(mode="after")
    def _shows(self) -> Self:
        if self.shots and self.task not in SHOWING:
            raise ValueError(
                f"task {self.task} shows no examples, {', '.join(SHOWING)} does; write shots: null"
            )
        return self

    def mistake(self) -> tuple[str, str] | None:
        """Read the files; return (key, message) if one is missing or not the pinned one."""
        files = (
            ("path", self.path, "sha256", self.sha256),
            ("shots", self.shots, "shots_sha256", self.shots_sha256),
        )
        for key, path, pin, digest in files:
            if path and (mistake := _mistake(key, path, pin, digest, self.source)):
                return mistake
        return None


class Calibration(Spec):
    """Harmless prompts for the bounds of decoders with max_false_refusals."""

    suite: Name = Field(description="a file of specs/suites with usage: calibration")
    max_prompts: PositiveInt = Field(description="prompts of the suite, at most")


AnySuite = DemoSuite | FileSuite | HarnessSuite
SuiteFile = Annotated[AnySuite, Field(discriminator="reader")]


def _mistake(
    key: str, path: str, pin: str, pinned: str | None, source: str
) -> tuple[str, str] | None:
    if not Path(path).is_file():
        return (
            key,
            f"must be a file (got {path}, which is not there); fetch it from {source}, and write "
            "where it is",
        )
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == pinned:
        return None
    state = "is not pinned yet" if pinned is None else "has another digest"
    return pin, f"must be the digest of {path}, which {state}; write {pin}: {digest}"
