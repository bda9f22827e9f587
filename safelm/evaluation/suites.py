"""The prompts of a suite: those of the embedded world, or a public file of prompts."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.demo.prompts import Prompt, prompts
from safelm.digest import file_digest
from safelm.sample import sample
from safelm.shards import text_digest
from specs.suite import Suite

CHAT_STAGES = ("instruct", "finetune")


@dataclass(frozen=True)
class Question:
    """A prompt of a suite. `prompt` is that of the embedded world, which knows what act it asks for, or None."""

    suite: str
    id: str
    form: str
    text: str
    prompt: Prompt | None = None


def questions(name: str, suite: Suite, *, stage: str, limit: int, seed: int) -> list[Question]:
    """At most `limit` prompts of a suite, the same for every model, in equal shares of forms (and hazards, of demo).

    A pretrained model is given texts to continue, a tuned one requests. The prompts of a file are the same for both.
    """
    if suite.reader == "demo":
        asked = prompts(suite.kind, "chat" if stage in CHAT_STAGES else "completion", limit, suite.path)
        return [Question(name, prompt.id, prompt.form, prompt.text, prompt) for prompt in asked]
    found = {question.id: question for question in read_file(name, suite)}
    if not found:
        raise ValueError(f"{suite.path}: holds no prompt (suite {name}); name another file")
    return balanced([found[id] for id in sample("suite", seed, found, len(found))], limit)


def balanced(ordered: Iterable[Question], limit: int) -> list[Question]:
    """The first `limit` when the forms take turns, each in the order given."""
    turns: dict[str, int] = {}
    ranked = []
    for question in ordered:
        turns[question.form] = turns.get(question.form, -1) + 1
        ranked.append((turns[question.form], question.form, question))
    return [question for _, _, question in sorted(ranked, key=lambda item: item[:2])][:limit]


def read_file(name: str, suite: Suite) -> list[Question]:
    """Every prompt of a csv or jsonl file, once."""
    path = Path(suite.path)
    if not path.is_file():
        raise FileNotFoundError(f"specs/suites/{name}.yaml path: expected a file of prompts (got {path})")
    if (digest := file_digest(path)) != suite.sha256:
        raise ValueError(f"specs/suites/{name}.yaml sha256: {path} has another digest; write sha256: {digest}")
    rows = _csv(path) if suite.reader == "csv" else _jsonl(path)
    return [_question(name, suite, f"{path}:{line}", row) for line, row in rows]


def _question(name: str, suite: Suite, where: str, row: Mapping[str, Any]) -> Question:
    text = row.get(suite.text or "")
    if not isinstance(text, str) or not text.strip():
        columns = ", ".join(map(str, row))
        raise ValueError(
            f"{where}: expected a prompt in the column {suite.text} of suite {name} (columns are {columns})"
        )
    form = row.get(suite.form) if suite.form else None
    return Question(name, text_digest(None, text), str(form or "plain"), text)


def _csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        return [(reader.line_num, row) for row in reader]


def _jsonl(path: Path) -> list[tuple[int, dict[str, Any]]]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [(number, _json(f"{path}:{number}", line)) for number, line in enumerate(lines, 1) if line.strip()]


def _json(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: expected a line of JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object (got {type(row).__name__})")
    return row
