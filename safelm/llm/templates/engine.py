"""Template engine: simple texts from templates, for the demo; no weights, no network."""

from collections.abc import Sequence
from pathlib import Path

from safelm.llm.engine import Answer, Request, TemplateInput
from safelm.llm.templates.subject import Subject, SubjectFinder
from safelm.llm.templates.text import Templates, draw_people
from safelm.seeding import Draw, pick, stream
from safelm.text.hazards import Hazards
from specs.prompt import ONCE, Concern, Hazard, Prompt, Shared


class TemplateEngine:
    """Writes texts on the subject of a document, which word lists find (subject.py).

    Draws depend on the seed, the prompt, the document's id and the attempt.
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
        """Return one answer for each request; the text is empty where no template fits."""
        answers = []
        for request in requests:
            if request.template:
                text = self.text(request, request.template)
                answers.append(Answer(text))
        return answers

    def reject(self, requests: Sequence[Request]) -> None:
        """Do nothing: a template would write the same again."""

    def text(self, request: Request, document: TemplateInput) -> str:
        """Write a text on the document's subject in the style of the prompt."""
        prompt = document.prompt
        subject = self.finder.subject(document.text, document.hazard)
        # The key of the first attempt is without a number: changing it would change every text.
        attempt = (request.attempt,) if request.attempt else ()
        draw = stream(request.seed, prompt.id, request.id, *attempt)
        # In this order: each draw continues the same stream, so the order shapes the text.
        people = draw_people(self.shared.names, prompt.templates.speakers, draw)
        parts = self.constant_parts(subject, draw)
        # Last, so that facts of the document replace drawn ones.
        facts = {**people, **parts, **subject.facts}
        templates = self.templates(prompt, subject)
        return templates.write("text", facts, draw)

    def constant_parts(self, subject: Subject, draw: Draw) -> dict[str, str]:
        """Draw the parts that stay the same within a text on a hazard.

        The hazard in general is the subject, unless the document names an act.
        """
        if subject.hazard is None:
            return {}
        row = self.shared.hazards[subject.hazard]
        drawn = {name: pick(getattr(row, name), draw) for name in ONCE}
        return {**drawn, "subject": drawn["matter"]}

    def templates(self, prompt: Prompt, subject: Subject) -> Templates:
        """Return the templates of a prompt for a subject, which are parsed once."""
        key = (prompt.id, prompt.version, subject.hazard or subject.concern)
        if key not in self._templates:
            row: Hazard | Concern
            if subject.hazard:
                texts = prompt.templates.hazard
                row = self.shared.hazards[subject.hazard]
            else:
                texts = prompt.templates.page
                row = self.shared.concerns[subject.concern]
            parts = self.shared.parts_of(prompt, row)
            self._templates[key] = Templates({**parts, "text": texts})
        return self._templates[key]
