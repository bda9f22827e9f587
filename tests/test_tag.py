"""Tests of tag: Algorithm 1 of paper §4, the block that applies it, and the stage."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.corpora.tagging import InsertTags
from safelm.documents.shards import text_digest
from safelm.text.tags import insert_tags, word_gaps
from specs.tokens import TAG
from tests.ingested import ingested, rows_of, stage
from tests.scored import scored

ANY_TEXTS = st.text(alphabet=st.characters(exclude_characters="<>"))
# Without the scripts that write no spaces.
TEXTS = st.text(alphabet=st.characters(max_codepoint=0xDFF, exclude_characters="<>"))
RATES = st.floats(0.01, 0.99)
MODES = st.sampled_from(["bernoulli", "exact"])


def tagged(text: str, rate: float = 0.5, mode: str = "bernoulli", seed: int = 1) -> str:
    return insert_tags(text, TAG, rate, Random(seed).random, mode)


def tag_block(rate: float = 0.3, seed: int = 1) -> InsertTags:
    return InsertTags(rate=rate, mode="bernoulli", seed=seed)


def test_a_tag_follows_a_word_directly() -> None:
    assert (
        insert_tags("one two\n three", TAG, 0.5, iter([0.9, 0.1]).__next__, "bernoulli")
        == f"one two{TAG}\n three"
    )


@given(ANY_TEXTS, RATES, MODES)
def test_a_text_without_its_tags_is_unchanged(text: str, rate: float, mode: str) -> None:
    assert tagged(text, rate, mode).replace(TAG, "") == text


@given(TEXTS, RATES, MODES)
def test_every_tag_is_between_two_words_and_none_before_the_first(
    text: str, rate: float, mode: str
) -> None:
    words = text.split()
    with_tags = tagged(text, rate, mode).split()
    assert len(with_tags) == len(words)
    assert all(a in (b, b + TAG) for a, b in zip(with_tags, words, strict=True))
    assert not with_tags or not with_tags[-1].endswith(TAG)


@given(st.integers(0, 300), RATES)
def test_exact_mode_tags_the_rounded_share_of_the_gaps(words: int, rate: float) -> None:
    assert tagged("word " * words, rate, "exact").count(TAG) == round(rate * max(words - 1, 0))


def test_exact_mode_reaches_every_gap() -> None:
    positions = {tagged("a b c d e", 0.25, "exact", seed).index(TAG) for seed in range(100)}
    assert positions == {1, 3, 5, 7}


def test_the_rate_is_that_of_the_paper() -> None:
    words = 40_001
    tags = tagged("w " * words, 0.05).count(TAG)
    # p(n - 1), within four standard deviations
    assert abs(tags - 2000) < 4 * (40_000 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今日は天気です。", ["今日は", "天気です。"]),
        ("私は森を歩いて、猫と話しました。", ["私は", "森を", "歩いて、", "猫と", "話しました。"]),
        (
            "今天是晴天，我在森林里散步。",
            ["今天", "是", "晴天，", "我", "在", "森林", "里", "散步。"],
        ),
        ("วันนี้อากาศดี เราเดินในป่า", ["วัน", "นี้", "อากาศ", "ดี", " เรา", "เดิน", "ใน", "ป่า"]),
        ("In Tokyo 猫が好き。", ["In", " Tokyo", " 猫が", "好き。"]),
        ("나는 숲을 걷는다.", ["나는", " 숲을", " 걷는다."]),
        ("ສະບາຍດີ", ["ສະບາຍດີ"]),
    ],
)
def test_words_are_found_in_scripts_without_spaces(text: str, words: list[str]) -> None:
    edges = [0, *word_gaps(text), len(text)]
    assert [text[start:end] for start, end in pairwise(edges)] == words


def test_an_unspaced_page_gets_its_share_of_tags() -> None:
    page = "私は森を歩いて、猫と話しました。" * 1000
    assert 150 < tagged(page, 0.05).count(TAG) < 350
    assert tagged(page, 0.05).replace(TAG, "") == page


def test_tagged_text_is_refused() -> None:
    with pytest.raises(ValueError, match="without <potentially_unsafe_content>"):
        tagged(f"one{TAG} two")


def document(text: str, **metadata: object) -> Document:
    return Document(text=text, id=text_digest(None, text), metadata={"source": "web", **metadata})


def test_the_block_keeps_the_raw_document_as_parent() -> None:
    raw = document(
        "one two three four five six",
        label=5,
        score=4,
        score_hazard="hate",
        url="https://example.org",
    )
    (tagged_document,) = tag_block(0.9).run([raw])
    assert TAG in tagged_document.text
    assert tagged_document.id == text_digest(None, tagged_document.text)
    assert tagged_document.metadata == {
        **raw.metadata,
        "parent": raw.id,
        "hazard": "hate",
        "seed": 1,
    }


def test_draws_depend_on_id_and_seed_but_not_on_order() -> None:
    documents = [
        document(f"{name} two three four five six seven eight nine ten") for name in "abcdef"
    ]
    texts = [tagged.text for tagged in tag_block().run(documents)]
    assert [tagged.text for tagged in tag_block().run(documents[::-1])] == texts[::-1]
    assert [tagged.text for tagged in tag_block(seed=2).run(documents)] != texts


def test_a_document_that_spells_the_tag_is_dropped_by_name() -> None:
    block = tag_block()
    assert list(block.run([document(f"one {TAG} two")])) == []
    assert block.dropped == {"spells_the_tag": 1}


PAGES = [
    {"text": f"{label} and then some more words that stand here for length", "label": label}
    for label in range(6)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "tags: {half: {from: web, scores: [4, 5], rate: 0.5, mode: exact, seed: 1}}\n"
    )


@pytest.mark.usefixtures("project")
def test_the_stage_tags_only_the_selected_scores() -> None:
    ingested("clean/web", PAGES)
    scored()
    stage("tag", "half")
    rows = rows_of(build("tag", "half"))
    assert [row["label"] for row in rows] == [4, 5]
    assert [row["text"].count(TAG) for row in rows] == [5, 5]  # half of ten gaps
    assert Manifest.read(build("tag", "half")).ledger.dropped == {"not_selected": 4}


@pytest.mark.usefixtures("project")
def test_the_output_does_not_depend_on_shards() -> None:
    outputs = []
    for size in (1, 4):
        ingested("clean/web", PAGES, size)
        scored()
        stage("tag", "half")
        outputs.append(rows_of(build("tag", "half")))
    assert outputs[0] == outputs[1]


@pytest.mark.usefixtures("project")
def test_a_stage_without_documents_to_tag_succeeds() -> None:
    ingested("clean/web", PAGES[:2])
    scored()
    stage("tag", "half")
    assert rows_of(build("tag", "half")) == []
