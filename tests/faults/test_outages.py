"""Outages are not data: a server fails for a while, in eight ways, and then recovers."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from random import Random
from typing import Any

import pytest

from safelm.builder.locks import StageError
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.llm.client import Endpoint
from tests.endpoint import MODEL, Body, FakeEndpoint, digest
from tests.ingested import ingested, rows_of, stage
from tests.scored import scored
from tests.test_rubric import valid_answer
from tests.written import BLOCKS

WAYS = (
    "status_500",
    "status_503",
    "odd_pause",
    "reset",
    "hang",
    "cut",
    "half_json",
    "trickle",
)
SHARES = (1.0, 0.75, 0.25, 0.0)
SLOW = ("hang", "trickle")
# A page that no provider writes about, and how each of them says so.
FORBIDDEN = ("filtered", "filtered_200", "filtered_400", "filtered_403")
PAGES = 24
ENGINE = f"""\
engines:
  remote: {{kind: endpoint, model: {MODEL}, digest: abcdef, characters: 900, temperature: 0.0,
           top_p: 1.0, tokens: 64, timeout: TIMEOUT, patience: 1.5}}
"""
PARAMS = (
    ENGINE
    + BLOCKS.replace("engines: {template: {kind: template}}\n", "").replace(
        "scorers: {lexicon: {kind: lexicon}}",
        "scorers:\n  lexicon: {kind: lexicon}\n"
        "  judge: {kind: llm, engine: remote, rubric: rubric, max_attempts: 2, seed: 1}",
    )
    + """\
annotate: {judge: judge, pool: {web: {source: web, documents: 1000}}, seed: 1}
rephrase:
  safe_web:
    {from: web, scores: [1, 2, 3], engine: remote, prompts: [article], max_score: 3, seed: 1}
"""
)
Outage = Callable[[str, int], str | None]


def pages() -> list[dict[str, Any]]:
    """Return pages of which every sixth is forbidden, and one gets no text that is long enough."""
    texts = [f"How to steal the wallet in street {number}." for number in range(PAGES)]
    texts = [text + " Forbidden." * (number % 6 == 5) for number, text in enumerate(texts)]
    return [{"text": text, "label": 3} for text in [f"Brief. {texts[0]}", *texts[1:]]]


def text_of(body: Body) -> str:
    """Return a text that passes every gate, another for each page."""
    return (
        f"In the street of {digest(body)} it is good to be kind to all of them, "
        "and to give back what is not your own."
    )


def answer(stage: str) -> Callable[[Body], str]:
    """Return what the server answers in a stage: a text or a verdict, or something unusable."""
    known = text_of if stage != "annotate" else valid_answer
    return lambda body: "Too short." if "Brief." in str(body["messages"]) else known(body)


def outage(way: str, share: float, seed: int) -> Outage:
    """Draw the requests that fail: a share of them, those repeated too."""

    def drawn(name: str, before: int) -> str | None:
        return way if Random(f"{seed} {name} {before}").random() < share else None

    return drawn


class Server:
    """An endpoint with an outage, which is over once `recover` is called."""

    def __init__(self, stage: str, outage: Outage) -> None:
        self.outage: Outage = outage
        self.endpoint = FakeEndpoint(self.plan, answer(stage))
        self.accepted: Counter[tuple[str, int]] = Counter()

    def plan(self, name: str, before: int) -> str | None:
        body = self.endpoint.bodies[-1]
        if fault := self.outage(name, before):
            return fault
        if "Forbidden." in str(body["messages"]):
            return FORBIDDEN[int(name, 16) % len(FORBIDDEN)]
        self.accepted[name, body["seed"]] += 1
        return None

    def recover(self) -> None:
        self.outage = lambda name, before: None


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Endpoint, "__init__", partialmethod(Endpoint.__init__, first_pause=0.01))
    monkeypatch.chdir(tmp_path)


def run_through(name: str, server: Server, folder: Path, timeout: float) -> list[dict[str, Any]]:
    """Run a stage under the outage and after it in a new project; return its rows."""
    with pytest.MonkeyPatch.context() as patch, server.endpoint.running() as endpoint:
        folder.mkdir()
        patch.chdir(folder)
        patch.setenv("SAFELM_REMOTE_URL", endpoint.url)
        Path("params.yaml").write_text(PARAMS.replace("TIMEOUT", str(timeout)))
        ingested("clean/web", pages(), 8)
        scored()
        with suppress(StageError):
            stage(*name.split("/"))
        server.recover()
        stage(*name.split("/"))
        ledger = Manifest.read(build(name)).ledger
        unusable = {"too_short": 1} if name != "annotate" else {}
        invalid = {"ungraded": 1} if name == "annotate" else {}
        assert ledger.dropped == unusable
        assert ledger.quarantined == {"content_filter": PAGES // 6, **invalid}
        return rows_of(build(name))


@pytest.mark.cases(quick=8, full=64)
def test_no_document_is_lost_to_an_outage_and_no_answer_is_paid_twice(
    case: int, tmp_path: Path
) -> None:
    way, share = WAYS[case % 8], SHARES[(case + case // 8) % 4]
    name = ("rephrase/safe_web", "annotate")[case // 4 % 2]
    timeout = 1.0 if way in SLOW else 60.0
    calm = Server(name, lambda name, before: None)
    failing = Server(name, outage(way, share, case))
    rows = run_through(name, calm, tmp_path / "calm", 60.0)
    assert run_through(name, failing, tmp_path / "failing", timeout) == rows
    assert len(rows) == PAGES - PAGES // 6 - 1
    # The answers of both are the same, each received once; every other request failed or was
    # refused for its content.
    assert failing.accepted == calm.accepted
    assert set(failing.accepted.values()) == {1}
    faults = failing.endpoint.faults
    refused = sum(faults[kind] for kind in FORBIDDEN)
    assert sum(faults.values()) == len(calm.accepted) + faults[way] + refused
    assert (faults[way] > 0) == (share > 0)
