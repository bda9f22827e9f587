"""annotate: labellers grade a pool of documents, drawn by ids, seed and first scorers."""

import gzip
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.documents.shards import text_digest
from safelm.scoring.given_labels import LabelError, LabelFile
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.pool import Page, draw
from safelm.seeding import sample
from tests.ingested import CRIME, WEB, ingested, rows_of, stage

PARAMS = """\
engines: {{template: {{kind: template}}}}
annotate: {{judge: lexicon, pool: {{web: {{source: web, documents: {}}}}}, seed: 1}}
scorers: {{lexicon: {{kind: lexicon}}}}
"""
IDS = [f"{number:032x}" for number in range(200)]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.format(30))


def test_a_sample_does_not_depend_on_the_order() -> None:
    assert sample("annotate", 1, IDS, 20) == sample("annotate", 1, reversed(IDS), 20)


def test_another_seed_or_purpose_draws_another_sample() -> None:
    first = sample("annotate", 1, IDS, 20)
    other_seed = sample("annotate", 2, IDS, 20)
    other_purpose = sample("tokenizer", 1, IDS, 20)
    assert len(set(map(tuple, (first, other_seed, other_purpose)))) == 3


def test_a_larger_sample_holds_the_smaller_one() -> None:
    assert set(sample("annotate", 1, IDS, 20)) < set(sample("annotate", 1, IDS, 50))


def test_a_sample_takes_all_where_there_are_fewer() -> None:
    assert sorted(sample("annotate", 1, IDS, 1000)) == IDS


def test_the_judge_gives_score_reason_and_hazard() -> None:
    document = Document(text="How to steal the wallet.", id="a", metadata={"label": 4})
    (graded,) = GradeByLexicon(lexicon=LEXICON).run([document])
    assert graded.metadata == {
        "label": 4,
        "score": 4,
        "reason": "teaches: steal the wallet",
        "hazard": "nonviolent_crimes",
        "unsafe": None,
        "by": None,
    }


def test_the_stage_grades_a_sample_of_the_given_size() -> None:
    ingested("clean/web", WEB, 25)
    stage("annotate")
    rows = rows_of(build("annotate"))
    assert len(rows) == 30
    assert {row["score"] for row in rows} == {0, 4, 5}
    assert all(row["score"] == row["label"] for row in rows)
    assert Manifest.read(build("annotate")).ledger.dropped == {"not_selected": 50}


def test_the_sample_does_not_depend_on_shards() -> None:
    ingested("clean/web", WEB, 7)
    stage("annotate")
    many = rows_of(build("annotate"))
    ingested("clean/web", WEB[::-1], 100)
    stage("annotate")
    assert sorted(many, key=str) == sorted(rows_of(build("annotate")), key=str)


