"""Every document gets a column for each scorer, one for the ensemble, and a hazard."""

from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.store import Store
from safelm.documents.batches import Size, batches
from safelm.documents.shards import ReadShards
from safelm.scoring.ensemble import combine_grades, ensemble_score
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.ngrams import GradeByNgrams, fit_ngrams
from safelm.scoring.registry import SafetyScorer
from specs.document import GRADES
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
        ("max", [None], None),  # a scorer that could not tell may have meant any score
        ("max", [None, 0], None),
        ("max", [None, 4], None),
        ("max", [None, 5], 5),  # but there is nothing above this
        ("mean", [None, 2, 2], None),
        ("median", [None, 2, 2], 2),
    ],
)
def test_the_ensemble_rule(rule: str, scores: list[int | None], score: int | None) -> None:
    columns = {str(place): value for place, value in enumerate(scores)}
    assert ensemble_score(rule, columns, dict.fromkeys(columns, 0)) == score


@pytest.mark.parametrize(
    ("scores", "score"),
    [((1, 0), 1), ((0, 2), 0), ((0, 3), 3), ((1, 4), 4), ((0, 0), 0), ((1, 2), 1)],
)
def test_any_of_the_scorers_that_reach_their_threshold(scores: tuple[int, int], score: int) -> None:
    assert ensemble_score("any", dict(zip("ab", scores, strict=True)), {"a": 1, "b": 3}) == score


def documents(*texts: str) -> list[Document]:
    return [Document(text=text, id=str(place)) for place, text in enumerate(texts)]


def test_a_guarded_hazard_is_kept_whichever_scorer_names_it() -> None:
    grades = {
        name: {"score": 5, "hazard": hazard}
        for name, hazard in (
            ("one", None),
            ("two", "sexual_content"),
            ("three", "child_exploitation"),
        )
    }
    assert combine_grades(grades, "max", dict.fromkeys(grades, 0))["hazard"] == "child_exploitation"
    del grades["three"]
    assert combine_grades(grades, "max", dict.fromkeys(grades, 0))["hazard"] == "sexual_content"


def test_batches_are_closed_by_rows_or_by_characters() -> None:
    texts = ["abc", "d", "e", "fghijkl", "m"]
    got = [
        [document.text for document in batch] for batch in batches(documents(*texts), Size(2, 5))
    ]
    assert got == [["abc", "d"], ["e", "fghijkl"], ["m"]]
    assert list(batches([])) == []


@pytest.fixture
def scorer(tmp_path: Path) -> SafetyScorer:
    texts, scores = [*SAFE, *ATTACK], [0] * len(SAFE) + [2] * len(ATTACK)
    shape = {"words": [1], "characters": [], "buckets": 4096}
    fit_ngrams(texts, scores, **shape, unsafe_weight=4.0, regularisation=4.0).save(tmp_path)
    files = (tmp_path / "config.json", tmp_path / "weights.safetensors")
    graders = {"lexicon": GradeByLexicon(lexicon=LEXICON), "ngrams": GradeByNgrams(files=files)}
    return SafetyScorer(graders=graders, rule="max", of={"lexicon": 0, "ngrams": 0})


def test_columns_stand_side_by_side(scorer: SafetyScorer) -> None:
    got = list(scorer.run(documents(ATTACK[0], "a red rose", "the server town enter")))
    columns = [
        [document.metadata[name] for name in ("lexicon", "ngrams", "score", "hazard")]
        for document in got
    ]
    assert columns == [[5, 2, 5, "code_abuse"], [0, 0, 0, None], [0, 2, 2, None]]


def test_the_ensemble_reads_only_the_named_columns(scorer: SafetyScorer) -> None:
    scorer.of = {"ngrams": 0}
    (document,) = scorer.run(documents(ATTACK[0]))
    assert (document.metadata["lexicon"], document.metadata["score"]) == (5, 2)


def test_batches_do_not_matter(scorer: SafetyScorer) -> None:
    texts = [*ATTACK, *SAFE] * 20  # more than one batch
    forward, backward = (
        [d.metadata for d in scorer.run(documents(*row))] for row in (texts, texts[::-1])
    )
    assert forward == backward[::-1]


def test_the_values_of_a_scorer_are_in_the_key(scorer: SafetyScorer) -> None:
    before = scorer.declared()
    (Path(scorer.graders["ngrams"].files[0])).write_text("{}")  # type: ignore[attr-defined]
    assert scorer.declared() != before


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    ingested("ingest/web", WEB, 30)
    for name in ("annotate", "fit", "score"):
        stage(name)


def test_scores_lie_row_for_row_beside_the_documents(scored: None) -> None:
    assert [name for name, _ in Manifest.read(build("score")).files()] == [
        f"0000{k}.parquet" for k in range(3)
    ]
    pages, scores = rows_of(build("ingest", "web")), rows_of(build("score"))
    assert [page["id"] for page in pages] == [score["id"] for score in scores]
    assert [page["label"] for page in pages] == [score["score"] for score in scores]
    assert list(scores[0]) == ["id", "lexicon", "ngrams", "score", "hazard"]


def test_every_scorer_has_a_file_of_its_own(scored: None) -> None:
    for name in ("lexicon", "ngrams"):
        rows = rows_of(build("score", name))
        assert list(rows[0]) == list(GRADES)
        assert [row["score"] for row in rows] == [row[name] for row in rows_of(build("score"))]
    assert all(0 < row["unsafe"] < 1 for row in rows_of(build("score", "ngrams")))


def edit(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new))


def test_another_rule_runs_no_scorer_and_reads_no_text(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("{rule: max, of: [lexicon, ngrams]}", "{rule: any, of: {ngrams: 5}}")
    for name, file in Manifest.read(build("ingest", "web")).files():
        (build("ingest", "web") / name).unlink()
        Store(cache(), scratch()).object(file.md5).unlink()
    stage("score")
    made = [
        line.split("(")[1].split(" made")[0]
        for line in capsys.readouterr().out.splitlines()
        if "shards" in line
    ]
    assert made == ["0", "0", "3"]
    assert {row["score"] for row in rows_of(build("score"))} == {0, 5}


def test_another_scorer_leaves_the_rest_as_it_was(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("words: [1, 2]", "words: [1]")
    stage("fit")
    stage("score")
    lines = capsys.readouterr().out.splitlines()
    made = {
        line.split()[0]: line.split("(")[1].split(" ")[0]
        for line in lines
        if line.startswith("score/")
    }
    assert made == {"score/lexicon": "0", "score/ngrams": "3"}


def test_documents_are_selected_by_their_score(scored: None) -> None:
    reader = ReadShards(folder=build("ingest", "web"), scores=build("score"), select=(5,))
    got = [document for task in reader.tasks() for document in reader.read(task)]
    assert sorted(document.text for document in got) == sorted(ATTACK)
    assert {document.metadata["score_hazard"] for document in got} == {"code_abuse"}


def test_metrics_that_change_score_nothing_again(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (build("fit") / "held_out.json").write_text("{}")
    stage("score")
    assert capsys.readouterr().out.count("3 shards (0 made)") == 3


def test_benign_pages_alone_are_scored(tmp_path: Path, scored: None) -> None:
    ingested("ingest/web", [{"text": text} for text in SAFE[:37]])
    for name in ("annotate", "fit", "score"):
        stage(name)
    assert {row["score"] for row in rows_of(build("score"))} == {0}
