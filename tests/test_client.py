"""Client of a language model's server: pauses, refusals, silence and the end of patience."""

import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safelm.builder.fingerprint import jsonable
from safelm.llm import EngineError, Request, client
from safelm.llm.client import Endpoint
from safelm.llm.model import IN_FLIGHT, LanguageModel
from specs.engine import Limits, VllmEngine
from specs.engine import row as engine_row
from tests.endpoint import ENDPOINT_ROW, FAULTS, HANG, LIMITS, FakeEndpoint, send

ROW = {**ENDPOINT_ROW, "name": "remote"}
Open = Callable[..., LanguageModel]


def question(number: int) -> Request:
    messages = (("system", "Say."), ("user", f"page {number}"))
    return Request(f"d{number}", "tests/say", 1, messages, seed=1)


@pytest.fixture
def open_model(tmp_path: Path) -> Open:
    """Return a function that opens the model behind an endpoint, with other limits if given."""

    def open_it(endpoint: FakeEndpoint, **limits: float) -> LanguageModel:
        row = {**ROW, "limits": Limits(**limits) if limits else LIMITS}
        return LanguageModel(
            row, Endpoint(endpoint.url, first_pause=0.01), tmp_path / "answers.jsonl"
        )

    return open_it


def in_seconds(seconds: float) -> str:
    """Return an HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("1e2", 100.0),
        ("", 0.0),
        ("²", 0.0),
        ("Â²", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("1e999", 0.0),
        ("7 seconds", 0.0),
        ("Wed, 99 Foo 9999 99:99:99 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_any_spelling(header: str, seconds: float) -> None:
    assert client._seconds(header) == seconds


@pytest.mark.parametrize("zone", ["GMT", ""])
@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (-90, 0.0)])
def test_retry_after_may_be_a_date(ahead: float, seconds: float, zone: str) -> None:
    header = in_seconds(ahead).replace("GMT", zone)
    assert client._seconds(header) == pytest.approx(seconds, abs=5.0 if seconds else 0)


@given(st.text(max_size=40))
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("1, 1 Jan 99999999999999999999 1:1:1 +99999999")
def test_no_retry_after_is_an_error_or_a_negative_pause(header: str) -> None:
    assert client._seconds(header) >= 0


def paused(header: str) -> Callable[[Any, bytes], None]:
    return lambda handler, data: send(handler, b"slow down", 429, Retry_After=header)


@pytest.mark.parametrize(("header", "least"), [("1", 1.0), ("0.6", 0.6)])
def test_a_request_waits_as_long_as_the_server_asks(
    open_model: Open, monkeypatch: pytest.MonkeyPatch, header: str, least: float
) -> None:
    monkeypatch.setitem(FAULTS, "status_429", paused(header))
    with FakeEndpoint(lambda name, before: None if before else "status_429").running() as endpoint:
        began = time.monotonic()
        open_model(endpoint, timeout=60.0, patience=60.0).generate([question(1)])
    assert time.monotonic() - began >= least
    assert len(endpoint.bodies) == 2


def test_a_long_pause_is_cut_to_the_patience_and_followed_by_one_more_attempt(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "status_429", paused("86400"))
    with FakeEndpoint(lambda name, before: None if before else "status_429").running() as endpoint:
        began = time.monotonic()
        (answer,) = open_model(endpoint).generate([question(1)])
    assert time.monotonic() - began < 6 * LIMITS.patience
    assert answer.problem is None
    assert len(endpoint.bodies) == 2


def test_a_server_that_fails_is_given_up_after_the_patience_with_one_line(
    open_model: Open,
) -> None:
    with FakeEndpoint(lambda name, before: "status_503").running() as endpoint:
        began = time.monotonic()
        with pytest.raises(EngineError) as error:
            open_model(endpoint).generate([question(number) for number in range(1000)])
    assert LIMITS.patience <= time.monotonic() - began < 20 * LIMITS.patience
    # Those in flight find that the server is down; the others are not sent any more.
    assert len(endpoint.requests) == IN_FLIGHT
    message = str(error.value)
    attempts = f"{endpoint.faults['status_503']:,} status_503"
    assert message == (
        f"engines.remote at {endpoint.url}: 1,000 of 1,000 requests unanswered "
        f"(failed attempts: {attempts}). Answers so far are saved; when the server answers "
        "again, run the stage again: it asks only the rest."
    )


def test_a_server_of_this_machine_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    row = {**ROW, "limits": Limits(timeout=60.0, patience=20.0)}
    endpoint = Endpoint("http://127.0.0.1:9/v1", supervisor=ended.pid)
    with pytest.raises(EngineError, match="the server has ended; see its log"):
        LanguageModel(row, endpoint, tmp_path / "answers.jsonl").generate([question(1)])


def test_one_request_that_fails_does_not_stop_the_others(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are in flight: the others go on after the one was given up."""
    monkeypatch.setenv("SAFELM_REQUESTS", "2")

    def plan(name: str, before: int) -> str | None:
        return "status_500" if "page 99" in str(endpoint.bodies[-1]["messages"]) else "late"

    questions = [question(99), *map(question, range(40))]
    with FakeEndpoint(plan).running() as endpoint:
        model = open_model(endpoint)
        with pytest.raises(EngineError, match="1 of 41 requests unanswered"):
            model.generate(questions)
        endpoint.plan = lambda name, before: None
        endpoint.requests.clear()
        model.generate(questions)
    assert endpoint.requests.total() == 1


