"""The HTTP server: routes, limits for clients, and refusal of requests from web pages."""

import asyncio
import resource
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from h11 import SEND_BODY
from prometheus_client import Counter, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from safelm.builder.files import Json
from safelm.serve.answers import Service, error_body

LOCALHOST = "127.0.0.1"
# By DNS rebinding a web page reaches this server under another name, which is refused.
HOSTS = (LOCALHOST, "localhost", "::1")
HEALTH, TEXTS, CHAT = "/health", "/v1/completions", "/v1/chat/completions"
MAX_BODY_BYTES = 1 << 20
# All bodies that are being read, together.
MAX_HELD_BYTES = 64 << 20
MAX_CONNECTIONS = 4096
# Time limits: to receive a body, for a connection without a request, for a connection whose body is
# refused, and to answer, including the wait in the queue.
BODY_SECONDS = 30
IDLE_SECONDS = 30
REFUSED_SECONDS = 2
ANSWER_SECONDS = 600
# Connections that may wait to be accepted: a harness opens hundreds at once.
BACKLOG = 1024
# What nginx says of a client that has left; nobody reads it.
CLIENT_LEFT = 499
REQUESTS = Counter("safelm_requests", "Requests, by the status of the answer.", ["status"])
CANCELLED = Counter("safelm_cancelled_prompts", "Prompts whose client left, or that took too long.")


class Completions:
    """The handler of requests to continue texts or to answer a dialogue."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; if its client disconnects, its prompts are cancelled."""
        body = await self.read(Request(scope, receive))
        answer = await asyncio.to_thread(self.service.read, body, scope["path"] == CHAT)
        self.service.batches.put(answer.jobs)
        response: Response | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if answer.request.stream:
                    response = StreamingResponse(answer.events(), media_type="text/event-stream")
                else:
                    response = JSONResponse(await unless_gone(receive, answer.whole()))
                await response(scope, receive, send)
        except TimeoutError:
            # uvicorn closes the connection of a response that has begun.
            if response is None:
                raise HTTPException(504, f"no answer within {ANSWER_SECONDS} s") from None
        finally:
            CANCELLED.inc(sum(job.text.cancel() for job in answer.jobs))

    async def read(self, request: Request) -> bytes:
        """Read a body within the limits on bytes, time and memory. Raises HTTPException."""
        content = bytearray()
        refuse_long(int(request.headers.get("content-length", 0)))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    content += part
                    self.held += len(part)
                    refuse_long(len(content))
                    if self.held > MAX_HELD_BYTES:
                        raise HTTPException(429, "many bodies are being read; try again later")
        except TimeoutError:
            raise HTTPException(408, f"expected the body within {BODY_SECONDS} s") from None
        finally:
            self.held -= len(content)
        return bytes(content)


def refuse_long(length: int) -> None:
    """Raise HTTPException for a body that is too long."""
    if length > MAX_BODY_BYTES:
        raise HTTPException(413, f"expected at most {MAX_BODY_BYTES} bytes (got {length} or more)")


