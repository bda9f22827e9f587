"""Filters: the rows of `filters`, which the stage `clean` applies to the sources that name them."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.messages import did_you_mean, listed
from specs.spec import Name, Names, Seed, Share, Spec

# Filters of DataTrove that need a download, a function or an order of documents, and what to use.
REFUSED = {
    "C4BadWordsFilter": "it downloads its word lists; use RegexFilter with words of your own",
    "FastTextClassifierFilter": "it needs a fastText model; fit a row of scorers",
    "LambdaFilter": "it takes a Python function; use RegexFilter",
    "LanguageFilter": "it downloads a fastText model; write a row of kind: language",
    "SamplerFilter": "its draws depend on the order of documents; choose shares in a mixture",
    "URLFilter": "it looks up public suffixes in the network; select URLs before ingest",
    "UnigramLogProbFilter": "it downloads word frequencies; use GopherQualityFilter",
}
# The languages that eldc 0.4.0 tells apart (eldc.LANGUAGES).
LANGUAGES = (
    "am ar az be bg bn ca cs da de el en es et eu fa fi fr gu he hi hr hu hy is it ja ka kn ko ku "
    "lo lt lv ml mr ms nl no or pa pl pt ro ru sk sl sq sr sv ta te th tl tr uk ur vi yo zh"
)


def _known_language(code: str) -> str:
    if code not in LANGUAGES.split():
        _refuse(f"must be the code of a language ({LANGUAGES}; got {code})")
    return code


Language = Annotated[str, AfterValidator(_known_language)]


class DatatroveFilter(Spec):
    """A filter block of DataTrove, by the name of its class and its own arguments.

    Its words are those of NLTK and its sentences end at punctuation, so that nothing is downloaded.
    With the argument `language` they are those of DataTrove for that language, which needs spaCy.
    """

    kind: Literal["datatrove"]
    block: str = Field(description="the class, such as GopherQualityFilter")
    arguments: dict[str, Any] = Field(
        default={}, description="arguments of the class; leave one out for DataTrove's default"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = datatrove_filters()
        if self.block not in known:
            usable = sorted(set(known) - set(REFUSED))
            hint = did_you_mean(self.block, usable)
            _refuse(
                f"block must be a filter of DataTrove ({listed(usable)}; got {self.block}){hint}"
            )
        if self.block in REFUSED:
            _refuse(f"block must not be {self.block}: {REFUSED[self.block]}")
        for name, value in self.arguments.items():
            _check_argument(self.block, name, value, known[self.block])
        for name, default in known[self.block].items():
            if default is REQUIRED and name not in self.arguments:
                _refuse(f"arguments.{name} is missing: {self.block} has no default for it")
        if "language" in self.arguments and find_spec("spacy") is None:
            _refuse(
                "arguments.language needs spaCy, which is not installed; run `pip install spacy`, "
                "or leave it out for English"
            )
        return self


class LanguageFilter(Spec):
    """Documents in other languages, or in none that can be told, are dropped (library: eldc)."""

    kind: Literal["language"]
    languages: list[Language] = Field(min_length=1, description="ISO 639-1 codes that are kept")
    min_score: Share = Field(
        description="eldc's score of the language, at least; most English pages have 0.6 to 0.9"
    )
    min_characters: PositiveInt = Field(
        description="shorter texts are dropped as short; below 20 no language can be told"
    )


class NearDuplicates(Spec):
    """Of documents that share most of their word n-grams, only the first of the source is kept.

    MinHash with locality-sensitive hashing (Leskovec et al., Mining of Massive Datasets, §3.4). Two
    documents whose n-grams have a Jaccard similarity of s are found with a probability of
    1 - (1 - s^rows)^bands. With 28 bands of 16 rows it is .997 at .9, .55 at .8 and .0004 at .5.
    """

    kind: Literal["near_duplicates"]
    ngram: PositiveInt = Field(description="words of an n-gram; 5 in DataTrove")
    bands: PositiveInt = Field(le=256, description="hashes of a document, one of which must agree")
    rows: PositiveInt = Field(le=64, description="minima in the hash of a band, which all agree")
    seed: Seed


class OverlapFilter(Spec):
    """Documents that hold a prompt of a suite are dropped, by the name of the suite."""

    kind: Literal["overlap"]
    suites: Names = Field(description="files of specs/suites, without .yaml")
    ngram: PositiveInt = Field(description="words of an n-gram; a shorter prompt is found whole")
    min_share: Share = Field(
        description="a prompt is found if one document has this share of its n-grams, or all of "
        "its words in a row"
    )


FilterRow = Annotated[
    DatatroveFilter | LanguageFilter | NearDuplicates | OverlapFilter, Field(discriminator="kind")
]
FilterNames = Annotated[
    list[Name],
    Field(description="rows of `filters`, in the order of their use; leave it out for none"),
]


# The default of an argument that has none, and one that is no literal.
REQUIRED, UNKNOWN = object(), object()
# Arguments for an object, which params.yaml cannot give.
OBJECTS = ("self", "exclusion_writer")


@cache
def datatrove_filters() -> dict[str, dict[str, Any]]:
    """Return the filters of the installed DataTrove: their arguments, each with its default.

    They are read from its source, because to import DataTrove takes a second.
    """
    package = find_spec("datatrove")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0], "pipeline", "filters")
    found = {}
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.ClassDef) and _is_filter(node):
                found[node.name] = dict(_arguments(node))
    return found


def _is_filter(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "BaseFilter" for base in node.bases)


def _arguments(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            names = [argument.arg for argument in function.args.args]
            defaults = [_literal(value) for value in function.args.defaults]
            values = [REQUIRED] * (len(names) - len(defaults)) + defaults
            for name, value in zip(names, values, strict=True):
                if name not in OBJECTS:
                    yield name, value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _check_argument(block: str, name: str, value: Any, known: dict[str, Any]) -> None:
    if name not in known:
        hint = did_you_mean(name, known) or f"; it has {listed(known)}"
        _refuse(f"arguments.{name} is no argument of {block}{hint}")
    default = known[name]
    # Not isinstance, which takes true for a whole number.
    if type(default) in (int, float) and type(value) not in (int, float, type(None)):
        _refuse(f"arguments.{name} must be a number or null, such as {default} (got {value!r})")
    if isinstance(default, bool) and not isinstance(value, bool):
        _refuse(f"arguments.{name} must be true or false (got {value!r})")


def _refuse(message: str) -> None:
    raise PydanticCustomError("filter", "{message}", {"message": message})
