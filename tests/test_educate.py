"""educate: an article on the principle behind a refusal, without a dialogue (paper §3)."""

import re
from pathlib import Path

import pytest

from safelm.builder.paths import build
from safelm.synthesis.writer import WriteSynthetic
from safelm.text.hazards import Hazards
from specs.prompt import HAZARDS, PROMPTS, Shared
from tests.ingested import ingested, rows_of, stage
from tests.test_refuse import write as refuse
from tests.test_rephrase import document, pages
from tests.written import BLOCKS, writer

JUDGE = Hazards.read(HAZARDS)


def write() -> WriteSynthetic:
    return writer([PROMPTS / "educate" / "article.yaml"])


DIALOGUES = list(refuse().run(pages()))
ARTICLES = list(write().run(DIALOGUES))
TEXTS = [article.text for article in ARTICLES]


def test_nearly_every_dialogue_becomes_an_article() -> None:
    assert len(ARTICLES) >= 0.98 * len(DIALOGUES)
    assert all(JUDGE.grade(article.text).score <= 1 for article in ARTICLES)


def test_an_article_keeps_the_subject_of_its_dialogue() -> None:
    dialogues = {dialogue.id: dialogue for dialogue in DIALOGUES}
    for article in ARTICLES:
        act = JUDGE.acts(dialogues[article.metadata["parent"]].text)[0]
        row = Shared.read().hazards[act.hazard]
        words = [act.object, *row.matter, *row.principle]
        assert any(word.lower() in article.text.lower() for word in words), article.text


def test_nobody_speaks_and_nobody_is_addressed() -> None:
    speaks = re.compile(r"^\w+: |\bI\b|\b(?:you|your|we)\b", re.MULTILINE)
    titles = re.compile(r"^[\w ]+: (?=Why )")  # `Honesty: Why …` is a heading
    assert not [text for text in TEXTS if speaks.search(titles.sub("", text))]


def test_articles_have_hundreds_of_different_sentences() -> None:
    sentences = set(re.split(r"(?<=[.!?])\s|\n", "\n".join(TEXTS)))
    assert len(sentences) > 400


def test_an_article_on_a_mild_subject_keeps_its_topic() -> None:
    page = document("The oven is new. We like the oven and the cake.", score=5)
    (dialogue,) = refuse().run([page])
    variants = [document(dialogue.text + " " * count) for count in range(9)]
    texts = {article.text for article in write().run(variants)}
    assert any('"the oven"' in text for text in texts)
    assert not [text for text in texts if "can't" in text]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = "{from: dialogues, engine: template, prompts: [article], max_score: 3, seed: 1}"
    Path("params.yaml").write_text(f"{BLOCKS}educate: {{lessons: {row}}}\n")


@pytest.mark.usefixtures("project")
def test_the_stage_reads_the_refusals_in_their_order() -> None:
    dialogues = DIALOGUES[:9]
    ingested("refuse/dialogues", [{"text": page.text, **page.metadata} for page in dialogues], 4)
    stage("educate", "lessons")
    rows = rows_of(build("educate", "lessons"))
    assert [row["parent"] for row in rows] == [dialogue.id for dialogue in dialogues]
    assert {row["prompt_id"] for row in rows} == {"educate/article"}


@pytest.mark.usefixtures("project")
def test_no_refusals_are_no_failure() -> None:
    ingested("refuse/dialogues", [])
    stage("educate", "lessons")
    assert rows_of(build("educate", "lessons")) == []
