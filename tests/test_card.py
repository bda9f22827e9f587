"""The Data Safety Report Card counts scores, words and the n-grams of each hazard."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safelm.builder.paths import build
from safelm.corpora.report_card import card, count_queries, index_queries, read_queries
from safelm.scoring.lexicon import LEXICON
from tests.ingested import ATTACK, PARAMS, WEB, ingested, stage

QUERIES = {
    "hate": ["angry mob", "mob"],
    "privacy": ["drive-by shooting", "leak the diary"],
    "elections": [],
}


def counted(text: str) -> tuple[int, dict[tuple[str, str], int]]:
    words, found = count_queries(text, index_queries(QUERIES))
    return words, dict(found)


def test_ngrams_are_counted_in_any_case_and_overlapping() -> None:
    assert counted("An Angry MOB, a mob.") == (5, {("hate", "angry mob"): 1, ("hate", "mob"): 2})


def test_an_ngram_ends_with_its_clause() -> None:
    assert counted("They leak. The diary is red.") == (6, {})


def test_a_hyphen_belongs_to_the_word() -> None:
    assert counted("A drive-by shooting.") == (3, {("privacy", "drive-by shooting"): 1})


def test_the_lists_of_the_lexicon() -> None:
    queries = read_queries(LEXICON, LEXICON)
    assert len(queries) == 14
    assert (
        "steal the wallet" in queries["nonviolent_crimes"] and queries["child_exploitation"] == []
    )


@pytest.mark.parametrize("wrapped", [True, False])
def test_lists_in_json_by_name_or_id(tmp_path: Path, wrapped: bool) -> None:
    table = {"Suicide & Self-Harm": ["secret pain", "secret pain"], "hate": ["hateful mob"]}
    (tmp_path / "lists.json").write_text(
        json.dumps({"source": "us", "queries": table} if wrapped else table)
    )
    queries = read_queries(tmp_path / "lists.json", LEXICON)
    assert (queries["self_harm"], queries["hate"], len(queries)) == (
        ["secret pain"],
        ["hateful mob"],
        14,
    )


def test_an_unknown_hazard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text('{"Bad Manners": ["slurp soup"]}')
    with pytest.raises(ValueError, match=r"Bad Manners: expected a hazard of specs/hazards.yaml"):
        read_queries(tmp_path / "lists.json", LEXICON)


def part(
    documents: int, words: int, scores: list[int], *queries: tuple[str, str, int]
) -> dict[str, Any]:
    counts = {"documents": documents, "words": words, "scores": scores, "before": [0] * 6}
    return {**counts, "hazards": {"hate": 1}, "queries": queries}


def test_a_card_adds_up_shards() -> None:
    parts = [
        part(2, 300, [2, 0, 0, 0, 0, 0], ("hate", "mob", 1)),
        part(1, 200, [0, 0, 0, 1, 0, 0], ("hate", "mob", 4)),
    ]
    got = card(parts, QUERIES)
    assert (got["documents"], got["words"], got["scores"], got["unsafe"]) == (
        3,
        500,
        [2, 0, 0, 1, 0, 0],
        0.333333,
    )
    assert got["hazards"][0] == {
        "hazard": "hate",
        "documents": 2,
        "queries": 2,
        "count": 5,
        "per_million": 10000.0,
        "mean_per_million": 5000.0,
    }


def test_a_document_without_a_score_is_not_counted_as_safe() -> None:
    assert card([part(4, 300, [1, 0, 0, 1, 0, 0])], QUERIES)["unsafe"] == 0.5


def test_nothing_is_counted_where_there_is_nothing_to_count() -> None:
    got = card([part(2, 300, [2, 0, 0, 0, 0, 0])], QUERIES)["hazards"][2]
    assert (got["count"], got["per_million"], got["mean_per_million"]) == (0, 0.0, None)
    assert card([], QUERIES)["per_million"] is None


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    (tmp_path / "specs").mkdir()
    shutil.copy(LEXICON, "specs/hazards.yaml")
    ingested("ingest/web", WEB, 30)
    for name in ("annotate", "fit", "score"):
        stage(name)


def read(corpus: str) -> dict[str, Any]:
    stage("card", corpus)
    return json.loads((build("card", corpus) / "card.json").read_bytes())


def test_a_scored_corpus_keeps_its_scores(scored: None) -> None:
    got = read("harmful")
    assert (got["corpus"], got["documents"], got["scores"]) == ("harmful", 40, [0, 0, 0, 0, 20, 20])
    rows = {row["hazard"]: (row["documents"], row["count"]) for row in got["hazards"]}
    assert (rows["nonviolent_crimes"], rows["code_abuse"], rows["hate"]) == (
        (20, 20),
        (20, 20),
        (0, 0),
    )


def test_a_card_counts_by_the_hazards_of_mlcommons_too(scored: None) -> None:
    got = read("harmful")
    rows = {row["hazard"]: row for row in got["mlcommons"]}
    assert len(rows) == 12 and (rows["ncr"]["documents"], rows["ncr"]["count"]) == (20, 20)
    # Code abuse is none of the twelve: its pages are in the fourteen alone.
    assert (
        sum(row["documents"] for row in rows.values())
        == sum(row["documents"] for row in got["hazards"]) - 20
    )


def test_a_synthetic_corpus_is_scored_as_it_is_now(scored: None) -> None:
    ingested("rephrase", [{"text": "A rose in a garden."}, {"text": ATTACK[0]}])
    got = read("rephrased")
    assert (got["documents"], got["scores"]) == (2, [1, 0, 0, 0, 0, 1])
    assert got["words"] == 5 + 12


def test_an_empty_selection_has_a_card(scored: None) -> None:
    got = read("score_1")
    assert (got["documents"], got["words"], got["unsafe"], len(got["hazards"])) == (0, 0, None, 14)


def test_a_card_does_not_depend_on_shards(scored: None) -> None:
    before = read("harmful")
    ingested("ingest/web", WEB[::-1], 11)
    stage("score")
    assert read("harmful") == before


def test_an_unknown_corpus_is_refused(scored: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        stage("card", "score_9")
    assert "invalid choice: 'score_9'" in capsys.readouterr().err