async def unless_gone(receive: Receive, answer: Coroutine[Any, Any, Json]) -> Json:
    """Wait for an answer. Raises ClientDisconnect if the client closes the connection first."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    done = asyncio.ensure_future(answer)
    left = asyncio.ensure_future(gone())
    try:
        await asyncio.wait([done, left], return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise ClientDisconnect
        return done.result()
    finally:
        done.cancel()
        left.cancel()


class Guard:
    """Middleware that refuses web pages and clients without the key, and counts responses.

    Without a key, only requests whose Host is this machine are answered. No CORS header is ever
    sent, so a browser shows no response to a page of another origin.
    """

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self.app = app
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                REQUESTS.labels(message["status"]).inc()
            await send(message)

        is_http = scope["type"] == "http"
        refusal = self.refusal(scope["path"], Headers(scope=scope)) if is_http else None
        await (refusal or self.app)(scope, receive, counted)

    def refusal(self, path: str, headers: Headers) -> Response | None:
        """Return the response to a request that is refused, or None."""
        host = headers.get("host", "")
        origin = headers.get("origin")
        if self.key is None and not is_local(host):
            return refuse(404, f"{host:.80}: is not served; call {' or '.join(HOSTS)}")
        if origin is not None and origin.partition("://")[2] != host:
            return refuse(403, f"{origin:.80}: pages of other origins are not answered")
        if self.key is None or path == HEALTH:
            return None
        sent = headers.get("authorization", "")
        expected = f"Bearer {self.key}"
        # As bytes: compare_digest takes ASCII text only, and Starlette decodes headers as latin-1.
        if secrets.compare_digest(sent.encode("latin-1"), expected.encode()):
            return None
        return refuse(401, "expected a header `Authorization: Bearer` with the server's key")


def is_local(host: str) -> bool:
    """Return whether a Host header names this machine."""
    try:
        return urlsplit(f"//{host}").hostname in HOSTS
    except ValueError:
        return False


def refuse(status: int, message: str) -> JSONResponse:
    """Answer with an error."""
    headers = {"Retry-After": "1"} if status == 429 else None
    return JSONResponse(error_body(status, message), status, headers)


async def on_error(request: Request, error: Exception) -> Response:
    """Refuse a request as an exception says."""
    if not isinstance(error, HTTPException):
        return refuse(CLIENT_LEFT, "")
    if error.status_code in (404, 405):
        served = f"GET /v1/models, POST {TEXTS} or {CHAT}"
        return refuse(error.status_code, f"{request.url.path:.80}: is not served; {served}")
    return refuse(error.status_code, error.detail)


def make_app(service: Service, key: str | None = None) -> Starlette:
    """Make the application; its lifespan is that of the decoding thread."""
    completions = Completions(service)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker = Thread(target=service.batches.work, daemon=True)
        worker.start()
        yield
        service.batches.close()
        # In a thread, so that the loop can send what the last step delivers.
        await asyncio.to_thread(worker.join)

    return Starlette(
        routes=[
            Route("/v1/models", lambda _: JSONResponse(service.models())),
            Route(TEXTS, completions, methods=["POST"]),
            Route(CHAT, completions, methods=["POST"]),
            Route(HEALTH, lambda _: JSONResponse({"status": "ok"})),
            Route("/metrics", lambda _: PlainTextResponse(generate_latest())),
        ],
        middleware=[Middleware(Guard, key=key)],
        exception_handlers={HTTPException: on_error, ClientDisconnect: on_error},
        lifespan=lifespan,
    )


class Connection(H11Protocol):
    """A connection that is closed when it is idle, or when its body is refused."""

    is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self.timer = self.loop.call_later(IDLE_SECONDS, self.close_if_idle, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, which would keep the connection in memory."""
        self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sends, but discard the rest of a body that was refused."""
        if not self.is_refused:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """Start the timer for the next request, or for the end of a body that was refused.

        If the connection were closed at once, a client that is still sending would be reset and
        lose the response.
        """
        served = self.cycle
        self.is_refused = self.conn.their_state is SEND_BODY
        super().on_response_complete()
        if self.is_refused:
            self.transport.write_eof()
        wait = REFUSED_SECONDS if self.is_refused else IDLE_SECONDS
        self.timer.cancel()
        self.timer = self.loop.call_later(wait, self.close_if_idle, served)

    def close_if_idle(self, served: object) -> None:
        """Close the connection if no request came after `served`."""
        if self.cycle is served:
            self.transport.close()


def listen(host: str = LOCALHOST, port: int = 0) -> socket.socket:
    """Bind a socket and listen; port 0 takes a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def make_server(app: Starlette) -> uvicorn.Server:
    """Make a server for `run(sockets=[listen()])`. It logs no requests."""
    # Each connection is an open file, and many systems allow 1,024 of these by default.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MAX_CONNECTIONS + BACKLOG <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_CONNECTIONS + BACKLOG, hard))
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def address(listener: socket.socket) -> str:
    """Give the URL of a server, as clients want it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
