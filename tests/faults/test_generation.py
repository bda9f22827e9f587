"""A language model's server that misbehaves: each prompt ends with one completion, a refusal, or
with an error that names the outage.
"""

import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from loguru import logger

from safelm.llm import EngineError, Request
from safelm.llm.client import Endpoint
from safelm.llm.model import LanguageModel
from specs.engine import Limits
from tests.endpoint import (
    ENDPOINT_ROW,
    FAULTS,
    HANG,
    HARMLESS,
    FakeEndpoint,
    Plan,
    digest,
    text_of,
)

ROW = {**ENDPOINT_ROW, "temperature": 0.7}
PROBLEMS = {
    "status_500": "status_500",
    "status_503": "status_503",
    "status_429": "status_429",
    "odd_pause": "status_429",
    "trickle": "timed_out",
    "hang": "timed_out",
    "reset": "connection_lost",
    "cut": "connection_lost",
    "half_json": "broken_reply",
    "empty": "broken_reply",
    "not_utf8": "broken_reply",
    "wrong_model": "wrong_model",
    "no_choice": "broken_reply",
    "odd_finish": "broken_reply",
}
QUESTIONS = 12
SLOW = ("hang", "trickle")
AT_MOST = 4  # faults of a prompt that is answered in the end


def question(number: int) -> Request:
    return Request(
        f"d{number}", "tests/say", 1, (("system", "Say."), ("user", f"page {number}")), seed=1
    )


def body(request: Request, row: dict = ROW) -> dict:
    messages = [{"role": role, "content": content} for role, content in request.messages]
    return {"messages": messages, "model": row["model"], "temperature": row["temperature"]}


def model(endpoint: FakeEndpoint, answers: Path, row: dict = ROW) -> LanguageModel:
    return LanguageModel(row, Endpoint(endpoint.url, "canary-key", first_pause=0.01), answers)


def plan(fault: str, draw: random.Random) -> tuple[Plan, set[str]]:
    """Choose the prompts that meet the fault once or twice, and those that always meet it."""
    names = [digest(body(question(number))) for number in range(QUESTIONS)]
    draw.shuffle(names)
    always, sometimes = (
        set(names[:3]),
        {name: draw.randint(1, AT_MOST) for name in names[3:7]},
    )

    def found(name: str, before: int) -> str | None:
        return fault if name in always or before < sometimes.get(name, 0) else None

    return found, always


@pytest.mark.cases(quick=24, full=300)
def test_each_question_ends_with_one_answer_or_an_error_that_names_the_fault(
    case: int, tmp_path: Path
) -> None:
    fault = list(FAULTS)[case % len(FAULTS)]
    planned, always = plan(fault, random.Random(case))
    asked = [question(number) for number in range(QUESTIONS)]
    failed = set() if fault in HARMLESS else always
    row = ROW
    if fault in SLOW:
        # Half of HANG: on a busy machine a reply without a fault takes a second too.
        row = {**ROW, "limits": Limits(timeout=HANG / 2, patience=HANG * 3)}
    with FakeEndpoint(planned).running() as endpoint:
        engine = model(endpoint, tmp_path / "answers.jsonl", row)
        # So that it has answered once, in the model's own name.
        engine.generate([question(QUESTIONS)])
        if failed:
            with pytest.raises(EngineError) as error:
                engine.generate(asked)
            assert f"engines.writer at {endpoint.url}: 3 of 12 requests unanswered" in str(error)
            found = endpoint.faults[fault]
            assert f"(failed attempts: {found:,} {PROBLEMS[fault]}). Answers so far" in str(error)
            endpoint.plan = lambda name, before: None
        else:
            engine.generate(asked)
        assert engine.traffic.counts["requests"] == sum(endpoint.requests.values())
        first = Counter(endpoint.requests)
        answers = engine.generate(asked)
    assert [answer.text for answer in answers] == [text_of(body(request)) for request in asked]
    assert not any(answer.problem for answer in answers)
    # Once more for those alone that had no answer.
    assert Counter(endpoint.requests) - first == Counter(dict.fromkeys(failed, 1))
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == QUESTIONS + 1


