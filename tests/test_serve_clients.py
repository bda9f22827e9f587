"""Clients of the server: many at once, those that stream, leave or send too much, and web pages."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from safelm.decoding import Branch, Decoder, Greedy, SafeBeam, TopK
from safelm.models.chat import page_tokens
from safelm.serve import batches, server
from safelm.serve.answers import Answer, Service
from safelm.serve.command import ServeError, serve
from safelm.serve.request import MAX_PROMPTS, CompletionRequest
from tests.serving import (
    answered,
    connect,
    head,
    metric,
    running,
    serving,
    slow_down,
    small_service,
    until,
)

DECODERS: dict[str, Decoder] = {
    "greedy": Greedy(),
    "top_k": TopK(top_k=20),
    "safebeam": SafeBeam(beams=3, candidates=3, drop="half"),
    "branch": Branch(branches=3, tag_weight=100.0, max_tag_probability=0.5),
}
CLIENT = httpx.Client(timeout=60, trust_env=False, verify=False)
ONE = {"prompt": "How do I water the rose", "max_tokens": 100}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path, Greedy())


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with serving(service) as url:
        yield url


def post(url: str, body: Any, path: str = "completions", **headers: str | bytes) -> httpx.Response:
    return CLIENT.post(f"{url}/{path}", json=body, headers=headers)


def get(url: str, path: str, **headers: str | bytes) -> httpx.Response:
    return CLIENT.get(url.removesuffix("/v1") + path, headers=headers)


# Batches.


def bodies() -> list[tuple[str, dict[str, Any]]]:
    """64 requests of both kinds, with prompts and bounds of many lengths."""
    made = []
    for number in range(64):
        words = " ".join(f"Water rose {n}." for n in range(number % 7 + 1))
        body: dict[str, Any] = {"max_tokens": number % 9 + 1}
        if number % 2:
            made.append(("completions", {**body, "prompt": [words, f"Take hose {number}"]}))
        else:
            messages = [{"role": "user", "content": f"{words} How do I steal {number}?"}]
            made.append(("chat/completions", {**body, "messages": messages}))
    return made


def text_of(choice: dict[str, Any]) -> str:
    message = choice.get("message") or choice.get("delta")
    return message["content"] if message else choice["text"]


def said(response: httpx.Response) -> list[tuple[str, str, int]]:
    """What an answer says: texts, how they ended and their tokens."""
    found = []
    for choice in response.raise_for_status().json()["choices"]:
        tokens = len(choice["tag_probabilities"])
        found.append((text_of(choice), choice["finish_reason"], tokens))
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_requests_together_are_answered_as_each_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, sizes = small_service(tmp_path, DECODERS[name], seed=3), []
    search = service.batches.search
    monkeypatch.setattr(
        service.batches, "search", lambda jobs: (sizes.append(len(jobs)), search(jobs))
    )
    with serving(service) as url:
        alone = [said(post(url, body, path)) for path, body in bodies()]
        assert max(sizes) == 2
        with ThreadPoolExecutor(64) as clients:
            replies = clients.map(lambda request: post(url, request[1], request[0]), bodies())
            together = [said(reply) for reply in replies]
    assert together == alone
    assert max(sizes) > 16


def test_a_prompt_that_fails_takes_no_other_with_it(service: Service) -> None:
    poison = page_tokens(service.tokenizer, ["Question"])[0][-1]

    def fail(module: torch.nn.Module, args: Any, values: dict[str, Any]) -> None:
        if (values["input_ids"] == poison).any():
            raise RuntimeError("out of memory")

    prompts = [f"Water rose {n}" for n in range(7)]
    with serving(service) as url:
        expected = [said(post(url, {"prompt": text, "max_tokens": 2})) for text in prompts]
        service.model.base_model.register_forward_pre_hook(fail, with_kwargs=True)
        with ThreadPoolExecutor(8) as clients:
            texts = ["Question Question", *prompts]
            replies = list(
                clients.map(lambda text: post(url, {"prompt": text, "max_tokens": 2}), texts)
            )
    assert replies[0].status_code == 500
    assert replies[0].json()["error"] == {
        "message": "RuntimeError: out of memory",
        "type": "server_error",
    }
    assert [said(reply) for reply in replies[1:]] == expected


def test_a_batch_too_large_for_the_memory_is_split(service: Service) -> None:
    def fail(module: torch.nn.Module, args: Any, values: dict[str, Any]) -> None:
        if len(values["input_ids"]) > 2:
            raise RuntimeError("out of memory")

    service.model.base_model.register_forward_pre_hook(fail, with_kwargs=True)
    with serving(service) as url:
        reply = post(url, {"prompt": ["Water rose"] * 5, "max_tokens": 2})
    assert len(said(reply)) == 5


# Streams.


def parts(url: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a streamed answer, which must end with [DONE]."""
    reply = post(url, {**body, "stream": True}, path)
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, end, rest = reply.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def of_choice(index: int, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    choices = [part["choices"][0] for part in parts]
    return [choice for choice in choices if choice["index"] == index]


@pytest.mark.parametrize("name", ["greedy", "branch"])
@pytest.mark.parametrize("stop", [None, "e"])
def test_the_parts_of_a_stream_are_the_answer(name: str, stop: str | None, tmp_path: Path) -> None:
    questions: dict[str, dict[str, Any]] = {
        "completions": {"prompt": ["How do I water", "First, take"], "max_tokens": 9},
        "chat/completions": {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 9},
    }
    with serving(small_service(tmp_path, DECODERS[name])) as url:
        for path, body in questions.items():
            asked = {**body, "stop": stop, "stream_options": {"include_usage": True}}
            whole = post(url, asked, path).json()
            *texts, usage = parts(url, path, asked)
            assert (usage["usage"], usage["choices"]) == (whole["usage"], [])
            for choice in whole["choices"]:
                mine = of_choice(choice["index"], texts)
                assert "".join(map(text_of, mine)) == text_of(choice)
                tags = [tag for part in mine for tag in part["tag_probabilities"]]
                assert tags == choice["tag_probabilities"]
                ends = [part["finish_reason"] for part in mine]
                assert ends == [None] * (len(ends) - 1) + [choice["finish_reason"]]


def test_a_text_is_streamed_while_it_is_written(service: Service) -> None:
    slow_down(service)
    body = {**ONE, "max_tokens": 20, "stream": True}
    with (
        serving(service) as url,
        CLIENT.stream("POST", f"{url}/completions", json=body) as reply,
    ):
        lines = reply.iter_lines()
        next(lines)
        assert running() == 1
        assert sum(line.startswith("data: ") for line in lines) >= 10


def test_half_a_character_waits_for_its_other_half(service: Service) -> None:
    tokens = service.tokenizer("é", add_special_tokens=False)["input_ids"]
    answer = Answer(service, CompletionRequest.read({"prompt": "a"}, False), False, "", [])
    assert len(tokens) == 2
    assert answer.draft(tokens[:1], [0.5]).text == ""
    assert answer.draft(tokens, [0.5, 0.5]).text == "é"


def test_nothing_is_sent_that_a_stop_word_may_cut() -> None:
    request = CompletionRequest.read({"prompt": "a", "stop": ["abab", "ac"]}, False)
    for whole in ("xxabaab", "xxababx", "xabac", "aabxx"):
        final, _ = request.cut(whole)
        drafts = [request.cut_growing(whole[:length]) for length in range(len(whole) + 1)]
        assert all(final.startswith(draft) for draft in drafts), whole
    assert request.cut_growing("xxxxxab") == "xxxx"


def test_a_failure_in_a_stream_is_an_event(service: Service) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    service.model.register_forward_pre_hook(fail)
    with serving(service) as url:
        (event,) = parts(url, "completions", ONE)
    assert event["error"]["message"] == "RuntimeError: out of memory"


# Clients that leave, wait or send too much.


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_stops_its_text(service: Service, is_stream: bool) -> None:
    slow_down(service)
    body = json.dumps({**ONE, "stream": is_stream}).encode()
    before = metric("cancelled_prompts_total")
    with serving(service) as url:
        with connect(url) as connection:
            connection.sendall(head("completions", len(body)) + body)
            until(running)
        steps = []
        service.model.register_forward_pre_hook(lambda *_: steps.append(1))
        until(lambda: metric("cancelled_prompts_total") == before + 1)
        until(lambda: not running())
        assert len(steps) < 50


def test_a_client_that_leaves_the_queue_is_never_decoded(tmp_path: Path) -> None:
    service = small_service(tmp_path, Greedy(), batch=1)
    slow_down(service)
    body = json.dumps({**ONE, "prompt": "Never read"}).encode()
    seen: list[int] = []
    before = metric("cancelled_prompts_total")
    with serving(service) as url, ThreadPoolExecutor(1) as other:
        first = other.submit(post, url, {**ONE, "max_tokens": 20})
        until(running)
        with connect(url) as connection:
            connection.sendall(head("completions", len(body)) + body)
            until(lambda: service.batches.waiting)
        until(lambda: metric("cancelled_prompts_total") == before + 1)
        first.result().raise_for_status()
        service.model.register_forward_pre_hook(lambda *_: seen.append(1))
        until(lambda: not service.batches.waiting)
        assert not seen


def test_a_full_queue_asks_the_client_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING", 3)
    service = small_service(tmp_path, Greedy(), batch=1)
    slow_down(service)
    with serving(service) as url, ThreadPoolExecutor(2) as others:
        others.submit(post, url, ONE)
        until(running)
        waiting = others.submit(post, url, {"prompt": ["a", "b"], "max_tokens": 1})
        until(lambda: len(service.batches.waiting) == 2)
        refused = post(url, {"prompt": ["c", "d"]})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "2 prompts wait and 2 are sent" in refused.json()["error"]["message"]
        service.model._forward_pre_hooks.clear()
        assert len(said(waiting.result())) == 2


def test_an_answer_that_takes_too_long_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
    slow_down(service)
    with serving(service) as url:
        reply = post(url, ONE)
        assert reply.status_code == 504 and "no answer within" in reply.json()["error"]["message"]
        until(lambda: not running())


def test_150_000_prompts_are_refused(url: str) -> None:
    reply = post(url, {"prompt": ["a"] * 150_000})
    assert reply.status_code == 400
    assert f"up to {MAX_PROMPTS} texts (got 150000)" in reply.json()["error"]["message"]


def test_a_length_of_5000_digits_is_refused(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    with connect(url) as connection:
        connection.sendall(head("completions", "9" * 5000))
        assert answered(connection).startswith(b"HTTP/1.1 400 ")
    assert get(url, "/health").json() == {"status": "ok"}
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", ["completions", "nowhere"])
def test_100_mb_are_refused_before_they_are_sent(url: str, path: str) -> None:
    with connect(url) as connection:
        connection.sendall(head(path, 100 << 20))
        status = answered(connection)[9:12]
    assert status == (b"413" if path == "completions" else b"404")


def test_a_long_body_without_a_length_is_refused(url: str) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * (1 << 16)

    assert CLIENT.post(f"{url}/completions", content=endless()).status_code == 413


def test_half_a_body_is_told_or_forgotten(url: str) -> None:
    half = b'{"prompt": "a'
    with connect(url) as connection:
        connection.sendall(head("completions", len(half), "Connection: close") + half)
        assert answered(connection).startswith(b"HTTP/1.1 400 ")
    with connect(url) as connection:
        connection.sendall(head("completions", 100) + half)
    assert len(said(post(url, {"prompt": "a", "max_tokens": 1}))) == 1


def test_a_body_that_does_not_come_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.2)
    with connect(url) as connection:
        connection.sendall(head("completions", 100) + b"{")
        assert answered(connection).startswith(b"HTTP/1.1 408 ")


def test_bodies_together_take_no_more_than_their_share(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_HELD_BYTES", 3000)
    with connect(url) as first, connect(url) as second:
        first.sendall(head("completions", 4000) + b" " * 2000)
        second.sendall(head("completions", 4000) + b" " * 2000)
        ready = answered(second) or answered(first)
    assert ready.startswith(b"HTTP/1.1 429 ")
    assert len(said(post(url, {"prompt": "a", "max_tokens": 1}))) == 1


@pytest.mark.parametrize("sent", [b"", b"POST /v1/completions HTTP/1.1\r\nHost: loc"])
def test_a_connection_without_a_request_is_closed(
    service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    with serving(service) as url:
        with connect(url) as connection:
            connection.sendall(sent)
            assert answered(connection) == b""
        with connect(url) as connection:  # also after an answer, where half a head follows
            request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            connection.sendall(request + sent)
            assert answered(connection).endswith(b'{"status":"ok"}')


def test_no_more_connections_are_kept_than_may_be(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    with connect(url) as first, connect(url) as second:
        assert answered(second) == b""
        first.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answered(first).startswith(b"HTTP/1.1 200 ")


# Who is answered.


@pytest.mark.parametrize("origin", ["https://evil.org", "null", "http://localhost:1", ""])
def test_pages_of_other_origins_are_refused(url: str, origin: str) -> None:
    reply = post(url, {"prompt": "a"}, Origin=origin)
    assert reply.status_code == 403
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_no_page_may_ask_before_it_sends(url: str) -> None:
    asked = {"Origin": "https://evil.org", "Access-Control-Request-Method": "POST"}
    reply = CLIENT.options(f"{url}/completions", headers=asked)
    assert reply.status_code == 403
    assert not any(name.startswith("access-control") for name in reply.headers)


def test_a_page_of_the_server_itself_would_be_answered(url: str) -> None:
    origin = url.removesuffix("/v1")
    assert post(url, {"prompt": "a", "max_tokens": 1}, Origin=origin).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.org", "127.0.0.1.evil.org", "localhost.evil.org:8000", "a@b", "[", "10.0.0.1"]
)
def test_other_names_of_the_server_are_refused(url: str, host: str) -> None:
    assert get(url, "/v1/models", Host=host).status_code == 404


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_its_own_names_are_answered(url: str, host: str) -> None:
    assert get(url, "/v1/models", Host=host).status_code == 200


def test_with_a_key_only_who_has_it_is_answered(service: Service) -> None:
    with serving(service, key="geheim-é") as url:
        assert get(url, "/health").status_code == 200
        key = "Bearer geheim-é"
        wrong = ("", "Bearer", "Bearer geheim", key[7:].encode(), key.encode("latin-1"))
        for sent in wrong:
            assert get(url, "/v1/models", Authorization=sent).status_code == 401
            assert get(url, "/metrics", Authorization=sent).status_code == 401
            assert post(url, {"prompt": "a"}, Authorization=sent).status_code == 401
        assert get(url, "/v1/models").status_code == 401
        asked = {"Authorization": key.encode(), "Host": "a.example.org"}
        assert get(url, "/v1/models", **asked).status_code == 200


def test_an_address_that_others_reach_needs_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAFELM_SERVE_KEY", raising=False)
    with pytest.raises(ServeError, match=r"--host 0\.0\.0\.0: .* set SAFELM_SERVE_KEY"):
        serve(tmp_path, "greedy", host="0.0.0.0")
    with pytest.raises(ServeError, match=r"--host here: expected an IP address"):
        serve(tmp_path, "greedy", host="here")


# Other programs.


def test_the_metrics_count_requests_and_tokens(url: str) -> None:
    def counts() -> list[float]:
        tokens = [metric("tokens_total", of=what) for what in ("prompts", "texts")]
        return [*tokens, metric("requests_total", status="400")]

    before = counts()
    usage = post(url, {"prompt": "How do I", "max_tokens": 3}).json()["usage"]
    post(url, {"prompt": []})
    new = [after - earlier for after, earlier in zip(counts(), before, strict=True)]
    assert new == [usage["prompt_tokens"], usage["completion_tokens"], 1]
    lines = get(url, "/metrics").text.splitlines()
    assert {"safelm_waiting_prompts 0.0", "safelm_running_prompts 0.0"} < set(lines)


def test_openai_s_own_client_is_answered(service: Service) -> None:
    with serving(service, key="k") as url, openai.OpenAI(base_url=url, api_key="k") as client:
        assert [model.id for model in client.models.list()] == ["tags"]
        messages: Any = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "How do I water the rose?"}]},
        ]
        asked: dict[str, Any] = {"model": "tags", "messages": messages, "max_tokens": 8}
        answer = client.chat.completions.create(**asked)
        whole = answer.choices[0].message.content
        stream = client.chat.completions.create(**asked, stream=True)
        assert whole and "".join(part.choices[0].delta.content for part in stream) == whole
        text = client.completions.create(model="tags", prompt="How do I", max_tokens=4)
        pieces = client.completions.create(
            model="tags", prompt="How do I", max_tokens=4, stream=True
        )
        assert "".join(piece.choices[0].text for piece in pieces) == text.choices[0].text
        with pytest.raises(openai.BadRequestError, match="n: must be 1"):
            client.chat.completions.create(**asked, n=2)
    with (
        serving(small_service(Path(service.model.name_or_path).parent, Greedy()), key="k") as url,
        openai.OpenAI(base_url=url, api_key="other") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
