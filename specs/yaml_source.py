"""Read a YAML file for people: every mistake with file and line, what was expected, what came and
what to write.

DVC reads YAML 1.2 (ruamel), Python's yaml reads YAML 1.1. A value that the two read differently
(`1e-4`, `on`, `017`) would make DVC watch one value and the code use another, so it is refused."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError as RuamelError

Model = TypeVar("Model", bound=BaseModel)
VALUES, DEPTH = 100_000, 50  # of a file for people
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake: where it stands, and a sentence that says what was expected, what came and what
    to write.
    """

    file: str
    line: int
    at: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line} {self.at}: {self.message}"
            if self.at
            else f"{self.file}:{self.line} {self.message}"
        )


class SpecError(ValueError):
    """Some YAML file does not mean what its grammar asks for."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class YamlFile:
    """A parsed YAML file: its values, and the line on which each stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpecError(
                [Problem(str(path), 1, "", f"cannot be read ({error.strerror}); create it")]
            ) from error
        except UnicodeDecodeError as error:
            raise SpecError(
                [Problem(str(path), 1, "", f"is not UTF-8 (byte {error.start}); save it as UTF-8")]
            ) from error
        self.lines: dict[Location, int] = {}
        self.ends: dict[
            Location, int
        ] = {}  # of what stands in brackets; elsewhere the last value is the end
        self.duplicates: list[Problem] = []
        self.values = self._load(text)
        self.refuse(self.duplicates + self._two_readings(text))

    def _load(self, text: str) -> Any:
        try:
            self._refuse_depth(text)
            node = yaml.compose(text, Loader=yaml.CSafeLoader)
            if node is not None and _size(node, {}) > VALUES:
                message = f"means more than {VALUES:,} values through its aliases (*name); write out what is meant"
                raise SpecError([Problem(str(self.path), 1, "", message)])
            if node is not None:
                self._locate(node, ())
            return yaml.load(text, Loader=yaml.CSafeLoader)
        except RecursionError:
            message = "holds itself: an alias (*name) stands inside its anchor"
            raise SpecError([Problem(str(self.path), 1, "", message)]) from None
        except yaml.MarkedYAMLError as error:
            line = (error.problem_mark.line if error.problem_mark else 0) + 1
            raise SpecError(
                [Problem(str(self.path), line, "", f"is not YAML: {error.problem}")]
            ) from error

    def _refuse_depth(self, text: str) -> None:
        """Raise SpecError for a depth that nobody writes; libyaml ends the process over one of
        100,000.
        """
        depth = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
                event, yaml.CollectionEndEvent
            )
            if depth > DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise SpecError(
                    [Problem(str(self.path), line, "", f"is nested more than {DEPTH} deep")]
                )

    def _locate(self, node: yaml.Node, at: Location) -> None:
        self.lines.setdefault(at, node.start_mark.line + 1)
        self.ends[at] = (
            node.end_mark if getattr(node, "flow_style", False) else node.start_mark
        ).line + 1
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._locate(item, (*at, index))
        if isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                here = (*at, key.value)
                if here in self.lines:
                    message = f"stands twice (first on line {self.lines[here]}); keep one of them"
                    self.duplicates.append(
                        Problem(str(self.path), key.start_mark.line + 1, dotted(here), message)
                    )
                self.lines[here] = key.start_mark.line + 1
                self._locate(item, here)

    def _two_readings(self, text: str) -> list[Problem]:
        try:
            other = YAML(typ="safe", pure=False).load(text)
        except RuamelError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            return [
                Problem(
                    str(self.path),
                    (mark.line if mark else 0) + 1,
                    "",
                    f"DVC cannot read it: {reason}",
                )
            ]
        return [self.problem(at, message) for at, message in _differences(self.values, other, ())]

    def line(self, at: Location) -> int:
        """The line of the innermost part of `at` that the file has."""
        at = tuple(str(part) if not isinstance(part, int) else part for part in at)
        while at not in self.lines and at:
            at = at[:-1]
        return self.lines.get(at, 1)

    def located(self, message: str) -> SpecError:
        """The error of a message such as `mixtures.safe.phases.1: …`, with the line of the place it
        begins with.
        """
        place, _, rest = message.partition(": ")
        at = tuple(int(part) if part.isdigit() else part for part in place.split("."))
        return SpecError([self.problem(at, rest)])

    def problem(self, at: Location, message: str) -> Problem:
        """A mistake at a place of this file."""
        return Problem(str(self.path), self.line(at), dotted(at), message)

    def refuse(self, problems: list[Problem]) -> None:
        """Raise when there is any problem, each once and in the order of the lines."""
        if problems:
            raise SpecError(
                sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.at))
            )


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node means, with what aliases repeat; a few hundred bytes can mean
    billions.
    """
    if id(node) not in known:
        parts = node.value if isinstance(node.value, list) else []
        inner = (item for part in parts for item in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(_size(item, known) for item in inner)
    return known[id(node)]


def dotted(at: Location) -> str:
    """`mixtures.safe.phases.1.share`: a place in a YAML file as people write it."""
    return ".".join(map(str, at))


def _differences(ours: Any, theirs: Any, at: Location) -> list[tuple[Location, str]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(map(str, ours)) != list(map(str, theirs)):
            keys = [
                f"{a!r} or {b!r}" for a, b in zip(ours, theirs, strict=False) if str(a) != str(b)
            ]
            return [
                (
                    at,
                    f"has a key that DVC and Python read differently ({', '.join(keys)}); put it in quotes",
                )
            ]
        pairs = zip(ours.items(), theirs.values(), strict=True)
        return [found for (key, a), b in pairs for found in _differences(a, b, (*at, key))]
    if isinstance(ours, list) and isinstance(theirs, list):
        items = enumerate(zip(ours, theirs, strict=False))
        return [found for index, (a, b) in items for found in _differences(a, b, (*at, index))]
    if type(ours) is type(theirs) and ours == theirs:
        return []
    return [(at, f"DVC reads {theirs!r} here and Python {ours!r}; {_one_reading(ours, theirs)}")]


def _one_reading(ours: Any, theirs: Any) -> str:
    if isinstance(theirs, float):
        return f"write {theirs:.1e}" if not theirs.is_integer() else f"write {theirs}"
    if isinstance(ours, bool):
        return f"write {str(ours).lower()}, or '{theirs}' in quotes for the word"
    if isinstance(ours, int) and isinstance(theirs, int):
        return f"write {theirs} without a leading 0, or {ours}"
    return "write it in quotes if it is a word"


def check(kind: type[Model], file: YamlFile, *, at: Location = ()) -> Model:
    """Validate a file (or the part of it at `at`) against a grammar."""
    values = file.values
    for part in at:
        values = values[part]
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise SpecError(
            [_problem(kind, file, at, item) for item in error.errors(include_url=False)]
        ) from error


def validate(kind: type[Model], path: Path) -> Model:
    """Read one YAML file of one grammar, such as a shape."""
    return check(kind, YamlFile(path))


def _without_kinds(values: Any, loc: Location, missing: bool) -> Location:
    """The place in the file: pydantic also names the alternative of a union, which is no key of the
    file.
    """
    found: list[str | int] = []
    for place, part in enumerate(loc):
        known = (
            part in values
            if isinstance(values, dict)
            else isinstance(values, list) and isinstance(part, int)
        )
        if known or (missing and place == len(loc) - 1):
            found.append(part)
            values = values[part] if known else None
    return tuple(found)


def _problem(kind: Any, file: YamlFile, at: Location, error: Any) -> Problem:
    values = file.values
    for part in at:
        values = values[part]
    loc = _without_kinds(values, error["loc"], error["type"] == "missing")
    known, field = _field(kind, loc, values)
    description = f"; {field.description}" if field is not None and field.description else ""
    match error["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(str(loc[-1]), known, 1)
            hint = f"write {close[0]}" if close else f"known keys are {', '.join(known)}"
            message = f"unknown key; {hint}"
        case "missing":
            message = f"is missing{description}; add the line `{loc[-1]}: …`"
        case _:
            got = error["input"]
            shown = "a mapping" if isinstance(got, dict) else repr(got)[:60]
            whole = "(got " in error["msg"]  # a validator of ours, which says it all
            message = (
                error["msg"] if whole else f"{_lower(error['msg'])} (got {shown}){description}"
            )
    return file.problem((*at, *loc), message)


def _lower(message: str) -> str:
    for lead in ("Input should be ", "Input must be "):
        if message.startswith(lead):
            return "must be " + message[len(lead) :]
    return message[:1].lower() + message[1:]


def _field(kind: Any, loc: Location, value: Any) -> tuple[list[str], Any]:
    """Find the keys known where a mistake is, and the field it is in, by walking the grammar."""
    known: list[str] = []
    field: Any = None
    for part in loc:
        models = _fitting(_models(kind), value)
        fields = {f.alias or name: f for model in models for name, f in model.model_fields.items()}
        if fields:
            known = list(fields)
            field = fields.get(str(part))
            kind = field.annotation if field is not None else None
        else:
            arguments = getattr(kind, "__args__", ())
            kind = arguments[-1] if arguments else None
        value = _inner(value, part)
    return known, field


def _inner(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _models(kind: Any) -> list[type[BaseModel]]:
    """List the grammars that a value of this type may follow."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if getattr(kind, "__origin__", None) in (dict, list):
        return []
    return [model for part in getattr(kind, "__args__", ()) for model in _models(part)]


def _fitting(models: list[type[BaseModel]], value: Any) -> list[type[BaseModel]]:
    """Keep the members of a union whose discriminator (`kind`, `method`, …) the value has."""
    if len(models) < 2 or not isinstance(value, dict):
        return models
    fitting = [model for model in models if _has_discriminator(model, value)]
    return fitting or models


def _has_discriminator(model: type[BaseModel], value: dict[str, Any]) -> bool:
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and name in value:
            return value[name] in get_args(field.annotation)
    return False