@pytest.mark.cases(quick=6, full=60)
def test_a_second_run_sends_only_prompts_without_an_answer_and_another_model_all(
    case: int, tmp_path: Path
) -> None:
    draw = random.Random(case)
    planned, _ = plan("status_500", draw)
    numbers = [draw.randrange(QUESTIONS) for _ in range(20)]  # with repeats
    asked = [question(number) for number in numbers]
    with FakeEndpoint(planned).running() as endpoint:
        # Under the plan some prompts have no answer.
        with suppress(EngineError):
            model(endpoint, tmp_path / "answers.jsonl").generate(asked)
        kept = (tmp_path / "answers.jsonl").read_bytes()
        cut = draw.randrange(len(kept))
        (tmp_path / "answers.jsonl").write_bytes(kept[:cut])  # as a kill leaves it, at any byte
        whole = kept[:cut].count(b"\n")
        endpoint.plan = lambda name, before: None
        endpoint.requests.clear()
        second = model(endpoint, tmp_path / "answers.jsonl").generate(asked)
        assert sum(endpoint.requests.values()) == len(set(numbers)) - whole
        assert [answer.text for answer in second] == [text_of(body(request)) for request in asked]
        stored = (tmp_path / "answers.jsonl").read_bytes().splitlines()
        assert set(kept[:cut].splitlines()[:whole]) <= set(stored)
        for change in (
            {"digest": "weights-2"},
            {"temperature": 0.2},
            {"top_p": 0.5},
            {"model": "tests/other"},
        ):
            endpoint.requests.clear()
            other = {**ROW, **change}
            answers = model(endpoint, tmp_path / "answers.jsonl", other).generate(asked)
            assert endpoint.requests == Counter({digest(body(request)): 1 for request in asked})
            assert [answer.text for answer in answers] == [
                text_of(body(request, other)) for request in asked
            ]


def test_a_server_that_is_gone_fails_the_stage_and_keeps_what_it_answered(tmp_path: Path) -> None:
    with FakeEndpoint(lambda name, before: None).running() as endpoint:
        model(endpoint, tmp_path / "answers.jsonl").generate([question(1)])
    engine = model(endpoint, tmp_path / "answers.jsonl")
    questions = [question(number) for number in range(300)]
    message = r"299 of 300 requests unanswered \(failed attempts: \d+ no_connection\)"
    with pytest.raises(EngineError, match=message):
        engine.generate(questions)
    # Those in flight find that the server is down; the others are not sent any more.
    assert 64 < engine.traffic.counts["requests"] < 64 * 20
    assert engine.traffic.counts["unanswered not_sent"] == 299 - 64
    assert len((tmp_path / "answers.jsonl").read_bytes().splitlines()) == 1


@pytest.mark.parametrize("fault", ["filtered", "filtered_400"])
def test_what_a_provider_filters_is_sent_once_and_is_no_silence(tmp_path: Path, fault: str) -> None:
    with FakeEndpoint(lambda name, before: fault).running() as endpoint:
        engine = model(endpoint, tmp_path / "answers.jsonl")
        answers = engine.generate(
            [question(number) for number in range(40)]
        )  # more than make a server count as down
    assert {answer.problem for answer in answers} == {"content_filter"} and set(
        endpoint.requests.values()
    ) == {1}
    assert engine.traffic.counts["unanswered content_filter"] == 40


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "refused",
            r"the server refuses every request \(status 400: \{\}\); fix its address, with the /v1",
        ),
        ("dated", "answers as 'tests/writer-2024-07-18'; write that as engines.writer.model"),
    ],
)
def test_a_row_that_is_wrong_fails_the_stage_at_once(
    tmp_path: Path, fault: str, message: str
) -> None:
    with (
        FakeEndpoint(lambda name, before: fault).running() as endpoint,
        pytest.raises(EngineError, match=message),
    ):
        model(endpoint, tmp_path / "answers.jsonl").generate([question(1)])
    assert len(endpoint.bodies) == (2 if fault == "refused" else 1)


def test_a_page_that_alone_is_refused_is_its_own_matter(tmp_path: Path) -> None:
    (known,) = [digest(body(question(1)))]
    with FakeEndpoint(
        lambda name, before: "refused" if name == known else None
    ).running() as endpoint:
        (answer,) = model(endpoint, tmp_path / "answers.jsonl").generate([question(1)])
    assert answer.problem == "refused" and len(endpoint.bodies) == 2


def test_a_wrong_key_fails_the_stage_at_once_and_is_shown_nowhere(tmp_path: Path) -> None:
    log: list[str] = []
    sink = logger.add(log.append, level="TRACE")
    denies = FakeEndpoint(lambda name, before: "denied")
    with (
        denies.running() as endpoint,
        pytest.raises(EngineError, match="does not accept the key") as error,
    ):
        engine = model(endpoint, tmp_path / "answers.jsonl")
        engine.generate([question(number) for number in range(3)])
    logger.remove(sink)
    assert endpoint.keys == {"Bearer canary-key"}
    assert "canary" not in "".join(log) + repr(error.value) + repr(error.getrepr(showlocals=True))
