"""Base class of all grammars, and the types that many of them share."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field

# Safety scores are 0 to 5 (paper §1.1).
SCORE_LEVELS = 6
# The keys and indices that lead to a value of a YAML file.
Location = tuple[str | int, ...]

Score = Annotated[
    int,
    Field(
        ge=0,
        le=SCORE_LEVELS - 1,
        description="a safety score from 0 (harmless) to 5 (harmful), paper §1.1",
    ),
]
Scores = Annotated[
    list[Score], Field(min_length=1, description="a list of scores, each from 0 to 5")
]
Share = Annotated[float, Field(gt=0, lt=1, description="a share between 0 and 1, both excluded")]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        max_length=64,
        description="lower-case letters, digits and _, 64 at most",
    ),
]
Names = Annotated[list[Name], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[
    int, Field(ge=0, lt=2**31, description="a whole number that seeds every draw of this block")
]
Row = TypeVar("Row")
# Tables of rows by name: one that needs a row, and one of a file that need not have it.
Rows = Annotated[dict[Name, Row], Field(min_length=1)]
OptionalRows = Annotated[dict[Name, Row], Field(default_factory=dict)]


def by_key(key: str, with_key: str, without_key: str) -> Discriminator:
    """Tell two grammars apart by a key that only one has; the others are the tags of both."""

    def tag(row: Any) -> str:
        # A row comes as a mapping from a file, and as a grammar from Python.
        has_key = key in row if isinstance(row, dict) else hasattr(row, key)
        return with_key if has_key else without_key

    return Discriminator(tag)


class Spec(BaseModel):
    """A grammar: strict, frozen, without unknown keys.

    Blocks have no defaults, because DVC watches only values that are in the YAML file. Rows of a
    union may have optional keys, if leaving one out has a meaning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def values_at(grammar: Spec, *paths: str) -> Iterator[tuple[Location, Any]]:
    """Yield the values at paths, each with its location; none where a key is null or not there.

    In a path, `*` stands for every key of a table or index of a list. `[]` does too, but the
    location is then that of the table or list as a whole.
    """
    for path in paths:
        yield from _values(grammar, path.split("."), ())


def _values(value: Any, path: list[str], at: Location) -> Iterator[tuple[Location, Any]]:
    if value is None:
        return
    if not path:
        yield at, value
        return
    step, *rest = path
    if step in ("*", "[]"):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _values(item, rest, (*at, key) if step == "*" else at)
    else:
        # Python does not take `from` for the name of a field.
        field = "from_" if step == "from" else step
        yield from _values(getattr(value, field, None), rest, (*at, step))
