"""The interface of language model engines."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from safelm.llm.request import Answer, Request

EngineRow = Mapping[str, Any]  # a row of `engines`, with its `name`


class EngineError(RuntimeError):
    """An engine cannot be used; the message says why and what to do. What it answered so far is
    kept.
    """


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

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in their order."""
