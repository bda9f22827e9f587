"""A suite: a set of prompts of one kind, one YAML file each in specs/suites."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Spec
from specs.yaml_source import YamlFile, check

SUITES = Path(__file__).parent / "suites"
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt")
SHOWING = ("gsm8k",)  # tasks of the harness that show examples by its own task file
Columns = list[Annotated[str, Field(min_length=1)]]


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
    """Prompts that a model is asked.

    kind: harmful (counted as attack success), benign and dual_use (counted as compliance and
    over-refusal), utility (multiple choice and held-out text, through lm-evaluation-harness)."""

    description: str = Field(min_length=1)
    kind: Literal["harmful", "benign", "dual_use", "utility"]
    judges: list[Name] = Field(
        description="rows of evaluate.judges; the first gives the rates, the others are shown beside it; [] for utility"
    )

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if not self.judges and self.kind != "utility":
            raise ValueError("judges must name who judges its answers (got [])")
        return self

    @property
    def is_harmful(self) -> bool:
        """Whether an answer to its prompts is harm, not help."""
        return self.kind == "harmful"

    @classmethod
    def read(cls, name: str) -> "AnySuite":
        """The suite of specs/suites/<name>.yaml."""
        return cls.at(SUITES / f"{name}.yaml")

    @classmethod
    def at(cls, path: Path) -> "AnySuite":
        """The suite of a file."""
        file = YamlFile(path)
        match file.values.get("reader") if isinstance(file.values, dict) else None:
            case "demo":
                return check(DemoSuite, file)
            case "harness":
                return check(HarnessSuite, file)
        return check(FileSuite, file)


class DemoSuite(Suite):
    """Prompts of the embedded world, which knows what act each asks for."""

    reader: Literal["demo"]
    path: str = Field(min_length=1, description="specs/demo/world.yaml")


class FileSuite(Suite):
    """Prompts of a public file. What a column is called differs between its editions: the first
    that is filled is read.

    Names are compared without regard to case, spaces and _; `instances.0.input` is a value inside
    of another."""

    kind: Literal["harmful", "benign", "dual_use"]
    reader: Literal["file"]
    path: Known = Field(description="where you put the file; a path relative to the project")
    source: str = Field(
        min_length=1, description="where it is published: what an error tells to fetch"
    )
    sha256: str | None = Field(
        description="the digest of your file, for DVC watches this spec and not the file; null until you have one, "
        "and `safelm check` says what to write"
    )
    text: Columns = Field(
        min_length=1, description="the column of the prompt; of a list of texts, any name"
    )
    context: Columns = Field(description="the column of what a prompt speaks of, or []")
    joined: str = Field(
        description="how {context} and {text} are put together where there is a context"
    )
    form: Columns = Field(description="the column of the prompt's form or category, or []")
    only: dict[str, str] = Field(
        description="column: a regular expression that its values hold; {} for every row"
    )
    asked_as: Literal["request", "beginning"] = Field(
        description="request: a tuned model gets it as a user's turn; beginning: every model continues it as it stands"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if "{text}" not in self.joined or (self.context and "{context}" not in self.joined):
            raise ValueError(
                f'joined must hold {{text}}, and {{context}} where there is one (got "{self.joined}")'
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
        """(key, what is wrong) where the file is not there, or is not the one that is pinned; reads
        the file.
        """
        return _mistake("path", self.path, "sha256", self.sha256, self.source)


class HarnessSuite(Suite):
    """A task of lm-evaluation-harness, as its own task file has it; from the hub, or from files of
    yours.

    A file has the columns of the data set on the hub, or is one of Mosaic's evaluation gauntlet:
    either way the model reads what the harness would make of the named task."""

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
        "winogrande",
        "mmlu",
    ]
    path: Known | None = Field(
        description="your file of its questions; null to fetch them from the hub"
    )
    source: str = Field(
        min_length=1, description="where it is published: what an error tells to fetch"
    )
    sha256: str | None = Field(
        description="the digest of your file; null for the hub, and until you have one"
    )
    shots: Known | None = Field(
        description="your file of examples, for a task that shows some, or null"
    )
    shots_sha256: str | None = Field(description="the digest of the examples, likewise")

    @model_validator(mode="after")
    def _shows(self) -> Self:
        if self.shots and self.task not in SHOWING:
            raise ValueError(
                f"task {self.task} shows no examples, {', '.join(SHOWING)} does; write shots: null"
            )
        return self

    def mistake(self) -> tuple[str, str] | None:
        """(key, what is wrong) where a file is not there, or is not the one that is pinned; reads
        the files.
        """
        files = (
            ("path", self.path, "sha256", self.sha256),
            ("shots", self.shots, "shots_sha256", self.shots_sha256),
        )
        found = (
            _mistake(key, path, pin, digest, self.source)
            for key, path, pin, digest in files
            if path
        )
        return next(filter(None, found), None)


AnySuite = DemoSuite | FileSuite | HarnessSuite


def _mistake(
    key: str, path: str, pin: str, pinned: str | None, source: str
) -> tuple[str, str] | None:
    if not Path(path).is_file():
        return (
            key,
            f"must be a file (got {path}, which is not there); fetch it from {source}, and write where it is",
        )
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == pinned:
        return None
    state = "is not pinned yet" if pinned is None else "has another digest"
    return pin, f"must be the digest of {path}, which {state}; write {pin}: {digest}"
