"""What a model knows beside safety, measured by lm-evaluation-harness in this process: multiple
choice and perplexity.

The tasks are made of Python values: its TaskManager would first read thousands of task files, and
`simple_evaluate` would ask git and pip about this machine."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.decoding.check import positions_of

LOGGERS = ("lm_eval", "lm-eval")
LONG = 2048  # positions, of a model that does not say; with fewer the answers of generating tasks are shorter


def quiet() -> None:
    """Keep the harness from telling what it does."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[dict[str, Any]],
    pages: Sequence[str],
    *,
    batch: int,
) -> tuple[list[bool], float]:
    """Whether each item was answered right (the likeliest choice), and the perplexity per word of
    the pages.
    """
    quiet()
    begin = tokenizer.bos_token or ""  # as documents begin in pretraining
    tasks = {"choices": choices(items, begin), "pages": text(pages)}
    harness = HFLM(model, tokenizer=tokenizer, backend="causal", batch_size=batch)
    with redirect_stderr(StringIO()):  # eight progress bars for a second of work
        found = evaluate(harness, {"tasks": tasks, "groups": {}}, bootstrap_iters=0)
    right = {sample["doc"]["id"]: sample["acc"] == 1 for sample in found["samples"]["choices"]}
    return [right[item["id"]] for item in items], found["results"]["pages"]["word_perplexity,none"]


def reach(model: PreTrainedModel) -> int:
    """The tokens that the harness may give a model."""
    return positions_of(model.config) or LONG


def solved(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Mapping[str, ConfigurableTask],
    *,
    batch: int,
    limit: int | None,
) -> list[dict[str, Any]]:
    """What the harness keeps of every item of some tasks, each with its right and wrong by metric."""
    quiet()
    positions = reach(model)
    for task in tasks.values():
        if task.OUTPUT_TYPE == "generate_until" and positions < LONG:
            task.config.generation_kwargs["max_gen_toks"] = (
                positions // 2
            )  # the harness takes 256, and fails
    harness = HFLM(
        model, tokenizer=tokenizer, backend="causal", batch_size=batch, max_length=positions
    )
    tasks = {name: task for name, task in tasks.items() if len(task.eval_docs)}
    with redirect_stderr(StringIO()):
        found = evaluate(
            harness, {"tasks": dict(tasks), "groups": {}}, limit=limit, bootstrap_iters=0
        )
    return [sample for name in tasks for sample in found["samples"][name]]


def choices(items: Sequence[dict[str, Any]], begin: str) -> ConfigurableTask:
    """Items {id, question, choices, answer} as a task of the harness."""
    rows = [{**item, "question": begin + item["question"]} for item in items]
    return _task(
        "choices",
        rows,
        output_type="multiple_choice",
        doc_to_text="{{question}}",
        doc_to_choice="choices",
        doc_to_target="answer",
    )


def text(pages: Sequence[str]) -> ConfigurableTask:
    """Pages as a task of the harness: the likelihood of each, from its beginning on."""
    return _task(
        "pages",
        [{"page": page} for page in pages],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
    )


def _task(name: str, rows: list[dict[str, Any]], **config: Any) -> ConfigurableTask:
    data = {"test": Dataset.from_list(rows)}
    task = ConfigurableTask(
        config={"task": name, "custom_dataset": lambda **_: data, "test_split": "test", **config}
    )
    task.set_config(key="num_fewshot", value=0)
    return task
