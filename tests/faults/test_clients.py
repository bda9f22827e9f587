"""Thousands of clients that send nothing, half of something, or leave: the server still answers."""

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from safelm.decoding import Greedy
from safelm.serve import server
from safelm.serve.answers import Service
from tests.serving import connect, head, running, serving, slow_down, small_service, until

WHOLE = json.dumps({"prompt": "How do I water the rose?", "max_tokens": 2}).encode()
HALVES = (
    b"",
    b"POST /v1/comp",
    head("completions", len(WHOLE)),
    head("completions", len(WHOLE)) + WHOLE[:10],
    head("completions", server.MAX_BODY_BYTES) + b" " * 1000,
)
MB = 1 << 20


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path, Greedy())


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60, trust_env=False, verify=False) as client:
        yield client


def memory() -> int:
    """Resident bytes of this process, the server's."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def answer(client: httpx.Client, url: str) -> str:
    reply = client.post(f"{url}/completions", content=WHOLE).raise_for_status()
    return str(reply.json()["choices"][0]["text"])


def test_slow_clients_hold_neither_threads_nor_much_memory(
    service: Service,
    client: httpx.Client,
    count: Callable[[int, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 5.0)
    monkeypatch.setattr(server, "BODY_SECONDS", 5.0)
    with serving(service) as url, ExitStack() as opened:
        expected = answer(client, url)
        threads, before = threading.active_count(), memory()
        slow = [opened.enter_context(connect(url)) for _ in range(count(200, 2000))]
        for number, connection in enumerate(slow):
            connection.sendall(HALVES[number % len(HALVES)])
        began = time.monotonic()
        assert answer(client, url) == expected
        assert time.monotonic() - began < 5
        assert threading.active_count() <= threads + 2
        assert memory() - before < 100 * MB
        closed = [is_closed(connection) for connection in slow]
        assert all(closed)
        assert answer(client, url) == expected


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection, whatever it sends before."""
    connection.settimeout(30)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_clients_that_leave_at_any_moment_change_no_answer(
    service: Service, client: httpx.Client, count: Callable[[int, int], int]
) -> None:
    request = head("completions", len(WHOLE)) + WHOLE
    draw = random.Random(1)
    with serving(service) as url:
        expected = answer(client, url)
        for _ in range(count(200, 2000)):
            with connect(url) as connection:
                connection.sendall(request[: draw.randrange(len(request) + 1)])
                if draw.random() < 0.5:  # a reset instead of an end
                    reset = b"\1\0\0\0\0\0\0\0"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        assert answer(client, url) == expected
        until(lambda: not service.batches.waiting and not running())


def test_large_bodies_at_once_take_bounded_memory(
    service: Service, client: httpx.Client, count: Callable[[int, int], int]
) -> None:
    most = server.MAX_HELD_BYTES // server.MAX_BODY_BYTES
    start = head("completions", server.MAX_BODY_BYTES)
    part = b" " * (server.MAX_BODY_BYTES - 1)
    with serving(service) as url:
        expected, before = answer(client, url), memory()
        with ExitStack() as opened:
            for _ in range(most + count(16, 200)):
                connection = opened.enter_context(connect(url))
                with suppress(ConnectionError):  # refused while it sends
                    connection.sendall(start + part)
            until(lambda: status_of(client, url) == 429)
            assert memory() - before < server.MAX_HELD_BYTES + 150 * MB
        assert answer_at_last(client, url) == expected


def status_of(client: httpx.Client, url: str) -> int:
    """The status of a request that is longer than what 64 bodies of nearly 1 MiB leave."""
    return client.post(f"{url}/completions", content=WHOLE + b" " * 1000).status_code


def answer_at_last(client: httpx.Client, url: str) -> str:
    until(lambda: status_of(client, url) == 200)
    return answer(client, url)


@pytest.mark.cases(quick=100, full=5000)
def test_any_bytes_are_answered_or_refused(case: int, noisy: str, client: httpx.Client) -> None:
    draw = random.Random(case)
    request = bytearray(head("completions", len(WHOLE), "Connection: close") + WHOLE)
    for _ in range(draw.randint(1, 8)):
        place = draw.randrange(len(request))
        request[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
    with connect(noisy) as connection:
        connection.sendall(bytes(request))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(30)
        received = connection.recv(100)
    assert not received or re.match(rb"HTTP/1\.1 [245]\d\d ", received)
    assert b" 500 " not in received[:13]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    service = small_service(tmp_path_factory.mktemp("noisy"), Greedy())
    with serving(service) as url:
        yield url
        assert httpx.get(url.removesuffix("/v1") + "/health", trust_env=False).status_code == 200


def test_a_server_ends_while_clients_wait(service: Service) -> None:
    long = json.dumps({"prompt": "How", "max_tokens": 150}).encode()
    slow_down(service)
    with ExitStack() as opened:
        with serving(service) as url:
            for sent in (*HALVES, head("completions", len(long)) + long):
                opened.enter_context(connect(url)).sendall(sent)
            until(running)
            began = time.monotonic()
        assert time.monotonic() - began < 5  # of the 7.5 s that the text takes
