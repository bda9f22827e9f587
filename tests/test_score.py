"""score: every document gets a column for each scorer, one for the ensemble, and a hazard."""

import json
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document

from safelm.builder.locks import StageError
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.store import Store
from safelm.documents.batches import Size, batches
from safelm.documents.shards import ReadShards
from safelm.scoring.ensemble import combine_grades, ensemble_score
from safelm.scoring.labels import Label
from safelm.scoring.lexicon import LEXICON, GradeByLexicon
from safelm.scoring.ngrams import GradeByNgrams, fit_ngrams
from safelm.scoring.registry import SafetyScorer
from safelm.scoring.shift import Compared
from specs.document import GRADES
from specs.scorer import Ngrams
from tests.ingested import ATTACK, PARAMS, SAFE, WEB, ingested, rows_of, stage, stages


@pytest.mark.parametrize(
    ("rule", "scores", "score"),
    [
        ("max", [0, 4], 4),
        ("max", [3], 3),
        ("mean", [0, 4], 2),
        # A half is rounded up.
        ("mean", [2, 3], 3),
        ("mean", [0, 0, 1], 0),
        ("median", [0, 1, 5], 1),
        ("median", [0, 1], 1),
        # A missing grade may stand for any score.
        ("max", [None], None),
        ("max", [None, 0], None),
        ("max", [None, 4], None),
        # There is nothing above a 5.
        ("max", [None, 5], 5),
        ("mean", [None, 2, 2], None),
        ("median", [None, 2, 2], 2),
    ],
)
def test_the_ensemble_rule(rule: str, scores: list[int | None], score: int | None) -> None:
    columns = {str(index): value for index, value in enumerate(scores)}
    assert ensemble_score(rule, columns, dict.fromkeys(columns, 0)) == score


@pytest.mark.parametrize(
    ("scores", "score"),
    [((1, 0), 1), ((0, 2), 0), ((0, 3), 3), ((1, 4), 4), ((0, 0), 0), ((1, 2), 1)],
)
def test_any_of_the_scorers_that_reach_their_threshold(scores: tuple[int, int], score: int) -> None:
    columns = {"a": scores[0], "b": scores[1]}
    assert ensemble_score("any", columns, {"a": 1, "b": 3}) == score


def documents(*texts: str) -> list[Document]:
    return [Document(text=text, id=str(index)) for index, text in enumerate(texts)]


def test_a_guarded_hazard_is_kept_whichever_scorer_names_it() -> None:
    hazards = {"a": None, "b": "sexual_content", "c": "child_exploitation"}
    grades = {name: {"score": 5, "hazard": hazard} for name, hazard in hazards.items()}
    assert combine_grades(grades, "max", dict.fromkeys(grades, 0))["hazard"] == "child_exploitation"
    del grades["c"]
    assert combine_grades(grades, "max", dict.fromkeys(grades, 0))["hazard"] == "sexual_content"


def test_batches_are_closed_by_rows_or_by_characters() -> None:
    parts = list(batches(documents("abc", "d", "e", "fghijkl", "m"), Size(2, 5)))
    ids = ["".join(document.id for document in part) for part in parts]
    assert ids == ["01", "23", "4"]
    assert list(batches([])) == []


@pytest.fixture
def scorer(tmp_path: Path) -> SafetyScorer:
    texts, scores = [*SAFE, *ATTACK], [0] * len(SAFE) + [2] * len(ATTACK)
    shape = {"words": [1], "characters": [], "buckets": 4096}
    row = Ngrams(kind="ngrams", **shape, unsafe_weight=4.0, regularisation=4.0)
    fit_ngrams(texts, scores, row).save(tmp_path)
    files = (tmp_path / "config.json", tmp_path / "weights.safetensors")
    graders = {"lexicon": GradeByLexicon(lexicon=LEXICON), "ngrams": GradeByNgrams(files=files)}
    return SafetyScorer(graders=graders, rule="max", thresholds={"lexicon": 0, "ngrams": 0})


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (ATTACK[0], [5, 2, 5, "code_abuse"]),
        ("a red rose", [0, 0, 0, None]),
        ("the server town enter", [0, 2, 2, None]),
    ],
)
def test_each_scorer_gets_a_column(scorer: SafetyScorer, text: str, columns: list[object]) -> None:
    (document,) = scorer.run(documents(text))
    names = ("lexicon", "ngrams", "score", "hazard")
    assert [document.metadata[name] for name in names] == columns


def test_the_ensemble_reads_only_the_named_columns(scorer: SafetyScorer) -> None:
    scorer.thresholds = {"ngrams": 0}
    (document,) = scorer.run(documents(ATTACK[0]))
    assert (document.metadata["lexicon"], document.metadata["score"]) == (5, 2)


def test_grades_do_not_depend_on_batches(scorer: SafetyScorer) -> None:
    texts = [*ATTACK, *SAFE] * 20  # more than one batch
    forward = [document.metadata for document in scorer.run(documents(*texts))]
    backward = [document.metadata for document in scorer.run(documents(*texts[::-1]))]
    assert forward == backward[::-1]


def test_the_key_depends_on_the_files_of_a_scorer(scorer: SafetyScorer) -> None:
    before = scorer.declared()
    config = scorer.graders["ngrams"].files[0]  # type: ignore[attr-defined]
    config.write_text("{}")
    assert scorer.declared() != before


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    ingested("clean/web", WEB, 30)
    stages("annotate", "fit", "score web")


