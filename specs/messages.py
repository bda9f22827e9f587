"""Messages about mistakes in YAML files: what was expected, what came, what to write."""

import difflib
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from specs.spec import Location

# A mistake that a check found: (its location in params.yaml, message).
Finding = tuple[Location, str]
Findings = Iterator[Finding]

# By pydantic's type of error; names in braces are keys of the error's context.
TEXTS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text; put it in quotes if it looks like a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be greater than or equal to {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be less than or equal to {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
    "string_pattern_mismatch": "must have the form {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must have as {discriminator} one of {expected_tags}",
    "union_tag_not_found": "must have the key {discriminator}, which says what kind of row it is",
}
NAME = r"^[a-z][a-z0-9_]*$"


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """Suggest the closest of some names, as the end of a sentence; empty if none is close."""
    close = difflib.get_close_matches(str(name), list(map(str, known)), 1)
    return f"; did you mean {close[0]}?" if close else ""


def listed(values: Iterable[object]) -> str:
    """Write values as a list in a sentence."""
    return ", ".join(map(str, values)) or "none"


def among(name: object, noun: str, known: Collection[object]) -> str:
    """Write the given name, the known names (`rows are a, b`), and the closest of them."""
    return f"(got {name}; {noun} are {listed(known)}){did_you_mean(name, known)}"


def unknown_row(table: str, name: object, rows: Collection[object]) -> str:
    """Return the message that a name must be a row of a table."""
    return f"must be a row of {table} {among(name, 'rows', rows)}"


def unknown_file(folder: str, name: object, files: Collection[object]) -> str:
    """Return the message that a name must be a file in a folder of specs/."""
    return f"must be a file of {folder} {among(name, 'files', files)}"


def describe(grammar: Any, values: Any, error: Any) -> tuple[Location, str]:
    """Describe one of pydantic's errors: (its location in the values, message)."""
    kind = error["type"]
    location = _in_file(values, error["loc"], kind == "missing")
    known, field = _field(grammar, location, values)
    description = f"; {field.description}" if field is not None and field.description else ""
    if kind == "extra_forbidden":
        hint = did_you_mean(location[-1], known) or f"; known keys are {', '.join(known)}"
        return location, f"unknown key{hint}"
    if kind == "missing":
        return location, f"is missing{description}; add the line `{location[-1]}: …`"
    template = TEXTS.get(kind)
    if template is None:
        # An error of our own validators; its message is complete.
        return location, str(error["msg"]).removeprefix("Value error, ")
    context = {name: _whole(value) for name, value in error.get("ctx", {}).items()}
    if context.get("pattern") == NAME:
        template, description = "must be a name of lower-case letters, digits and _", ""
    expected, got = template.format(**context), _shown(error, context)
    return location, f"{expected} (got {got}){_suggestion(context, error)}{description}"


def _whole(value: Any) -> Any:
    """Turn a bound such as 0.0 into 0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _shown(error: Any, context: dict[str, Any]) -> str:
    """Write the given value, shortened."""
    if "tag" in context:
        return repr(context["tag"])
    if isinstance(error["input"], dict):
        return "a mapping"
    return repr(error["input"])[:60]


def _suggestion(context: dict[str, Any], error: Any) -> str:
    """Suggest the closest of the allowed values, if pydantic lists them."""
    allowed = context.get("expected") or context.get("expected_tags")
    if not isinstance(allowed, str):
        return ""
    # pydantic writes them in a sentence: 'a', 'b' or 'c'.
    names = [name.strip(" '") for name in allowed.replace(" or ", ",").split(",")]
    return did_you_mean(context.get("tag", error["input"]), names)


def _in_file(values: Any, location: Location, missing: bool) -> Location:
    """Drop parts of a location that the file does not have, such as the member of a union.

    A missing key is kept, although the file does not have it either.
    """
    found: list[str | int] = []
    for index, part in enumerate(location):
        is_item = isinstance(values, list) and isinstance(part, int)
        is_key = isinstance(values, dict) and part in values
        is_missing_key = missing and index == len(location) - 1
        if is_item or is_key:
            found.append(part)
            values = values[part]
        elif is_missing_key:
            found.append(part)
    return tuple(found)


def _field(grammar: Any, location: Location, value: Any) -> tuple[list[str], Any]:
    """Follow a location through the grammar; return the keys known there, and its field."""
    known: list[str] = []
    field: Any = None
    for part in location:
        models = _fitting(_models(grammar), value)
        items = chain.from_iterable(model.model_fields.items() for model in models)
        fields = {field.alias or name: field for name, field in items}
        if fields:
            known, field = list(fields), fields.get(str(part))
            grammar = field.annotation if field is not None else None
        else:
            arguments = get_args(grammar)
            grammar = arguments[-1] if arguments else None
        value = _inner(value, part)
    return known, field


def _inner(value: Any, part: str | int) -> Any:
    """Return the value at one part of a location, or None."""
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _models(grammar: Any) -> list[type[BaseModel]]:
    """List the models that a type allows."""
    if isinstance(grammar, type) and issubclass(grammar, BaseModel):
        return [grammar]
    if get_origin(grammar) in (dict, list):
        return []
    return list(chain.from_iterable(map(_models, get_args(grammar))))


def _fitting(models: list[type[BaseModel]], value: Any) -> list[type[BaseModel]]:
    """Keep the union members that the value's discriminator (`kind`, `method`, …) selects."""
    if len(models) < 2 or not isinstance(value, dict):
        return models
    return [model for model in models if _has_discriminator(model, value)] or models


def _has_discriminator(model: type[BaseModel], value: dict[str, Any]) -> bool:
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and name in value:
            return value[name] in get_args(field.annotation)
    return False
