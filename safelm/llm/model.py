"""Language model behind a server: stored answers are reused, and only the others requested."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loguru import logger

from safelm.builder.environment import environment_number
from safelm.llm.answers import AnswerStore
from safelm.llm.client import Endpoint
from safelm.llm.engine import Answer, EngineRow, Request, list_counts
from safelm.llm.runner import RequestRunner

SAMPLING = ("temperature", "top_p", "tokens")
# Keys of a row that do not shape the answer to given messages: `characters` shapes the messages,
# and `context` only limits what the server accepts.
NOT_IN_KEY = ("name", "context", "characters")
IN_FLIGHT = 64  # requests at once, of one worker


class LanguageModel:
    """Engine of a row of kind `endpoint` or `vllm`.

    A stored answer is reused only for an equal request to the same model, digest and sampling.
    SAFELM_REQUESTS sets the number of requests in flight.
    """

    def __init__(self, row: EngineRow, endpoint: Endpoint, answers: Path) -> None:
        self.row = row
        self.endpoint = endpoint
        self.answers = answers
        # The part of the row that shapes the answers.
        self.identity = {name: value for name, value in row.items() if name not in NOT_IN_KEY}
        # Requests, and retries and unanswered requests by their problem.
        self.counts: Counter[str] = Counter()
        self.has_answered = False

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

        Raises EngineError where the server does not serve; answers so far are stored.
        """
        keys = [request.key(self.identity) for request in requests]
        unanswered: dict[str, Answer] = {}
        with AnswerStore(self.answers) as store:

            def on_answer(key: str, answer: Answer) -> None:
                if answer.problem:
                    unanswered[key] = answer
                else:
                    store.put(key, answer)

            payloads = {
                key: self.payload(request)
                for key, request in zip(keys, requests, strict=True)
                if store.get(key) is None
            }
            if payloads:
                in_flight = environment_number("SAFELM_REQUESTS") or IN_FLIGHT
                runner = RequestRunner(self.row, self.endpoint, in_flight, on_answer)
                self._run(runner, payloads)
                logger.info(f"{self.name}: {len(requests) - len(payloads)} answers were cached")
            # In the order of the requests: DataTrove completes them in any order.
            return [store.get(key) or unanswered[key] for key in keys]

    def _run(self, runner: RequestRunner, payloads: Mapping[str, dict[str, Any]]) -> None:
        runner.has_answered = self.has_answered
        try:
            runner.send(payloads)
        finally:
            self.counts += runner.counts
            self.has_answered = runner.has_answered
            logger.info(f"{self.name}: {list_counts(runner.counts) or 'no requests'}")

    def payload(self, request: Request) -> dict[str, Any]:
        """Return the JSON body of a request; the runner adds the model's name."""
        body: dict[str, Any] = {
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "temperature": self.row["temperature"],
            "top_p": self.row["top_p"],
            "max_tokens": self.row["tokens"],
            "seed": request.sampling_seed,
        }
        if request.schema is not None:
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body
