"""A cheap scorer decides the clear documents, a dear one the rest; thresholds are fitted for a
recall.
"""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from safelm.builder.paths import build
from safelm.scoring.cascade import NEVER, FitCascade, Thresholds, decide, fit_thresholds
from safelm.scoring.labels import HELD_OUT
from safelm.text.hazards import Grade
from tests.endpoint import Body, FakeEndpoint
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, ingested, rows_of, stage
from tests.test_rubric import JUDGE, right
from tests.test_rubric import ROWS as ENGINE

ROW = "  both: {kind: cascade, cheap: ngrams, expensive: lexicon, min_score: 3, recall: 0.9, precision: 0.9}\n"


def sample(size: int) -> tuple[list[float], list[bool]]:
    """Chances that tell what is found from what is not, but for a share."""
    rng = random.Random(7)
    found = [rng.random() < 0.2 for _ in range(size)]
    return [min(max(rng.gauss(0.7 if hit else 0.3, 0.2), 0.0), 1.0) for hit in found], found


@pytest.mark.parametrize("recall", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("precision", [0.5, 0.9, 0.99])
def test_the_thresholds_keep_recall_and_precision(recall: float, precision: float) -> None:
    chances, found = sample(2000)
    low, high = fit_thresholds(chances, found, recall, precision)
    kept = [value >= low for value, hit in zip(chances, found, strict=True) if hit]
    assert sum(kept) / len(kept) >= recall
    assert sum(kept) / len(kept) - 1 / len(kept) < recall  # and `low` could be no higher
    called = [hit for value, hit in zip(chances, found, strict=True) if value >= high]
    assert low <= high and (not called or sum(called) / len(called) >= precision)


def test_equal_chances_fall_on_the_same_side() -> None:
    chances, found = [0.9, 0.9, 0.9, 0.1], [True, True, False, False]
    assert fit_thresholds(chances, found, 0.99, 0.9) == (0.9, NEVER)
    assert fit_thresholds(chances, found, 0.99, 0.6) == (0.9, 0.9)


def test_where_nothing_is_found_the_dear_scorer_sees_everything() -> None:
    assert fit_thresholds([0.1, 0.9], [False, False], 0.9, 0.9) == (0.0, NEVER)


@pytest.mark.parametrize(
    ("chance", "score"),
    [
        (0.1, 1),
        (0.5, None),
        (0.9, 4),
    ],  # under the level: the likelier of 0 to 2; from it on: of 3 to 5
)
def test_the_cheap_scorer_decides_what_is_clear(chance: float, score: int | None) -> None:
    rest = (1 - chance) / 10
    cheap = Grade(0, "", None, (rest, 6 * rest, 3 * rest, 0.2 * chance, 0.5 * chance, 0.3 * chance))
    got = decide(cheap, Thresholds(0.2, 0.8), 3, "cheap")
    assert (got and (got.score, got.by)) == (score and (score, "cheap"))


@pytest.fixture
def cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("fit: {", f"{ROW}fit: {{").replace(
        "scorers: [lexicon, ngrams]", "scorers: [both]"
    )
    Path("params.yaml").write_text(text.replace("of: [lexicon, ngrams]", "of: [both]"))
    ingested("ingest/web", WEB, 30)
    for name in ("annotate", "fit", "score"):
        stage(name)
    return build("fit", "both", "thresholds.json")


def test_a_page_that_the_dear_scorer_could_not_grade_is_ungraded_where_it_had_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PARAMS.replace("engines: {template: {kind: template}}\n", ENGINE).replace(
        "fit: {", f"{JUDGE}{ROW}fit: {{"
    )
    Path("params.yaml").write_text(text.replace("expensive: lexicon", "expensive: judge"))
    ingested("ingest/web", WEB, 30)

    def silent(body: Body) -> bool:
        return "garden 1" in body["messages"][1]["content"]

    with FakeEndpoint(
        lambda name, before: None, lambda body: "" if silent(body) else right(body)
    ).running() as endpoint:
        monkeypatch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        stage("annotate")
        stage("fit")
    found = json.loads((build("fit") / "held_out.json").read_bytes())
    ungraded = found["scorers"]["judge"]["ungraded"]
    assert found["held_out"] == 20 and 0 < ungraded < 10
    both = found["cascades"]["both"]
    assert both["fitted_on"] + both["measured_on"] == 20 - ungraded
    assert 0 <= found["scorers"]["both"]["ungraded"] <= ungraded


def test_what_neither_scorer_graded_has_no_score(tmp_path: Path) -> None:
    def page(id: str, cheap: float | None, dear: int | None) -> Document:
        sure = None if cheap is None else Grade(0, "", None, (1 - cheap, 0.0, 0.0, 0.0, cheap, 0.0))
        grades = {"cheap": sure, "dear": None if dear is None else Grade(dear, "", None)}
        return Document(text="", id=id, metadata={"row": {"id": id, "characters": 9}, **grades})

    known = [page(f"{number}", number / 10, 4 if number > 5 else 0) for number in range(10)] * 2
    pages = [
        *known,
        page("clear", 0.0, None),
        page("unclear", 0.7, None),
        page("dear", None, 5),
        page("none", None, None),
    ]
    block = FitCascade(
        names=("cheap", "dear"), level=3, recall=1.0, precision=2.0, seed=1
    )  # all but `clear` go on
    block.write(iter(pages), tmp_path)
    rows = {
        row["id"]: (row["score"], row["by"])
        for row in pq.read_table(tmp_path / HELD_OUT).to_pylist()
    }
    assert len(rows) == 14 and block.files[HELD_OUT] == len(pages)
    assert (rows["clear"], rows["unclear"], rows["dear"], rows["none"]) == (
        (0, "cheap"),
        (None, None),
        (5, "dear"),
        (None, None),
    )


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
    ingested(
        "ingest/web",
        [{"text": text} for text in [*SAFE[:20], *CRIME, *ATTACK, "steal rose", "hack tree"]],
    )
    for name in ("annotate", "fit"):
        stage(name)
    assert cascade.read_bytes() != before