def test_a_silent_server_is_told_with_its_engine_and_address(
    open_model: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert client.SILENT <= 60
    monkeypatch.setattr(client, "SILENT", 0.4)
    questions = [question(number) for number in range(9)]
    with (
        FakeEndpoint(lambda name, before: "hang").running() as endpoint,
        pytest.raises(EngineError, match=r"9 of 9 requests unanswered \(.*timed_out\)"),
    ):
        open_model(endpoint, timeout=HANG / 4, patience=HANG / 2).generate(questions)
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("waiting")]
    start = f"waiting for engines.remote at {endpoint.url}: no answer for 0 s, 9 requests in flight"
    assert told[0].startswith(start)
    # Each time the silence has doubled, not each time it is looked for.
    assert 2 <= len(told) <= 4


def test_a_server_that_answers_is_not_told(
    open_model: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "SILENT", 2.0)
    with FakeEndpoint(lambda name, before: None).running() as endpoint:
        open_model(endpoint).generate([question(number) for number in range(9)])
    assert "waiting" not in capfd.readouterr().out


@pytest.mark.parametrize("fault", ["refused", "missing"])
def test_a_server_that_begins_to_refuse_everything_makes_no_data(
    open_model: Open, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setitem(FAULTS, "missing", lambda handler, data: send(handler, b"", 404))
    with FakeEndpoint(lambda name, before: None).running() as endpoint:
        model = open_model(endpoint)
        model.generate([question(0)])
        endpoint.plan = lambda name, before: fault
        with pytest.raises(EngineError, match="refuses every request"):
            model.generate([question(number) for number in range(9)])
        endpoint.plan = lambda name, before: None
        answers = model.generate([question(number) for number in range(9)])
    assert not any(answer.problem for answer in answers)


@pytest.mark.parametrize("fault", ["refused", "missing"])
def test_requests_in_flight_when_a_server_begins_to_refuse_make_no_data(
    open_model: Open, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """All of them began before the last answer."""
    gone = threading.Event()

    def refuse(handler: Any, data: bytes) -> None:
        gone.wait(5.0)
        time.sleep(0.2)
        send(handler, b"", 404 if fault == "missing" else 400)

    def answer(handler: Any, data: bytes) -> None:
        time.sleep(0.2)
        send(handler, data)
        gone.set()

    def plan(name: str, before: int) -> str | None:
        return "answer" if "page 8" in str(endpoint.bodies[-1]["messages"]) else "refuse"

    monkeypatch.setitem(FAULTS, "refuse", refuse)
    monkeypatch.setitem(FAULTS, "answer", answer)
    with FakeEndpoint(plan).running() as endpoint:
        model = open_model(endpoint)
        with pytest.raises(EngineError, match="refuses every request"):
            model.generate([question(number) for number in range(9)])


@pytest.mark.parametrize("fault", ["filtered", "filtered_200", "filtered_400", "filtered_403"])
def test_a_refusal_by_policy_has_a_name_and_is_sent_once(open_model: Open, fault: str) -> None:
    with FakeEndpoint(lambda name, before: fault).running() as endpoint:
        answers = open_model(endpoint).generate([question(number) for number in range(5)])
    assert [answer.problem for answer in answers] == ["content_filter"] * 5
    assert set(endpoint.requests.values()) == {1}


def test_a_reply_without_choices_is_no_refusal(open_model: Open) -> None:
    with (
        FakeEndpoint(lambda name, before: "no_choice").running() as endpoint,
        pytest.raises(EngineError, match="broken_reply"),
    ):
        open_model(endpoint).generate([question(1)])


def test_a_refusal_that_quotes_the_page_is_not_by_policy(
    open_model: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may repeat the request in its error, as vLLM does for one that is too long."""

    def plan(name: str, before: int) -> str | None:
        return "quoted" if "page:" in str(endpoint.bodies[-1]["messages"]) else None

    page = Request("d", "tests/say", 1, (("user", 'page: "content_filter"'),), seed=1)
    echo = b'{"error": "page: \\"content_filter\\""}'
    monkeypatch.setitem(FAULTS, "quoted", lambda handler, data: send(handler, echo, 400))
    with FakeEndpoint(plan).running() as endpoint:
        (answer,) = open_model(endpoint).generate([page])
    assert answer.problem == "refused"


def test_limits_enter_no_key() -> None:
    values = {**ROW, "kind": "vllm", "revision": None, "context": 9, "dtype": "auto"}
    del values["limits"], values["name"]
    rows = [
        VllmEngine.model_validate({**values, "eager": True, "timeout": time, "patience": time})
        for time in (60.0, 600.0)
    ]
    one, two = (engine_row({"writer": row}, "writer") for row in rows)
    assert one["limits"].timeout != two["limits"].timeout
    assert jsonable(one) == jsonable(two)
    assert jsonable(rows[0]) == jsonable(rows[1])
    first, second = (LanguageModel(row, Endpoint("http://x/v1"), Path("x")) for row in (one, two))
    assert question(1).key(first.identity) == question(1).key(second.identity)
