"""Servers of tests: in a thread of this process, with a small model that may be made slow."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from safelm.decoding import Decoder
from safelm.models.chat import load
from safelm.serve.answers import Service
from safelm.serve.server import address, listen, make_app, make_server
from tests.tiny import write_model, write_tokenizer

PATIENCE = 20.0


def small_service(folder: Path, decoder: Decoder, **settings: Any) -> Service:
    """A service of a small model that knows the tag."""
    if not (folder / "tags").exists():
        write_model(folder / "tags", write_tokenizer(folder / "tokenizer"), knows_tag=True)
    return Service("tags", *load(folder / "tags"), decoder, **settings)


@contextmanager
def serving(service: Service, key: str | None = None) -> Iterator[str]:
    """Serve from a thread; the server's address."""
    listener, server = listen(), make_server(make_app(service, key))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join()


def slow_down(service: Service, seconds: float = 0.05) -> None:
    """Let every step take this long."""
    service.model.register_forward_pre_hook(lambda *_: time.sleep(seconds))


def metric(name: str, **labels: str) -> float:
    """What the servers of this process have counted so far."""
    return REGISTRY.get_sample_value(f"safelm_{name}", labels) or 0.0


def running() -> float:
    """The number of prompts that are being continued."""
    return metric("running_prompts")


def connect(url: str) -> socket.socket:
    """Open a connection to a server."""
    host, port = url.split("/")[2].split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def head(path: str, length: object, *more: str) -> bytes:
    """The head of a request with a body of this length."""
    lines = [f"POST /v1/{path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def answered(connection: socket.socket) -> bytes:
    """Everything that the server sends until it closes the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received


def until(happened: Callable[[], object]) -> None:
    """Wait until something is so; fail if it never is."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)
