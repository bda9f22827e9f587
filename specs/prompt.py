"""A prompt: what a writer is asked, one YAML file each in specs/prompts/<stage>, and the templates
that write offline.

In a template {name} is a slot, [a|b] a choice. A slot is a fact of the document (ABOUT, PEOPLE) or
a part: sentences of the prompt itself, of specs/prompts/shared.yaml, or of its row for the hazard
or the milder concern of the page."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from specs.messages import Location
from specs.spec import Name, Spec
from specs.yaml_source import Problem, SpecError, YamlFile, check

PROMPTS = Path(__file__).parent / "prompts"
SHARED = PROMPTS / "shared.yaml"
HAZARDS = PROMPTS.parent / "hazards.yaml"
STAGES = ("rephrase", "refuse", "educate")
SLOT = re.compile(r"\{(\w+)\}")

# What a template may say of a document. `doing` and `act` need an act that the page names (stealing
# the bicycle, steal the bicycle); `subject` is the act or, where only the hazard is known, the
# matter in general; `kept` are sentences of the page that are safe when read alone, `topic` is what
# it speaks of.
ABOUT = ("act", "doing", "object", "subject", "topic", "kept")
PEOPLE = ("name", "friend", "asker", "answerer")
ONCE = (
    "matter",
    "principle",
)  # parts of a hazard that are drawn once, so that a text speaks of one

Sentence = Annotated[str, Field(min_length=1)]
Sentences = Annotated[
    list[Sentence], Field(min_length=1, description="alternatives, of which one is drawn")
]
Pair = Annotated[
    list[str], Field(min_length=2, max_length=2, description="the two roles of a dialogue")
]


class Speakers(Spec):
    """Who speaks in a dialogue, drawn per document (paper §3: random names or roles in place of
    User and Assistant).
    """

    roles: list[Pair] = Field(
        description="pairs such as [Student, Teacher]; empty for given names alone"
    )
    names: float = Field(ge=0, le=1, description="the share of dialogues between two given names")


class Templates(Spec):
    """What the template engine writes: whole texts on a hazard and on a milder page, and the parts
    they are made of.
    """

    speakers: Speakers | None = Field(description="null where nobody speaks")
    hazard: Sentences
    page: Sentences
    parts: dict[Name, Sentences]


class Prompt(Spec):
    """One way of writing. A change of its words is a new version."""

    id: str = Field(
        pattern=r"^[a-z]+/[a-z0-9_]+$", description="<stage>/<name>, as the file is called"
    )
    version: PositiveInt
    style: Name
    writes: Literal["text", "refusal"] = Field(
        description="refusal: User and Assistant, whose names are drawn after it"
    )
    instruction: str = Field(
        min_length=1, description="what a language model is asked, and the templates follow"
    )
    templates: Templates

    @classmethod
    def read(cls, path: Path) -> Self:
        """The prompt of a file."""
        return check(cls, YamlFile(path))


class Hazard(Spec):
    """How one speaks of a hazard category without teaching it."""

    matter: Sentences = Field(description="noun phrases, singular: the matter in general")
    verdict: Sentences = Field(description="fits `stealing is …` and `it is … to steal`")
    reason: Sentences = Field(description="clauses that fit behind `because`")
    principle: Sentences = Field(description="noun phrases: what is protected")
    alternative: Sentences = Field(description="what one could do instead, from the base verb on")
    help: Sentences = Field(description="whom to ask")


class Concern(Spec):
    """How one speaks of what makes a page mildly unsafe."""

    keeps: bool = Field(
        description="whether harmless sentences are kept; not where a page's claims are the problem"
    )
    concern: Sentences = Field(description="noun phrases")
    note: Sentences = Field(description="whole sentences, safe when read alone")


class Shared(Spec):
    """specs/prompts/shared.yaml: what prompts of a stage ask alike, and the words that all
    templates share.
    """

    instructions: dict[Name, Sentence] = Field(
        description="what a stage tells a language model in the system's turn"
    )
    frame: str = Field(
        pattern=r"(?s)\{instruction\}.*\{fence\}.*\{document\}.*\{fence\}",
        description="the user's turn: the prompt's instruction, and the document between two fences",
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
        """The words of specs/prompts/shared.yaml."""
        return check(cls, YamlFile(path))

    def parts_of(self, prompt: Prompt, row: Hazard | Concern) -> dict[str, list[str]]:
        """Every part that a text of this prompt on that hazard or concern may be made of."""
        return {**self.parts, **row.model_dump(exclude={"keeps"}), **prompt.templates.parts}


def one_line(text: str) -> str:
    """A text of a YAML file, however it was broken into lines there."""
    return " ".join(text.split())


def problems() -> list[Problem]:
    """What is wrong with the prompts of the repository, each with file and line."""
    found: list[Problem] = []
    try:
        shared = Shared.read()
    except SpecError as error:
        return error.problems
    for path in [path for stage in STAGES for path in sorted((PROMPTS / stage).glob("*.yaml"))]:
        try:
            found += problems_of(path, shared)
        except SpecError as error:
            found += error.problems
    return found


def problems_of(path: Path, shared: Shared) -> Iterator[Problem]:
    """What the grammar alone cannot see: an id that is not the file's, a slot that nothing fills,
    an unused part.

    Raises SpecError when the file does not follow the grammar.
    """
    file = YamlFile(path)
    prompt = check(Prompt, file)
    expected = f"{path.parent.name}/{path.stem}"
    if prompt.id != expected:
        yield file.problem(("id",), f"must be {expected}, as the file is called (got {prompt.id})")
    parts = prompt.templates.parts
    known = {*ABOUT, *PEOPLE, *shared.parts, *Hazard.model_fields, *Concern.model_fields, *parts}
    for at, template in _templates(prompt):
        yield from (
            file.problem(("templates", *at), message) for message in _mistakes(template, known)
        )
    used = {slot for _, template in _templates(prompt) for slot in SLOT.findall(template)}
    for part in parts:
        if part not in used:
            yield file.problem(
                ("templates", "parts", part), "is used by no template; use it or leave it out"
            )
        if part in _needs(parts, part):
            yield file.problem(
                ("templates", "parts", part), "is made of itself; write it in other parts"
            )


def _templates(prompt: Prompt) -> Iterator[tuple[Location, str]]:
    templates = prompt.templates
    yield from ((("hazard", place), text) for place, text in enumerate(templates.hazard))
    yield from ((("page", place), text) for place, text in enumerate(templates.page))
    for part, texts in templates.parts.items():
        yield from ((("parts", part, place), text) for place, text in enumerate(texts))


def _mistakes(template: str, known: set[str]) -> Iterator[str]:
    for slot in SLOT.findall(template):
        if slot not in known:
            close = difflib.get_close_matches(slot, known, 1)
            hint = f"write {{{close[0]}}}" if close else "add it to templates.parts"
            yield f"has the slot {{{slot}}}, which nothing fills; {hint}"
    if template.count("[") != template.count("]") or len(SLOT.findall(template)) != template.count(
        "{"
    ):
        yield "opens a bracket that it does not close; write {slot} or [a|b]"


def _needs(parts: Mapping[str, list[str]], part: str) -> set[str]:
    """The parts that a part is made of, directly or not."""
    found: set[str] = set()
    waiting = [part]
    while waiting:
        slots = {
            slot for text in parts.get(waiting.pop(), ()) for slot in SLOT.findall(text)
        } - found
        found |= slots
        waiting += slots
    return found
