"""A cheap scorer decides the clear documents, a dear one the rest; thresholds are fitted for a recall."""

import json
import random
from pathlib import Path

import pytest

from safelm.hazards import Grade
from safelm.paths import build
from safelm.scoring.cascade import NEVER, Thresholds, decide, thresholds
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, ingested, rows_of, stage

ROW = "  both: {kind: cascade, cheap: ngrams, dear: lexicon, level: 3, recall: 0.9, precision: 0.9}\n"


def sample(size: int) -> tuple[list[float], list[bool]]:
    """Chances that tell what is found from what is not, but for a share."""
    rng = random.Random(7)
    found = [rng.random() < 0.2 for _ in range(size)]
    return [min(max(rng.gauss(0.7 if hit else 0.3, 0.2), 0.0), 1.0) for hit in found], found


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("precision", [0.5, 0.9, 0.99])
def test_the_thresholds_keep_recall_and_precision(recall: float, precision: float) -> None:
    chances, found = sample(2000)
    low, high = thresholds(chances, found, recall, precision)
    kept = [value >= low for value, hit in zip(chances, found, strict=True) if hit]
    assert sum(kept) / len(kept) >= recall
    assert sum(kept) / len(kept) - 1 / len(kept) < recall  # and `low` could be no higher
    called = [hit for value, hit in zip(chances, found, strict=True) if value >= high]
    assert low <= high and (not called or sum(called) / len(called) >= precision)


def test_equal_chances_fall_on_the_same_side() -> None:
    chances, found = [0.9, 0.9, 0.9, 0.1], [True, True, False, False]
    assert thresholds(chances, found, 0.99, 0.9) == (0.9, NEVER)
    assert thresholds(chances, found, 0.99, 0.6) == (0.9, 0.9)


def test_where_nothing_is_found_the_dear_scorer_sees_everything() -> None:
    assert thresholds([0.1, 0.9], [False, False], 0.9, 0.9) == (0.0, NEVER)


@pytest.mark.parametrize(
    ("chance", "score"),
    [(0.1, 1), (0.5, None), (0.9, 4)],  # under the level: the likelier of 0 to 2; from it on: of 3 to 5
)
def test_the_cheap_scorer_decides_what_is_clear(chance: float, score: int | None) -> None:
    rest = (1 - chance) / 10
    cheap = Grade(0, "", None, (rest, 6 * rest, 3 * rest, 0.2 * chance, 0.5 * chance, 0.3 * chance))
    got = decide(cheap, Thresholds(0.2, 0.8), 3, "cheap")
    assert (got and (got.score, got.by)) == (score and (score, "cheap"))


@pytest.fixture
def cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("fit: {", f"{ROW}fit: {{").replace("scorers: [lexicon, ngrams]", "scorers: [both]")
    Path("params.yaml").write_text(text.replace("of: [lexicon, ngrams]", "of: [both]"))
    ingested("ingest/web", WEB, 30)
    for name in ("annotate", "fit", "score"):
        stage(name)
    return build("fit", "both", "thresholds.json")


def test_it_says_who_decided_what_it_cost_and_what_was_lost(cascade: Path) -> None:
    found = json.loads(cascade.read_bytes())
    assert found["fitted_on"] + found["measured_on"] == 20
    assert (found["asked_recall"], found["found"]) == (0.9, 5)
    assert found["recall_interval"][0] < found["recall"] <= found["recall_interval"][1] <= 1.0
    assert sum(found["decided"].values()) == pytest.approx(1.0)
    assert found["dear_characters"] < 0.5
    assert json.loads((build("fit") / "held_out.json").read_bytes())["cascades"] == {"both": found}


def test_the_dear_scorer_sees_only_what_is_not_clear(cascade: Path) -> None:
    cascade.chmod(0o644)
    found = json.loads(cascade.read_bytes())
    rows = rows_of(build("score", "both"))
    assert {row["by"] for row in rows} <= {"ngrams", "lexicon"}
    cascade.unlink()
    cascade.write_text(json.dumps({**found, "low": 0.0, "high": NEVER}))
    stage("score")
    assert {row["by"] for row in rows_of(build("score", "both"))} == {"lexicon"}


def test_new_labels_move_the_thresholds(cascade: Path) -> None:
    before = cascade.read_bytes()
    ingested("ingest/web", [{"text": text} for text in [*SAFE[:20], *CRIME, *ATTACK, "steal rose", "hack tree"]])
    for name in ("annotate", "fit"):
        stage(name)
    assert cascade.read_bytes() != before
