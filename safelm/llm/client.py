"""Client of OpenAI-compatible servers: repeats what fails for a while, and checks every reply."""

import asyncio
import json
import os
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Self

import aiohttp
from loguru import logger

from safelm.builder.files import Json
from safelm.builder.supervision import is_alive
from safelm.llm.engine import FILTERED, EngineError, EngineRow, list_counts

FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
MAX_PAUSE = 30.0  # seconds; only a Retry-After asks for a longer pause
SILENT = 30.0  # seconds without an answer that are worth a line
MAX_REPLY_BYTES = 16 << 20
# Statuses of a request that the server will never answer.
REFUSED = frozenset({400, 404, 413, 422})
UNAUTHORIZED = frozenset({401, 403})
FINISH_REASONS = frozenset({"stop", "length", FILTERED})
# What providers write where their policy refuses a request: OpenAI and Azure, Alibaba, OpenRouter
# (with status 403), and Gemini (with status 200 and no choices).
POLICY = re.compile(
    rb'"(?:content_filter|content_policy_violation|ResponsibleAIPolicyViolation|'
    rb'data_inspection_failed|flagged_input|blockReason)"'
)
# Sent in place of a page: if this is refused too, the page was not the reason.
PROBE = "There is no page to read. Answer in a few words."
FIRST_TOKENS = 4  # whose log-probabilities are kept: models may begin with line breaks
MAX_SHOWN = 200  # characters of a server's text in an error message


class Unanswered(Exception):
    """No usable reply came; the message is the name of the problem in the quarantine."""


class ServerUnusable(Exception):
    """The server can serve no request; the message continues "the server …"."""


class _Retry(Exception):
    """An attempt failed and may be repeated, at the earliest after `pause` seconds."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


class _WrongModel(_Retry):
    def __init__(self, model: str) -> None:
        super().__init__("wrong_model")
        self.model = model


@dataclass(frozen=True)
class Endpoint:
    """Address of a server, with its /v1, and its key.

    `supervisor` is the process that keeps a server on this machine.
    """

    url: str
    key: str | None = field(default=None, repr=False)  # not in logs or tracebacks
    supervisor: int | None = None
    first_pause: float = FIRST_PAUSE

    @classmethod
    def from_environment(cls, name: str) -> Self:
        """Read the endpoint of the row `name` of `engines` from the environment.

        The variables are SAFELM_<NAME>_URL and, if the server requires a key, SAFELM_<NAME>_KEY.
        Raises EngineError for a missing or malformed address.
        """
        variable = f"SAFELM_{name.upper()}_URL"
        url = os.environ.get(variable, "")
        # No "@": a password belongs in the key, which is never shown.
        if not re.fullmatch(r"https?://[^\s@/?#]+(?:/[^\s?#]*)?", url):
            got = "something else" if url else "nothing"
            raise EngineError(
                f"{variable}: expected the address of an OpenAI-compatible server, "
                f"such as https://host/v1 (got {got}); set it in the environment"
            )
        return cls(url, os.environ.get(f"SAFELM_{name.upper()}_KEY") or None)


@dataclass
class Traffic:
    """What passed between an engine and its server.

    `failed` counts failed attempts by their problem, `counts` requests, and those unanswered.
    `answered_at` is the monotonic time of the last answer under the right model's name, 0 before
    the first: until then, a refusal or another model's name means that the row is wrong.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    answered_at: float = 0.0


