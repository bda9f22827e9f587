"""Layouts of task files: those of the data sets on the hub, and those of Mosaic's gauntlet.

A row of the gauntlet is turned into the row of the data set on the hub. The harness then makes the
requests, so a model reads the same strings from either source.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safelm.evaluation.prompt_files import PromptFileError, is_filled, read_rows

LETTERS = "ABCDEFGHIJ"
HubRow = dict[str, Any]
Row = Mapping[str, Any]


class Layout(NamedTuple):
    """Columns of a file, the column of the right answer, and the values it may have.

    Test splits often hide the answer behind "", -1 or an empty list of aliases. `answers` lists the
    values that are real answers to a row, so that rows with hidden ones are refused.
    """

    columns: tuple[str, ...]
    answer: str
    answers: Callable[[Row], Sequence[Any]]
    to_hub: Callable[[Row], HubRow] = dict


def _strip(text: str, head: str = "Question: ", tail: str = "") -> str:
    return text.strip().removeprefix(head).removesuffix(tail).strip()


def _multiple_choice(row: Row) -> HubRow:
    """Convert a row of ARC or OpenBookQA: a question, texts, and the index of the right one."""
    labels = list(LETTERS[: len(row["choices"])])
    question = _strip(row["query"])
    return {
        "question": question,
        "question_stem": question,
        "choices": {"text": list(row["choices"]), "label": labels},
        "answerKey": labels[row["gold"]],
    }


def _commonsense_qa(row: Row) -> HubRow:
    """Split the choices from the query: `Question: …\\nChoices:\\nA. …\\nAnswer:`."""
    question, _, rest = _strip(row["query"], tail="Answer:").partition("\nChoices:\n")
    texts = [line.partition(". ")[2] for line in rest.splitlines()]
    labels = list(LETTERS[: len(texts)])
    return {
        "question": question,
        "choices": {"text": texts, "label": labels},
        "answerKey": labels[row["gold"]],
    }


def _piqa(row: Row) -> HubRow:
    first, second = row["choices"][:2]
    return {"goal": _strip(row["query"]), "sol1": first, "sol2": second, "label": row["gold"]}


def _winogrande(row: Row) -> HubRow:
    """Make one sentence of two beginnings that differ in their last words and a continuation."""
    first, second = (text.split(" ") for text in row["context_options"])
    same = 0
    shortest = min(len(first), len(second))
    while same < shortest and first[same] == second[same]:
        same += 1
    # The differing words become the options for a gap, which the hub writes as "_".
    shared = "".join(f"{word} " for word in first[:same])
    return {
        "sentence": f"{shared}_ {row['continuation'].strip()}",
        "option1": " ".join(first[same:]),
        "option2": " ".join(second[same:]),
        "answer": str(row["gold"] + 1),
    }


def _triviaqa(row: Row) -> HubRow:
    """Convert a row of TriviaQA.

    The question keeps its question mark. The harness adds another, as it does to the hub's rows.
    """
    answer = {"value": row["answer"], "aliases": list(row["aliases"])}
    return {"question": _strip(row["context"], tail="Answer:"), "answer": answer}


def _gsm8k(row: Row) -> HubRow:
    answer = f"{row['chain_of_thought']}\n#### {row['answer']}"
    return {"question": row["context"].strip(), "answer": answer}


def _labels(row: Row) -> Sequence[Any]:
    return row["choices"]["label"]


def _indices(row: Row) -> Sequence[Any]:
    return range(len(row["choices"] if "choices" in row else row["context_options"]))


def _text(row: Row) -> Sequence[Any]:
    return [row["answer"]] if is_filled(row["answer"]) else []


def _first_is_right(row: Row) -> Sequence[Any]:
    """Return the choices if the first is the right one, as the task file takes for granted."""
    return [row["mc1_targets"]] if row["mc1_targets"]["labels"][0] == 1 else []


def _answer_with_alias(row: Row) -> Sequence[Any]:
    return [row["answer"]] if row["answer"]["aliases"] else []


QUERY = ("query", "choices", "gold")
ARC = (
    Layout(("question", "choices", "answerKey"), "answerKey", _labels),
    Layout(QUERY, "gold", _indices, _multiple_choice),
)
MMLU = Layout(
    ("question", "subject", "choices", "answer"),
    "answer",
    lambda row: (*range(4), *LETTERS[:4]),
)
WMDP = (Layout(("question", "choices", "answer"), "answer", _indices),)
# Layouts of each task: of the hub, then of the gauntlet.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "commonsense_qa": (ARC[0], Layout(QUERY, "gold", _indices, _commonsense_qa)),
    "gsm8k": (
        Layout(("question", "answer"), "answer", _text),
        Layout(("context", "chain_of_thought", "answer"), "answer", _text, _gsm8k),
    ),
    "openbookqa": (Layout(("question_stem", "choices", "answerKey"), "answerKey", _labels), ARC[1]),
    "piqa": (
        Layout(("goal", "sol1", "sol2", "label"), "label", lambda row: (0, 1)),
        Layout(QUERY, "gold", _indices, _piqa),
    ),
    "triviaqa": (
        Layout(("question", "answer"), "answer", _answer_with_alias),
        Layout(("context", "answer", "aliases"), "answer", _text, _triviaqa),
    ),
    "truthfulqa_mc1": (Layout(("question", "mc1_targets"), "mc1_targets", _first_is_right),),
    "winogrande": (
        Layout(("sentence", "option1", "option2", "answer"), "answer", lambda row: ("1", "2")),
        Layout(("context_options", "continuation", "gold"), "gold", _indices, _winogrande),
    ),
    "wmdp_bio": WMDP,
    "wmdp_chem": WMDP,
    "wmdp_cyber": WMDP,
    "mmlu": (MMLU,),
}


def read_task_rows(task: str, path: Path) -> list[HubRow]:
    """Read the rows of a file and convert them to those of the task's data set on the hub.

    Raises:
        PromptFileError: if a row fits no layout or has no right answer.
    """
    layouts = LAYOUTS[task]
    columns: list[str] = []
    for layout in layouts:
        columns += layout.columns
    rows = []
    for place, row in read_rows(path, columns):
        # The gauntlet's layout is tried first.
        matching = [layout for layout in reversed(layouts) if set(layout.columns) <= set(row)]
        if not matching:
            wanted = " or ".join(", ".join(layout.columns) for layout in layouts)
            got = ", ".join(map(str, row))
            raise PromptFileError(f"{place}: expected the columns {wanted} (got {got})")
        layout = matching[0]
        kept = {name: row[name] for name in layout.columns}
        rows.append(layout.to_hub(_with_answer(place, kept, layout)))
    return rows


def _with_answer(place: str, row: Row, layout: Layout) -> HubRow:
    """Return the row with its answer in the harness's type, because CSV has only text."""
    value = row[layout.answer]
    try:
        right = [answer for answer in layout.answers(row) if str(answer) == str(value)]
    # A CSV cell with a nested value is text, which has no labels to look up.
    except (LookupError, TypeError) as error:
        raise PromptFileError(
            f"{place}: expected choices nested as on the hub; use Parquet or JSON lines"
        ) from error
    if not right:
        got = f"{layout.answer} is {str(value)[:40]!r}"
        raise PromptFileError(f"{place}: has no right answer ({got}); use a split that has them")
    return {**row, layout.answer: right[0]}
