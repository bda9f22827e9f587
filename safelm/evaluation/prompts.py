"""Prompts of a suite: those of the demo world, or those of a public file."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelm.demo.prompts import DemoPrompt, held_out_prompts
from safelm.documents.shards import text_digest
from safelm.evaluation.measurements import Measurement
from safelm.evaluation.prompt_files import (
    TEXT,
    PromptFileError,
    Row,
    first_value,
    has_column,
    is_filled,
    read_rows,
)
from safelm.seeding import sample
from specs.suite import AnySuite, DemoSuite, FileSuite

CHAT_STAGES = ("instruct", "finetune")
# The form of prompts that have none.
PLAIN = "plain"


@dataclass(frozen=True)
class Prompt:
    """A prompt of a suite. `demo_prompt` says which act of the demo world it asks for, if any."""

    suite: str
    id: str
    form: str
    text: str
    demo_prompt: DemoPrompt | None = None


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a suite for one model.

    Attributes:
        is_chat: whether a prompt is a user's turn in the chat format; else the model continues it.
        prompts: in the order in which completions are written.
        rows: rows of the suite's file.
        left_out: rows that are no prompt of this set, by reason.
    """

    is_chat: bool
    prompts: list[Prompt]
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(id, text) of every prompt: all that a model is given."""
        return [(prompt.id, prompt.text) for prompt in self.prompts]

    def facts(self, answered: int, **columns: Any) -> list[Measurement]:
        """Count the rows of the file, the prompts that have a completion, and those left out."""
        counts = {"rows": self.rows, "prompts": answered}
        counts |= {f"left_out_{reason}": count for reason, count in self.left_out.items()}
        if too_long := len(self.prompts) - answered:
            counts["left_out_too_long"] = too_long
        return [Measurement(metric, count, **columns) for metric, count in counts.items()]


def prompt_set(name: str, suite: AnySuite, *, stage: str, limit: int, seed: int) -> PromptSet:
    """Choose at most `limit` prompts of a suite, the same for every model, forms in equal shares.

    The demo world (whose hazards have equal shares too) gives a pretrained model texts to continue
    and a tuned model requests; the prompts of a file are the same for both.

    Raises:
        PromptFileError: where the suite's file is missing, not the pinned one, or broken.
    """
    is_chat = is_in_chat_format(suite, stage)
    if isinstance(suite, DemoSuite):
        format = "chat" if stage in CHAT_STAGES else "completion"
        prompts = [
            Prompt(name, found.id, found.form, found.text, found)
            for found in held_out_prompts(suite.kind, format, limit, suite.path)
        ]
        return PromptSet(is_chat, prompts, len(prompts))
    if not isinstance(suite, FileSuite):
        raise TypeError(f"suite {name}: lm-evaluation-harness makes its own prompts")
    rows, empty, found = read_prompts(name, suite)
    # An id is a digest of the text, so prompts that are there twice have one id.
    unique = {prompt.id: prompt for prompt in found}
    drawn = [unique[id] for id in sample("suite", seed, unique, len(unique))]
    chosen = balanced(drawn, limit)
    left_out = {
        "empty": empty,
        "other_rows": rows - empty - len(found),
        "twice": len(found) - len(unique),
        "not_sampled": len(unique) - len(chosen),
    }
    left_out = {reason: count for reason, count in left_out.items() if count}
    return PromptSet(is_chat, chosen, rows, left_out)


def is_in_chat_format(suite: AnySuite, stage: str) -> bool:
    """Return whether a model of this stage gets the suite's prompts in the chat format.

    Tuned models do, except for texts that are to be continued as they stand.
    """
    begins = isinstance(suite, FileSuite) and suite.prompt_as == "beginning"
    return stage in CHAT_STAGES and not begins


def balanced(ordered: Iterable[Prompt], limit: int) -> list[Prompt]:
    """Return the first `limit` prompts when forms take turns; each form keeps its order."""
    turns: dict[str, int] = {}
    ranked = []
    for prompt in ordered:
        turns[prompt.form] = turns.get(prompt.form, -1) + 1
        ranked.append((turns[prompt.form], prompt.form, prompt))
    ranked.sort(key=lambda item: item[:2])
    return [prompt for _, _, prompt in ranked[:limit]]


def read_prompts(name: str, suite: FileSuite) -> tuple[int, int, list[Prompt]]:
    """Return the rows of a file, the empty ones, and the prompts that `only` selects."""
    path = pinned_file(name, suite)
    rows, empty = 0, 0
    prompts = []
    for place, row in read_rows(path, [*suite.text, TEXT]):
        rows += 1
        if _is_empty(suite, row):
            empty += 1
        elif _is_selected(name, suite, place, row):
            prompts.append(_prompt(name, suite, place, row))
    if not prompts:
        raise PromptFileError(f"{path}: expected prompts for suite {name} (got none); name another")
    return rows, empty, prompts


def pinned_file(name: str, suite: FileSuite) -> Path:
    """Return the file of a suite; raise PromptFileError unless it has the digest in the suite."""
    if mistake := suite.mistake():
        key, problem = mistake
        raise PromptFileError(f"specs/suites/{name}.yaml {key}: {problem}")
    return Path(suite.path)


def _is_empty(suite: FileSuite, row: Row) -> bool:
    """Return whether a row has no value at all (spreadsheets write such), or a null prompt."""
    is_null = has_column(row, suite.text) and first_value(row, suite.text) is None
    return is_null or not any(map(is_filled, row.values()))


def _is_selected(name: str, suite: FileSuite, place: str, row: Row) -> bool:
    for column, pattern in suite.only.items():
        value = first_value(row, [column])
        if value is None:
            problem = _missing(name, row, [column])
            raise PromptFileError(f"{place}: {problem}, by which suite {name} selects rows")
        if not re.search(pattern, str(value)):
            return False
    return True


def _prompt(name: str, suite: FileSuite, place: str, row: Row) -> Prompt:
    text = first_value(row, suite.text if has_column(row, suite.text) else [TEXT])
    if not isinstance(text, str) or not text.strip():
        problem = _missing(name, row, suite.text)
        raise PromptFileError(f"{place}: {problem}, the prompt of suite {name}")
    context = first_value(row, suite.context)
    if isinstance(context, str) and context.strip():
        slots = {"context": context.strip(), "text": text.strip()}
        # Both slots at once, so that a context with "{text}" in it stays as it is.
        text = re.sub(r"\{(context|text)\}", lambda slot: slots[slot[1]], suite.joined)
    form = first_value(row, suite.form)
    form = str(form).strip() if is_filled(form) else PLAIN
    return Prompt(name, text_digest(None, text), form, text)


def _missing(name: str, row: Row, columns: Sequence[str]) -> str:
    wanted = " or ".join(columns)
    if has_column(row, columns):
        problem = "it is empty or no text; fill it, or leave the row out"
        return f"expected text in the column {wanted} ({problem})"
    problem = f"columns are {', '.join(map(str, row))}; name yours in specs/suites/{name}.yaml"
    return f"expected the column {wanted} ({problem})"
