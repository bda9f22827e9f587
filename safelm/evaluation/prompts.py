"""The prompts of a suite: those of the embedded world, or a public file of prompts."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safelm.demo.prompts import Prompt, prompts
from safelm.documents.shards import text_digest
from safelm.evaluation.prompt_files import (
    TEXT,
    PromptFileError,
    Row,
    has_column,
    is_filled,
    read_rows,
    value_of,
)
from safelm.seeding import sample
from specs.suite import AnySuite, DemoSuite, FileSuite

CHAT_STAGES = ("instruct", "finetune")
PLAIN = "plain"  # the form of prompts that have none


@dataclass(frozen=True)
class Question:
    """A prompt of a suite. `prompt` is that of the embedded world, which knows what act it asks
    for, or None.
    """

    suite: str
    id: str
    form: str
    text: str
    prompt: Prompt | None = None


@dataclass(frozen=True)
class Stock:
    """The questions of a suite that are asked, and what became of the other rows of its file, by
    reason.
    """

    asked: list[Question]
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)


def stock(name: str, suite: AnySuite, *, stage: str, limit: int, seed: int) -> Stock:
    """At most `limit` prompts of a suite, the same for every model, in equal shares of forms (and
    hazards, of demo).

    A pretrained model is given texts to continue, a tuned one requests. The prompts of a file are
    the same for both."""
    if isinstance(suite, DemoSuite):
        asked = prompts(
            suite.kind, "chat" if stage in CHAT_STAGES else "completion", limit, suite.path
        )
        return Stock(
            [Question(name, prompt.id, prompt.form, prompt.text, prompt) for prompt in asked],
            len(asked),
        )
    if not isinstance(suite, FileSuite):
        raise TypeError(f"suite {name}: the harness asks its own questions")
    rows, empty, found = read_file(name, suite)
    once = {question.id: question for question in found}
    chosen = balanced([once[id] for id in sample("suite", seed, once, len(once))], limit)
    left_out = {
        "empty": empty,
        "other_rows": rows - empty - len(found),
        "twice": len(found) - len(once),
        "not_sampled": len(once) - len(chosen),
    }
    return Stock(chosen, rows, {reason: count for reason, count in left_out.items() if count})


def questions(name: str, suite: AnySuite, *, stage: str, limit: int, seed: int) -> list[Question]:
    """The questions of a suite that are asked."""
    return stock(name, suite, stage=stage, limit=limit, seed=seed).asked


def in_chat(suite: AnySuite, stage: str) -> bool:
    """Whether a model of this stage is asked in the chat format: a tuned one is, but for texts it
    is to continue.
    """
    return stage in CHAT_STAGES and not (
        isinstance(suite, FileSuite) and suite.asked_as == "beginning"
    )


def balanced(ordered: Iterable[Question], limit: int) -> list[Question]:
    """The first `limit` when the forms take turns, each in the order given."""
    turns: dict[str, int] = {}
    ranked = []
    for question in ordered:
        turns[question.form] = turns.get(question.form, -1) + 1
        ranked.append((turns[question.form], question.form, question))
    return [question for _, _, question in sorted(ranked, key=lambda item: item[:2])][:limit]


def read_file(name: str, suite: FileSuite) -> tuple[int, int, list[Question]]:
    """(rows of the file, those that are empty, the prompts of those that `only` wants, in their
    order).
    """
    path = pinned(name, suite)
    rows = list(read_rows(path, [*suite.text, TEXT]))
    full = [(where, row) for where, row in rows if not _is_empty(suite, row)]
    wanted = [(where, row) for where, row in full if _is_wanted(name, suite, where, row)]
    if not wanted:
        raise PromptFileError(f"{path}: holds no prompt (suite {name}); name another file")
    return (
        len(rows),
        len(rows) - len(full),
        [_question(name, suite, where, row) for where, row in wanted],
    )


def pinned(name: str, suite: FileSuite) -> Path:
    """The file of a suite, if it is there and has the digest that the suite pins."""
    if mistake := suite.mistake():
        raise PromptFileError(f"specs/suites/{name}.yaml {mistake[0]}: {mistake[1]}")
    return Path(suite.path)


def _is_empty(suite: FileSuite, row: Row) -> bool:
    """Whether nothing stands in a row (spreadsheets write such), or null where its prompt would."""
    is_null = has_column(row, suite.text) and value_of(row, suite.text) is None
    return is_null or not any(map(is_filled, row.values()))


def _is_wanted(name: str, suite: FileSuite, where: str, row: Row) -> bool:
    for column, pattern in suite.only.items():
        value = value_of(row, [column])
        if value is None:
            raise PromptFileError(
                f"{where}: {_lacks(name, row, [column])}, by which suite {name} selects"
            )
        if not re.search(pattern, str(value)):
            return False
    return True


def _question(name: str, suite: FileSuite, where: str, row: Row) -> Question:
    text = value_of(row, suite.text if has_column(row, suite.text) else [TEXT])
    if not isinstance(text, str) or not text.strip():
        raise PromptFileError(
            f"{where}: {_lacks(name, row, suite.text)}, the prompt of suite {name}"
        )
    context, form = value_of(row, suite.context), value_of(row, suite.form)
    if isinstance(context, str) and context.strip():
        slots = {"context": context.strip(), "text": text.strip()}
        text = re.sub(r"\{(context|text)\}", lambda slot: slots[slot[1]], suite.joined)
    return Question(
        name, text_digest(None, text), str(form).strip() if is_filled(form) else PLAIN, text
    )


def _lacks(name: str, row: Row, names: Sequence[str]) -> str:
    wanted = " or ".join(names)
    if has_column(row, names):
        return f"expected text in the column {wanted} (it is empty or no text; fill it, or leave the row out)"
    columns = ", ".join(map(str, row))
    return f"expected the column {wanted} (columns are {columns}; name yours in specs/suites/{name}.yaml)"
