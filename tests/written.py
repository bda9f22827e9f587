"""Writers for tests: the block as a stage builds it, and single texts of the template engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.llm import Request, TemplateInput
from safelm.llm.templates.engine import TemplateEngine
from safelm.scoring.registry import SafetyScorer, grader
from safelm.synthesis.writer import WriteSynthetic
from specs.corpus import Gates
from specs.prompt import HAZARDS, SHARED, Prompt
from specs.scorer import Lexicon

GATES = {
    "min_words": 12,
    "max_words": 120,
    "max_length_ratio": 1.0,
    "ngram": 5,
    "max_copied_share": 0.5,
    "max_attempts": 2,
}
BOUNDS = Gates.model_validate(GATES)
TEMPLATE = {"name": "template", "kind": "template"}
BLOCKS = """\
engines: {template: {kind: template}}
gates:
  {min_words: 12, max_words: 120, max_length_ratio: 1.0, ngram: 5, max_copied_share: 0.5,
   max_attempts: 2}
scorers: {lexicon: {kind: lexicon}}
score:
  {sources: [web], scorers: [lexicon], ensemble: {rule: max, of: [lexicon]}, max_shift: null}
"""
ENGINE = TemplateEngine(SHARED, HAZARDS)


def judge() -> SafetyScorer:
    """Return the lexicon judge alone."""
    graders = {"lexicon": grader("lexicon", {"lexicon": Lexicon(kind="lexicon")}, {})}
    return SafetyScorer(graders=graders, rule="max", thresholds={"lexicon": 1})


def writer(
    prompts: Sequence[Path], engine: dict[str, Any] = TEMPLATE, **values: Any
) -> WriteSynthetic:
    """Return the block with the gates of the demo."""
    known = {"gates": BOUNDS, "max_score": 3, "seed": 1, **values}
    return WriteSynthetic(prompts=tuple(prompts), engine=engine, scorer=judge(), **known)


def template_text(path: Path, page: Document) -> str:
    """Write a text on a page with one prompt."""
    prompt = Prompt.read(path)
    document = TemplateInput(page.text, prompt)
    request = Request(str(page.id), prompt.id, prompt.version, (), 1, template=document)
    (answer,) = ENGINE.generate([request])
    return answer.text
