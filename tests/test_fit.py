"""fit: the n-gram classifier learns the judge's labels; the metrics are those of the paper."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safelm.builder.paths import build
from safelm.scoring.base import Grades
from safelm.scoring.fit import summary
from safelm.scoring.labels import Label, split_labels
from safelm.scoring.measure import describe_labels, describe_shortage
from safelm.scoring.ngram_features import count_ngrams
from safelm.scoring.ngrams import NgramScorer, fit_ngrams, split_text
from safelm.scoring.operating_point import POINT, AtOperatingPoint, OperatingPoint
from safelm.scoring.registry import fitted_grader
from safelm.stats.classification import (
    accuracy,
    baseline,
    confusion,
    false_alarms,
    kappa,
    macro_f1,
    measures,
    recall_at,
)
from safelm.text.hazards import Grade
from specs.params import Params
from specs.scorer import Ngrams
from tests.ingested import ATTACK, CRIME, PARAMS, SAFE, WEB, ingested, rows_of, stage

# Paper §1.6: rows are true scores, columns predicted ones.
GTE_BASE = [
    [2357, 103, 56, 12, 9, 11],
    [59, 32, 39, 13, 4, 4],
    [30, 29, 49, 33, 3, 7],
    [5, 9, 23, 24, 9, 10],
    [3, 1, 2, 7, 8, 12],
    [5, 0, 0, 3, 2, 28],
]
QWEN = [
    [1927, 282, 319, 11, 9, 0],
    [16, 47, 76, 9, 1, 2],
    [20, 28, 80, 18, 5, 0],
    [7, 15, 35, 8, 13, 2],
    [0, 2, 6, 12, 11, 2],
    [5, 0, 2, 4, 14, 13],
]


GTE_LARGE = [
    [2439, 46, 60, 3, 0, 0],
    [76, 26, 44, 5, 0, 0],
    [48, 16, 67, 19, 0, 1],
    [12, 8, 23, 33, 2, 2],
    [3, 0, 10, 13, 1, 6],
    [9, 0, 2, 8, 0, 19],
]
ENSEMBLE = [
    [1877, 308, 262, 30, 48, 23],
    [15, 38, 55, 11, 16, 16],
    [5, 16, 53, 28, 31, 18],
    [0, 6, 9, 15, 28, 22],
    [0, 0, 1, 0, 18, 14],
    [2, 0, 1, 0, 2, 33],
]
OTHER = [f"The cat of house {number} sleeps." for number in range(50)]
HASHES = [2472, 7194, 11269, 28673, 37993, 41907]


def fit(
    labels: list[Label], words: list[int], weight: float, characters: tuple[int, ...] = ()
) -> NgramScorer:
    """Fit with 4,096 buckets and a penalty of 1/4."""
    row = Ngrams(
        kind="ngrams",
        words=words,
        characters=list(characters),
        buckets=4096,
        unsafe_weight=weight,
        regularisation=4.0,
    )
    return fit_ngrams(
        [label.text for label in labels],
        [label.score for label in labels],
        row,
    )


def predict(scorer: NgramScorer, *texts: str) -> list[int]:
    return [grade.score for grade in scorer.grade(texts) if grade]


def unsafe(scorer: NgramScorer, *texts: str) -> list[float]:
    return scorer.probabilities(texts)[:, 1:].sum(axis=1).tolist()


def labels(*texts: str, score: int = 0) -> list[Label]:
    return [Label(f"{score}-{text}", text, score, "", None, None) for text in texts]


LABELS = labels(*SAFE) + labels(*CRIME, score=4) + labels(*ATTACK, score=5)


@pytest.mark.parametrize(
    ("matrix", "f1", "recall_1", "recall_3"),
    [(GTE_BASE, 0.4114, 0.7748, 0.6821), (QWEN, 0.3492, 0.8940, 0.5232)],
)
def test_metrics_of_the_papers_matrices_match_its_table(
    matrix: list[list[int]], f1: float, recall_1: float, recall_3: float
) -> None:
    assert macro_f1(matrix) == pytest.approx(f1, abs=5e-5)
    assert recall_at(matrix, 1) == pytest.approx(recall_1, abs=5e-5)
    assert recall_at(matrix, 3) == pytest.approx(recall_3, abs=5e-5)


@pytest.mark.parametrize(
    ("matrix", "table", "ours"),
    [
        (GTE_LARGE, (0.4533, 0.8852, 0.6556), (0.4295, 0.6733, 0.5563)),
        (ENSEMBLE, (0.3615, 0.9536, 0.7483), (0.3300, 0.9514, 0.8742)),
    ],
)
def test_two_of_the_papers_matrices_do_not_match_its_table(
    matrix: list[list[int]], table: tuple[float, ...], ours: tuple[float, ...]
) -> None:
    metrics = (macro_f1(matrix), recall_at(matrix, 1), recall_at(matrix, 3))
    assert metrics == pytest.approx(ours, abs=5e-5)
    assert metrics != pytest.approx(table, abs=5e-5)
    assert [sum(row) for row in matrix] == [sum(row) for row in GTE_BASE]  # the same pages


def test_the_printed_ensemble_is_not_the_maximum_of_its_two() -> None:
    # The ensemble predicts 4 for 28 true 3s; its two scorers together do for 13 + 9 at most.
    assert ENSEMBLE[3][4] > QWEN[3][4] + GTE_BASE[3][4]


def test_accuracy_and_false_alarms_of_the_papers_matrices() -> None:
    assert (accuracy(GTE_BASE), accuracy(QWEN)) == pytest.approx((0.8324, 0.6951), abs=5e-5)
    assert (false_alarms(GTE_BASE), false_alarms(QWEN)) == pytest.approx((0.075, 0.244), abs=5e-4)


def test_macro_f1_over_the_classes_that_occur() -> None:
    matrix = confusion([(0, 0), (0, 0), (5, 5), (5, 0)])
    assert macro_f1(matrix, present_only=True) == pytest.approx((0.8 + 2 / 3) / 2, abs=1e-6)
    assert macro_f1(matrix) == pytest.approx((0.8 + 2 / 3) / 6, abs=1e-6)


def test_kappa_is_agreement_beyond_chance() -> None:
    assert kappa(confusion([(0, 0), (4, 4), (0, 4), (4, 0)])) == 0.0
    assert kappa(confusion([(0, 0), (4, 4)])) == 1.0


def test_undefined_metrics_are_none() -> None:
    metrics = measures([(0, 0)] * 3)
    assert metrics["recall_at_1"] is metrics["kappa"] is None
    assert metrics["macro_f1_present"] == 1.0
    empty = measures([])
    assert empty["accuracy"] is empty["macro_f1"] is None
    assert empty["recall_at_3"] is empty["false_alarms"] is None


def test_precision_and_recall_have_their_counts() -> None:
    row = measures([(4, 4), (4, 0), (0, 4), (4, 4)])["classes"][4]
    assert (row["hits"], row["actual"], row["predicted"]) == (2, 3, 3)
    for name in ("precision", "recall", "f1"):
        assert row[name] == pytest.approx(2 / 3, abs=1e-6)


def test_ngrams_are_counted_within_a_text() -> None:
    counts = count_ngrams(["red rose", "rose red rose"], [1, 2], [], 1 << 20)
    # red, rose and "red rose" in both, and "rose red" in the second.
    assert np.bincount(counts.rows).tolist() == [3, 4]
    assert sorted(counts.counts[counts.rows == 1].tolist()) == [1, 1, 1, 2]


def test_characters_are_counted_within_words_and_their_gaps() -> None:
    # _red red_ _ros rose ose_
    counts = count_ngrams(["Red-rose"], [], [4], 1 << 20)
    assert counts.counts.tolist() == [1] * 5
    reordered = count_ngrams(["ROSE, red!"], [], [4], 1 << 20)
    assert reordered.buckets.tolist() == counts.buckets.tolist()


@pytest.mark.parametrize("order", [2, 3, 5])
def test_character_ngrams_match_a_plain_python_count(order: int) -> None:
    text = "Ünsafe 安全 text, 12 words — naïve «çà»\u00a0x"
    words = [f" {word} " for word in re.findall(r"[^\W_]+", text.lower())]
    expected: set[str] = set()
    for word in words:
        expected.update(word[start : start + order] for start in range(len(word) - order + 1))
    together = count_ngrams([text], [], [order], 1 << 20).buckets.tolist()
    apart = count_ngrams(sorted(words), [], [order], 1 << 20).buckets.tolist()
    assert len(together) == len(expected)
    assert set(together) == set(apart)


def test_hashes_are_the_same_everywhere() -> None:
    assert count_ngrams(["red rose"], [1, 2], [5], 65536).buckets.tolist() == HASHES


def test_a_text_without_words_has_no_ngrams() -> None:
    assert count_ngrams(["", "?!", "\ud800 _"], [1, 2], [3], 64).counts.tolist() == []


def test_a_text_is_graded_alike_alone_and_among_others() -> None:
    scorer = fit(LABELS, [1, 2], 4.0)
    texts = [label.text for label in LABELS] * 20
    together = scorer.probabilities(texts)[777]
    alone = scorer.probabilities([texts[777]])[0]
    assert together.tolist() == alone.tolist()


def test_every_class_keeps_one_label_for_training() -> None:
    train, held_out = split_labels(LABELS + labels("alone", score=2), 0.25, 1)
    assert sorted(label.score for label in held_out) == [0] * 10 + [4] * 5 + [5] * 5
    assert [label.text for label in train if label.score == 2] == ["alone"]


def test_the_split_does_not_depend_on_the_order() -> None:
    assert split_labels(LABELS, 0.2, 1) == split_labels(LABELS[::-1], 0.2, 1)


@pytest.mark.parametrize(("words", "characters"), [([1, 2], ()), ([], (3, 4)), ([1], (3,))])
def test_the_classifier_separates_the_classes(
    words: list[int], characters: tuple[int, ...]
) -> None:
    scorer = fit(LABELS, words, 4.0, characters)
    assert predict(scorer, "a red rose", "steal it", "the server", "")[:3] == [0, 4, 5]


def test_a_text_of_unseen_words_falls_back_on_the_bias() -> None:
    scorer = fit(LABELS, [1, 2], 1.0)
    many = "enter " + " ".join(f"qx{number}" for number in range(50))
    assert [value > 0.5 for value in unsafe(scorer, "enter", many)] == [True, False]


def test_two_classes_are_learned_too() -> None:
    scorer = fit(labels(*SAFE) + labels(*CRIME, score=3), [1], 4.0)
    assert predict(scorer, "a red rose", "steal it") == [0, 3]
    assert [value > 0.5 for value in unsafe(scorer, "a red rose", "steal it")] == [False, True]
    assert scorer.probabilities(["steal it"])[0, [1, 2, 4, 5]].tolist() == [0.0] * 4


def test_weight_on_unsafe_labels_raises_their_probability() -> None:
    (light,) = unsafe(fit(LABELS, [1], 1.0), "a page")
    (heavy,) = unsafe(fit(LABELS, [1], 100.0), "a page")
    assert light < heavy


@pytest.mark.parametrize(
    "few", [labels(*SAFE[:37]), labels(*SAFE[:5]) + labels(*CRIME[:2], score=4), []]
)
def test_too_few_or_uniform_labels_give_a_constant_predictor(
    few: list[Label], tmp_path: Path
) -> None:
    split = split_labels(few, 0.2, 1)
    fit(split.train, [1, 2], 4.0).save(tmp_path)
    assert predict(NgramScorer.read(tmp_path), "steal the wallet", "") == [0, 0]
    assert describe_shortage(split)


def test_labels_without_words_give_a_constant_predictor() -> None:
    safe = labels(*("!" * number for number in range(1, 9)))
    unsafe = labels(*("?" * number for number in range(1, 9)), score=5)
    assert predict(fit(safe + unsafe, [1], 4.0), "!") == [5]


def test_labels_are_described_with_the_judges_accuracy() -> None:
    rows = [
        Label("a", "", 4, "", "hate", 4),
        Label("b", "", 0, "", None, 4),
        Label("c", "", 0, "", None, None),
    ]
    described = describe_labels(rows)
    assert described["documents"] == 3
    assert described["scores"] == [2, 0, 0, 0, 1, 0]
    assert described["hazards"] == {"hate": 1}
    assert described["known"]["documents"] == 2
    assert described["known"]["accuracy"] == 0.5


def test_labels_are_described_with_those_beside_them() -> None:
    rows = [
        Label("a", "", 4, "", None, None, "web", {"people": 4}),
        Label("b", "", 0, "", None, None, "web", {"people": 4}),
        Label("c", "", 0, "", None, None, "forum", {"people": None}),
    ]
    described = describe_labels(rows)
    assert described["pool"] == {"forum": 1, "web": 2}
    people = described["beside"]["people"]
    assert (people["documents"], people["accuracy"]) == (2, 0.5)


@pytest.fixture
def fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    ingested("clean/web", WEB, 30)
    stage("annotate")
    stage("fit")
    return build("fit")


def held_out_metrics() -> dict[str, Any]:
    return json.loads((build("fit") / "held_out.json").read_bytes())


def edit(*replacements: tuple[str, str]) -> None:
    """Replace text in params.yaml, each of which must occur."""
    text = Path("params.yaml").read_text()
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    Path("params.yaml").write_text(text)


PEOPLE = ("  lexicon: {kind", "  people: {kind: labels}\n  lexicon: {kind")


def test_the_stage_measures_on_held_out_labels(fitted: Path) -> None:
    metrics = held_out_metrics()
    assert (metrics["train"], metrics["held_out"], metrics["note"]) == (60, 20, None)
    # The judge is not measured against its own labels.
    assert list(metrics["scorers"]) == ["ngrams"]
    assert metrics["scorers"]["ngrams"]["confusion"][4] == [0, 0, 0, 0, 5, 0]
    assert metrics["scorers"]["ngrams"]["auroc"]["value"] == 1.0
    accuracy_of = {name: value["accuracy"] for name, value in metrics["known"].items()}
    assert accuracy_of == {"judge": 1, "lexicon": 1, "ngrams": 1, "ensemble": 1}


def test_a_classifier_is_compared_with_the_baseline(fitted: Path) -> None:
    metrics = held_out_metrics()
    assert metrics["baseline"]["auroc"]["value"] == 1.0
    assert metrics["scorers"]["ngrams"]["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_baseline_ranks_by_words() -> None:
    train, is_unsafe = [*SAFE[:20], *CRIME], [False] * 20 + [True] * 20
    others = ["a red rose", "the street", "steal the wallet", "qx"]
    probabilities = baseline(train, is_unsafe, others)
    assert probabilities
    rose, street, theft, unknown = probabilities
    assert rose < unknown < theft
    assert rose < street


@pytest.mark.parametrize(
    ("texts", "unsafe"), [(SAFE, [False] * 40), (["!", "?"], [False, True]), ([], [])]
)
def test_without_two_classes_of_words_there_is_no_baseline(
    texts: list[str], unsafe: list[bool]
) -> None:
    assert baseline(texts, unsafe, ["a"]) is None


def test_labels_of_the_source_can_grade_the_sample(fitted: Path) -> None:
    edit(
        PEOPLE,
        ("judge: lexicon, pool", "judge: people, pool"),
        ("documents: 1000", "documents: 30"),
    )
    kiss = {"text": "How to steal a kiss. It is a song.", "label": 0, "hazard": "sex_crimes"}
    labelled = [*WEB, kiss]
    ingested("clean/web", [*labelled, *({"text": text} for text in OTHER)], 30)
    stage("annotate")
    rows = rows_of(build("annotate"))
    assert len(rows) == 30
    assert {row["text"] for row in rows} <= {row["text"] for row in labelled}
    assert all(row["score"] == row["label"] for row in rows)
    assert {row["reason"] for row in rows} == {"the source's label"}
    edit(("documents: 30", "documents: 1000"))
    stage("annotate")
    (row,) = (row for row in rows_of(build("annotate")) if "kiss" in row["text"])
    assert (row["score"], row["hazard"]) == (0, "sex_crimes")
    stage("fit")
    # The source's labels are not measured against themselves.
    scorers = held_out_metrics()["scorers"]
    assert list(scorers) == ["lexicon", "ngrams"]
    assert scorers["ngrams"]["recall_at_3"] == 1.0


def test_labels_of_the_source_are_not_measured_as_a_scorer(fitted: Path) -> None:
    edit(PEOPLE)
    stage("fit")
    assert not (fitted / "people").exists()


def test_the_plot_has_a_row_for_each_held_out_label(fitted: Path) -> None:
    rows = (fitted / "confusion.csv").read_text().splitlines()
    assert rows[0] == "scorer,actual,predicted"
    assert sorted(rows[1:]) == ["ngrams,0,0"] * 10 + ["ngrams,4,4"] * 5 + ["ngrams,5,5"] * 5


def test_with_fewer_than_ten_labels_nothing_is_measured(fitted: Path) -> None:
    ingested("clean/web", [{"text": text} for text in SAFE[:8]])
    stage("annotate")
    stage("fit")
    metrics = held_out_metrics()
    assert (metrics["scorers"], metrics["known"]) == ({}, None)
    sentence = "6 labels, 2 held out  Only 8 labels: nothing was fitted or measured."
    assert summary(metrics) == [sentence]


def data_files(folder: Path) -> dict[str, bytes]:
    """Read all files but the manifests: those name the shards that were read."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != "manifest.json"
    }


