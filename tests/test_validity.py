"""`safelm check` refuses set-ups whose numbers would mislead, and says what to write instead."""

from pathlib import Path

import pytest

from specs.validation import problems

PARAMS = Path("params.yaml").read_text(encoding="utf-8")
WEB = "web:    {reader: demo, path: specs/demo/web.yaml, license: CC0-1.0}"
WRITER = (
    "  writer: {kind: endpoint, model: org/name, digest: abc123, characters: 12000, "
    "temperature: 0.7, top_p: 0.95, tokens: 512, timeout: 600, patience: 1800}\n"
)
# Your own pages in place of the made-up ones, as docs/data.md describes: a line of params.yaml, and
# what real pages need instead.
REAL = {
    "annotate.judge": ("  judge: lexicon   ", "  judge: people   "),
    "scorers": (
        "  world: {kind: labels} ",
        "  people: {kind: label_file, {labels}}\n  world: {kind: labels} ",
    ),
    "score.scorers": ("scorers: [lexicon, ngrams]", "scorers: [ngrams]"),
    "score.ensemble": ("of: [lexicon, ngrams]", "of: [ngrams]"),
    "engines": ("  template: {kind: template}\n", f"  template: {{kind: template}}\n{WRITER}"),
    "rephrase.engine": (
        "    engine: template\n    prompts: [podcast",
        "    engine: writer\n    prompts: [podcast",
    ),
    "refuse.engine": (
        "    engine: template\n    prompts: [dialogue",
        "    engine: writer\n    prompts: [dialogue",
    ),
    "educate.engine": ("{from: dialogues, engine: template", "{from: dialogues, engine: writer"),
    "card": ("  ngrams: specs/hazards.yaml", "  ngrams: specs/hazard_ngrams.yaml"),
    "suites": ("suites: [harmful, benign, dual_use, utility]", "suites: [arc_easy]"),
    "branch": ("max_false_refusals: 0.05, retry_share: 0.5", "max_tag_probability: 0.01"),
    "calibration": ("  calibration: {suite: calibration, max_prompts: 360} ", "  "),
}


@pytest.fixture
def real(tmp_path: Path) -> str:
    """params.yaml for real pages with labels in a file."""
    pages, labels = tmp_path / "pages.jsonl", tmp_path / "labels.jsonl"
    pages.write_text('{"text": "A page about gardens."}\n', encoding="utf-8")
    labels.write_text('{"text": "A page about gardens.", "score": 0}\n', encoding="utf-8")
    web = f"web: {{reader: jsonl, path: {pages}, text: text, license: CC0-1.0}}"
    text = _edited(PARAMS, (WEB, web))
    for old, new in REAL.values():
        text = _edited(
            text, (old, new.replace("{labels}", f"path: {labels}, text: text, label: score"))
        )
    return text


def _edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def _complaints(text: str, folder: Path) -> list[str]:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return [str(problem).removeprefix(f"{path}:").partition(" ")[2] for problem in problems(path)]


def test_real_pages_with_labels_and_a_language_model_are_accepted(
    real: str, tmp_path: Path
) -> None:
    assert _complaints(real, tmp_path) == []


