"""The one door for language models: requests in, texts out, in their order. An engine is a row of ENGINES."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safelm.grammar import Draw, pick, stream
from safelm.hazards import Hazards
from safelm.writing.subject import Reader, Subject
from safelm.writing.templates import Templates
from specs.prompt import ONCE, Prompt, Shared, Speakers
from specs.tokens import SPECIAL


@dataclass(frozen=True)
class Request:
    """What is asked about one document. Its text is data: it never becomes a part of the prompt's own words."""

    id: str
    text: str
    prompt: Prompt
    seed: int
    hazard: str | None = None  # the category that the scorers named, if any


class Engine(Protocol):
    """What answers requests."""

    @property
    def name(self) -> str:
        """Recorded with each text, as its writer."""

    def write(self, requests: Sequence[Request]) -> Iterator[str]:
        """One text for each request, in their order; empty where there is none."""


class TemplateEngine:
    """Writes modest text from templates: offline, without weights, the same for a document on any machine.

    It knows of the document what word lists tell (safelm/writing/subject.py), and draws by (seed, prompt, document id).
    """

    name = "template"

    def __init__(self, shared: Path, hazards: Path) -> None:
        """Read specs/prompts/shared.yaml and specs/hazards.yaml."""
        self.shared = Shared.read(shared)
        self.reader = Reader(Hazards.read(hazards), self.shared)
        self._templates: dict[tuple[str, int, str], Templates] = {}

    def write(self, requests: Sequence[Request]) -> Iterator[str]:
        """One text for each request."""
        return map(self.answer, requests)

    def answer(self, request: Request) -> str:
        """A text on what the document is about, in the style of the prompt."""
        subject = self.reader.subject(request.text, request.hazard)
        draw = stream(request.seed, request.prompt.id, request.id)
        facts = {**self.people(request.prompt.templates.speakers, draw), **self.once(subject, draw), **subject.facts}
        return self.templates(request.prompt, subject).write("text", facts, draw)

    def people(self, speakers: Speakers | None, draw: Draw) -> dict[str, str]:
        """Two given names that differ and, in a dialogue, who speaks."""
        names = self.shared.names
        first = int(draw() * len(names))
        friend = names[(first + 1 + int(draw() * (len(names) - 1))) % len(names)]
        people = {"name": names[first], "friend": friend}
        if speakers is None:
            return people
        pair = [names[first], friend] if draw() < speakers.names else pick(speakers.roles, draw)
        return {**people, "asker": pair[0], "answerer": pair[1]}

    def once(self, subject: Subject, draw: Draw) -> dict[str, str]:
        """What a text on a hazard says alike all through; its subject is the matter, where no act is known."""
        if subject.hazard is None:
            return {}
        row = self.shared.hazards[subject.hazard]
        drawn = {name: pick(getattr(row, name), draw) for name in ONCE}
        return {**drawn, "subject": drawn["matter"]}

    def templates(self, prompt: Prompt, subject: Subject) -> Templates:
        """The parts of a text of this prompt on this subject; parsed once."""
        key = (prompt.id, prompt.version, subject.hazard or subject.concern)
        if key not in self._templates:
            shared, own = self.shared, prompt.templates
            row = shared.hazards[subject.hazard] if subject.hazard else shared.concerns[subject.concern]
            whole = own.hazard if subject.hazard else own.page
            self._templates[key] = Templates({**shared.parts_of(prompt, row), "text": whole})
        return self._templates[key]


ENGINES: dict[str, Callable[[Path, Path], Engine]] = {"template": TemplateEngine}


def open_engine(name: str, shared: Path, hazards: Path) -> Engine:
    """The engine that a block of params.yaml names."""
    return ENGINES[name](shared, hazards)


def as_data(text: str) -> str:
    """A document as it goes into a request: without special tokens, which a writer must neither read nor repeat."""
    for token in SPECIAL:
        text = text.replace(token, "")
    return text
