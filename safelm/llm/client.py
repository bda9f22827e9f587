"""Client of OpenAI-compatible servers with bounded retries and checked replies."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from loguru import logger

from safelm.llm.engine import FILTERED, EngineError

MAX_ATTEMPTS = 5
TIMEOUT = 600.0  # seconds of one attempt: a large model may queue it, then write a long text
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt: 7.5 s in all
MAX_PAUSE = 30.0  # seconds; a longer Retry-After is cut to it
MAX_REPLY_BYTES = 16 << 20
# Statuses of a request that the server will never answer.
REFUSED = frozenset({400, 404, 413, 422})
UNAUTHORIZED = frozenset({401, 403})
FINISH_REASONS = frozenset({"stop", "length", FILTERED})
# Sent in place of a page: if this is refused too, the page was not the reason.
PROBE = "There is no page to read. Answer in a few words."
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
    """Address of a server, with its /v1, and its key."""

    url: str
    key: str | None = field(default=None, repr=False)  # not in logs or tracebacks
    timeout: float = TIMEOUT
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


class Client:
    """HTTP client for one row of `engines`.

    `counts` counts requests, and retries and unanswered requests by their problem. `has_answered`
    says that the server has answered once as the right model: only before that does a refusal, or
    the name of another model, mean that the row is wrong.
    """

    def __init__(self, endpoint: Endpoint, row: str) -> None:
        self.endpoint, self.row = endpoint, row
        self.has_answered = False
        self.probing = asyncio.Lock()
        self.counts: Counter[str] = Counter()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self.session = aiohttp.ClientSession(
            headers=headers,
            # A connection for each request: a late reply cannot be taken for another request's.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout),
        )

    async def generate(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checked reply of /chat/completions.

        Raises Unanswered after MAX_ATTEMPTS attempts or a refusal, and ServerUnusable where no
        request would be answered.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            pause = 0.0
            try:
                return await self._attempt(payload)
            except _Retry as error:
                problem, pause = str(error), error.pause
            except TimeoutError:
                problem = "timed_out"
            except aiohttp.ClientConnectorError:
                problem = "no_connection"
            except (aiohttp.ClientError, OSError):
                problem = "connection_lost"
            self.counts[f"retry {problem}"] += 1
            logger.warning(f"{payload['model']}: {problem}, attempt {attempt} of {MAX_ATTEMPTS}")
            if attempt < MAX_ATTEMPTS:
                backoff = self.endpoint.first_pause * 2 ** (attempt - 1)
                await asyncio.sleep(max(backoff, pause))
        raise self._unanswered(problem)

    async def _attempt(self, payload: Mapping[str, Any], is_probe: bool = False) -> dict[str, Any]:
        self.counts["requests"] += 1
        status, body = await self._post(payload)
        if status in REFUSED:
            # Azure's filter replies with status 400 and this code.
            if f'"{FILTERED}"'.encode() in body:
                raise self._unanswered(FILTERED)
            if is_probe:
                raise ServerUnusable(self._refusal(status, body))
            await self._probe(payload)
            raise self._unanswered("refused")
        try:
            reply = _check_reply(body, payload["model"])
        except _WrongModel as error:
            if self.has_answered:
                raise
            raise ServerUnusable(
                f"answers as {error.model!r:.{MAX_SHOWN}}; write that as engines.{self.row}.model"
            ) from None
        self.has_answered = True
        if reply["choices"][0]["finish_reason"] == FILTERED:
            raise self._unanswered(FILTERED)
        return reply

    async def _post(self, payload: Mapping[str, Any]) -> tuple[int, bytes]:
        """Return the status and the body of a reply or a refusal.

        Raises _Retry or ServerUnusable for any other status.
        """
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        async with self.session.post(url, json=payload, allow_redirects=False) as response:
            status = response.status
            if status in UNAUTHORIZED:
                raise ServerUnusable(
                    f"does not accept the key (status {status}); "
                    f"set the right one in SAFELM_{self.row.upper()}_KEY"
                )
            if status != 200 and status not in REFUSED:
                pause = _seconds(response.headers.get("Retry-After", ""))
                raise _Retry(f"status_{status}", pause)
            return status, await _read(response)

    async def _probe(self, payload: Mapping[str, Any]) -> None:
        """Repeat a refused request without its page.

        Raises ServerUnusable if that is refused too.
        """
        # One probe at a time: the others learn from its result.
        async with self.probing:
            if not self.has_answered:
                messages = [*payload["messages"][:-1], {"role": "user", "content": PROBE}]
                await self._attempt({**payload, "messages": messages}, is_probe=True)

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
        self.counts[f"unanswered {problem}"] += 1
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


def _check_reply(body: bytes, model: str) -> dict[str, Any]:
    """Return the reply, reduced to its text, finish reason and token counts.

    Raises _Retry unless it is complete UTF-8 JSON with one text of the requested model.
    """
    try:
        reply = json.loads(body.decode("utf-8"))
        (choice,) = reply["choices"]
        finish, answered_as = choice["finish_reason"], reply["model"]
        text = "" if finish == FILTERED else choice["message"]["content"] or ""
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


def _token_counts(usage: Any) -> dict[str, int]:
    """Return the token counts of a reply."""
    # DataTrove adds them up, and fails for anything but numbers.
    if not isinstance(usage, dict):
        return {}
    return {name: count for name, count in usage.items() if type(count) is int}


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header, at most MAX_PAUSE; 0 for any other text."""
    # Not isdigit(), which accepts "²" as well.
    return min(float(retry_after), MAX_PAUSE) if retry_after.isdecimal() else 0.0