def test_the_same_labels_in_other_shards_give_the_same_bytes(fitted: Path) -> None:
    before = data_files(fitted)
    ingested("clean/web", WEB[::-1], 9)
    stage("annotate")
    stage("fit")
    assert len(before) == 7
    assert data_files(fitted) == before


def inodes(folder: Path) -> dict[str, int]:
    """Return the inode of every file but JSON; a cached file keeps its inode."""
    return {path.name: path.stat().st_ino for path in folder.iterdir() if path.suffix != ".json"}


def test_a_new_row_refits_no_other_row(fitted: Path) -> None:
    before = inodes(fitted / "ngrams")
    row = (
        "  letters: {kind: ngrams, words: [], characters: [3], buckets: 512, "
        "unsafe_weight: 1.0, regularisation: 1.0}\n"
    )
    edit(("fit: {", f"{row}fit: {{"))
    stage("fit")
    assert inodes(fitted / "ngrams") == before
    assert list(held_out_metrics()["scorers"]) == ["ngrams", "letters"]


def test_a_missing_classifier_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `dvc repro fit`"):
        NgramScorer.read(tmp_path)


def test_harmless_documents_set_the_operating_point(fitted: Path) -> None:
    ingested("clean/calm", [{"text": f"{text} Wait."} for text in [*SAFE, *CRIME]], 9)
    edit(
        (
            "operating_point: null",
            "operating_point: {source: calm, documents: 50, min_score: 3, max_share: 0.1}",
        )
    )
    stage("fit")
    point = json.loads((fitted / "ngrams" / POINT).read_bytes())
    assert (point["min_score"], point["documents"]) == (3, 50)
    grader = fitted_grader(Params.read("scorers").scorers["ngrams"], fitted / "ngrams")
    grades = grader.grade([row["text"] for row in rows_of(build("clean", "calm"))])
    called = [grade for grade in grades if grade and grade.score >= 3]
    # A third of them are crimes: without the point, 20 would be called so.
    assert 0 < len(called) <= 7
    assert all(sum(grade.probabilities[3:]) >= point["threshold"] for grade in called)
    held_out = rows_of(fitted / "ngrams")
    assert held_out


