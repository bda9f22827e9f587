"""Tasks of lm-evaluation-harness by their names, with its own task files, on rows of the hub or of
a file.

A file of another layout is turned into the rows that the data set has on the hub; the harness makes
the requests of them, so that a model reads the same strings wherever the rows are from."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval.tasks
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from safelm.documents.shards import text_digest
from safelm.evaluation.prompt_files import PromptFileError, is_filled, read_rows
from safelm.evaluation.utility.lm_eval import quiet
from safelm.seeding import sample
from specs.suite import HarnessSuite

FOLDER = Path(lm_eval.tasks.__file__).parent
FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "winogrande": "winogrande/default.yaml",
}
LETTERS = "ABCDEFGHIJ"
Row = Mapping[str, Any]


def _after(text: str, head: str = "Question: ", tail: str = "") -> str:
    return text.strip().removeprefix(head).removesuffix(tail).strip()


def _multiple(row: Row) -> dict[str, Any]:
    """ARC and OpenBookQA: a question, texts, and the place of the right one."""
    labels = list(LETTERS[: len(row["choices"])])
    question = _after(row["query"])
    choices = {"text": list(row["choices"]), "label": labels}
    return {
        "question": question,
        "question_stem": question,
        "choices": choices,
        "answerKey": labels[row["gold"]],
    }


def _commonsense(row: Row) -> dict[str, Any]:
    """The choices stand in the query: `Question: …\\nChoices:\\nA. …\\nAnswer:`."""
    question, _, rest = _after(row["query"], tail="Answer:").partition("\nChoices:\n")
    texts = [line.partition(". ")[2] for line in rest.splitlines()]
    labels = list(LETTERS[: len(texts)])
    return {
        "question": question,
        "choices": {"text": texts, "label": labels},
        "answerKey": labels[row["gold"]],
    }


def _piqa(row: Row) -> dict[str, Any]:
    return {
        "goal": _after(row["query"]),
        "sol1": row["choices"][0],
        "sol2": row["choices"][1],
        "label": row["gold"],
    }


def _winogrande(row: Row) -> dict[str, Any]:
    """Two beginnings that differ in their last words, and how both go on."""
    first, second = (text.split(" ") for text in row["context_options"])
    same = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    lead = "".join(f"{word} " for word in first[:same])
    options = {"option1": " ".join(first[same:]), "option2": " ".join(second[same:])}
    return {
        "sentence": f"{lead}_ {row['continuation'].strip()}",
        **options,
        "answer": str(row["gold"] + 1),
    }


def _trivia(row: Row) -> dict[str, Any]:
    """Questions end as on the hub: the harness puts one more question mark behind them."""
    question = _after(row["context"], tail="Answer:")
    return {
        "question": question,
        "answer": {"value": row["answer"], "aliases": list(row["aliases"])},
    }


def _sums(row: Row) -> dict[str, Any]:
    return {
        "question": row["context"].strip(),
        "answer": f"{row['chain_of_thought']}\n#### {row['answer']}",
    }


LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Row], dict[str, Any]]]] = {
    # task: columns on the hub, columns in the gauntlet, from the one to the other
    "arc_easy": (("question", "choices", "answerKey"), ("query", "choices", "gold"), _multiple),
    "arc_challenge": (
        ("question", "choices", "answerKey"),
        ("query", "choices", "gold"),
        _multiple,
    ),
    "commonsense_qa": (
        ("question", "choices", "answerKey"),
        ("query", "choices", "gold"),
        _commonsense,
    ),
    "gsm8k": (("question", "answer"), ("context", "chain_of_thought", "answer"), _sums),
    "openbookqa": (
        ("question_stem", "choices", "answerKey"),
        ("query", "choices", "gold"),
        _multiple,
    ),
    "piqa": (("goal", "sol1", "sol2", "label"), ("query", "choices", "gold"), _piqa),
    "triviaqa": (("question", "answer"), ("context", "answer", "aliases"), _trivia),
    "winogrande": (
        ("sentence", "option1", "option2", "answer"),
        ("context_options", "continuation", "gold"),
        _winogrande,
    ),
    "mmlu": (("question", "subject", "choices", "answer"), (), dict),
}


# The column of the right answer, and what may stand there. Splits that are to be solved hide it:
# "", -1, no alias.
Gold = tuple[str, Callable[[Row], Sequence[Any]]]
KEY: Gold = ("answerKey", lambda row: row["choices"]["label"])
PLACE: Gold = (
    "gold",
    lambda row: range(len(row["choices"] if "choices" in row else row["context_options"])),
)
WORDS: Gold = ("answer", lambda row: [row["answer"]] if is_filled(row["answer"]) else [])
GOLD: dict[str, tuple[Gold, Gold]] = {
    # task: on the hub, in the gauntlet
    "arc_easy": (KEY, PLACE),
    "arc_challenge": (KEY, PLACE),
    "commonsense_qa": (KEY, PLACE),
    "gsm8k": (WORDS, WORDS),
    "openbookqa": (KEY, PLACE),
    "piqa": (("label", lambda row: (0, 1)), PLACE),
    "triviaqa": (
        ("answer", lambda row: [row["answer"]] if row["answer"]["aliases"] else []),
        WORDS,
    ),
    "winogrande": (("answer", lambda row: ("1", "2")), PLACE),
    "mmlu": (("answer", lambda row: (*range(4), *LETTERS[:4])), PLACE),
}


def rows_of(task: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a file, as the data set of the task has them on the hub; all of them have a right
    answer.
    """
    hub, gauntlet, turned = LAYOUTS[task]
    gold, place = GOLD[task]
    found = []
    for where, row in read_rows(path, (*hub, *gauntlet)):
        if gauntlet and set(gauntlet) <= set(row):
            found.append(turned(_solved(where, row, *place)))
        elif set(hub) <= set(row):
            found.append(_solved(where, {name: row[name] for name in hub}, *gold))
        else:
            wanted = " or ".join(", ".join(columns) for columns in (hub, gauntlet) if columns)
            raise PromptFileError(
                f"{where}: expected the columns {wanted} (got {', '.join(map(str, row))})"
            )
    return found


