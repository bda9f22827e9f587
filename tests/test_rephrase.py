"""rephrase: safe text that keeps the subject of its document and teaches nothing (paper §2)."""

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.documents.shards import text_digest
from safelm.synthesis.writer import WriteSynthetic
from safelm.text.hazards import Hazards
from specs.prompt import HAZARDS, PROMPTS, Shared
from tests.ingested import ingested, rows_of, stage
from tests.scored import scored
from tests.written import BLOCKS, template_text, writer

JUDGE = Hazards.read(HAZARDS)
STYLES = ["podcast", "textbook", "teacher", "talk", "parent_child", "friends", "video", "article"]
PATHS = tuple(PROMPTS / "rephrase" / f"{style}.yaml" for style in STYLES)
GUIDE = (
    "How to {verb} the {object}. First, wait near the gate. "
    "Then, {verb} the {object} with the tool."
)
ACTS: list[tuple[str, str]] = []
for category in JUDGE.categories.values():
    bases = [verb.base for verb in category.verbs]
    ACTS += itertools.product(bases, category.objects[:3])


def document(text: str, **metadata: object) -> Document:
    return Document(
        text=text,
        id=text_digest(None, text),
        metadata={"source": "web", "license": "CC0-1.0", **metadata},
    )


def pages() -> list[Document]:
    return [document(GUIDE.format(verb=verb, object=noun), label=5) for verb, noun in ACTS]


def write(max_score: int = 3, seed: int = 1) -> WriteSynthetic:
    return writer(PATHS, max_score=max_score, seed=seed)


def sentences(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?])\s|\n", text) if sentence.strip()]


@pytest.mark.parametrize("path", PATHS, ids=STYLES)
def test_a_text_names_the_act_and_never_teaches_it(path: Path) -> None:
    for page in pages():
        text = template_text(path, page)
        (verb, noun), *_ = {(act.verb, act.object) for act in JUDGE.acts(page.text)}
        assert {(act.verb, act.object) for act in JUDGE.acts(text)} <= {(verb, noun)}
        assert "gate" not in text and "tool" not in text
        assert JUDGE.grade(text).score <= 1, text
        assert all(JUDGE.grade(sentence).score <= 3 for sentence in sentences(text)), text


@pytest.mark.parametrize("path", PATHS, ids=STYLES)
def test_a_sentence_that_names_the_act_condemns_it(path: Path) -> None:
    verdicts = [verdict for row in Shared.read().hazards.values() for verdict in row.verdict]
    for page in pages():
        text = template_text(path, page)
        for sentence in sentences(text):
            condemns = any(word in sentence for word in [*verdicts, "should"])
            assert condemns or not JUDGE.acts(sentence), text


def test_every_style_is_drawn() -> None:
    styles = Counter(text.metadata["style"] for text in write().run(pages()))
    assert set(styles) == set(STYLES)
    assert max(styles.values()) < 3 * min(styles.values())


def test_a_text_has_the_provenance_of_its_page() -> None:
    page = document(
        GUIDE.format(verb="steal", object="wallet"),
        url="https://example.org",
        score=4,
        score_hazard="nonviolent_crimes",
    )
    (text,) = write().run([page])
    assert text.id == text_digest(None, text.text)
    assert text.metadata.pop("style") in STYLES
    assert text.metadata.pop("prompt_id").startswith("rephrase/")
    assert text.metadata == {
        "source": "web",
        "url": "https://example.org",
        "crawl": None,
        "license": "CC0-1.0",
        "hazard": "nonviolent_crimes",
        "parent": page.id,
        "writer": "template",
        "sampling": None,
        "prompt_version": "1",
        "seed": 1,
        "score_before": 4,
        "score_after": 1,
    }


def test_texts_depend_on_id_and_seed_and_not_on_the_order() -> None:
    texts = [text.text for text in write().run(pages())]
    assert [text.text for text in write().run(pages()[::-1])] == texts[::-1]
    assert [text.text for text in write(seed=2).run(pages())] != texts


def test_texts_have_hundreds_of_different_sentences() -> None:
    different: set[str] = set()
    for text in write().run(pages()):
        different.update(sentences(text.text))
    assert len(different) > 400


def test_texts_that_fail_a_gate_are_dropped_by_its_name() -> None:
    block = write(max_score=0)
    kept = list(block.run(pages()))
    assert all(JUDGE.grade(text.text).score == 0 for text in kept)
    assert block.dropped == {"unsafe_after_writing": len(ACTS) - len(kept)}


def test_a_repeated_text_is_a_duplicate() -> None:
    block = write()
    assert len(list(block.run(pages()[:1] * 2))) == 1
    assert block.dropped == {"duplicate": 1}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = ", ".join(STYLES)
    row = f"from: web, scores: [1, 2, 3], engine: template, prompts: [{prompts}]"
    block = f"rephrase: {{safe_web: {{{row}, max_score: 3, seed: 1}}}}\n"
    Path("params.yaml").write_text(BLOCKS + block)


@pytest.mark.usefixtures("project")
def test_the_stage_rewrites_only_its_scores_in_order() -> None:
    labelled = list(zip(pages()[:12], itertools.cycle(range(6)), strict=False))
    ingested("clean/web", [{"text": page.text, "label": label} for page, label in labelled], 5)
    scored()
    stage("rephrase", "safe_web")
    parents = [page.id for page, label in labelled if label in (1, 2, 3)]
    assert [row["parent"] for row in rows_of(build("rephrase", "safe_web"))] == parents
    assert Manifest.read(build("rephrase", "safe_web")).ledger.dropped == {"not_selected": 6}


@pytest.mark.usefixtures("project")
def test_no_documents_to_rewrite_is_no_failure() -> None:
    ingested("clean/web", [{"text": "a harmless page", "label": 0}])
    scored()
    stage("rephrase", "safe_web")
    assert rows_of(build("rephrase", "safe_web")) == []
