"""One question to an OpenAI-compatible server: asked a bounded number of times, its reply checked before it is taken.

Every question has a connection of its own, so a reply that comes twice or late can be taken for no other question's.
"""

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

from safelm.llm.engines import EngineError
from safelm.llm.request import FILTERED

TRIES = 5
TIMEOUT = 600.0  # seconds that one try may take: a long text of a large model, behind a queue
FIRST_PAUSE = 0.5  # seconds, doubled each time: 7.5 s in all
LONGEST_PAUSE = 30.0  # seconds; the most that a server's Retry-After is heeded
REPLY_BYTES = 16 << 20  # a longer reply is broken
REFUSED = frozenset({400, 404, 413, 422})  # the server will not answer this question however often it is asked
DENIED = frozenset({401, 403})
FINISHES = frozenset({"stop", "length", FILTERED})


class Unanswered(Exception):
    """No usable reply came; the message is the problem's name, as the quarantine has it."""


class Denied(Exception):
    """The server does not take the key."""


class _Retry(Exception):
    """This try failed, and another may not. The message is the problem's name; the server may ask for a pause."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


@dataclass(frozen=True)
class Endpoint:
    """Where a server is. The key is shown nowhere."""

    url: str  # with the /v1
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    first_pause: float = FIRST_PAUSE

    @classmethod
    def of_environment(cls, name: str) -> Self:
        """That of the row `name` of `engines`: SAFELM_<NAME>_URL and, where the server wants one, SAFELM_<NAME>_KEY."""
        variable = f"SAFELM_{name.upper()}_URL"
        url = os.environ.get(variable, "")
        if not re.fullmatch(r"https?://[^\s@/?#]+(?:/[^\s?#]*)?", url):
            raise EngineError(
                f"{variable}: expected the address of an OpenAI-compatible server, such as https://host/v1 "
                f"(got {'nothing' if not url else 'something else'}); set it in the environment"
            )
        return cls(url, os.environ.get(f"SAFELM_{name.upper()}_KEY") or None)


class Client:
    """Asks one server. `counts` says how often it was asked, asked again and why, and what stayed unanswered."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.counts: Counter[str] = Counter()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self.session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout),
        )

    async def ask(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The checked reply of /chat/completions. Raises Unanswered after TRIES tries, and Denied at once."""
        for number in range(1, TRIES + 1):
            self.counts["requests"] += 1
            try:
                return await self._try(payload)
            except _Retry as error:
                problem, pause = str(error), error.pause
            except TimeoutError:
                problem, pause = "timed_out", 0.0
            except aiohttp.ClientConnectorError:
                problem, pause = "no_connection", 0.0
            except (aiohttp.ClientError, OSError):
                problem, pause = "connection_lost", 0.0
            self.counts[f"retry {problem}"] += 1
            logger.warning(f"{payload['model']}: {problem}, try {number} of {TRIES}")
            if number < TRIES:
                await asyncio.sleep(max(self.endpoint.first_pause * 2 ** (number - 1), pause))
        raise self._unanswered(problem)

    async def _try(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        async with self.session.post(url, json=payload, allow_redirects=False) as response:
            if response.status in DENIED:
                raise Denied(f"{response.status}")
            if response.status not in {200, *REFUSED}:
                raise _Retry(f"status_{response.status}", _pause(response.headers.get("Retry-After", "")))
            body = await _read(response)
        if response.status in REFUSED:
            raise self._unanswered(FILTERED if f'"{FILTERED}"'.encode() in body else "refused")
        reply = _checked(body, payload["model"])
        if reply["choices"][0]["finish_reason"] == FILTERED:
            raise self._unanswered(FILTERED)
        return reply

    def _unanswered(self, problem: str) -> Unanswered:
        self.counts[f"unanswered {problem}"] += 1
        return Unanswered(problem)

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > REPLY_BYTES:
            raise _Retry("reply_too_long")
    return b"".join(parts)


def _checked(body: bytes, model: str) -> dict[str, Any]:
    """The reply, if it is one: whole UTF-8 JSON, from the model that was asked, with one text that UTF-8 can hold."""
    try:
        reply = json.loads(body.decode("utf-8"))
        (choice,) = reply["choices"]
        finish, answerer = choice["finish_reason"], reply["model"]
        text = "" if finish == FILTERED else choice["message"]["content"] or ""
        text.encode("utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Retry("broken_reply") from error
    if answerer != model:
        raise _Retry("wrong_model")
    if finish not in FINISHES:
        raise _Retry("broken_reply")
    usage = reply.get("usage")
    return {"choices": [choice], "usage": usage if isinstance(usage, dict) else {}}


def _pause(value: str) -> float:
    return min(float(value), LONGEST_PAUSE) if value.isdigit() else 0.0
