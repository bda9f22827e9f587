"""A language model's server that misbehaves: each prompt ends with one completion, or with a
reason.
"""

import random
from collections import Counter
from pathlib import Path

import pytest
from loguru import logger

from safelm.llm import EngineError, Request
from safelm.llm.client import MAX_ATTEMPTS, Endpoint
from safelm.llm.model import LanguageModel
from tests.endpoint import FAULTS, HANG, HARMLESS, MODEL, FakeEndpoint, Plan, digest, text_of

ROW = {
    "name": "writer",
    "kind": "endpoint",
    "model": MODEL,
    "digest": "weights-1",
    "characters": 2000,
    "temperature": 0.7,
    "top_p": 1.0,
    "tokens": 64,
}
PROBLEMS = {
    "status_500": "status_500",
    "status_429": "status_429",
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


def question(number: int) -> Request:
    return Request(
        f"d{number}", "tests/say", 1, (("system", "Say."), ("user", f"page {number}")), seed=1
    )


def body(request: Request, row: dict = ROW) -> dict:
    messages = [{"role": role, "content": content} for role, content in request.messages]
    return {"messages": messages, "model": row["model"], "temperature": row["temperature"]}


def model(
    endpoint: FakeEndpoint, answers: Path, row: dict = ROW, timeout: float = 60.0
) -> LanguageModel:
    return LanguageModel(
        row, Endpoint(endpoint.url, "canary-key", timeout=timeout, first_pause=0.01), answers
    )


def plan(fault: str, draw: random.Random) -> tuple[Plan, set[str]]:
    """Choose the prompts that meet the fault once or twice, and those that always meet it."""
    names = [digest(body(question(number))) for number in range(QUESTIONS)]
    draw.shuffle(names)
    always, sometimes = (
        set(names[:3]),
        {name: draw.randrange(1, MAX_ATTEMPTS) for name in names[3:7]},
    )

    def found(name: str, before: int) -> str | None:
        return fault if name in always or before < sometimes.get(name, 0) else None

    return found, always


@pytest.mark.cases(quick=24, full=300)
def test_each_question_ends_with_one_answer_or_a_reason(case: int, tmp_path: Path) -> None:
    fault = list(FAULTS)[case % len(FAULTS)]
    planned, always = plan(fault, random.Random(case))
    asked = [question(number) for number in range(QUESTIONS)]
    log: list[str] = []
    sink = logger.add(log.append, level="DEBUG")
    with FakeEndpoint(planned).running() as endpoint:
        engine = model(
            endpoint, tmp_path / "answers.jsonl", timeout=HANG / 2 if fault == "hang" else 60.0
        )
        # So that it has answered once, in the model's own name.
        engine.generate([question(QUESTIONS)])
        answers = engine.generate(asked)
    logger.remove(sink)
    failed = set() if fault in HARMLESS else always
    for request, answer in zip(asked, answers, strict=True):
        if digest(body(request)) in failed:
            assert (answer.problem, answer.text) == (PROBLEMS[fault], "")
        else:
            assert (answer.problem, answer.text) == (None, text_of(body(request)))
    assert max(endpoint.requests.values()) <= MAX_ATTEMPTS
    assert engine.counts["requests"] == sum(endpoint.requests.values())
    retries = sum(count for name, count in engine.counts.items() if name.startswith("retry"))
    assert (
        retries
        == sum(f"of {MAX_ATTEMPTS}" in line for line in log)
        == (0 if fault in HARMLESS else endpoint.faults[fault])
    )
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines()
    assert len(lines) == len(set(lines)) == QUESTIONS + 1 - len(failed)


@pytest.mark.cases(quick=6, full=60)
def test_a_second_run_sends_only_prompts_without_an_answer_and_another_model_all(
    case: int, tmp_path: Path
) -> None:
    draw = random.Random(case)
    planned, _ = plan("status_500", draw)
    numbers = [draw.randrange(QUESTIONS) for _ in range(20)]  # with repeats
    asked = [question(number) for number in numbers]
    with FakeEndpoint(planned).running() as endpoint:
        first = model(endpoint, tmp_path / "answers.jsonl").generate(asked)
        kept = (tmp_path / "answers.jsonl").read_bytes()
        cut = draw.randrange(len(kept))
        (tmp_path / "answers.jsonl").write_bytes(kept[:cut])  # as a kill leaves it, at any byte
        whole = kept[:cut].count(b"\n")
        endpoint.plan = lambda name, before: None
        endpoint.requests.clear()
        second = model(endpoint, tmp_path / "answers.jsonl").generate(asked)
        assert sum(endpoint.requests.values()) == len(set(numbers)) - whole
        assert [answer.text for answer in second] == [text_of(body(request)) for request in asked]
        assert all(one == two for one, two in zip(first, second, strict=True) if not one.problem)
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
    with pytest.raises(EngineError, match="gave no answer to 32 requests in a row"):
        engine = model(endpoint, tmp_path / "answers.jsonl")
        engine.generate([question(number) for number in range(60)])
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
    assert engine.counts["unanswered content_filter"] == 40


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
