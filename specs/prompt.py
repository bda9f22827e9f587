"""Prompts for writers, with templates for writing offline: files of specs/prompts/<stage>.

In a template, {name} is a slot and [a|b] a choice. A slot is filled with a fact of the document
(ABOUT, PEOPLE) or with a part. Parts are sentences of the prompt itself, of
specs/prompts/shared.yaml, or of that file's row for the page's hazard or milder concern.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from specs import SPECS
from specs.messages import did_you_mean
from specs.spec import Name, Spec, Text, values_at
from specs.yaml_source import Problem, Problems, SpecError, YamlFile, check, validate

PROMPTS = SPECS / "prompts"
SHARED = PROMPTS / "shared.yaml"
HAZARDS = PROMPTS.parent / "hazards.yaml"
STAGES = ("rephrase", "refuse", "educate")
TEMPLATES = ("templates.hazard.*", "templates.page.*", "templates.parts.*.*")
SLOT = re.compile(r"\{(\w+)\}")

# Facts of a document:
#   act, doing  an act that the page names: steal the bicycle, stealing the bicycle
#   subject     the act or, if only the hazard is known, the matter in general
#   kept        sentences of the page that are safe when read alone
ABOUT = ("act", "doing", "object", "subject", "topic", "kept")
PEOPLE = ("name", "friend", "asker", "answerer")
# Parts of a hazard that are drawn once for a text, so that it keeps to one.
ONCE = ("matter", "principle")


Sentences = Annotated[
    list[Text], Field(min_length=1, description="alternatives, of which one is drawn")
]
Pair = Annotated[
    list[str], Field(min_length=2, max_length=2, description="the two roles of a dialogue")
]


class Speakers(Spec):
    """The speakers of a dialogue, drawn for each document.

    Random names or roles take the place of User and Assistant (paper §3).
    """

    roles: list[Pair] = Field(
        description="pairs such as [Student, Teacher]; empty for given names only"
    )
    names: float = Field(ge=0, le=1, description="the share of dialogues between two given names")


class Templates(Spec):
    """Whole texts on a hazard and on a milder page, and the parts they are made of."""

    speakers: Speakers | None = Field(description="null where nobody speaks")
    hazard: Sentences
    page: Sentences
    parts: dict[Name, Sentences]


class Prompt(Spec):
    """One way of writing. Changed words need a new version."""

    id: str = Field(
        pattern=r"^[a-z]+/[a-z0-9_]+$", description="<stage>/<name>, as the file is called"
    )
    version: PositiveInt
    style: Name
    writes: Literal["text", "refusal"] = Field(
        description="refusal: User and Assistant, whose names are drawn after it"
    )
    instruction: Text = Field(
        description="the request to a language model; the templates follow it too"
    )
    templates: Templates

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the prompt of a file. Raises SpecError."""
        return validate(cls, path)


class Hazard(Spec):
    """Words for a hazard category that do not teach it."""

    matter: Sentences = Field(description="noun phrases, singular: the matter in general")
    verdict: Sentences = Field(description="fits `stealing is …` and `it is … to steal`")
    reason: Sentences = Field(description="clauses that fit after `because`")
    principle: Sentences = Field(description="noun phrases: what is protected")
    alternative: Sentences = Field(description="what one could do instead, from the base verb on")
    help: Sentences = Field(description="whom to ask")


class Concern(Spec):
    """Words for the concern that makes a page mildly unsafe."""

    keeps: bool = Field(
        description="whether harmless sentences are kept; not where a page's claims are the problem"
    )
    concern: Sentences = Field(description="noun phrases")
    note: Sentences = Field(description="whole sentences, safe when read alone")


class Shared(Spec):
    """specs/prompts/shared.yaml: instructions of each stage, and words that all templates share."""

    instructions: dict[Name, Text] = Field(
        description="stage: the instruction in the system's turn"
    )
    frame: str = Field(
        pattern=r"(?s)\{instruction\}.*\{fence\}.*\{document\}.*\{fence\}",
        description="the user's turn: the instruction, and the document between two fences",
    )
    names: Annotated[list[str], Field(min_length=2, description="given names")]
    common: str = Field(
        description="words, with spaces between them, that say nothing of what a page is about"
    )
    omitted: Annotated[
        list[str], Field(min_length=1, description="rude words that a sentence can do without")
    ]
    parts: dict[Name, Sentences]
    hazards: dict[Name, Hazard]
    concerns: dict[str, Concern]

    @classmethod
    def read(cls, path: Path = SHARED) -> Self:
        """Read specs/prompts/shared.yaml. Raises SpecError."""
        return validate(cls, path)

    def parts_of(self, prompt: Prompt, row: Hazard | Concern) -> dict[str, list[str]]:
        """Collect the parts for texts of a prompt on a hazard or concern."""
        return {**self.parts, **row.model_dump(exclude={"keeps"}), **prompt.templates.parts}


def one_line(text: str) -> str:
    """Join the lines of a text in a YAML file."""
    return " ".join(text.split())


def problems() -> Problems:
    """List what is wrong with the prompts of the repository."""
    try:
        shared = Shared.read()
    except SpecError as error:
        return error.problems
    mistakes: Problems = []
    for stage in STAGES:
        for path in sorted((PROMPTS / stage).glob("*.yaml")):
            try:
                mistakes += problems_of(path, shared)
            except SpecError as error:
                mistakes += error.problems
    return mistakes


def problems_of(path: Path, shared: Shared) -> Iterator[Problem]:
    """Yield mistakes beyond the grammar: a wrong id, an unknown slot, an unused part.

    Raises SpecError if the file does not follow the grammar.
    """
    file = YamlFile(path)
    prompt = check(Prompt, file)
    expected = f"{path.parent.name}/{path.stem}"
    if prompt.id != expected:
        yield file.problem(("id",), f"must be {expected}, as the file is called (got {prompt.id})")
    parts = prompt.templates.parts
    known = {*ABOUT, *PEOPLE, *shared.parts, *Hazard.model_fields, *Concern.model_fields, *parts}
    used: set[str] = set()
    for at, template in values_at(prompt, *TEMPLATES):
        used |= set(SLOT.findall(template))
        for message in _mistakes(template, known):
            yield file.problem(at, message)
    for part in parts:
        at = ("templates", "parts", part)
        if part not in used:
            yield file.problem(at, "is used by no template; use it or leave it out")
        if part in _needs(parts, part):
            yield file.problem(at, "is made of itself; write it in other parts")


def _mistakes(template: str, known: set[str]) -> Iterator[str]:
    for slot in SLOT.findall(template):
        if slot not in known:
            hint = did_you_mean(slot, known) or "; add it to templates.parts"
            yield f"has the slot {{{slot}}}, which nothing fills{hint}"
    is_open = template.count("[") != template.count("]")
    if is_open or len(SLOT.findall(template)) != template.count("{"):
        yield "opens a bracket that it does not close; write {slot} or [a|b]"


def _needs(parts: Mapping[str, list[str]], part: str) -> set[str]:
    """Collect the parts that a part is made of, directly or not."""
    needed: set[str] = set()
    waiting = [part]
    while waiting:
        text = " ".join(parts.get(waiting.pop(), ()))
        slots = set(SLOT.findall(text)) - needed
        needed |= slots
        waiting += slots
    return needed
