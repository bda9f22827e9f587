"""retry: rows without a usable answer are asked again, and nothing else is."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from safelm.builder.locks import StageError
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.llm import Answer
from safelm.llm.answers import AnswerStore
from safelm.maintenance.retry import retry
from tests.conftest import ROOT
from tests.endpoint import Body, FakeEndpoint
from tests.faults.test_outages import PARAMS, pages, text_of
from tests.ingested import ingested, rows_of, stage
from tests.scored import scored
from tests.test_rubric import valid_answer
from tests.tiny import write_model, write_tokenizer

DVC_YAML = f"""\
stages:
  annotate:
    cmd: {sys.executable} -m pipeline.annotate
    deps: [build/clean/web]
    outs: [build/annotate]
  rephrase:
    cmd: {sys.executable} -m pipeline.rephrase safe_web
    deps: [build/clean/web, build/score/web]
    outs: [build/rephrase/safe_web]
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """Start an endpoint and set up a DVC project whose engine it is."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    Path("params.yaml").write_text(PARAMS.replace("TIMEOUT", "60.0"))
    Path("dvc.yaml").write_text(DVC_YAML)
    ingested("clean/web", pages(), 8)
    scored()
    with FakeEndpoint(lambda name, before: None).running() as endpoint:
        monkeypatch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        yield endpoint


def build_stage(name: str) -> None:
    with Repo() as repo:
        repo.reproduce(name, single_item=True)


def is_street(body: Body, number: int) -> bool:
    return f"street {number}." in str(body["messages"])


def test_a_refused_page_is_written_when_the_provider_accepts_it(server: FakeEndpoint) -> None:
    server.text = text_of

    def refuses(name: str, before: int) -> str | None:
        return "filtered" if is_street(server.bodies[-1], 3) else None

    server.plan = refuses
    build_stage("rephrase")
    assert Manifest.read(build("rephrase", "safe_web")).ledger.quarantined == {"content_filter": 1}
    assert retry("rephrase") == "rephrase: rows without a usable answer: 1 before, 1 now"
    server.plan = lambda name, before: None
    server.requests.clear()
    assert retry("rephrase") == "rephrase: rows without a usable answer: 1 before, 0 now"
    assert server.requests.total() == 1
    assert len(rows_of(build("rephrase", "safe_web"))) == len(pages())
    with Repo() as repo:
        assert repo.status("rephrase") == {}


def test_a_verdict_that_was_invalid_is_asked_for_again(server: FakeEndpoint) -> None:
    server.text = lambda body: "Hm." if is_street(body, 3) else valid_answer(body)
    build_stage("annotate")
    assert Manifest.read(build("annotate")).ledger.quarantined == {"ungraded": 1}
    server.text = valid_answer
    server.requests.clear()
    assert retry("annotate") == "annotate: rows without a usable answer: 1 before, 0 now"
    assert server.requests.total() == 1
    assert "nothing to ask again" in retry("annotate")


EVALUATION = """\
from pathlib import Path
from specs.decoder import Greedy
from specs.engine import EndpointEngine
from specs.judge import LlmJudge
from tests.test_evaluate import evaluated, suite_of

row = {"kind": "endpoint", "model": "tests/writer", "digest": "abcdef", "characters": 900,
       "tokens": 9, "temperature": 0.0, "top_p": 1.0, "timeout": 60.0, "patience": 1.5}
suites = {"mine": suite_of(Path("prompts.jsonl"), judges=["harm", "model"])}
engines = {"remote": EndpointEngine.model_validate(row)}
judge = LlmJudge(kind="llm", engine="remote", prompt="harm", max_attempts=2, seed=1)
evaluated(Path("tiny"), suites, {"greedy": Greedy()}, engines, judge)
"""


def test_a_verdict_of_an_evaluation_is_asked_for_again(
    server: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write_model(Path("tiny"), write_tokenizer(Path("tokenizer")))
    rows = [json.dumps({"goal": f"How to do {number}?"}) for number in range(3)]
    Path("prompts.jsonl").write_text("\n".join(rows))
    Path("evaluation.py").write_text(EVALUATION)
    Path("dvc.yaml").write_text(
        f"stages: {{evaluate: {{foreach: [mine], do: {{cmd: {sys.executable} evaluation.py, "
        "deps: [prompts.jsonl], outs: [build/evaluate/mine]}}}"
    )

    def answer(body: Body) -> str:
        return "Hm." if "do 1?" in str(body["messages"]) else '{"verdict": "no"}'

    server.text = answer
    build_stage("evaluate@mine")
    server.text = lambda body: '{"verdict": "no"}'
    server.requests.clear()
    told = "evaluate@mine: rows without a usable answer: 1 before, 0 now"
    assert retry("evaluate@mine") == told
    assert server.requests.total() == 1


def test_a_stage_that_asks_nobody_is_named(server: FakeEndpoint) -> None:
    server.text = valid_answer
    build_stage("annotate")
    with pytest.raises(StageError, match=r"writer: is no stage of dvc\.lock; it has annotate"):
        retry("writer")


@pytest.mark.parametrize("name", ["annotate", "rephrase/safe_web"])
@pytest.mark.parametrize("bad", ["nonsense", "filtered"])
def test_a_stage_that_got_nothing_usable_is_asked_again(
    server: FakeEndpoint, name: str, bad: str
) -> None:
    """Neither the empty shards nor the answers that made them empty outlive the cause."""
    server.plan = lambda name, before: bad if bad == "filtered" else None
    server.text = lambda body: "Hm."
    with pytest.raises(StageError, match="produced no output from 24 rows"):
        stage(*name.split("/"))
    server.plan = lambda name, before: None
    server.text = valid_answer if name == "annotate" else text_of
    server.requests.clear()
    stage(*name.split("/"))
    assert len(rows_of(build(name))) == len(pages())
    assert set(server.requests.values()) == {1}


def test_a_rejected_answer_is_given_out_until_it_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerStore(path) as store:
        for key in ("good", "bad"):
            store.put(key, Answer(key))
        store.reject(["bad", "unknown"])
        store.reject(["bad"])
    assert Counter(b"rejected" in line for line in path.read_bytes().splitlines())[True] == 1
    with AnswerStore(path) as store:
        assert store.get("bad") == Answer("bad")
        assert store.forget_rejected() == 1
    with AnswerStore(path) as store:
        assert (store.get("good"), store.get("bad")) == (Answer("good"), None)
        store.put("bad", Answer("better"))
        store.reject(["good"])
    with AnswerStore(path) as store:
        assert store.get("bad") == Answer("better")


def test_answers_that_were_all_rejected_are_not_given_out(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with AnswerStore(path) as store:
        store.put("bad", Answer("bad"))
        store.reject(["bad"])
    with AnswerStore(path) as store:
        assert store.get("bad") is None