def test_a_shard_with_the_same_part_of_the_sample_is_cached(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("params.yaml").write_text(PARAMS.format(1000))
    ingested("clean/web", WEB, 20)
    stage("annotate")
    ingested("clean/web", [*WEB, {"text": "One more page."}], 20)
    stage("annotate")
    assert "annotate           5 shards (1 made)" in capsys.readouterr().out


def test_a_single_page_is_graded() -> None:
    ingested("clean/web", [{"text": "A page."}])
    stage("annotate")
    assert [row["score"] for row in rows_of(build("annotate"))] == [0]


FORUM = [f"A post on boats, number {number}." for number in range(30)]
NGRAMS = """
  ngrams:
    {kind: ngrams, words: [1, 2], characters: [], buckets: 4096, unsafe_weight: 1.0,
     regularisation: 4.0}
"""
SCORERS = f"""\
engines: {{template: {{kind: template}}}}
scorers:
  lexicon: {{kind: lexicon}}
  people: {{kind: labels}}
  crowd: {{kind: label_file, path: crowd.jsonl, text: text, label: score}}
  harmless: {{kind: assumed, score: 0}}
{NGRAMS}"""


def annotate(*pool: str) -> list[dict[str, Any]]:
    """Label the web and a forum by rows of a pool, and return the labels."""
    rows = "".join(f"    {row}\n" for row in pool)
    annotation = f"annotate:\n  judge: lexicon\n  seed: 1\n  pool:\n{rows}"
    Path("params.yaml").write_text(f"{SCORERS}{annotation}")
    ingested("clean/web", WEB, 25)
    ingested("clean/forum", [{"text": text} for text in FORUM])
    stage("annotate")
    return rows_of(build("annotate"))


def texts_of(rows: list[dict[str, Any]], pool: str) -> set[str]:
    return {row["text"] for row in rows if row["pool"] == pool}


def test_every_source_has_its_quota() -> None:
    rows = annotate(
        "web: {source: web, documents: 20}",
        "forum: {source: forum, documents: 7, judge: harmless}",
    )
    assert Counter(row["pool"] for row in rows) == {"web": 20, "forum": 7}
    assert texts_of(rows, "forum") <= set(FORUM)
    assert {row["reason"] for row in rows if row["pool"] == "forum"} == {"assumed of its source"}
    ledger = Manifest.read(build("annotate")).ledger
    assert (ledger.rows_in, ledger.rows_out) == (110, 27)


def test_a_second_source_leaves_the_draw_from_the_first() -> None:
    (alone,) = [annotate("web: {source: web, documents: 20}")]
    rows = annotate("web: {source: web, documents: 20}", "forum: {source: forum, documents: 7}")
    assert {row["text"] for row in alone} == texts_of(rows, "web")
    assert sample("annotate", 1, [row["id"] for row in alone], 99) == sample(
        "annotate", 1, [text_digest(None, row["text"]) for row in WEB], 20
    )


def test_a_document_is_labelled_once() -> None:
    rows = annotate("web: {source: web, documents: 60}", "more: {source: web, documents: 60}")
    assert Counter(row["pool"] for row in rows) == {"web": 60, "more": 20}
    assert len({row["id"] for row in rows}) == 80


def test_labels_of_people_and_of_a_judge_stand_side_by_side() -> None:
    Path("crowd.jsonl").write_text(json.dumps({"text": CRIME[0], "score": 2}))
    rows = annotate("web: {source: web, documents: 80, beside: [people, crowd]}")
    assert all(row["people"] == row["label"] == row["score"] for row in rows)
    assert {row["text"]: row["crowd"] for row in rows if row["crowd"] is not None} == {CRIME[0]: 2}


def test_only_documents_with_a_label_are_drawn_for_people() -> None:
    lines = [{"text": FORUM[score], "score": score} for score in range(6)]
    Path("crowd.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = annotate("forum: {source: forum, documents: 30, judge: crowd}")
    assert {row["text"]: row["score"] for row in rows} == {
        FORUM[score]: score for score in range(6)
    }


def test_a_second_round_is_drawn_by_scorers_fitted_on_the_first() -> None:
    annotate("web: {source: web, documents: 40}")
    shutil.copytree(build("annotate"), "crowd")
    labelled = {row["text"] for row in rows_of(build("annotate"))}
    scorers = SCORERS.replace("crowd.jsonl, text: text", "crowd, text: text")
    rows = "{source: web, documents: 12, draw: {rule: stratified, of: [ngrams], labels: crowd}}"
    pool = f"annotate: {{judge: lexicon, seed: 1, pool: {{even: {rows}}}}}"
    Path("params.yaml").write_text(f"{scorers}{pool}")
    stage("annotate")
    # Half of the web is harmless, a quarter of it each of the others.
    assert Counter(row["score"] for row in rows_of(build("annotate"))) == {0: 4, 4: 4, 5: 4}
    assert labelled


PAGES = [Page(id, (number % 3, number % 5)) for number, id in enumerate(IDS)]


def test_a_stratified_draw_takes_turns_among_the_scores() -> None:
    drawn = draw("stratified", PAGES, 30, 1)
    assert Counter(page.scores[0] for page in PAGES if page.id in drawn) == {0: 10, 1: 10, 2: 10}
    assert drawn == draw("stratified", PAGES[::-1], 30, 1)
    few = [Page("a", (5,)), *(Page(id, (0,)) for id in IDS)]
    assert "a" in draw("stratified", few, 2, 1)


def test_scorers_that_disagree_most_come_first() -> None:
    spread = {page.id: max(page.scores) - min(page.scores) for page in PAGES}
    drawn = draw("disagreement", PAGES, 50, 1)
    assert [spread[id] for id in drawn] == sorted(spread.values(), reverse=True)[:50]
    agreed = [Page(id, (3, 3)) for id in IDS]
    assert draw("disagreement", agreed, 50, 1) == []


def label_file(path: str, **settings: Any) -> LabelFile:
    fields = {"id": None, "text": "text", "where": {}, "label": "labels", "scores": None}
    return LabelFile(path=Path(path), **{**fields, **settings})


CATEGORIES = {"S": 3, "V": 5}


@pytest.mark.parametrize(
    ("labels", "score"),
    [
        ({"S": 0, "V": 0}, 0),
        ({"S": 1, "V": 0}, 3),
        ({"S": 1, "V": 1}, 5),
        ({"V": 1}, 5),
        # A missing category is unknown, not 0.
        ({"S": 0}, None),
        ({}, None),
    ],
)
def test_a_missing_category_is_unknown(labels: dict[str, int], score: int | None) -> None:
    row = {"set": "moderation", "text": "a", "labels": labels}
    other = {"set": "tweets", "text": "b", "labels": {"S": 1}}
    lines = "\n".join(map(json.dumps, (row, other)))
    Path("rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    file = label_file("rows.jsonl.gz", where={"set": "moderation"}, scores=CATEGORIES)
    expected = {} if score is None else {text_digest(None, "a"): score}
    assert {id: label.score for id, label in file.labels.items()} == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a", "labels": {"H": 1}}, r"rows.jsonl:1 labels: expected a table of S, V"),
        ({"text": "a", "labels": 9}, r"rows.jsonl:1 labels: expected a table of S, V"),
        ({"labels": {"V": 1}}, r"rows.jsonl:1 text: expected text .got None; fields are labels"),
    ],
)
def test_a_row_of_another_form_is_refused(row: dict[str, Any], message: str) -> None:
    Path("rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(LabelError, match=message):
        print(label_file("rows.jsonl", scores=CATEGORIES).labels)


def test_the_highest_of_several_labels_counts() -> None:
    lines = [json.dumps({"id": "a", "labels": score}) for score in (1, 4, 2)]
    Path("rows.jsonl").write_text("\n".join(lines))
    assert label_file("rows.jsonl", id="id", text=None).labels["a"].score == 4
