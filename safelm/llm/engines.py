"""The table of engines: what a row of `engines` in params.yaml opens. A new engine is a new row."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from safelm.blocks import Task
from safelm.llm.request import Answer, Request
from safelm.paths import scratch

Row = Mapping[str, Any]  # a row of `engines`, with its `name`


class EngineError(RuntimeError):
    """An engine cannot be used; the message says why and what to do. What it answered so far is kept."""


class Engine(Protocol):
    """What answers requests."""

    @property
    def name(self) -> str:
        """Recorded with each text, as its writer."""

    @property
    def sampling(self) -> str | None:
        """Recorded likewise: how answers are drawn, as JSON; null where nothing is sampled."""

    @property
    def characters(self) -> int | None:
        """How much of a document it reads at a time; null where there is no limit."""

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in their order."""


def _template(row: Row, answers: Path) -> Engine:
    from safelm.llm.template import TemplateEngine
    from specs.prompt import HAZARDS, SHARED

    return TemplateEngine(SHARED, HAZARDS)


def _endpoint(row: Row, answers: Path) -> Engine:
    from safelm.llm.client import Endpoint
    from safelm.llm.model import LanguageModel

    return LanguageModel(row, Endpoint.of_environment(row["name"]), answers)


def _vllm(row: Row, answers: Path) -> Engine:
    from safelm.llm.model import LanguageModel
    from safelm.llm.server import serve

    return LanguageModel(row, serve(row), answers)


ENGINES: dict[str, Callable[[Row, Path], Engine]] = {"template": _template, "endpoint": _endpoint, "vllm": _vllm}


def open_engine(row: Row, answers: Path) -> Engine:
    """The engine of a row. `answers` is the file that keeps what a language model answers; templates keep nothing."""
    return ENGINES[row["kind"]](row, answers)


def answers_file(row: Row, stage: str, task: Task) -> Path:
    """Where the answers for one shard are kept, by stage, model and the shard's text; it may be deleted at any time."""
    model = sha256(json.dumps([row["kind"], row.get("model"), row.get("digest")]).encode()).hexdigest()
    shard = task.inputs[0].sha256 if task.inputs else task.name
    return scratch("answers", stage, model[:16], f"{shard[:32]}.jsonl")
