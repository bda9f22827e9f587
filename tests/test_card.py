"""Tests of card: the Data Safety Report Card counts scores, words and hazard n-grams."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from safelm.builder.paths import build
from safelm.corpora.report_card import WORD, NgramIndex, card, normalise, read_queries
from safelm.scoring.lexicon import LEXICON
from safelm.text.lexicon import BREAKS, words_of
from tests.ingested import ATTACK, PARAMS, WEB, ingested, stage, stages

QUERIES = {
    "hate": ["angry mob", "mob"],
    "privacy": ["drive-by shooting", "leak the diary"],
    "elections": [],
}


def counted(text: str) -> tuple[int, dict[tuple[str, str], int]]:
    ((words, counts),) = NgramIndex(QUERIES).count([text])
    return words, dict(counts)


def test_ngrams_are_counted_in_any_case_and_overlapping() -> None:
    assert counted("An Angry MOB, a mob.") == (5, {("hate", "angry mob"): 1, ("hate", "mob"): 2})


def test_an_ngram_does_not_cross_the_end_of_a_clause() -> None:
    assert counted("They leak. The diary is red.") == (6, {})


def test_a_hyphen_belongs_to_the_word() -> None:
    assert counted("A drive-by shooting.") == (3, {("privacy", "drive-by shooting"): 1})


@pytest.mark.parametrize(
    "text",
    [
        "ANGRY, mob",
        "\u201cangry mob\u201d",
        "'angry \u2013 (mob)'",
        "angry_mob",
        "angry\tmob-",
        "-angry  mob\u2019",
    ],
)
def test_what_stands_around_words_does_not_matter(text: str) -> None:
    assert counted(text) == (2, {("hate", "angry mob"): 1, ("hate", "mob"): 1})


@pytest.mark.parametrize("text", ["angry-mob", "angry mobs", "hangry mob's", "angry's mob-like"])
def test_only_whole_words_match(text: str) -> None:
    assert counted(text)[1] == {}


def test_words_are_those_of_the_lexicon() -> None:
    text = "Ünder 3² \u2019 naïve e\u0301 漢字! o\u2019clock, _x_ a--b ' : 1.5 well-known\n\n-"
    assert counted(text)[0] == sum(word not in BREAKS for word in words_of(text))


def test_an_ngram_of_two_hazards_counts_for_both() -> None:
    queries = {"hate": ["angry mob"], "privacy": ["Angry mob", "..."]}
    ((_, counts),) = NgramIndex(queries).count(["the angry mob..."])
    assert counts == {("hate", "angry mob"): 1, ("privacy", "Angry mob"): 1}


def test_queries_are_read_from_the_lexicon() -> None:
    queries = read_queries(LEXICON, LEXICON)
    assert len(queries) == 14
    assert (
        "steal the wallet" in queries["nonviolent_crimes"] and queries["child_exploitation"] == []
    )


@pytest.mark.parametrize("wrapped", [True, False])
def test_queries_are_read_from_json_by_name_or_id(tmp_path: Path, wrapped: bool) -> None:
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


def test_the_list_for_real_text_has_enough_ngrams_of_every_hazard() -> None:
    queries = read_queries(LEXICON.with_name("hazard_ngrams.yaml"), LEXICON)
    assert all(25 <= len(ngrams) <= 50 for ngrams in queries.values())
    normalised = normalise([ngram for ngrams in queries.values() for ngram in ngrams])
    assert normalised.is_unique().all()
    assert normalised.str.count_matches(WORD).is_between(2, 3).all()


def test_an_unknown_hazard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text('{"Bad Manners": ["slurp soup"]}')
    with pytest.raises(ValueError, match=r"Bad Manners: expected a hazard of specs/hazards.yaml"):
        read_queries(tmp_path / "lists.json", LEXICON)


def row(
    score: int | None, documents: int, words: int, count: int = 0, hazard: str | None = None
) -> dict[str, Any]:
    keys = {"score": score, "score_before": None, "score_hazard": hazard}
    return {**keys, "documents": documents, "words": words, "matches": {"hate": count}}


def test_a_card_adds_up_shards() -> None:
    counts = [row(0, 1, 100), row(0, 1, 200, 1, "hate"), row(3, 1, 200, 4, "hate")]
    values = card(counts, QUERIES)
    assert (values["documents"], values["words"], values["scores"], values["unsafe"]) == (
        3,
        500,
        [2, 0, 0, 1, 0, 0],
        0.333333,
    )
    assert values["hazards"][0] == {
        "hazard": "hate",
        "documents": 2,
        "queries": 2,
        "count": 5,
        "per_million": 10000.0,
        "mean_per_million": 5000.0,
    }


def test_a_card_counts_by_the_score_of_the_source() -> None:
    one = [row(0, 2, 300, 1), row(4, 1, 100, 2)]
    values = card(one + one, QUERIES)
    assert (values["documents"], values["words"]) == (6, 800)
    assert list(values["by_score"]) == ["0", "4"]
    of_score = values["by_score"]["4"]
    assert (of_score["documents"], of_score["words"]) == (2, 200)
    assert of_score["hazards"]["hate"] == {
        "queries": 2,
        "count": 4,
        "per_million": 20000.0,
        "mean_per_million": 10000.0,
    }


def test_a_document_without_a_score_is_not_counted_as_safe() -> None:
    assert card([row(0, 1, 100), row(3, 1, 100), row(None, 2, 100)], QUERIES)["unsafe"] == 0.5


def test_rates_without_a_denominator_are_null() -> None:
    rates = card([row(0, 2, 300)], QUERIES)["hazards"][2]
    assert (rates["count"], rates["per_million"], rates["mean_per_million"]) == (0, 0.0, None)
    assert card([], QUERIES)["per_million"] is None


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    (tmp_path / "specs").mkdir()
    shutil.copy(LEXICON, "specs/hazards.yaml")
    ingested("clean/web", WEB, 30)
    stages("annotate", "fit", "score web")


def read(corpus: str) -> dict[str, Any]:
    stage("card", corpus)
    return json.loads((build("card", corpus) / "card.json").read_bytes())


def test_a_scored_corpus_keeps_its_scores(scored: None) -> None:
    values = read("harmful")
    assert (values["corpus"], values["documents"], values["scores"]) == (
        "harmful",
        40,
        [0, 0, 0, 0, 20, 20],
    )
    rows = {row["hazard"]: (row["documents"], row["count"]) for row in values["hazards"]}
    assert (rows["nonviolent_crimes"], rows["code_abuse"], rows["hate"]) == (
        (20, 20),
        (20, 20),
        (0, 0),
    )


def test_a_card_also_counts_by_the_hazards_of_mlcommons(scored: None) -> None:
    values = read("harmful")
    rows = {row["hazard"]: row for row in values["mlcommons"]}
    assert len(rows) == 12 and (rows["ncr"]["documents"], rows["ncr"]["count"]) == (20, 20)
    # Code abuse is not one of the twelve: its pages count only in the fourteen.
    assert (
        sum(row["documents"] for row in rows.values())
        == sum(row["documents"] for row in values["hazards"]) - 20
    )


def test_a_synthetic_corpus_is_scored_anew(scored: None) -> None:
    ingested("rephrase/safe_web", [{"text": "A rose in a garden."}, {"text": ATTACK[0]}])
    values = read("rephrased")
    assert (values["documents"], values["scores"]) == (2, [1, 0, 0, 0, 0, 1])
    assert values["words"] == 5 + 12


def test_a_rewritten_document_counts_under_the_score_of_its_source(scored: None) -> None:
    page = {"text": "They spoke of petty theft.", "score_before": 4}
    ingested("rephrase/safe_web", [page, {"text": "A rose in a garden."}])
    values = read("rephrased")
    sizes = {score: row["words"] for score, row in values["by_score"].items()}
    assert sizes == {"0": 5, "4": 5}
    assert values["by_score"]["4"]["hazards"]["nonviolent_crimes"]["count"] == 1


def test_an_empty_selection_has_a_card(scored: None) -> None:
    values = read("score_1")
    assert (values["documents"], values["words"], values["unsafe"], len(values["hazards"])) == (
        0,
        0,
        None,
        14,
    )


def test_a_card_does_not_depend_on_shards(scored: None) -> None:
    before = read("harmful")
    ingested("clean/web", WEB[::-1], 11)
    stage("score", "web")
    assert read("harmful") == before


def test_an_unknown_corpus_is_refused(scored: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        stage("card", "score_9")
    assert "invalid choice: 'score_9'" in capsys.readouterr().err