class Client:
    """HTTP client for one row of `engines`."""

    def __init__(self, endpoint: Endpoint, row: EngineRow, traffic: Traffic) -> None:
        self.endpoint = endpoint
        self.traffic = traffic
        self.row = row["name"]
        self.patience = row["limits"].patience
        self.opened_at = time.monotonic()
        self.in_flight = 0
        self.is_down = False  # for `patience` seconds it has answered nothing
        self.probing = asyncio.Lock()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self.session = aiohttp.ClientSession(
            headers=headers,
            # A connection for each request: a late reply cannot be taken for another request's.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=row["limits"].timeout),
        )

    async def generate(self, payload: Json) -> Json:
        """Return the checked reply of /chat/completions, or of /completions for a `prompt`.

        Raises Unanswered for a refusal, or where attempts failed for `patience` seconds, and
        ServerUnusable where no request would be answered.
        """
        self.in_flight += 1
        try:
            return await self._repeat(payload)
        finally:
            self.in_flight -= 1

    async def _repeat(self, payload: Json) -> Json:
        began = time.monotonic()
        problem = "not_sent"
        backoff = self.endpoint.first_pause
        while not self.is_down:
            try:
                return await self._attempt(payload)
            except _Retry as error:
                problem = str(error)
                pause = error.pause
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                self._check_supervisor()
                problem = _problem(error)
                pause = 0.0
            self.traffic.failed[problem] += 1
            left = began + self.patience - time.monotonic()
            if left <= 0:
                # Where another request was answered meanwhile, the server is up.
                self.is_down = self.traffic.answered_at < began
                break
            # One last attempt at the end, however long a pause the server asks for.
            await asyncio.sleep(min(max(backoff, pause), left))
            backoff = min(2 * backoff, MAX_PAUSE)
        raise self._unanswered(problem)

    def _check_supervisor(self) -> None:
        """Raise ServerUnusable if a server on this machine has ended: it does not come back."""
        if self.endpoint.supervisor and not is_alive(self.endpoint.supervisor):
            raise ServerUnusable(
                "has ended; see its log in .safelm/servers, then run the stage again"
            )

    async def watch(self) -> None:
        """Tell of a server that is silent: after SILENT seconds, then each time they doubled."""
        told = 0.0
        while True:
            await asyncio.sleep(SILENT / 10)
            silent = time.monotonic() - max(self.opened_at, self.traffic.answered_at)
            if silent < told:
                told = 0.0  # it has answered since
            if self.in_flight and silent >= max(SILENT, 2 * told):
                told = silent
                self._tell_silence(silent)

    def _tell_silence(self, seconds: float) -> None:
        line = (
            f"waiting for engines.{self.row} at {self.endpoint.url}: no answer for "
            f"{seconds:,.0f} s, {self.in_flight} requests in flight (failed attempts: "
            f"{list_counts(self.traffic.failed) or 0}); "
            f"a request is given up after {self.patience:,.0f} s"
        )
        logger.warning(line)
        print(line, flush=True)

    async def _attempt(self, payload: Json, is_probe: bool = False) -> Json:
        self.traffic.counts["requests"] += 1
        status, body = await self._post(payload)
        if status != 200:
            if POLICY.search(body):
                raise self._unanswered(FILTERED)
            if is_probe:
                raise ServerUnusable(self._refusal(status, body))
            await self._probe(payload)
            raise self._unanswered("refused")
        try:
            reply = _check_reply(body, payload)
        except _WrongModel as error:
            if self.traffic.answered_at:
                raise
            raise ServerUnusable(
                f"answers as {error.model!r:.{MAX_SHOWN}}; write that as engines.{self.row}.model"
            ) from None
        self.traffic.answered_at = time.monotonic()
        if reply["choices"][0]["finish_reason"] == FILTERED:
            raise self._unanswered(FILTERED)
        return reply

    async def _post(self, payload: Json) -> tuple[int, bytes]:
        """Return the status and the body of a reply or a refusal.

        Raises _Retry or ServerUnusable for any other.
        """
        path = "completions" if "prompt" in payload else "chat/completions"
        url = f"{self.endpoint.url.rstrip('/')}/{path}"
        async with self.session.post(url, json=payload, allow_redirects=False) as response:
            status = response.status
            if status != 200 and status not in REFUSED | UNAUTHORIZED:
                pause = _seconds(response.headers.get("Retry-After", ""))
                raise _Retry(f"status_{status}", pause)
            body = await _read(response)
            if status in UNAUTHORIZED and not POLICY.search(body):
                raise ServerUnusable(
                    f"does not accept the key (status {status}); "
                    f"set the right one in SAFELM_{self.row.upper()}_KEY"
                )
            return status, body

    async def _probe(self, payload: Json) -> None:
        """Repeat a refused request without its page: was the page the reason?

        Raises ServerUnusable if that is refused too.
        """
        refused_at = time.monotonic()
        # One probe at a time: whoever waits for it learns from its result. An answer before the
        # refusal proves nothing, for the server may refuse everything since.
        async with self.probing:
            if self.traffic.answered_at < refused_at:
                probe: Json = {"prompt": PROBE}
                if "prompt" not in payload:
                    user = {"role": "user", "content": PROBE}
                    probe = {"messages": [*payload["messages"][:-1], user]}
                await self._attempt({**payload, **probe}, is_probe=True)

    def _refusal(self, status: int, body: bytes) -> str:
        """Describe a server that refuses a request without a page."""
        # Safe to show: no page was sent that the server could repeat.
        text = body.decode("utf-8", "replace")
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "")
        printable = filter(str.isprintable, " ".join(text.split()))
        shown = "".join(printable)[:MAX_SHOWN]
        return (
            f"refuses every request (status {status}: {shown}); fix its address, "
            f"with the /v1, or the model and sampling of engines.{self.row}"
        )

    def _unanswered(self, problem: str) -> Unanswered:
        self.traffic.counts[f"unanswered {problem}"] += 1
        return Unanswered(problem)

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        body += part
        if len(body) > MAX_REPLY_BYTES:
            raise _Retry("reply_too_long")
    return bytes(body)


