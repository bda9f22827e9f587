"""Tasks of lm-evaluation-harness from its own task files, on rows of the hub or of a file."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from safelm.documents.shards import text_digest
from safelm.evaluation.prompt_files import PromptFileError
from safelm.evaluation.utility.layouts import read_task_rows
from safelm.evaluation.utility.lm_eval import silence_harness
from safelm.seeding import sample
from specs.suite import HarnessSuite

FOLDER = Path(lm_eval.tasks.__file__).parent
MMLU_FOLDER = "mmlu/default"
FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "winogrande": "winogrande/default.yaml",
    "wmdp_bio": "wmdp/wmdp_bio.yaml",
    "wmdp_chem": "wmdp/wmdp_chem.yaml",
    "wmdp_cyber": "wmdp/wmdp_cyber.yaml",
}
TaskRow = dict[str, Any]


def load_tasks(suite: HarnessSuite, *, limit: int, seed: int) -> dict[str, ConfigurableTask]:
    """Load the task of a suite, on at most `limit` rows of its file.

    As in the harness, MMLU is a task for each subject.
    """
    silence_harness()
    is_mmlu = suite.task == "mmlu"
    if suite.path is None:
        names = mmlu_subjects() if is_mmlu else [suite.task]
        return {name: ConfigurableTask(config=task_config(name)) for name in names}
    examples = read_task_rows(suite.task, Path(suite.shots)) if suite.shots else []
    all_rows = read_task_rows(suite.task, Path(suite.path))
    groups: dict[str, list[TaskRow]] = defaultdict(list)
    for row in _drawn(all_rows, limit, seed):
        groups[_task_name(suite.task, row)].append(row)
    tasks = {}
    for name, rows in sorted(groups.items()):
        own = [row for row in examples if _task_name(suite.task, row) == name]
        tasks[name] = local_task(name, rows, own)
    return tasks


def _task_name(task: str, row: TaskRow) -> str:
    return f"mmlu_{row['subject']}" if task == "mmlu" else task


def _drawn(rows: Sequence[TaskRow], limit: int, seed: int) -> list[TaskRow]:
    """Draw at most `limit` rows, the same for every model."""
    by_id = {}
    for row in rows:
        text = json.dumps(row, sort_keys=True)
        by_id[text_digest(None, text)] = row
    return [by_id[id] for id in sample("suite", seed, by_id, limit)]


def local_task(
    name: str,
    rows: Sequence[TaskRow],
    examples: Sequence[TaskRow] = (),
) -> ConfigurableTask:
    """Make a task of the harness on our rows, with as many examples as its task file asks for."""
    config = task_config(name)
    if name == "commonsense_qa":
        # The template names as many choices in every row.
        choices = min(len(row["choices"]["text"]) for row in rows)
        _drop_choices(config, choices)
    data = {"test": Dataset.from_list(list(rows))}
    # Ours is the only split: the harness would fetch the others from the hub.
    config |= {"training_split": None, "validation_split": None, "test_split": "test"}
    config |= {"fewshot_split": None, "num_fewshot": 0, "custom_dataset": lambda **_: data}
    if examples:
        data["train"] = Dataset.from_list(list(examples))
        shown = task_config(name).get("num_fewshot") or 0
        config |= {"fewshot_split": "train", "num_fewshot": shown}
    return ConfigurableTask(config=config)


def task_config(name: str) -> dict[str, Any]:
    """Read the task file of the harness.

    Raises:
        PromptFileError: if the harness has no such task.
    """
    file = FILES.get(name) or f"{MMLU_FOLDER}/{name}.yaml"
    if not (FOLDER / file).is_file():
        raise PromptFileError(
            f"{name}: lm-evaluation-harness has no such task; expected {FOLDER.name}/{file}"
        )
    config = load_yaml(FOLDER / file)
    # These keys put a task into groups, which are not used here.
    return {key: value for key, value in config.items() if key not in ("tag", "task_alias")}


def _drop_choices(config: dict[str, Any], choices: int) -> None:
    """Drop choices from the template, which has five; some editions have fewer."""
    for letter in config["doc_to_choice"][choices:]:
        lines = config["doc_to_text"].split("\n")
        kept = [line for line in lines if not line.startswith(f"{letter}. ")]
        config["doc_to_text"] = "\n".join(kept)
    config["doc_to_choice"] = config["doc_to_choice"][:choices]


def mmlu_subjects() -> list[str]:
    """List the tasks of the group mmlu."""
    return sorted(path.stem for path in (FOLDER / MMLU_FOLDER).glob("mmlu_*.yaml"))


def drop_long_items(
    task: ConfigurableTask,
    length: Callable[[str], int],
    positions: int,
) -> tuple[int, int]:
    """Drop the items of a task that have a choice too long for the model.

    The harness cuts the beginning of a long context, but fails at a choice that is too long.

    Returns the number of dropped items, and that of all items.
    """
    split = task.config.test_split or task.config.validation_split
    docs = task.dataset[split]
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0, len(docs)
    kept = []
    for index, doc in enumerate(docs):
        # With a space before it, as the harness joins a choice to its context.
        lengths = [length(f" {choice}") for choice in task.doc_to_choice(doc)]
        if max(lengths, default=0) < positions:
            kept.append(index)
    task.dataset[split] = docs.select(kept)
    return len(docs) - len(kept), len(docs)


def task_counts(samples: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Count the samples by metric: (right, all). With a filter, its name follows the metric's."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for item in samples:
        suffix = "" if item["filter"] == "none" else f", {item['filter']}"
        for metric in item["metrics"]:
            name = metric + suffix
            right[name] += int(item[metric])
            total[name] += 1
    return {name: (right[name], count) for name, count in total.items()}
