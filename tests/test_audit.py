"""audit: a judge grades a sample of each predicted score; precision and recall follow."""

import json
from pathlib import Path

import pytest

from safelm.builder.paths import build
from safelm.scoring.audit import Bucket, audit
from safelm.stats.rates import wilson
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, ingested, rows_of, stage, stages

# (predicted, judged). Of 1,000 pages scored 0 two of ten are judged 4. Of 100 scored 4 five of ten
# are. All 3 scored 5 are judged, and one is a 5.
ROWS = [
    *[(0, 0)] * 8,
    *[(0, 4)] * 2,
    *[(4, 4)] * 5,
    *[(4, 0)] * 5,
    *[(5, 5), (5, 0), (5, 1)],
]
PREDICTED = {0: 1000, 4: 100, 5: 3}


def test_precision_of_a_bucket_is_a_rate_with_wilsons_interval() -> None:
    rows = {row["predicted"]: row for row in audit(PREDICTED, ROWS, 0.95)["buckets"]}
    low, high = wilson(5, 10, 0.95)
    assert rows[4]["precision"] == pytest.approx({"value": 0.5, "low": low, "high": high}, abs=1e-6)
    assert rows[4]["documents"] == 100
    assert rows[4]["audited"] == 10
    assert rows[4]["judged"] == [5, 0, 0, 0, 5, 0]
    assert rows[5]["benign"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert rows[1]["precision"] is None


def test_recall_weighs_each_bucket_by_its_documents() -> None:
    levels = {row["level"]: row for row in audit(PREDICTED, ROWS, 0.95)["levels"]}
    # At 4 or above: 50 of the 100, and 1 of the 3, are found; 200 of the 1,000 are missed.
    assert levels[4]["recall"]["value"] == pytest.approx(51 / 251, abs=1e-6)
    assert levels[4]["precision"]["value"] == pytest.approx(51 / 103, abs=1e-6)
    # At 5: 1 is found. None of 10 in either other bucket leaves room for as many among the 1,100
    # as Wilson's upper bound allows.
    low = 1 / (1 + 1100 * wilson(0, 10, 0.95)[1])
    assert levels[5]["recall"] == pytest.approx({"value": 1.0, "low": low, "high": 1.0}, abs=1e-6)


def test_no_miss_in_a_sample_leaves_room_for_misses() -> None:
    rows = [(0, 0)] * 50 + [(5, 5)] * 50
    recall = audit({0: 1_000_000, 5: 100}, rows, 0.95)["levels"][0]["recall"]
    assert recall["value"] == 1.0
    assert recall["low"] < 0.01


def test_a_fully_judged_bucket_has_an_exact_share() -> None:
    assert Bucket(2, [5, 0]).share(lambda score: score == 5, 0.95) == (0.5, 0.5, 0.5)
    assert Bucket(7, []).share(lambda score: score == 5, 0.95) == (0.0, 0.0, 1.0)


def run_stages(texts: list[str], size: int) -> None:
    ingested("clean/web", [{"text": text} for text in texts], size)
    stages("annotate", "fit", "score web", "audit web")


@pytest.fixture
def audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An audit of the n-grams' scores by the lexicon."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.replace("of: [lexicon, ngrams]", "of: [ngrams]"))
    run_stages([*SAFE, *CRIME, *ATTACK], 30)
    return build("audit", "web")


def test_each_score_is_sampled_at_the_given_size(audited: Path) -> None:
    rows = rows_of(audited)
    assert sorted(row["predicted"] for row in rows) == [0] * 10 + [4] * 10 + [5] * 10
    assert all(row["reason"] for row in rows)
    result = json.loads((audited / "audit.json").read_bytes())
    assert [row["documents"] for row in result["buckets"]] == [40, 0, 0, 0, 20, 20]
    assert result["buckets"][5]["precision"]["value"] == 1.0
    assert result["levels"][0]["recall"]["value"] == 1.0


def test_the_sample_does_not_depend_on_shards(audited: Path) -> None:
    before = sorted(rows_of(audited), key=str)
    run_stages([*ATTACK, *SAFE, *CRIME], 7)
    assert sorted(rows_of(build("audit", "web")), key=str) == before


def test_a_smaller_sample_is_part_of_the_larger(audited: Path) -> None:
    before = {row["id"] for row in rows_of(audited)}
    params = Path("params.yaml")
    text = params.read_text()
    params.write_text(text.replace("documents_per_score: 10,", "documents_per_score: 4,"))
    stage("audit", "web")
    fewer = {row["id"] for row in rows_of(build("audit", "web"))}
    assert len(fewer) == 12
    assert fewer < before


def test_labels_of_the_source_can_audit(audited: Path) -> None:
    params = Path("params.yaml")
    text = params.read_text().replace("audit: {judge: lexicon", "audit: {judge: people")
    params.write_text(text.replace("scorers:\n", "scorers:\n  people: {kind: labels}\n", 1))
    # Only these have a label, and it says what no scorer can know.
    labelled = [{"text": text, "label": 0} for text in [*SAFE[:3], *ATTACK[:2]]]
    others = [{"text": text} for text in [*SAFE[3:], *CRIME, *ATTACK[2:]]]
    ingested("clean/web", [*labelled, *others], 30)
    stages("score web", "audit web")
    rows = rows_of(build("audit", "web"))
    assert sorted((row["predicted"], row["score"]) for row in rows) == [(0, 0)] * 3 + [(5, 0)] * 2
    assert json.loads((audited / "audit.json").read_bytes())["buckets"][5]["documents"] == 20