def _check_reply(body: bytes, payload: Json) -> Json:
    """Return the reply, reduced to its text, finish reason and token counts.

    A reply with log-probabilities has them in place of the text, as JSON.

    Raises _Retry unless it is complete UTF-8 JSON with one text of the requested model.
    """
    model = payload["model"]
    try:
        reply = json.loads(body.decode("utf-8"))
        if not reply.get("choices") and POLICY.search(body):
            reply = {"model": model, **reply, "choices": [{"finish_reason": FILTERED}]}
        (choice,) = reply["choices"]
        finish = choice["finish_reason"]
        answered_as = reply["model"]
        text = "" if finish == FILTERED else _text(choice, payload)
        text.encode("utf-8")  # fails for half of an escaped character
        is_other = answered_as != model
        is_whole = isinstance(answered_as, str) and (is_other or finish in FINISH_REASONS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Retry("broken_reply") from error
    if not is_whole:
        raise _Retry("broken_reply")
    if is_other:
        raise _WrongModel(answered_as)
    return {
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": _token_counts(reply.get("usage")),
    }


def _text(choice: Json, payload: Json) -> str:
    """Return the text, or the log-probabilities of the first tokens that might stand in it."""
    if not payload.get("logprobs"):
        return (choice["text"] if "prompt" in payload else choice["message"]["content"]) or ""
    found = choice["logprobs"]
    if "prompt" in payload:
        return json.dumps(found["top_logprobs"][:FIRST_TOKENS])
    tokens = []
    for place in found["content"][:FIRST_TOKENS]:
        tokens.append({token["token"]: token["logprob"] for token in place["top_logprobs"]})
    return json.dumps(tokens)


def _token_counts(usage: Any) -> dict[str, int]:
    """Return the token counts of a reply."""
    # DataTrove adds them up, and fails for anything but numbers.
    if not isinstance(usage, dict):
        return {}
    # Not isinstance(), which takes True for a number.
    return {name: count for name, count in usage.items() if type(count) is int}


def _problem(error: Exception) -> str:
    """Name what became of an attempt without a reply."""
    if isinstance(error, TimeoutError):
        return "timed_out"
    is_refused = isinstance(error, aiohttp.ClientConnectorError)
    return "no_connection" if is_refused else "connection_lost"


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 for any other text."""
    with suppress(ValueError):
        seconds = float(retry_after)
        return max(seconds, 0.0) if isfinite(seconds) else 0.0
    with suppress(ValueError, OverflowError, TypeError, IndexError):
        date = parsedate_to_datetime(retry_after)
        # A date without a time zone is in UTC, as HTTP's dates are.
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(date.timestamp() - time.time(), 0.0)
    return 0.0