@pytest.mark.parametrize(("share", "called"), [(0.1, 1), (0.3, 3), (0.05, 0)])
def test_no_more_than_the_share_reach_the_threshold(share: float, called: int) -> None:
    class Ranked:
        def grade(self, texts: Sequence[str]) -> Grades:
            values = [int(text) / 10 for text in texts]
            return [Grade(0, "", None, (1 - value, 0, 0, 0, value, 0)) for value in values]

    texts = [str(number) for number in range(10)]
    point = OperatingPoint.fit(Ranked(), texts, 3, share)
    grades = AtOperatingPoint(Ranked(), point).grade(texts)
    assert [grade.score for grade in grades if grade] == [0] * (10 - called) + [4] * called


def test_a_long_text_is_split_at_white_space() -> None:
    text = " ".join(f"word{number}" for number in range(100))
    parts = split_text(text, 100)
    assert "".join(parts) == text
    assert len(parts) == 7
    assert all(part.strip().startswith("word") for part in parts)
    assert split_text("short", 100) == ["short"]
    assert split_text("", 100) == [""]
    assert [len(part) for part in split_text("x" * 300, 100)] == [100] * 3


def test_a_long_text_is_as_harmful_as_its_worst_chunk() -> None:
    scorer = fit(LABELS, [1, 2], 1.0)
    hidden = " ".join([*SAFE, CRIME[0], *SAFE])
    whole, chunks = scorer.grade([hidden]), replace(scorer, chunk_characters=60).grade([hidden])
    assert [grade.score for grade in (*whole, *chunks) if grade] == [0, 4]