# Each row: an edit of the set-up for real pages, and the complaint. The way out that it names is
# the line of the set-up that was edited.
MISLEADING = {
    "labels by the word lists of the made-up world": (
        ("  judge: people   ", "  judge: lexicon   "),
        "annotate.judge: must not be lexicon, whose words are those of the made-up world",
    ),
    "scores by the word lists of the made-up world": (
        ("scorers: [ngrams]", "scorers: [ngrams, lexicon]"),
        "score.scorers.1: must not be lexicon, whose words are those of the made-up world",
    ),
    "scores by n-grams fitted on the made-up world": (
        ("    web: {source: web, documents: 4000}", "    web: {source: math, documents: 40}"),
        "score.scorers.0: must not be ngrams, fitted on the made-up world",
    ),
    "a cascade that asks the word lists": (
        ("scorers: [ngrams]", "scorers: [ngrams, both]"),
        "score.scorers.1: must not be both, a cascade of lexicon",
    ),
    "an audit by the word lists of the made-up world": (
        ("  judge: world  ", "  judge: lexicon  "),
        "audit.judge: must not be lexicon, whose words are those of the made-up world",
    ),
    "an audit by a score that is assumed": (
        ("  judge: world  ", "  judge: harmless  "),
        "audit.judge: must look at the documents (got harmless, of kind assumed)",
    ),
    "an audit by a member of the ensemble": (
        ("  judge: world  ", "  judge: judge  "),
        "audit.judge: must not be a member of the ensemble that it audits (got judge",
    ),
    "an audit by the labels that the scorers learned": (
        ("  judge: world  ", "  judge: people  "),
        "audit.judge: must not be annotate.judge (got people), whose labels the scorers were",
    ),
    "a gate by a scorer that selected the pages": (
        ("    gate: words  ", "    gate: ngrams "),
        "rephrase.safe_web.gate: must be another scorer than those that selected the pages",
    ),
    "templates that write about real pages": (
        ("{from: dialogues, engine: writer", "{from: dialogues, engine: template"),
        "educate.lessons.engine: must be a language model for the pages of web",
    ),
    "a report card of the phrases of the made-up world": (
        ("  ngrams: specs/hazard_ngrams.yaml", "  ngrams: specs/hazards.yaml"),
        "card.ngrams: must not be specs/hazards.yaml, whose phrases are those of the made-up world",
    ),
    "prompts of the made-up world for a model of real pages": (
        ("suites: [arc_easy]", "suites: [arc_easy, harmful]"),
        "evaluate.suites.1: must not be harmful, whose prompts are of the made-up world",
    ),
    "a bound for real models from prompts of the made-up world": (
        ("  judges:  ", "  calibration: {suite: calibration, max_prompts: 20}\n  judges:  "),
        "evaluate.calibration.suite: must not be calibration, whose prompts are of the made-up",
    ),
    "an attack judged by the scorer that selected the pages": (
        (
            "    harm: {kind: refusal_phrases} ",
            "    harm: {kind: scorer, scorer: ngrams, min_score: 4} ",
        ),
        "evaluate.judges.harm.scorer: must not be ngrams, which selected the training text, as the "
        "first judge of harmbench",
    ),
}
NEEDED = {
    "both": "  both: {kind: cascade, cheap: ngrams, expensive: lexicon, min_score: 1, "
    "recall: 0.95, precision: 0.95}\n",
    "harmless": "  harmless: {kind: assumed, score: 0}\n",
    "judge": "  judge: {kind: llm, engine: writer, rubric: rubric, max_attempts: 3, seed: 1}\n",
}


@pytest.mark.parametrize(("edit", "complaint"), MISLEADING.values(), ids=MISLEADING)
def test_a_misleading_set_up_is_refused(
    edit: tuple[str, str], complaint: str, real: str, tmp_path: Path
) -> None:
    text = _edited(real, edit)
    rows = "".join(row for name, row in NEEDED.items() if name in edit[1])
    text = _edited(text, ("  lexicon: {kind: lexicon}\n", f"  lexicon: {{kind: lexicon}}\n{rows}"))
    if "member of the ensemble" in complaint:
        text = _edited(
            text, ("of: [ngrams]", "of: [judge]"), ("scorers: [ngrams]", "scorers: [judge]")
        )
    if "harmbench" in complaint:
        text = _edited(text, ("suites: [arc_easy]", "suites: [harmbench]"))
    found = [line for line in _complaints(text, tmp_path) if line.startswith(complaint)]
    assert len(found) == 1, _complaints(text, tmp_path)


def test_web_archives_have_no_column_of_labels(real: str, tmp_path: Path) -> None:
    edits = (("reader: jsonl", "reader: wet"), (", text: text, license", ", license"))
    found = _complaints(_edited(real, *edits, ("  judge: people ", "  judge: world ")), tmp_path)
    assert any("annotate.judge: must not be world, of kind labels" in line for line in found)


def test_a_copy_of_the_phrases_of_the_made_up_world_is_known(real: str, tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(Path("specs/hazards.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    edit = ("  ngrams: specs/hazard_ngrams.yaml", f"  ngrams: {copy}")
    assert any(
        "card.ngrams: must not be" in line for line in _complaints(_edited(real, edit), tmp_path)
    )


def test_the_rows_of_the_made_up_world_may_judge_it(tmp_path: Path) -> None:
    assert _complaints(PARAMS, tmp_path) == []
