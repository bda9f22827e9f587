"""lm-evaluation-harness in this process: multiple choice, perplexity, and its own tasks.

Tasks are made of Python values and run by `evaluate`. The harness's TaskManager would first read
thousands of task files, and its `simple_evaluate` would ask git and pip about this machine.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.decoding.check import positions_of

Item = dict[str, Any]
LOGGERS = ("lm_eval", "lm-eval")
# Positions assumed for a model that names none. Models with fewer generate shorter answers.
DEFAULT_POSITIONS = 2048


def silence_harness() -> None:
    """Keep lm-evaluation-harness from logging what it does."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def accuracy_and_perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    pages: Sequence[str],
    *,
    batch_size: int,
) -> tuple[list[bool], float]:
    """Return whether the likeliest choice of each item is right, and the pages' perplexity.

    Perplexity is per word.
    """
    silence_harness()
    # In pretraining every document begins with this token.
    begin = tokenizer.bos_token or ""
    tasks = {"choices": choice_task(items, begin), "pages": page_task(pages)}
    harness = HFLM(model, tokenizer=tokenizer, backend="causal", batch_size=batch_size)
    found = _run(harness, tasks, limit=None)
    samples = found["samples"]["choices"]
    is_right = {sample["doc"]["id"]: sample["acc"] == 1 for sample in samples}
    perplexity = found["results"]["pages"]["word_perplexity,none"]
    return [is_right[item["id"]] for item in items], perplexity


def max_length(model: PreTrainedModel) -> int:
    """Return how many tokens the harness may give a model."""
    return positions_of(model.config) or DEFAULT_POSITIONS


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, ConfigurableTask],
    *,
    batch_size: int,
    limit: int | None,
) -> list[Item]:
    """Run tasks; return the harness's samples: a dictionary for each item, with its metrics."""
    silence_harness()
    positions = max_length(model)
    for task in tasks.values():
        if task.OUTPUT_TYPE == "generate_until" and positions < DEFAULT_POSITIONS:
            # The harness would generate 256 tokens, and fail if the model has no more positions.
            task.config.generation_kwargs["max_gen_toks"] = positions // 2
    harness = HFLM(
        model,
        tokenizer=tokenizer,
        backend="causal",
        batch_size=batch_size,
        max_length=positions,
    )
    # The harness fails on a task without items.
    tasks = {name: task for name, task in tasks.items() if len(task.eval_docs)}
    samples = _run(harness, tasks, limit)["samples"]
    return [sample for name in tasks for sample in samples[name]]


def _run(harness: HFLM, tasks: Mapping[str, ConfigurableTask], limit: int | None) -> Any:
    # The harness shows eight progress bars for a second of work.
    with redirect_stderr(StringIO()):
        groups: Item = {"tasks": dict(tasks), "groups": {}}
        # No bootstrap, because intervals are computed from the counts (safelm/stats/rates.py).
        return evaluate(harness, groups, limit=limit, bootstrap_iters=0)


def choice_task(items: Sequence[Item], begin: str) -> ConfigurableTask:
    """Make a task of items {id, question, choices, answer}, whose texts start with `begin`."""
    rows = [{**item, "question": begin + item["question"]} for item in items]
    return _task(
        "choices",
        rows,
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="choices",
        doc_to_target="answer",
    )


def page_task(pages: Sequence[str]) -> ConfigurableTask:
    """Make a task that measures the likelihood of whole pages."""
    return _task(
        "pages",
        [{"page": page} for page in pages],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
    )


def _task(name: str, rows: list[Item], **config: Any) -> ConfigurableTask:
    data = {"test": Dataset.from_list(rows)}
    config |= {"task": name, "custom_dataset": lambda **_: data, "test_split": "test"}
    task = ConfigurableTask(config=config)
    task.set_config(key="num_fewshot", value=0)
    return task