def test_scores_follow_the_rows_of_the_documents(scored: None) -> None:
    names = [name for name, _ in Manifest.read(build("score", "web")).files()]
    assert names == ["00000.parquet", "00001.parquet", "00002.parquet"]
    pages, scores = rows_of(build("clean", "web")), rows_of(build("score", "web"))
    assert [page["id"] for page in pages] == [score["id"] for score in scores]
    assert [page["label"] for page in pages] == [score["score"] for score in scores]
    assert list(scores[0]) == ["id", "lexicon", "ngrams", "score", "hazard"]


@pytest.mark.parametrize("name", ["lexicon", "ngrams"])
def test_every_scorer_has_a_file_of_its_own(scored: None, name: str) -> None:
    rows = rows_of(build("score", "web", name))
    assert list(rows[0]) == list(GRADES)
    assert [row["score"] for row in rows] == [row[name] for row in rows_of(build("score", "web"))]
    if name == "ngrams":
        assert all(0 < row["unsafe"] < 1 for row in rows)


def edit(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new))


def shards_made(output: str) -> dict[str, str]:
    """Return how many shards each step made, from its line "score/web/ngrams 3 shards (0 made)"."""
    made = {}
    for line in output.splitlines():
        if "shards" in line:
            made[line.split()[0]] = line.partition("(")[2].split()[0]
    return made


def test_another_rule_runs_no_scorer_and_reads_no_text(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    edit("{rule: max, of: [lexicon, ngrams]}", "{rule: any, of: {ngrams: 5}}")
    for name, file in Manifest.read(build("clean", "web")).files():
        (build("clean", "web") / name).unlink()
        Store(cache(), scratch()).object(file.md5).unlink()
    stage("score", "web")
    made = shards_made(capsys.readouterr().out)
    assert made == {"score/web/lexicon": "0", "score/web/ngrams": "0", "score/web": "3"}
    assert {row["score"] for row in rows_of(build("score", "web"))} == {0, 5}


def test_a_changed_scorer_leaves_the_others_cached(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    edit("words: [1, 2]", "words: [1]")
    stage("fit")
    stage("score", "web")
    made = shards_made(capsys.readouterr().out)
    assert (made["score/web/lexicon"], made["score/web/ngrams"]) == ("0", "3")


def test_documents_are_selected_by_their_score(scored: None) -> None:
    reader = ReadShards(folder=build("clean", "web"), scores=build("score", "web"), select=(5,))
    selected: list[Document] = []
    for task in reader.tasks():
        selected += reader.read(task)
    assert sorted(document.text for document in selected) == sorted(ATTACK)
    assert {document.metadata["score_hazard"] for document in selected} == {"code_abuse"}


def test_changed_metrics_leave_the_scores_cached(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    (build("fit") / "held_out.json").write_text("{}")
    stage("score", "web")
    made = shards_made(capsys.readouterr().out)
    assert made == {"score/web/lexicon": "0", "score/web/ngrams": "0", "score/web": "0"}


def test_a_corpus_of_benign_pages_is_scored(scored: None) -> None:
    ingested("clean/web", [{"text": text} for text in SAFE[:37]])
    stages("annotate", "fit", "score web")
    assert {row["score"] for row in rows_of(build("score", "web"))} == {0}


OTHER = [f"Ein Boot mit der Nummer {number} liegt am Ufer. " * 20 for number in range(40)]


def shift() -> dict[str, Any]:
    return json.loads((build("score", "web") / "shift" / "shift.json").read_bytes())


def test_labels_of_the_same_source_show_no_shift(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shift()
    assert (found["labels"], found["documents"]) == (80, 80)
    assert found["unseen"]["shift"] < 0.02
    assert (found["length"]["shift"], found["scores"]["shift"]) == (1.0, 0.0)
    assert "differ from the labels" not in capsys.readouterr().out


def test_other_text_than_the_labels_is_told(
    scored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    ingested("clean/web", [{"text": text} for text in OTHER], 30)
    capsys.readouterr()
    stage("score", "web")
    found = shift()
    assert found["unseen"]["documents"] > 0.8
    assert found["length"]["shift"] > 10
    output = capsys.readouterr().out
    assert "score              the scored documents differ from the labels: " in output
    assert "label documents like these in annotate.pool" in output


def test_beyond_the_bounds_the_stage_fails(scored: None) -> None:
    ingested("clean/web", [{"text": text} for text in OTHER], 30)
    edit("max_shift: null", "max_shift: {unseen: 0.5, scores: 0.9, length: 99.0}")
    with pytest.raises(StageError, match=r"differ from the labels: .* or raise score.max_shift"):
        stage("score", "web")
    assert len(rows_of(build("score", "web"))) == len(WEB)


def test_scores_that_the_labels_do_not_have_are_told() -> None:
    labels = [Label(f"{number}", "a b", number % 2 * 5, "", None, None) for number in range(40)]
    compared = Compared(labels, labels, [4] * 36 + [0] * 4)
    assert compared.scores()["scores"]["shift"] == pytest.approx(0.9)
    assert Compared(labels, labels, [4] * 3).scores() == {"scores": None}
