"""One question to an OpenAI-compatible server: asked a bounded number of times, its reply checked
before it is taken.

Every question has a connection of its own, so a reply that comes twice or late can be taken for no
other question's."""

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

from safelm.llm.engine import EngineError
from safelm.llm.request import FILTERED

MAX_ATTEMPTS = 5
TIMEOUT = 600.0  # seconds that one try may take: a long text of a large model, behind a queue
FIRST_PAUSE = 0.5  # seconds, doubled each time: 7.5 s in all
LONGEST_PAUSE = 30.0  # seconds; the most that a server's Retry-After is heeded
REPLY_BYTES = 16 << 20  # a longer reply is broken
REFUSED = frozenset(
    {400, 404, 413, 422}
)  # the server will not answer this question however often it is asked
DENIED = frozenset({401, 403})
FINISHES = frozenset({"stop", "length", FILTERED})
PLAIN = "There is no page to read. Answer in a few words."  # what no server has a reason of its own to refuse
SAID = 200  # characters that are shown of what a server says when it refuses everything


class Unanswered(Exception):
    """No usable reply came; the message is the problem's name, as the quarantine has it."""


class Denied(Exception):
    """The server serves nothing of what we ask; the message, behind `the server`, says why and what
    to mend.
    """


class _Retry(Exception):
    """This try failed, and another may not. The message is the problem's name; the server may ask
    for a pause.
    """

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


class _WrongModel(_Retry):
    """Another model's reply."""

    def __init__(self, answerer: str) -> None:
        super().__init__("wrong_model")
        self.answerer = answerer


@dataclass(frozen=True)
class Endpoint:
    """Where a server is. The key is shown nowhere."""

    url: str  # with the /v1
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    first_pause: float = FIRST_PAUSE

    @classmethod
    def of_environment(cls, name: str) -> Self:
        """That of the row `name` of `engines`: SAFELM_<NAME>_URL and, where the server wants one,
        SAFELM_<NAME>_KEY.
        """
        variable = f"SAFELM_{name.upper()}_URL"
        url = os.environ.get(variable, "")
        if not re.fullmatch(r"https?://[^\s@/?#]+(?:/[^\s?#]*)?", url):
            raise EngineError(
                f"{variable}: expected the address of an OpenAI-compatible server, such as https://host/v1 "
                f"(got {'nothing' if not url else 'something else'}); set it in the environment"
            )
        return cls(url, os.environ.get(f"SAFELM_{name.upper()}_KEY") or None)


class Client:
    """Asks one server for a row of `engines`.

    `counts` says how often it was asked, asked again and why, and what stayed unanswered. Until it
    has `served`, that is answered a question in the model's own name, a refusal or another model's
    name says that the row is wrong."""

    def __init__(self, endpoint: Endpoint, row: str) -> None:
        self.endpoint, self.row = endpoint, row
        self.served, self.plain = False, asyncio.Lock()
        self.counts: Counter[str] = Counter()
        headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self.session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout),
        )

    async def generate(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The checked reply of /chat/completions. Raises Unanswered after TRIES tries, and Denied
        at once.
        """
        for number in range(1, MAX_ATTEMPTS + 1):
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
            logger.warning(f"{payload['model']}: {problem}, try {number} of {MAX_ATTEMPTS}")
            if number < MAX_ATTEMPTS:
                await asyncio.sleep(max(self.endpoint.first_pause * 2 ** (number - 1), pause))
        raise self._unanswered(problem)

    async def _try(self, payload: Mapping[str, Any], is_plain: bool = False) -> dict[str, Any]:
        self.counts["requests"] += 1
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        async with self.session.post(url, json=payload, allow_redirects=False) as response:
            if response.status in DENIED:
                raise Denied(f"does not take the key (status {response.status}); set the right one")
            if response.status not in {200, *REFUSED}:
                raise _Retry(
                    f"status_{response.status}", _pause(response.headers.get("Retry-After", ""))
                )
            body = await _read(response)
        if response.status in REFUSED:
            if f'"{FILTERED}"'.encode() in body:
                raise self._unanswered(FILTERED)
            if is_plain:
                raise Denied(self._refusal(response.status, body))
            await self._ask_plainly(payload)
            raise self._unanswered("refused")
        try:
            reply = _checked(body, payload["model"])
        except _WrongModel as error:
            if self.served:
                raise
            raise Denied(
                f"answers as {error.answerer!r:.{SAID}}: write that as engines.{self.row}.model"
            ) from None
        self.served = True
        if reply["choices"][0]["finish_reason"] == FILTERED:
            raise self._unanswered(FILTERED)
        return reply

    async def _ask_plainly(self, payload: Mapping[str, Any]) -> None:
        """Whether a refusal is the page's own: ask the same without a page. Raises Denied where
        that is refused too.
        """
        async with self.plain:
            if not self.served:
                messages = [*payload["messages"][:-1], {"role": "user", "content": PLAIN}]
                await self._try({**payload, "messages": messages}, is_plain=True)

    def _refusal(self, status: int, body: bytes) -> str:
        """The sentence on a server that refused a question without a page: nothing that it repeats
        is a page's.
        """
        said = " ".join(
            body.decode("utf-8", "replace").replace(self.endpoint.key or "\0", "").split()
        )
        shown = "".join(filter(str.isprintable, said))[:SAID]
        return (
            f"refuses every question (status {status}: {shown}); "
            f"mend its address, with the /v1, or in engines.{self.row} the model and dials that it takes"
        )

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
    """The reply, if it is one: whole UTF-8 JSON, from the model that was asked, with one text that
    UTF-8 can hold.
    """
    try:
        reply = json.loads(body.decode("utf-8"))
        (choice,) = reply["choices"]
        finish, answerer = choice["finish_reason"], reply["model"]
        text = "" if finish == FILTERED else choice["message"]["content"] or ""
        text.encode("utf-8")
        is_whole = isinstance(answerer, str) and (answerer != model or finish in FINISHES)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Retry("broken_reply") from error
    if not is_whole:
        raise _Retry("broken_reply")
    if answerer != model:
        raise _WrongModel(answerer)
    return {
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": _usage(reply.get("usage")),
    }


def _usage(given: Any) -> dict[str, int]:
    """The counts that DataTrove adds up; what is no whole number is left out."""
    return (
        {name: count for name, count in given.items() if type(count) is int}
        if isinstance(given, dict)
        else {}
    )


def _pause(value: str) -> float:
    return min(float(value), LONGEST_PAUSE) if value.isdigit() else 0.0
