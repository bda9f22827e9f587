"""Prompts of a suite, from the demo world or from a public file."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
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
from specs.suite import AnySuite, DemoSuite, FileSuite, HarnessSuite

CHAT_STAGES = ("instruct", "finetune")
# The form of prompts without one.
PLAIN = "plain"


@dataclass(frozen=True)
class SuitePrompt:
    """A prompt of a suite.

    Attributes:
        demo_prompt: the act of the demo world that it is about, if any.
        target: the beginning of a harmful answer to it, if the file has one.
    """

    suite: str
    id: str
    form: str
    text: str
    demo_prompt: DemoPrompt | None = None
    target: str | None = None


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a suite for one model.

    Attributes:
        is_chat: whether a prompt is a user's turn in the chat format, or a text to continue.
        prompts: in the order of their completions.
        rows: the number of rows in the suite's file.
        left_out: the number of rows that are no prompt of this set, by reason.
        reserve: the prompts that follow, of which the first take the place of those that are too
            long for a model.
    """

    is_chat: bool
    prompts: list[SuitePrompt]
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)
    reserve: list[SuitePrompt] = field(default_factory=list)

    @property
    def candidates(self) -> list[SuitePrompt]:
        """The prompts and the reserve."""
        return self.prompts + self.reserve

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `generate_completions`: all that a model is given."""
        values: dict[str, Any] = {
            "is_chat": self.is_chat,
            "prompts": [(prompt.id, prompt.text) for prompt in self.candidates],
        }
        return {**values, "limit": len(self.prompts)} if self.reserve else values

    def facts(self, answered: int, read: int | None = None, **columns: Any) -> list[Measurement]:
        """Count the rows of the file, the prompts that have a completion, and those left out.

        `read` is the number of candidates that were tried, also of those that are too long; if it
        is left out, all prompts were tried and no other candidate.
        """
        read = len(self.prompts) if read is None else read
        counts = {"rows": self.rows, "prompts": answered}
        left_out = {
            **self.left_out,
            "not_sampled": len(self.candidates) - read,
            "too_long": self.left_out.get("too_long", 0) + read - answered,
        }
        counts |= {f"left_out_{reason}": count for reason, count in left_out.items() if count}
        return [Measurement(metric, count, **columns) for metric, count in counts.items()]


def prompt_set(name: str, suite: AnySuite, *, stage: str, limit: int, seed: int) -> PromptSet:
    """Choose at most `limit` prompts of a suite, with equal shares of its forms.

    Every model gets the same prompts of a file. Of the demo world, pretrained models get texts to
    continue and tuned models get requests; there, hazards have equal shares too.

    Raises:
        PromptFileError: if the suite's file is missing, broken or not the pinned one.
    """
    is_chat = is_in_chat_format(suite, stage)
    if isinstance(suite, DemoSuite):
        format = "chat" if stage in CHAT_STAGES else "completion"
        held_out = held_out_prompts(suite.acts, format, limit, suite.path)
        prompts = [SuitePrompt(name, one.id, one.form, one.text, one) for one in held_out]
        return PromptSet(is_chat, prompts, len(prompts))
    rows, empty, found = read_prompts(name, suite)
    # An id is a digest of the text, so equal prompts have one id.
    unique = {prompt.id: prompt for prompt in found}
    drawn = [unique[id] for id in sample("suite", seed, unique, len(unique))]
    # Drawn before they are cut to the limit, so that a larger limit only adds prompts.
    ordered = balanced(drawn)
    left_out = {
        "empty": empty,
        "other_rows": rows - empty - len(found),
        "twice": len(found) - len(unique),
        "not_sampled": len(ordered[limit:]),
    }
    left_out = {reason: count for reason, count in left_out.items() if count}
    return PromptSet(is_chat, ordered[:limit], rows, left_out, ordered[limit:])


def every_prompt(name: str, suite: AnySuite) -> list[str]:
    """Return the text of every prompt of a suite, whatever the stage of a model.

    Raises:
        PromptFileError: if the suite's file is missing, broken or not the pinned one.
    """
    if not isinstance(suite, DemoSuite):
        return [prompt.text for prompt in read_prompts(name, suite)[2]]
    texts = []
    for format in ("completion", "chat"):
        texts += [prompt.text for prompt in held_out_prompts(suite.acts, format, path=suite.path)]
    return texts


def is_in_chat_format(suite: AnySuite, stage: str) -> bool:
    """Return whether a model of this stage gets the suite's prompts in the chat format.

    Tuned models do, except for texts that they are to continue.
    """
    is_beginning = isinstance(suite, FileSuite) and suite.prompt_as == "beginning"
    return stage in CHAT_STAGES and not is_beginning


def balanced(ordered: Iterable[SuitePrompt]) -> list[SuitePrompt]:
    """Return the prompts with forms taking turns; each form keeps its order."""
    by_form: dict[str, list[SuitePrompt]] = {}
    for prompt in ordered:
        by_form.setdefault(prompt.form, []).append(prompt)
    turns = zip_longest(*(by_form[form] for form in sorted(by_form)))
    # Forms with fewer prompts are left out of later turns.
    return [prompt for prompt in chain(*turns) if prompt]


def read_prompts(name: str, suite: AnySuite) -> tuple[int, int, list[SuitePrompt]]:
    """Return the number of rows in a file, that of empty rows, and the prompts selected."""
    if not isinstance(suite, FileSuite):
        raise TypeError(f"suite {name}: lm-evaluation-harness makes its own prompts")
    check_files(name, suite)
    path = Path(suite.path)
    rows = 0
    empty = 0
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


def check_files(name: str, suite: FileSuite | HarnessSuite) -> None:
    """Raise PromptFileError unless the files of a suite have its digests."""
    mistake = suite.mistake()
    if mistake:
        key, problem = mistake
        raise PromptFileError(f"specs/suites/{name}.yaml {key}: {problem}")


def _is_empty(suite: FileSuite, row: Row) -> bool:
    """Return whether a row has no values, as spreadsheets write some, or a null prompt."""
    if has_column(row, suite.text) and first_value(row, suite.text) is None:
        return True
    return not any(is_filled(value) for value in row.values())


def _is_selected(name: str, suite: FileSuite, place: str, row: Row) -> bool:
    for column, pattern in suite.only.items():
        value = first_value(row, [column])
        if value is None:
            problem = _missing(name, row, [column])
            raise PromptFileError(f"{place}: {problem}, by which suite {name} selects rows")
        if not re.search(pattern, str(value)):
            return False
    return True


def _prompt(name: str, suite: FileSuite, place: str, row: Row) -> SuitePrompt:
    columns = suite.text if has_column(row, suite.text) else [TEXT]
    text = first_value(row, columns)
    if not isinstance(text, str) or not text.strip():
        problem = _missing(name, row, suite.text)
        raise PromptFileError(f"{place}: {problem}, the prompt of suite {name}")
    context = first_value(row, suite.context)
    if isinstance(context, str) and context.strip():
        slots = {"context": context.strip(), "text": text.strip()}
        # In one pass, so that "{text}" in a context is not taken for a slot.
        text = re.sub(r"\{(context|text)\}", lambda slot: slots[slot[1]], suite.joined)
    form = first_value(row, suite.form)
    form = str(form).strip() if is_filled(form) else PLAIN
    target = first_value(row, suite.target)
    return SuitePrompt(name, text_digest(None, text), form, text, target=target)


def _missing(name: str, row: Row, columns: Sequence[str]) -> str:
    wanted = " or ".join(columns)
    if has_column(row, columns):
        problem = "it is empty or no text; fill it, or leave the row out"
        return f"expected text in the column {wanted} ({problem})"
    problem = f"columns are {', '.join(map(str, row))}; name yours in specs/suites/{name}.yaml"
    return f"expected the column {wanted} ({problem})"
