"""Tasks of lm-evaluation-harness: files of both layouts give the strings that the harness makes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from transformers import AutoModelForCausalLM, AutoTokenizer

from safelm.builder.digest import file_digest
from safelm.evaluation.prompt_files import PromptFileError
from safelm.evaluation.utility.layouts import read_task_rows
from safelm.evaluation.utility.lm_eval import run_tasks
from safelm.evaluation.utility.lm_eval_tasks import (
    FILES,
    drop_long_items,
    load_tasks,
    local_task,
    mmlu_subjects,
    task_config,
    task_counts,
)
from specs.suite import SHOWING, SUITES, HarnessSuite, Suite
from specs.yaml_source import SpecError
from tests.tiny import write_model, write_tokenizer

NAMES = sorted(
    path.stem for path in SUITES.glob("*.yaml") if isinstance(Suite.at(path), HarnessSuite)
)
TEXTS, LABELS = ["red", "blue", "grey", "green", "black"], list("ABCDE")
COLOURS = "A. red\nB. blue\nC. grey\nD. green\nE. black"

# Task: a row as on the hub, the same row in Mosaic's gauntlet, and the requests that the harness
# makes of it, (context, continuation).
SAME: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = {
    "arc_easy": (
        {
            "question": "What is a rose?",
            "choices": {"text": TEXTS[:4], "label": list("ABCD")},
            "answerKey": "A",
        },
        {"query": "Question: What is a rose?", "choices": TEXTS[:4], "gold": 0},
        [("Question: What is a rose?\nAnswer:", f" {text}") for text in TEXTS[:4]],
    ),
    "openbookqa": (
        {
            "question_stem": "A rose is",
            "choices": {"text": TEXTS[:4], "label": list("ABCD")},
            "answerKey": "B",
        },
        {"query": "A rose is", "choices": TEXTS[:4], "gold": 1},
        [("A rose is", f" {text}") for text in TEXTS[:4]],
    ),
    "piqa": (
        {"goal": "Water a rose.", "sol1": "Take a hose.", "sol2": "Take a nose.", "label": 0},
        {
            "query": "Question: Water a rose.\n",
            "choices": ["Take a hose.", "Take a nose."],
            "gold": 0,
        },
        [("Question: Water a rose.\nAnswer:", f" Take a {what}.") for what in ("hose", "nose")],
    ),
    "winogrande": (
        {
            "sentence": "Ann met Eve and _ was glad.",
            "option1": "Ann",
            "option2": "Eve",
            "answer": "2",
        },
        {
            "context_options": ["Ann met Eve and Ann", "Ann met Eve and Eve"],
            "continuation": "was glad.",
            "gold": 1,
        },
        [(f"Ann met Eve and {name}", " was glad.") for name in ("Ann", "Eve")],
    ),
    "commonsense_qa": (
        {
            "question": "What is a rose?",
            "choices": {"text": TEXTS, "label": LABELS},
            "answerKey": "C",
        },
        {
            "query": f"Question: What is a rose?\nChoices:\n{COLOURS}\nAnswer:",
            "choices": LABELS,
            "gold": 2,
        },
        [(f"Question: What is a rose?\n{COLOURS}\nAnswer:", f" {letter}") for letter in LABELS],
    ),
    "triviaqa": (
        {
            "question": "What is a rose?",
            "answer": {"value": "A flower", "aliases": ["Flower", "A flower"]},
        },
        {
            "context": "Question: What is a rose?\nAnswer:",
            "answer": "A flower",
            "aliases": ["Flower", "A flower"],
        },
        [("Question: What is a rose??\nAnswer:", "")],
    ),
    "gsm8k": (
        {"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"},
        {"context": "Two and two?", "chain_of_thought": "2 + 2 = 4", "answer": "4"},
        [("Question: Two and two?\nAnswer:", "")],
    ),
}


# Tasks that only the hub has: a row, and the requests that the harness makes of it.
WMDP = {"question": "A rose?", "choices": TEXTS[:4], "answer": 2}
ROSE = "A rose?\nA. red\nB. blue\nC. grey\nD. green\nAnswer:"
MC1 = {"choices": ["A flower.", "A stone."], "labels": [1, 0]}
HUB_ONLY: dict[str, tuple[dict[str, Any], str, list[str], dict[str, Any]]] = {
    "wmdp_bio": (WMDP, ROSE, [" A", " B", " C", " D"], {"answer": 4}),
    "wmdp_chem": (WMDP, ROSE, [" A", " B", " C", " D"], {"answer": -1}),
    "wmdp_cyber": (WMDP, ROSE, [" A", " B", " C", " D"], {"answer": None}),
    "truthfulqa_mc1": (
        {"question": "A rose?", "mc1_targets": MC1},
        "Q: A rose?\nA:",
        [" A flower.", " A stone."],
        {"mc1_targets": {**MC1, "labels": [0, 1]}},
    ),
}


def requests(task: ConfigurableTask) -> list[tuple[str, str]]:
    """Return (context, continuation) of every request; empty where the model is to write it."""
    task.build_all_requests()
    found = []
    for instance in task.instances:
        context, continuation = instance.args[:2]
        found.append((context, continuation if isinstance(continuation, str) else ""))
    return found


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("task", SAME)
def test_a_file_of_either_layout_gives_the_strings_of_the_harness(
    task: str, tmp_path: Path
) -> None:
    hub, gauntlet, expected = SAME[task]
    for row in (hub, gauntlet):
        rows = read_task_rows(task, written(tmp_path / "rows.jsonl", [row]))
        assert requests(local_task(task, rows)) == expected
    splits = dict.fromkeys(("train", "validation", "test"), Dataset.from_list([hub]))
    own = ConfigurableTask(config={**task_config(task), "custom_dataset": lambda **_: splits})
    own.set_config(key="num_fewshot", value=0)
    assert requests(own) == expected


@pytest.mark.parametrize("task", HUB_ONLY)
def test_a_file_of_the_hubs_layout_gives_the_strings_of_the_harness(
    task: str, tmp_path: Path
) -> None:
    row, context, choices, hidden = HUB_ONLY[task]
    found = requests(local_task(task, read_task_rows(task, written(tmp_path / "r.jsonl", [row]))))
    assert [choice for _, choice in found] == choices
    assert all(text.endswith(context) for text, _ in found)
    path = written(tmp_path / "hidden.jsonl", [{**row, **hidden}])
    with pytest.raises(PromptFileError, match=r"hidden\.jsonl:1: has no right answer"):
        read_task_rows(task, path)


def test_four_choices_are_given_in_the_form_of_five(tmp_path: Path) -> None:
    question = "A rose?"
    choices = "A. red\nB. blue\nC. grey\nD. green"
    row = {
        "query": f"Question: {question}\nChoices:\n{choices}\nAnswer:",
        "choices": LABELS[:4],
        "gold": 3,
    }
    rows = read_task_rows("commonsense_qa", written(tmp_path / "r.jsonl", [row]))
    context = f"Question: {question}\n{choices}\nAnswer:"
    expected = [(context, f" {letter}") for letter in "ABCD"]
    assert requests(local_task("commonsense_qa", rows)) == expected


def test_examples_are_shown_as_the_harness_shows_them(tmp_path: Path) -> None:
    rows = [{"question": f"{n} and {n}?", "answer": f"#### {2 * n}"} for n in range(8)]
    path = written(tmp_path / "r.jsonl", rows[:1])
    shots = written(tmp_path / "s.jsonl", rows[1:])
    tasks = load_tasks(suite_of("gsm8k_answers", path, shots), limit=9, seed=1)
    (context, _), *_ = requests(tasks["gsm8k"])
    assert context.count("Question: ") == 6 and context.endswith("Question: 0 and 0?\nAnswer:")


def test_examples_for_a_task_that_shows_none_are_refused(tmp_path: Path) -> None:
    assert {name for name in FILES if task_config(name).get("num_fewshot")} == set(SHOWING)
    assert not task_config("mmlu_anatomy").get("num_fewshot")
    path = tmp_path / "mine.yaml"
    text = (SUITES / "mmlu.yaml").read_text()
    path.write_text(text.replace("shots: null", "shots: data/mmlu_dev.jsonl"))
    message = "task mmlu shows no examples, gsm8k does; write shots: null"
    with pytest.raises(SpecError, match=message):
        Suite.at(path)


def suite_of(name: str, path: Path, shots: Path | None = None) -> HarnessSuite:
    suite = Suite.read(name)
    assert isinstance(suite, HarnessSuite)
    pins = {"path": str(path), "sha256": file_digest(path)}
    if shots:
        pins |= {"shots": str(shots), "shots_sha256": file_digest(shots)}
    return suite.model_copy(update={"shots": None, "shots_sha256": None, **pins})


MMLU = [
    {"question": f"{subject} {n}?", "subject": subject, "choices": TEXTS[:4], "answer": n}
    for subject in ("anatomy", "abstract_algebra")
    for n in range(3)
]


def test_mmlu_is_a_task_for_each_subject(tmp_path: Path) -> None:
    suite = suite_of("mmlu", written(tmp_path / "m.jsonl", MMLU))
    tasks = load_tasks(suite, limit=9, seed=1)
    assert list(tasks) == ["mmlu_abstract_algebra", "mmlu_anatomy"] and len(mmlu_subjects()) == 57
    context, continuation = requests(tasks["mmlu_anatomy"])[0]
    subject = "The following are multiple choice questions (with answers) about anatomy."
    assert context.startswith(f"{subject}\n\nanatomy ") and continuation == " A"
    assert context.endswith("?\nA. red\nB. blue\nC. grey\nD. green\nAnswer:")


def test_at_most_limit_rows_are_drawn_the_same_ones_each_time(tmp_path: Path) -> None:
    suite = suite_of("mmlu", written(tmp_path / "m.jsonl", MMLU))
    first, second = (
        [requests(task) for task in load_tasks(suite, limit=2, seed=1).values()] for _ in range(2)
    )
    assert sum(map(len, first)) == 2 * 4 and first == second


def test_every_task_is_a_suite() -> None:
    suites = [Suite.read(name) for name in NAMES]
    tasks = {suite.task for suite in suites if isinstance(suite, HarnessSuite)}
    # The nine of the paper, three of WMDP and TruthfulQA.
    assert tasks == {*FILES, "mmlu"} and len(tasks) == 9 + 4


def test_a_file_of_another_layout_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", [{"prompt": "Hum"}])
    message = r"r\.jsonl:1: expected the columns goal, sol1, sol2, label or query"
    with pytest.raises(PromptFileError, match=message):
        read_task_rows("piqa", path)


# Task, index of its layout, and the answer in a split that is to be solved.
UNSOLVED: list[tuple[str, int, dict[str, Any]]] = [
    ("arc_easy", 0, {"answerKey": ""}),
    ("commonsense_qa", 0, {"answerKey": ""}),
    ("piqa", 0, {"label": -1}),
    ("piqa", 1, {"gold": -1}),
    ("arc_easy", 1, {"gold": 4}),
    ("winogrande", 0, {"answer": ""}),
    ("winogrande", 1, {"gold": None}),
    ("triviaqa", 0, {"answer": {"value": "<unk>", "aliases": []}}),
    ("triviaqa", 1, {"answer": ""}),
    ("gsm8k", 0, {"answer": ""}),
    ("gsm8k", 1, {"answer": None}),
]


@pytest.mark.parametrize(("task", "layout", "hidden"), UNSOLVED)
def test_a_row_without_a_right_answer_is_an_error(
    task: str, layout: int, hidden: dict[str, Any], tmp_path: Path
) -> None:
    row = SAME[task][layout]
    path = written(tmp_path / "r.jsonl", [row, {**row, **hidden}])
    column = next(iter(hidden))
    message = rf"r\.jsonl:2: has no right answer \({column} is .*use a split"
    with pytest.raises(PromptFileError, match=message):
        read_task_rows(task, path)


def test_a_right_answer_is_read_from_csv_as_from_json(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "goal,sol1,sol2,label\nWater a rose.,Take a hose.,Take a nose.,0\n"
    )
    assert read_task_rows("piqa", tmp_path / "p.csv") == [SAME["piqa"][0]]
    (tmp_path / "a.csv").write_text("question,choices,answerKey\nA rose?,red or blue,A\n")
    message = r"a\.csv:2: expected choices nested as on the hub; use Parquet"
    with pytest.raises(PromptFileError, match=message):
        read_task_rows("arc_easy", tmp_path / "a.csv")


def test_a_model_is_measured_and_its_answers_are_counted(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", write_tokenizer(tmp_path / "tokenizer"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    counts = {}
    for name in ("arc_easy", "gsm8k"):
        tasks = {name: local_task(name, [SAME[name][0]] * 3)}
        counts[name] = task_counts(run_tasks(model, tokenizer, tasks, batch_size=2, limit=None))
    assert set(counts["arc_easy"]) == {"acc", "acc_norm"} and counts["arc_easy"]["acc"][1] == 3
    assert counts["gsm8k"]["exact_match, strict-match"] == (0, 3)


def test_items_with_a_choice_longer_than_the_model_are_left_out_and_counted() -> None:
    row = SAME["piqa"][0]
    task = local_task("piqa", [row, {**row, "sol2": "Take a nose. " * 9}, row])
    assert drop_long_items(task, len, 50) == (1, 3)
    assert requests(task) == SAME["piqa"][2] * 2
    assert drop_long_items(local_task("gsm8k", [SAME["gsm8k"][0]]), len, 1) == (0, 1)
