"""Writers for the tests: the block as a stage makes it, and what a test asks of an engine directly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.llm import Page, Request
from safelm.llm.templates.engine import TemplateEngine
from safelm.scoring.registry import SafetyScorer, grader
from safelm.synthesis.gates import Bounds
from safelm.synthesis.writer import Write
from specs.prompt import HAZARDS, SHARED, Prompt
from specs.scorer import Lexicon

GATES = {
    "shortest": 12,
    "longest": 120,
    "growth": 1.0,
    "ngram": 5,
    "copied": 0.5,
    "english": 0.15,
    "rounds": 2,
}
BOUNDS = Bounds(**GATES)  # type: ignore[arg-type]
TEMPLATE = {"name": "template", "kind": "template"}
BLOCKS = """\
engines: {template: {kind: template}}
gates: {shortest: 12, longest: 120, growth: 1.0, ngram: 5, copied: 0.5, english: 0.15, rounds: 2}
scorers: {lexicon: {kind: lexicon}}
score: {scorers: [lexicon], ensemble: {rule: max, of: [lexicon]}}
"""
ENGINE = TemplateEngine(SHARED, HAZARDS)


def judge() -> SafetyScorer:
    """The lexicon judge alone."""
    graders = {"lexicon": grader("lexicon", {"lexicon": Lexicon(kind="lexicon")}, {})}
    return SafetyScorer(graders=graders, rule="max", of={"lexicon": 1})


def writer(prompts: Sequence[Path], engine: dict[str, Any] = TEMPLATE, **values: Any) -> Write:
    """The block, with the gates of the miniature."""
    known = {"gates": GATES, "max_score": 3, "seed": 1, **values}
    return Write(prompts=tuple(prompts), engine=engine, scorer=judge(), **known)


def template_text(path: Path, page: Document) -> str:
    """What the template engine writes of a page with one prompt."""
    prompt = Prompt.read(path)
    request = Request(str(page.id), prompt.id, prompt.version, (), 1, page=Page(page.text, prompt))
    (answer,) = ENGINE.ask([request])
    return answer.text
