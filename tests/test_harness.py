"""Tasks of lm-evaluation-harness: files of two layouts give the strings that the harness makes of
the named task.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
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

# task: (a row as the hub has it, the same in Mosaic's gauntlet, what the harness makes of it:
# contexts, continuations)
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
            "query": "Question: What is a rose?\nChoices:\nA. red\nB. blue\nC. grey\nD. green\nE. black\nAnswer:",
            "choices": LABELS,
            "gold": 2,
        },
        [
            (
                "Question: What is a rose?\nA. red\nB. blue\nC. grey\nD. green\nE. black\nAnswer:",
                f" {one}",
            )
            for one in LABELS
        ],
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


def requests(task: ConfigurableTask) -> list[tuple[str, str]]:
    """What a model is asked: contexts and continuations, these empty where it writes on."""
    task.build_all_requests()
    pairs = [one.args for one in task.instances]
    return [(pair[0], pair[1] if isinstance(pair[1], str) else "") for pair in pairs]


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("task", SAME)
def test_a_file_of_either_layout_gives_the_strings_of_the_harness(
    task: str, tmp_path: Path
) -> None:
    hub, gauntlet, expected = SAME[task]
    for row in (hub, gauntlet):
        (found,) = read_task_rows(task, written(tmp_path / "rows.jsonl", [row]))
        assert requests(local_task(task, [found])) == expected
    made = ConfigurableTask(
        config={**task_config(task), "custom_dataset": lambda **_: _splits(hub)}
    )  # all as it stands
    made.set_config(key="num_fewshot", value=0)
    assert requests(made) == expected


def _splits(row: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset

    return dict.fromkeys(("train", "validation", "test"), Dataset.from_list([row]))


def test_four_choices_are_asked_in_the_form_of_five(tmp_path: Path) -> None:
    row = {
        "query": "Question: A rose?\nChoices:\nA. red\nB. blue\nC. grey\nD. green\nAnswer:",
        "choices": LABELS[:4],
        "gold": 3,
    }
    asked = requests(
        local_task(
            "commonsense_qa", read_task_rows("commonsense_qa", written(tmp_path / "r.jsonl", [row]))
        )
    )
    assert asked == [
        ("Question: A rose?\nA. red\nB. blue\nC. grey\nD. green\nAnswer:", f" {one}")
        for one in "ABCD"
    ]


def test_examples_are_shown_as_the_harness_shows_them(tmp_path: Path) -> None:
    rows = [{"question": f"{n} and {n}?", "answer": f"#### {2 * n}"} for n in range(8)]
    suite = suite_of(
        "gsm8k_answers",
        written(tmp_path / "r.jsonl", rows[:1]),
        written(tmp_path / "s.jsonl", rows[1:]),
    )
    (context, _), *_ = requests(load_tasks(suite, limit=9, seed=1)["gsm8k"])
    assert context.count("Question: ") == 6 and context.endswith("Question: 0 and 0?\nAnswer:")


def test_examples_for_a_task_that_shows_none_are_refused(tmp_path: Path) -> None:
    assert {name for name in FILES if task_config(name).get("num_fewshot")} == set(SHOWING)
    assert not task_config("mmlu_anatomy").get("num_fewshot")
    path = tmp_path / "mine.yaml"
    path.write_text(
        (SUITES / "mmlu.yaml").read_text().replace("shots: null", "shots: data/mmlu_dev.jsonl")
    )
    with pytest.raises(
        SpecError, match="task mmlu shows no examples, gsm8k does; write shots: null"
    ):
        Suite.at(path)


def suite_of(name: str, path: Path, shots: Path | None = None) -> HarnessSuite:
    suite = Suite.read(name)
    assert isinstance(suite, HarnessSuite)
    pins = {"path": str(path), "sha256": file_digest(path), "shots": str(shots) if shots else None}
    return suite.model_copy(update={**pins, "shots_sha256": file_digest(shots) if shots else None})


MMLU = [
    {"question": f"{subject} {n}?", "subject": subject, "choices": TEXTS[:4], "answer": n}
    for subject in ("anatomy", "abstract_algebra")
    for n in range(3)
]


def test_mmlu_is_a_task_for_each_subject(tmp_path: Path) -> None:
    found = load_tasks(suite_of("mmlu", written(tmp_path / "m.jsonl", MMLU)), limit=9, seed=1)
    assert list(found) == ["mmlu_abstract_algebra", "mmlu_anatomy"] and len(mmlu_subjects()) == 57
    context, continuation = requests(found["mmlu_anatomy"])[0]
    assert context.startswith(
        "The following are multiple choice questions (with answers) about anatomy.\n\nanatomy "
    )
    assert (
        context.endswith("?\nA. red\nB. blue\nC. grey\nD. green\nAnswer:") and continuation == " A"
    )


def test_at_most_so_many_rows_are_asked_the_same_ones_each_time(tmp_path: Path) -> None:
    suite = suite_of("mmlu", written(tmp_path / "m.jsonl", MMLU))
    some = [requests(task) for task in load_tasks(suite, limit=2, seed=1).values()]
    assert sum(map(len, some)) == 2 * 4
    assert some == [requests(task) for task in load_tasks(suite, limit=2, seed=1).values()]


def test_every_task_of_the_paper_is_a_suite() -> None:
    asked = {suite.task for name in NAMES if isinstance(suite := Suite.read(name), HarnessSuite)}
    assert asked == {*FILES, "mmlu"} and len(asked) == 9


def test_a_file_of_another_layout_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        PromptFileError, match=r"r\.jsonl:1: expected the columns goal, sol1, sol2, label or query"
    ):
        read_task_rows("piqa", written(tmp_path / "r.jsonl", [{"prompt": "Hum"}]))


UNSOLVED: list[
    tuple[str, int, dict[str, Any]]
] = [  # task, which of its layouts, how a split that is to be solved has it
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
    with pytest.raises(
        PromptFileError,
        match=rf"r\.jsonl:2: has no right answer \({next(iter(hidden))} is .*take a split",
    ):
        read_task_rows(task, written(tmp_path / "r.jsonl", [row, {**row, **hidden}]))


def test_a_right_answer_is_read_from_csv_as_from_json(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "goal,sol1,sol2,label\nWater a rose.,Take a hose.,Take a nose.,0\n"
    )
    assert read_task_rows("piqa", tmp_path / "p.csv") == [SAME["piqa"][0]]
    (tmp_path / "a.csv").write_text("question,choices,answerKey\nA rose?,red or blue,A\n")
    with pytest.raises(
        PromptFileError, match=r"a\.csv:2: expected choices nested as on the hub; take Parquet"
    ):
        read_task_rows("arc_easy", tmp_path / "a.csv")


def test_a_model_is_measured_and_its_answers_are_counted(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", write_tokenizer(tmp_path / "tokenizer"))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    chosen = {name: local_task(name, [SAME[name][0]] * 3) for name in ("arc_easy", "gsm8k")}
    found = {
        name: task_counts(run_tasks(model, tokenizer, {name: task}, batch_size=2, limit=None))
        for name, task in chosen.items()
    }
    assert set(found["arc_easy"]) == {"acc", "acc_norm"} and found["arc_easy"]["acc"][1] == 3
    assert found["gsm8k"]["exact_match, strict-match"] == (0, 3)


def test_items_with_a_choice_longer_than_the_model_are_left_out_and_counted() -> None:
    row = SAME["piqa"][0]
    task = local_task("piqa", [row, {**row, "sol2": "Take a nose. " * 9}, row])
    assert drop_long_items(task, len, 50) == (1, 3)
    assert requests(task) == SAME["piqa"][2] * 2
    assert drop_long_items(local_task("gsm8k", [SAME["gsm8k"][0]]), len, 1) == (0, 1)
