"""Cascades: a cheap scorer handles the confident cases, an expensive one the rest."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from safelm.builder.digest import MANIFEST
from safelm.builder.paths import build
from safelm.scoring.cascade import NEVER, Thresholds, decide
from safelm.scoring.cascade_fit import FitCascade, fit_thresholds
from safelm.scoring.labels import HELD_OUT
from safelm.text.hazards import Grade
from specs.scorer import Cascade
from tests.endpoint import Body, FakeEndpoint
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, ingested, rows_of, stage, stages
from tests.test_rubric import JUDGE, valid_answer
from tests.test_rubric import ROWS as ENGINE

ROW = (
    "  both: {kind: cascade, cheap: ngrams, expensive: lexicon, min_score: 3, "
    "recall: 0.9, precision: 0.9}\n"
)


def sample(size: int) -> tuple[list[float], list[bool]]:
    """Return (probabilities, is positive); the probabilities are noisy but informative."""
    rng = random.Random(7)
    is_positive = [rng.random() < 0.2 for _ in range(size)]
    drawn = [rng.gauss(0.7 if positive else 0.3, 0.2) for positive in is_positive]
    return [min(max(probability, 0.0), 1.0) for probability in drawn], is_positive


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("precision", [0.5, 0.9, 0.99])
def test_the_thresholds_keep_recall_and_precision(recall: float, precision: float) -> None:
    probabilities, is_positive = sample(2000)
    low, high = fit_thresholds(probabilities, is_positive, recall, precision)
    pairs = list(zip(probabilities, is_positive, strict=True))
    kept = [value >= low for value, positive in pairs if positive]
    assert sum(kept) / len(kept) >= recall
    assert sum(kept) / len(kept) - 1 / len(kept) < recall  # `low` could be no higher
    called = [positive for value, positive in pairs if value >= high]
    assert low <= high
    assert not called or sum(called) / len(called) >= precision


def test_equal_probabilities_fall_on_the_same_side() -> None:
    probabilities, is_positive = [0.9, 0.9, 0.9, 0.1], [True, True, False, False]
    assert fit_thresholds(probabilities, is_positive, 0.99, 0.9) == (0.9, NEVER)
    assert fit_thresholds(probabilities, is_positive, 0.99, 0.6) == (0.9, 0.9)


def test_without_positives_the_expensive_scorer_sees_everything() -> None:
    assert fit_thresholds([0.1, 0.9], [False, False], 0.9, 0.9) == (0.0, NEVER)


@pytest.mark.parametrize(
    ("probability", "score"),
    # Below the thresholds the most probable of 0 to 2, above them of 3 to 5.
    [(0.1, 1), (0.5, None), (0.9, 4)],
)
def test_the_cheap_scorer_decides_where_it_is_confident(
    probability: float, score: int | None
) -> None:
    below = [share * (1 - probability) for share in (0.1, 0.6, 0.3)]
    above = [share * probability for share in (0.2, 0.5, 0.3)]
    grade = decide(Grade(0, "", None, (*below, *above)), Thresholds(0.2, 0.8), 3, "cheap")
    assert (grade and (grade.score, grade.by)) == (score and (score, "cheap"))


@pytest.fixture
def cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("fit: {", f"{ROW}fit: {{")
    Path("params.yaml").write_text(text.replace("[lexicon, ngrams]", "[both]"))
    ingested("clean/web", WEB, 30)
    stages("annotate", "fit", "score web")
    return build("fit", "both", "thresholds.json")


def test_a_page_is_ungraded_if_the_expensive_scorer_had_to_grade_it_and_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("engines: {template: {kind: template}}\n", ENGINE)
    text = text.replace("fit: {", f"{JUDGE}{ROW}fit: {{")
    Path("params.yaml").write_text(text.replace("expensive: lexicon", "expensive: judge"))
    ingested("clean/web", WEB, 30)

    def answer(body: Body) -> str:
        return "" if "garden 1" in body["messages"][1]["content"] else valid_answer(body)

    with FakeEndpoint(lambda name, before: None, answer).running() as endpoint:
        monkeypatch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        stage("annotate")
        stage("fit")
    metrics = json.loads((build("fit") / "held_out.json").read_bytes())
    ungraded = metrics["scorers"]["judge"]["ungraded"]
    assert metrics["held_out"] == 20
    assert 0 < ungraded < 10
    both = metrics["cascades"]["both"]
    assert both["fitted_on"] + both["measured_on"] == 20 - ungraded
    assert 0 <= metrics["scorers"]["both"]["ungraded"] <= ungraded


def page(id: str, cheap: float | None, expensive: int | None) -> Document:
    """Build a held-out label with P(score 4) by the cheap scorer and a score by the other."""
    metadata: dict[str, object] = {"label": {"id": id, "characters": 9}}
    metadata["cheap"] = metadata["expensive"] = None
    if cheap is not None:
        metadata["cheap"] = Grade(0, "", None, (1 - cheap, 0.0, 0.0, 0.0, cheap, 0.0))
    if expensive is not None:
        metadata["expensive"] = Grade(expensive, "", None)
    return Document(text="", id=id, metadata=metadata)


def test_a_page_without_any_grade_has_no_score(tmp_path: Path) -> None:
    known = [page(f"{number}", number / 10, 4 if number > 5 else 0) for number in range(10)] * 2
    pages = [
        *known,
        page("clear", 0.0, None),
        page("unclear", 0.7, None),
        page("expensive", None, 5),
        page("none", None, None),
    ]
    # With these settings only `clear` is decided by the cheap scorer.
    row = Cascade.model_construct(
        cheap="cheap", expensive="expensive", min_score=3, recall=1.0, precision=2.0
    )
    block = FitCascade(row=row, seed=1)
    block.write(iter(pages), tmp_path)
    table = pq.read_table(tmp_path / HELD_OUT).to_pylist()
    rows = {row["id"]: (row["score"], row["by"]) for row in table}
    assert len(rows) == 14 and block.files[HELD_OUT] == len(pages)
    assert rows["clear"] == (0, "cheap")
    assert rows["unclear"] == rows["none"] == (None, None)
    assert rows["expensive"] == (5, "expensive")


def test_the_measurements_name_deciders_cost_and_recall(cascade: Path) -> None:
    measured = json.loads(cascade.read_bytes())
    assert measured["fitted_on"] + measured["measured_on"] == 20
    assert (measured["required_recall"], measured["found"]) == (0.9, 5)
    low, high = measured["recall_interval"]
    assert low < measured["recall"] <= high <= 1.0
    assert sum(measured["decided"].values()) == pytest.approx(1.0)
    assert measured["expensive_share"] < 0.5
    metrics = json.loads((build("fit") / "held_out.json").read_bytes())
    assert metrics["cascades"] == {"both": measured}


def test_the_expensive_scorer_sees_only_unclear_pages(cascade: Path) -> None:
    cascade.chmod(0o644)
    measured = json.loads(cascade.read_bytes())
    rows = rows_of(build("score", "web", "both"))
    assert {row["by"] for row in rows} <= {"ngrams", "lexicon"}
    cascade.unlink()
    # Thresholds set by hand come without a manifest: with one, they would count as damaged.
    for manifest in build("fit").rglob(MANIFEST):
        manifest.unlink()
    cascade.write_text(json.dumps({**measured, "low": 0.0, "high": NEVER}))
    stage("score", "web")
    assert {row["by"] for row in rows_of(build("score", "web", "both"))} == {"lexicon"}


def test_new_labels_move_the_thresholds(cascade: Path) -> None:
    before = cascade.read_bytes()
    ingested(
        "clean/web",
        [{"text": text} for text in [*SAFE[:20], *CRIME, *ATTACK, "steal rose", "hack tree"]],
    )
    for name in ("annotate", "fit"):
        stage(name)
    assert cascade.read_bytes() != before
