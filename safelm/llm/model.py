"""A language model behind a server: what it has answered is taken from the file, and only the rest
is asked.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from safelm.builder.environment import environment_number
from safelm.llm.answers import Answers
from safelm.llm.client import Endpoint
from safelm.llm.engine import EngineRow
from safelm.llm.request import Answer, Request
from safelm.llm.runner import Runner

SAMPLING = ("temperature", "top_p", "tokens")
LIMITS = (
    "name",
    "context",
    "characters",
)  # of a row: what does not shape an answer to given messages
IN_FLIGHT = 64  # requests at once, of one worker


class LanguageModel:
    """The engine of a row of kind `endpoint` or `vllm`.

    An answer belongs to the row's model, digest and sampling and to everything in the request;
    where any of them changes, nothing is reused. How many requests are in flight is
    SAFELM_REQUESTS."""

    def __init__(self, row: EngineRow, endpoint: Endpoint, answers: Path) -> None:
        self.row, self.endpoint, self.answers = row, endpoint, answers
        self.identity = {name: value for name, value in row.items() if name not in LIMITS}
        self.counts: Counter[str] = (
            Counter()
        )  # requests, retries and what stayed unanswered, by name
        self.served = False  # whether the server has answered this process

    @property
    def name(self) -> str:
        """The model's own name, without the folder it lies in, and the beginning of its digest."""
        return f"{self.row['model'].rstrip('/').rpartition('/')[2]}@{self.row['digest'][:12]}"

    @property
    def sampling(self) -> str:
        """Temperature, top-p and the most tokens of an answer, as JSON."""
        return json.dumps({name: self.row[name] for name in SAMPLING}, sort_keys=True)

    @property
    def characters(self) -> int:
        """How much of a document goes into one request."""
        return self.row["characters"]

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in their order; requests that are the same in everything are
        asked once.
        """
        keys = [request.key(self.identity) for request in requests]
        unanswered: dict[str, Answer] = {}
        with Answers(self.answers) as kept:
            pairs = zip(keys, requests, strict=True)
            todo = {key: self.payload(request) for key, request in pairs if kept.get(key) is None}

            def take(key: str, answer: Answer) -> None:
                if answer.problem:
                    unanswered[key] = answer
                else:
                    kept.put(key, answer)

            if todo:
                in_flight = environment_number("SAFELM_REQUESTS") or IN_FLIGHT
                runner = Runner(self.row, self.endpoint, in_flight, take, self.served)
                try:
                    runner.generate(todo)
                finally:
                    self.counts += runner.counts
                    self.served = runner.served
                    logger.info(
                        f"{self.name}: {_sentence(runner.counts)}; {len(requests) - len(todo)} were kept"
                    )
            return [kept.get(key) or unanswered[key] for key in keys]

    def payload(self, request: Request) -> dict[str, Any]:
        """The body of the request; the runner adds the model's name."""
        row = self.row
        body: dict[str, Any] = {
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "temperature": row["temperature"],
            "top_p": row["top_p"],
            "max_tokens": row["tokens"],
            "seed": request.draw,
        }
        if request.schema is not None:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def _sentence(counts: Counter[str]) -> str:
    return (
        ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        or "nothing was asked"
    )
