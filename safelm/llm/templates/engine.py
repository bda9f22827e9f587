"""The template engine: modest text, offline, without weights, the same for a document on any
machine.
"""

from collections.abc import Sequence
from pathlib import Path

from safelm.llm.request import Answer, Request, TemplateInput
from safelm.llm.templates.subject import Subject, SubjectFinder
from safelm.llm.templates.text import Templates, draw_people
from safelm.seeding import Draw, pick, stream
from safelm.text.hazards import Hazards
from specs.prompt import ONCE, Prompt, Shared


class TemplateEngine:
    """Writes modest text from templates: offline, without weights, the same for a document on any
    machine.

    It knows of the document what word lists tell (safelm/llm/templates/subject.py), and draws by
    (seed, prompt, document id)."""

    name = "template"
    sampling: str | None = None
    characters: int | None = None

    def __init__(self, shared: Path, hazards: Path) -> None:
        """Read specs/prompts/shared.yaml and specs/hazards.yaml."""
        self.shared = Shared.read(shared)
        self.reader = SubjectFinder(Hazards.read(hazards), self.shared)
        self._templates: dict[tuple[str, int, str], Templates] = {}

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request; its text is empty where no template fits."""
        return [Answer(self.text(request, request.template)) for request in requests if request.template]

    def text(self, request: Request, page: TemplateInput) -> str:
        """A text on what the document is about, in the style of the prompt."""
        subject, prompt = self.reader.subject(page.text, page.hazard), page.prompt
        again = (request.attempt,) if request.attempt else ()
        draw = stream(request.seed, prompt.id, request.id, *again)
        facts = {
            **draw_people(self.shared.names, prompt.templates.speakers, draw),
            **self.once(subject, draw),
        }
        return self.templates(prompt, subject).write("text", {**facts, **subject.facts}, draw)

    def once(self, subject: Subject, draw: Draw) -> dict[str, str]:
        """What a text on a hazard says alike all through; its subject is the matter, where no act
        is known.
        """
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
            row = (
                shared.hazards[subject.hazard]
                if subject.hazard
                else shared.concerns[subject.concern]
            )
            whole = own.hazard if subject.hazard else own.page
            self._templates[key] = Templates({**shared.parts_of(prompt, row), "text": whole})
        return self._templates[key]
