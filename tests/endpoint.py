"""OpenAI-compatible server on 127.0.0.1 for tests; a plan says which replies have a fault."""

import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from specs.engine import Limits

MODEL = "tests/writer"
LIMITS = Limits(timeout=60.0, patience=1.5)
# A row of `engines`, as its users get it.
ENDPOINT_ROW = {
    "name": "writer",
    "kind": "endpoint",
    "model": MODEL,
    "digest": "weights-1",
    "characters": 2000,
    "temperature": 0.0,
    "top_p": 1.0,
    "tokens": 64,
    "limits": LIMITS,
}
HANG = 4.0  # seconds; longer than the timeout of the tests that wait for it

# (digest of the request, number of times it came before) -> the fault, or None
Plan = Callable[[str, int], str | None]
Body = dict[str, Any]


def digest(body: Body) -> str:
    """Return a digest of the messages, or the text to continue, of a request."""
    asked = body["prompt"] if "prompt" in body else body["messages"]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def text_of(body: Body) -> str:
    """Return an answer that passes every gate and depends on model, temperature and messages."""
    sampled = f"{body['model'].rpartition('/')[2]} {body['temperature']}"
    page = digest(body)
    return (
        f"This is what the {sampled} has to say of the page {page}: "
        "it is good to be kind to all of them."
    )


class FakeEndpoint:
    """The server, the requests that it got, and the number of each fault.

    `plan` returns the fault of a request, `text` its answer without a fault.
    """

    def __init__(self, plan: Plan, text: Callable[[Body], str] = text_of) -> None:
        self.plan, self.text = plan, text
        self.lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.bodies: list[Body] = []
        self.keys: set[str | None] = set()
        self.paths: set[str] = set()
        self.faults: Counter[str] = Counter()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        # A client that disconnects is no error.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]

    @property
    def url(self) -> str:
        """The address, with the /v1."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return a handler of this endpoint's requests."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint.lock:
                    name = digest(body)
                    endpoint.bodies.append(body)
                    fault = endpoint.plan(name, endpoint.requests[name])
                    endpoint.requests[name] += 1
                    endpoint.keys.add(self.headers.get("Authorization"))
                    endpoint.faults[fault or "none"] += 1
                    endpoint.paths.add(self.path)
                answer = reply(body, endpoint.text(body))
                (FAULTS | OTHERS)[fault](self, answer) if fault else send(self, answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        return Handler

    @contextmanager
    def running(self) -> Iterator["FakeEndpoint"]:
        """Serve while the block runs."""
        thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


def reply(body: Body, text: str, **changes: Any) -> bytes:
    """Return a valid reply, in the form of /completions for a body with a `prompt`.

    For a body that asks for log-probabilities, the text is JSON: {token: log-probability} for each
    token.
    """
    said: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if "prompt" in body:
        said = {"text": text, "logprobs": None}
    if body.get("logprobs"):
        said["logprobs"] = log_probabilities(body, json.loads(text))
    choice = {"index": 0, **said, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps(
        {"id": "x", "model": body["model"], "choices": [choice], "usage": usage, **changes}
    ).encode()


def log_probabilities(body: Body, places: list[dict[str, float]]) -> dict[str, Any]:
    """Return log-probabilities as OpenAI writes them for a text or for a chat."""
    if "prompt" in body:
        return {"top_logprobs": places}
    content = []
    for tokens in places:
        listed = [{"token": token, "logprob": value} for token, value in tokens.items()]
        content.append({**listed[0], "top_logprobs": listed})
    return {"content": content}


def send(
    handler: BaseHTTPRequestHandler,
    data: bytes,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    """Send an HTTP response with a JSON body; `length` is a false Content-Length."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)
    handler.wfile.flush()


def filtered(data: bytes) -> bytes:
    """Return the reply of a provider whose filter withholds the answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None},
        "finish_reason": "content_filter",
    }
    return json.dumps({**json.loads(data), "choices": [choice]}).encode()


def _hang(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    time.sleep(HANG)
    handler.close_connection = True


def _trickle(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Send the reply so slowly that no byte is late and the whole never comes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for byte in data[:40]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(HANG / 40)
    handler.close_connection = True


def _reset(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def _cut(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    send(handler, data[: len(data) // 2], length=len(data))
    handler.close_connection = True


def _twice(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    """Send the reply and, on the same connection, that of another request."""
    send(handler, data)
    send(handler, data.replace(b"page", b"wrong page"))


def _late(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    time.sleep(int(hashlib.sha256(data).hexdigest()[:2], 16) / 1024)
    send(handler, data)


FAULTS: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
    "status_500": lambda handler, data: send(handler, b'{"error": "internal"}', 500),
    "status_429": lambda handler, data: send(handler, b"slow down", 429, Retry_After="0"),
    "status_503": lambda handler, data: send(handler, b"<h1>Unavailable</h1>", 503),
    # The bytes of a superscript two in UTF-8: http.server encodes headers in Latin-1.
    "odd_pause": lambda handler, data: send(handler, b"slow down", 429, Retry_After="Â²"),
    "hang": _hang,
    "trickle": _trickle,
    "reset": _reset,
    "cut": _cut,
    "half_json": lambda handler, data: send(handler, data[: len(data) // 2]),
    "empty": lambda handler, data: send(handler, b""),
    "not_utf8": lambda handler, data: send(handler, data.replace(b"page", b"p\xff\xfege")),
    "wrong_model": lambda handler, data: send(
        handler, data.replace(b'"model": "', b'"model": "not/')
    ),
    "no_choice": lambda handler, data: send(handler, b'{"model": "tests/writer", "choices": []}'),
    "odd_finish": lambda handler, data: send(handler, data.replace(b'"stop"', b'["stop"]')),
    "odd_usage": lambda handler, data: send(
        handler, data.replace(b'"prompt_tokens": 1', b'"prompt_tokens": null')
    ),
    "late": _late,
    "twice": _twice,
}
# Refusals, which are no fault of the server.
OTHERS: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
    "denied": lambda handler, data: send(handler, b"{}", 401),
    "refused": lambda handler, data: send(handler, b"{}", 400),
    "dated": lambda handler, data: send(handler, data.replace(b'/writer"', b'/writer-2024-07-18"')),
    # Providers report their filter in one of four ways.
    "filtered": lambda handler, data: send(handler, filtered(data)),
    "filtered_200": lambda handler, data: send(
        handler, b'{"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}'
    ),
    "filtered_403": lambda handler, data: send(
        handler, b'{"error": {"code": 403, "metadata": {"flagged_input": "x"}}}', 403
    ),
    "filtered_400": lambda handler, data: send(
        handler, b'{"error": {"code": "content_filter", "message": "x"}}', 400
    ),
}
HARMLESS = ("late", "twice", "odd_usage")  # faults under which the answer still comes
