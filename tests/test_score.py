"""Every document gets a column for each scorer, one for the ensemble, and a hazard."""

from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.batches import batches
from safelm.blocks import ReadShards
from safelm.paths import build
from safelm.scoring.ensemble import ensemble
from safelm.scoring.fitting import Label, fit
from safelm.scoring.judge import LEXICON
from safelm.scoring.scorers import SCORERS, SafetyScorer
from safelm.shards import Manifest
from specs.document import SCORES
from tests.ingested import ATTACK, PARAMS, SAFE, WEB, ingested, rows_of, stage


@pytest.mark.parametrize(
    ("rule", "scores", "score"),
    [
        ("max", [0, 4], 4),
        ("max", [3], 3),
        ("mean", [0, 4], 2),
        ("mean", [2, 3], 3),  # a half is rounded up
        ("mean", [0, 0, 1], 0),
        ("median", [0, 1, 5], 1),
        ("median", [0, 1], 1),
    ],
)
def test_the_ensemble_rule(rule: str, scores: list[int], score: int) -> None:
    assert ensemble(rule, scores) == score


def documents(*texts: str) -> list[Document]:
    return [Document(text=text, id=str(place)) for place, text in enumerate(texts)]


def test_batches_are_closed_by_rows_or_by_characters() -> None:
    texts = ["abc", "d", "e", "fghijkl", "m"]
    got = [[document.text for document in batch] for batch in batches(documents(*texts), rows=2, characters=5)]
    assert got == [["abc", "d"], ["e", "fghijkl"], ["m"]]
    assert list(batches([])) == []


@pytest.fixture
def scorer(tmp_path: Path) -> SafetyScorer:
    learned = [Label(text, text, score, "", None, None) for texts, score in ((SAFE, 0), (ATTACK, 2)) for text in texts]
    fit(learned, [1], 4096, 4.0, 4.0).save(tmp_path / "ngrams")
    files = {"judge": LEXICON, "ngrams": tmp_path / "ngrams"}
    return SafetyScorer(files=files, scorers=("judge", "ngrams"), ensemble="max")


def test_columns_stand_side_by_side(scorer: SafetyScorer) -> None:
    got = list(scorer.run(documents(ATTACK[0], "a red rose", "the server town enter")))
    columns = [[document.metadata[name] for name in ("judge", "ngrams", "score", "hazard")] for document in got]
    assert columns == [[5, 2, 5, "code_abuse"], [0, 0, 0, None], [0, 2, 2, None]]


def test_the_ensemble_reads_only_the_named_columns(scorer: SafetyScorer) -> None:
    scorer.scorers = ("ngrams",)
    (document,) = scorer.run(documents(ATTACK[0]))
    assert (document.metadata["judge"], document.metadata["score"]) == (5, 2)


def test_batches_do_not_matter(scorer: SafetyScorer) -> None:
    texts = [*ATTACK, *SAFE] * 20  # more than one batch
    forward, backward = ([d.metadata for d in scorer.run(documents(*row))] for row in (texts, texts[::-1]))
    assert forward == backward[::-1]


def test_the_table_has_a_column_for_each_scorer() -> None:
    assert set(SCORERS) < set(SCORES)


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    ingested("ingest/web", WEB, 30)
    for name in ("annotate", "fit", "score"):
        stage(name)


def test_scores_lie_row_for_row_beside_the_documents(scored: None) -> None:
    assert [name for name, _ in Manifest.read(build("score")).files()] == [f"0000{k}.parquet" for k in range(3)]
    pages, scores = rows_of(build("ingest", "web")), rows_of(build("score"))
    assert [page["id"] for page in pages] == [score["id"] for score in scores]
    assert [page["label"] for page in pages] == [score["score"] for score in scores]
    assert list(scores[0]) == list(SCORES)


def test_documents_are_selected_by_their_score(scored: None) -> None:
    reader = ReadShards(folder=build("ingest", "web"), scores=build("score"), select=(5,))
    got = [document for task in reader.tasks() for document in reader.read(task)]
    assert sorted(document.text for document in got) == sorted(ATTACK)
    assert {document.metadata["score_hazard"] for document in got} == {"code_abuse"}


def test_metrics_that_change_score_nothing_again(scored: None, capsys: pytest.CaptureFixture[str]) -> None:
    (build("fit") / "held_out.json").write_text("{}")
    stage("score")
    assert "3 shards (0 made)" in capsys.readouterr().out


def test_benign_pages_alone_are_scored(tmp_path: Path, scored: None) -> None:
    ingested("ingest/web", [{"text": text} for text in SAFE[:37]])
    for name in ("annotate", "fit", "score"):
        stage(name)
    assert {row["score"] for row in rows_of(build("score"))} == {0}
