"""Template engine: modest text, offline and without weights, the same on any machine."""

from collections.abc import Sequence
from pathlib import Path

from safelm.llm.engine import Answer, Request, TemplateInput
from safelm.llm.templates.subject import Subject, SubjectFinder
from safelm.llm.templates.text import Templates, draw_people
from safelm.seeding import Draw, pick, stream
from safelm.text.hazards import Hazards
from specs.prompt import ONCE, Prompt, Shared


class TemplateEngine:
    """Writes text from templates.

    Its knowledge of a document comes from word lists (safelm/llm/templates/subject.py). Draws
    depend on the seed, the prompt and the document's id.
    """

    name = "template"
    sampling: str | None = None
    characters: int | None = None

    def __init__(self, shared: Path, hazards: Path) -> None:
        """Read specs/prompts/shared.yaml and specs/hazards.yaml."""
        self.shared = Shared.read(shared)
        self.finder = SubjectFinder(Hazards.read(hazards), self.shared)
        self._templates: dict[tuple[str, int, str], Templates] = {}

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return one answer for each request; its text is empty where no template fits."""
        return [
            Answer(self.text(request, request.template)) for request in requests if request.template
        ]

    def text(self, request: Request, document: TemplateInput) -> str:
        """Write a text on the document's subject in the style of the prompt."""
        prompt = document.prompt
        subject = self.finder.subject(document.text, document.hazard)
        # The first attempt's key is that of texts that were never repeated.
        attempt = (request.attempt,) if request.attempt else ()
        draw = stream(request.seed, prompt.id, request.id, *attempt)
        # The order of the draws shapes the text.
        people = draw_people(self.shared.names, prompt.templates.speakers, draw)
        facts = {**people, **self.constant_parts(subject, draw), **subject.facts}
        return self.templates(prompt, subject).write("text", facts, draw)

    def constant_parts(self, subject: Subject, draw: Draw) -> dict[str, str]:
        """Draw the parts that a text on a hazard keeps from beginning to end.

        Where no act is known, the hazard in general is the subject.
        """
        if subject.hazard is None:
            return {}
        row = self.shared.hazards[subject.hazard]
        drawn = {name: pick(getattr(row, name), draw) for name in ONCE}
        return {**drawn, "subject": drawn["matter"]}

    def templates(self, prompt: Prompt, subject: Subject) -> Templates:
        """Return the templates of a prompt for a subject, parsed once."""
        key = (prompt.id, prompt.version, subject.hazard or subject.concern)
        if key not in self._templates:
            if subject.hazard:
                texts = prompt.templates.hazard
                parts = self.shared.parts_of(prompt, self.shared.hazards[subject.hazard])
            else:
                texts = prompt.templates.page
                parts = self.shared.parts_of(prompt, self.shared.concerns[subject.concern])
            self._templates[key] = Templates({**parts, "text": texts})
        return self._templates[key]
