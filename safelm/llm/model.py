"""Language model behind a server: stored answers are reused, and only the others requested."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from safelm.builder.environment import environment_number
from safelm.llm.answers import AnswerStore
from safelm.llm.client import Endpoint, Traffic
from safelm.llm.engine import Answer, EngineError, EngineRow, Request, list_counts
from safelm.llm.runner import RequestRunner

SAMPLING = ("temperature", "top_p", "tokens")
# Keys of a row that do not shape the answer to given messages: `characters` shapes the messages,
# and the others only limit what the server accepts, or how long it may take.
NOT_IN_KEY = ("name", "context", "characters", "limits")
IN_FLIGHT = 64  # requests at once, of one worker


@dataclass
class LanguageModel:
    """Engine of a row of kind `endpoint` or `vllm`.

    A stored answer is reused only for an equal request to the same model, digest and sampling.
    SAFELM_REQUESTS sets the number of requests in flight.
    """

    row: EngineRow
    endpoint: Endpoint
    answers: Path

    def __post_init__(self) -> None:
        # The part of the row that shapes the answers.
        self.identity = {name: value for name, value in self.row.items() if name not in NOT_IN_KEY}
        self.traffic = Traffic()

    @property
    def name(self) -> str:
        """The model's name and the beginning of its digest."""
        # Without the folder or organisation: a path must not enter the data.
        model = self.row["model"].rstrip("/").rpartition("/")[2]
        return f"{model}@{self.row['digest'][:12]}"

    @property
    def sampling(self) -> str:
        """Temperature, top-p and the most tokens of an answer, as JSON."""
        return json.dumps({name: self.row[name] for name in SAMPLING}, sort_keys=True)

    @property
    def characters(self) -> int:
        """The most characters of a document in one request."""
        return self.row["characters"]

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return one answer for each request, in their order; equal requests are sent once.

        An answer has a problem only where the server refuses the request. Raises EngineError where
        it left any other without an answer; the answers so far are stored.
        """
        keys = [request.key(self.identity) for request in requests]
        by_key = dict(zip(keys, requests, strict=True))
        refused: dict[str, Answer] = {}
        with AnswerStore(self.answers) as store:

            def on_answer(key: str, answer: Answer) -> None:
                if answer.is_refused:
                    refused[key] = answer
                elif not answer.problem:
                    store.put(key, answer)

            waiting = {
                key: self.payload(request)
                for key, request in by_key.items()
                if store.get(key) is None
            }
            if waiting:
                in_flight = environment_number("SAFELM_REQUESTS") or IN_FLIGHT
                runner = RequestRunner(self.row, self.endpoint, self.traffic, in_flight, on_answer)
                logger.info(f"{self.name}: {len(by_key) - len(waiting)} answers were cached")
                runner.send(waiting)
                logger.info(f"{self.name}: {list_counts(self.traffic.counts)}")
            found = {key: store.get(key) or refused.get(key) for key in by_key}
        if unanswered := sum(answer is None for answer in found.values()):
            raise EngineError(self._outage(unanswered, len(found)))
        # In the order of the requests: DataTrove completes them in any order.
        return [answer for key in keys if (answer := found[key])]

    def reject(self, requests: Sequence[Request]) -> None:
        """Mark the stored answers to requests as unusable, so that they can be asked again."""
        if requests:
            with AnswerStore(self.answers) as store:
                store.reject(request.key(self.identity) for request in requests)

    def _outage(self, unanswered: int, requests: int) -> str:
        return (
            f"engines.{self.row['name']} at {self.endpoint.url}: {unanswered:,} of {requests:,} "
            f"requests unanswered (failed attempts: {list_counts(self.traffic.failed)}). "
            "Answers so far are saved; when the server answers again, run the stage again: "
            "it asks only the rest."
        )

    def payload(self, request: Request) -> dict[str, Any]:
        """Return the JSON body of a request; the runner adds the model's name."""
        body: dict[str, Any] = {
            "temperature": self.row["temperature"],
            "top_p": self.row["top_p"],
            "max_tokens": self.row["tokens"],
            "seed": request.sampling_seed,
        }
        if request.messages:
            body["messages"] = [
                {"role": role, "content": content} for role, content in request.messages
            ]
        if request.schema is not None:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(request.body or {})