def _solved(
    where: str, row: Row, column: str, answers: Callable[[Row], Sequence[Any]]
) -> dict[str, Any]:
    """The row, with its right answer of the type that the harness takes: CSV has only texts."""
    try:
        right = [answer for answer in answers(row) if str(answer) == str(row[column])]
    except (LookupError, TypeError) as error:
        raise PromptFileError(
            f"{where}: expected choices nested as on the hub; take Parquet or JSON lines"
        ) from error
    if not right:
        got = f"{column} is {str(row[column])[:40]!r}"
        raise PromptFileError(f"{where}: has no right answer ({got}); take a split that has them")
    return {**row, column: right[0]}


def tasks(suite: HarnessSuite, *, limit: int, seed: int) -> dict[str, ConfigurableTask]:
    """The task of a suite on at most `limit` rows; MMLU is a task for each subject, as in the
    harness.
    """
    quiet()
    if suite.path is None:
        names = mmlu_subjects() if suite.task == "mmlu" else [suite.task]
        return {name: ConfigurableTask(config=config_of(name)) for name in names}
    shots = rows_of(suite.task, Path(suite.shots)) if suite.shots else []
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in drawn(rows_of(suite.task, Path(suite.path)), limit, seed):
        groups[f"mmlu_{row['subject']}" if suite.task == "mmlu" else suite.task].append(row)
    return {name: local(name, rows, _of(name, shots)) for name, rows in sorted(groups.items())}


def _of(name: str, shots: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The examples of a task: all, or those of its subject."""
    return [
        row for row in shots if f"mmlu_{row.get('subject')}" == name or not name.startswith("mmlu_")
    ]


def drawn(rows: Sequence[dict[str, Any]], limit: int, seed: int) -> list[dict[str, Any]]:
    """At most `limit` rows, the same for every model."""
    by_id = {text_digest(None, json.dumps(row, sort_keys=True)): row for row in rows}
    return [by_id[id] for id in sample("suite", seed, by_id, limit)]


def local(
    name: str, rows: Sequence[dict[str, Any]], shots: Sequence[dict[str, Any]] = ()
) -> ConfigurableTask:
    """A task of the harness on rows of ours; it shows as many examples as it does there, if there
    are examples.
    """
    config = config_of(name)
    if name == "commonsense_qa":
        _shorten(config, min(len(row["choices"]["text"]) for row in rows))
    data = {"test": Dataset.from_list(list(rows))} | (
        {"train": Dataset.from_list(list(shots))} if shots else {}
    )
    few = (config.get("num_fewshot") or 0) if shots else 0
    splits = {"training_split": None, "validation_split": None, "test_split": "test"}
    splits |= {"fewshot_split": "train" if shots else None}
    return ConfigurableTask(
        config={**config, **splits, "num_fewshot": few, "custom_dataset": lambda **_: data}
    )


def config_of(name: str) -> dict[str, Any]:
    """The task file of the harness."""
    file = FILES.get(name) or f"mmlu/default/{name}.yaml"
    if not (FOLDER / file).is_file():
        raise PromptFileError(
            f"{name}: lm-evaluation-harness has no such task; expected {FOLDER.name}/{file}"
        )
    config = load_yaml(FOLDER / file)
    return {key: value for key, value in config.items() if key not in ("tag", "task_alias")}


def _shorten(config: dict[str, Any], choices: int) -> None:
    """The harness writes five choices; an edition that has fewer gets as many lines in the same
    form.
    """
    for letter in config["doc_to_choice"][choices:]:
        lines = config["doc_to_text"].split("\n")
        config["doc_to_text"] = "\n".join(
            line for line in lines if not line.startswith(f"{letter}. ")
        )
    config["doc_to_choice"] = config["doc_to_choice"][:choices]


def mmlu_subjects() -> list[str]:
    """The tasks of the group mmlu."""
    return sorted(path.stem for path in (FOLDER / "mmlu/default").glob("mmlu_*.yaml"))


def keep_fitting(
    task: ConfigurableTask, length: Callable[[str], int], positions: int
) -> tuple[int, int]:
    """Leave out of a task the items that have a choice longer than the model; (how many, of how
    many).

    The harness itself cuts a context that is too long at its beginning; at such a choice it would
    stop."""
    split = task.config.test_split or task.config.validation_split
    docs = task.dataset[split]
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0, len(docs)
    kept = [
        place
        for place, doc in enumerate(docs)
        if all(length(f" {choice}") < positions for choice in task.doc_to_choice(doc))
    ]
    task.dataset[split] = docs.select(kept)
    return len(docs) - len(kept), len(docs)


def measures(samples: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Measure: (right, of) of the samples that the harness kept; those of a filter are named after
    it.
    """
    found: dict[str, tuple[int, int]] = {}
    for one in samples:
        for metric in one["metrics"]:
            name = metric if one["filter"] == "none" else f"{metric}, {one['filter']}"
            right, of = found.get(name, (0, 0))
            found[name] = (right + int(one[metric]), of + 1)
    return found
