"""YAML files that people write: values with their lines, and mistakes with file and line.

DVC reads YAML 1.2 (ruamel); PyYAML reads YAML 1.1. They read some values differently (`1e-4`, `on`,
`017`). Such a value is refused, because DVC would watch one value and the code use another.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, starmap
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

from specs.messages import Finding, Findings, Location, describe
from specs.spec import Spec
from specs.yaml_errors import explain

Model = TypeVar("Model", bound=BaseModel)
# No file that people write is larger, but a few hundred bytes of aliases can mean billions of
# values.
MAX_VALUES = 100_000
MAX_DEPTH = 50


@dataclass(frozen=True)
class Problem:
    """A mistake, printed as `params.yaml:61 mixtures.safe.phases.1.share: must be …`."""

    file: str
    line: int
    at: str
    message: str

    def __str__(self) -> str:
        location = f" {self.at}:" if self.at else ""
        return f"{self.file}:{self.line}{location} {self.message}"


Problems = list[Problem]


class SpecError(ValueError):
    """A YAML file does not follow its grammar; the message has a line for each mistake."""

    def __init__(self, problems: Problems) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class YamlFile:
    """A parsed YAML file: its values, and the line of each.

    Raises SpecError if the file cannot be read or is not plain YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        # The last line of a value in brackets; for any other value, its first line.
        self.ends: dict[Location, int] = {}
        self.duplicates: Problems = []
        text = self._read()
        self.values = self._load(text)
        self.refuse(self.duplicates or self._two_readings(text))

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise self._error(1, f"cannot be read ({error.strerror}); create it") from error
        except UnicodeDecodeError as error:
            raise self._error(1, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from error

    def _load(self, text: str) -> Any:
        try:
            self._refuse_depth(text)
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            if node is None:
                raise self._error(1, "is empty; write its keys, or restore it with git")
            if _size(node, {}) > MAX_VALUES:
                message = f"means more than {MAX_VALUES:,} values through its aliases (*name)"
                raise self._error(1, f"{message}; write out what is meant")
            self._locate(node, ())
            return yaml.load(text, Loader=yaml.CSafeLoader)
        except RecursionError:
            message = "contains itself: an alias (*name) is inside its anchor; write it out"
            raise self._error(1, message) from None
        except yaml.MarkedYAMLError as error:
            raise self._error(*explain(text, error)) from error
        except yaml.reader.ReaderError as error:
            message = f"has a control character (#x{error.character:04x}); remove it"
            line = text.encode()[: error.position].count(b"\n") + 1
            raise self._error(line, message) from error

    def _refuse_depth(self, text: str) -> None:
        """Refuse absurd nesting, before libyaml crashes the process over a depth of 100,000."""
        depth = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise self._error(line, f"is nested more than {MAX_DEPTH} deep; flatten it")

    def _locate(self, node: yaml.Node, at: Location) -> None:
        """Record the lines of a node and of everything inside it."""
        self.lines.setdefault(at, node.start_mark.line + 1)
        is_bracketed = getattr(node, "flow_style", False)
        self.ends[at] = (node.end_mark if is_bracketed else node.start_mark).line + 1
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._locate(item, (*at, index))
        if isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                here = (*at, key.value)
                line = key.start_mark.line + 1
                if here in self.lines:
                    self.duplicates.append(
                        self._problem(
                            line,
                            f"appears twice (first on line {self.lines[here]}); keep one of them",
                            here,
                        )
                    )
                self.lines[here] = line
                self._locate(item, here)

    def _two_readings(self, text: str) -> Problems:
        """List the values that DVC reads in another way."""
        try:
            other = YAML(typ="safe", pure=False).load(text)
        except RuamelError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            raise self._error(
                line, "is YAML that DVC cannot read; write plain keys and values"
            ) from error
        return self.problems(_differences(self.values, other, ()))

    def line(self, at: Location) -> int:
        """Return the line of a location, or of the innermost part of it that the file has."""
        while at not in self.lines and at:
            at = at[:-1]
        return self.lines.get(at, 1)

    def _problem(self, line: int, message: str, at: Location = ()) -> Problem:
        return Problem(str(self.path), line, dotted(at), message)

    def _error(self, line: int, message: str) -> SpecError:
        return SpecError([self._problem(line, message)])

    def error_at(self, at: Location, message: str) -> SpecError:
        """Return the error at a location in this file."""
        return SpecError([self.problem(at, message)])

    def located(self, message: str) -> SpecError:
        """Return the error for a message that begins with its location: `mixtures.safe: …`."""
        location, _, rest = message.partition(": ")
        return SpecError([self.problem_at(location, rest)])

    def problem_at(self, location: str, message: str) -> Problem:
        """Return the problem at a location that is written with dots."""
        parts = location.split(".")
        at = tuple(int(part) if part.isdigit() else part for part in parts)
        return self.problem(at, message)

    def problem(self, at: Location, message: str) -> Problem:
        """Return the problem at a location in this file."""
        return self._problem(self.line(at), message, at)

    def problems(self, findings: Iterable[Finding]) -> Problems:
        """Return the problems that some checks found in this file."""
        return list(starmap(self.problem, findings))

    def refuse(self, problems: Problems) -> None:
        """Raise SpecError if there are problems, each once, in the order of the lines."""
        if problems:
            unique = dict.fromkeys(problems)
            raise SpecError(sorted(unique, key=lambda problem: (problem.line, problem.at)))


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values in a node, those behind aliases as often as they are repeated.

    `known` has the counts of nodes already seen. Without it, counting would take as long as the
    expanded file is large.
    """
    # An alias is the same object as the node of its anchor.
    if id(node) not in known:
        items: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            items = node.value
        elif isinstance(node, yaml.MappingNode):
            items = list(chain.from_iterable(node.value))
        known[id(node)] = 1 + sum(_size(item, known) for item in items)
    return known[id(node)]


def dotted(at: Location) -> str:
    """Write a location with dots: `mixtures.safe.phases.1.share`."""
    return ".".join(map(str, at))


def _differences(ours: Any, theirs: Any, at: Location) -> Findings:
    """Compare the two readings of a value, and of the values inside it."""
    inner: list[tuple[Location, Any, Any]] = []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = list(zip(ours, theirs, strict=False))
        differing = [f"{a!r} or {b!r}" for a, b in keys if str(a) != str(b)]
        if differing or len(ours) != len(theirs):
            shown = ", ".join(differing)
            yield at, f"has a key that DVC and Python read differently ({shown}); put it in quotes"
        else:
            inner = [((*at, a), ours[a], theirs[b]) for a, b in keys]
    elif isinstance(ours, list) and isinstance(theirs, list):
        items = enumerate(zip(ours, theirs, strict=False))
        inner = [((*at, index), a, b) for index, (a, b) in items]
    elif type(ours) is not type(theirs) or ours != theirs:
        yield at, f"DVC reads {theirs!r} here and Python {ours!r}; {_remedy(ours, theirs)}"
    for location, our_value, their_value in inner:
        yield from _differences(our_value, their_value, location)


def _remedy(ours: Any, theirs: Any) -> str:
    """Return how to write a value so that both read it alike."""
    if isinstance(theirs, float):
        return f"write {theirs}" if theirs.is_integer() else f"write {theirs:.1e}"
    if isinstance(ours, bool):
        return f"write {str(ours).lower()}, or '{theirs}' in quotes for the word"
    if isinstance(ours, int) and isinstance(theirs, int):
        return f"write {theirs} without a leading 0, or {ours}"
    return "write it in quotes if it is a word"


def value_at(values: Any, at: Location) -> Any:
    """Return the value at a location."""
    for part in at:
        values = values[part]
    return values


def check(kind: Any, file: YamlFile, *, at: Location = ()) -> Any:
    """Validate a file, or the part of it at `at`, against a grammar. Raises SpecError."""
    values = value_at(file.values, at)
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problems = []
        for found in error.errors(include_url=False):
            location, message = describe(kind, values, found)
            problems.append(file.problem((*at, *location), message))
        raise SpecError(problems) from error


def validate(kind: type[Model], path: Path) -> Model:
    """Read one YAML file of one grammar, such as a shape. Raises SpecError."""
    model: Model = check(kind, YamlFile(path))
    return model


class NamedFile(Spec):
    """A grammar of the files of one folder, which rows of params.yaml name without .yaml."""

    folder: ClassVar[Path]

    @classmethod
    def read(cls, name: str) -> Self:
        """Read the file of a name. Raises SpecError."""
        return validate(cls, cls.folder / f"{name}.yaml")
