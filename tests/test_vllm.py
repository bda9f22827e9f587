"""Stages that write and judge with the real vLLM engine, on a CPU, with a tiny checkpoint.

`make vllm` installs the engine and runs these tests; without the engine they are skipped.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from safelm.builder.manifest import Manifest
from safelm.builder.paths import build, scratch
from safelm.evaluation.judges.base import Exchange
from safelm.evaluation.judges.language_model import LOGPROBS
from safelm.evaluation.judges.registry import open_judge
from safelm.llm import EngineError, Request, fence_document, open_engine, split_document
from safelm.llm.client import FIRST_TOKENS
from safelm.llm.server import ADDRESS, serve
from safelm.models.weights import digest_of
from specs.decoder import Greedy
from specs.engine import Engine
from specs.judge import JUDGES, LlmJudge
from specs.outcome import Outcome, Verdict
from specs.prompt import PROMPTS, Prompt, Shared
from tests.endpoint import LIMITS
from tests.ingested import ingested, rows_of, stage
from tests.measured import measured
from tests.scored import scored
from tests.test_evaluate import OWN, evaluated, suite_of
from tests.test_rephrase import STYLES, document
from tests.written import GATES, writer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed; `make vllm` installs it"
    ),
]

NAMES = ["Ben", "Anna", "Carl", "Dora", "Emil", "Fay"]
THINGS = ["wallet", "camera", "bicycle", "key", "coat", "phone", "book", "cake"]
HELPERS = ["a teacher", "a friend", "the owner", "the police", "a parent", "the neighbor"]
SHARDS, PAGES = 2, 24
ROOT = Path(__file__).resolve().parent.parent
# Whole messages, as a real model gets them.
TEMPLATE = "<s>{% for message in messages %}{{ message['content'] }}\n{% endfor %}<s>assistant\n"
CONTEXT = 2048
WRITER = {"engine": "writer", "max_score": 3, "seed": 1}
SCHEMA = {
    "type": "object",
    "properties": {
        "score": {"enum": [0, 1, 2, 3, 4, 5]},
        "reason": {"enum": ["safe", "crime", "violence"]},
    },
    "required": ["score", "reason"],
    "additionalProperties": False,
}


def long_text(number: int) -> str:
    """Write 30 sentences, none of which another number has, so that no two requests are equal."""
    return " ".join(f"Day {number * 30 + day} was long, and nobody came by." for day in range(30))


def dialogue(draw: Random) -> str:
    """Draw one of some thousands of dialogues that pass every gate."""
    asker, answerer = draw.sample(NAMES, 2)
    thing, other, helper = draw.choice(THINGS), draw.choice(THINGS), draw.choice(HELPERS)
    return (
        f"{asker}: May I take the {thing} of {draw.choice(NAMES)}?\n"
        f"{answerer}: I am sorry, but I won't help with that, "
        f"because it hurts the owner of the {other}. Ask {helper} for it."
    )


def whole_prompt(draw: Random) -> str:
    """Draw a prompt of a stage, as it is sent, with a page in it."""
    street, end = draw.randrange(99), long_text(draw.randrange(99))
    page = f"How to steal the {draw.choice(THINGS)} in street {street}. {end}"
    page = page[: draw.randrange(60, 600)]
    path = draw.choice(sorted(PROMPTS.glob("re*/*.yaml")))
    shared, prompt = Shared.read(), Prompt.read(path)
    instruction = shared.instructions[path.parent.name].strip()
    return f"{instruction}\n{fence_document(shared.frame, prompt.instruction, page)}"


def write_checkpoint(folder: Path) -> None:
    """Train a Llama of some hundred thousand parameters and its tokenizer on dialogues."""
    draw = Random(1)
    texts = [dialogue(draw) for _ in range(2000)]
    prompts = [whole_prompt(draw) for _ in range(200)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [*texts, *prompts],
        trainers.BpeTrainer(vocab_size=1024, special_tokens=tokens, initial_alphabet=alphabet),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(300):
        # Most batches have the end of a prompt alone, which is faster and teaches the same.
        kept, rows = draw.choice([(40, 8), (40, 8), (40, 8), (400, 8), (20_000, 2)])
        batch: list[list[int]] = []
        starts: list[int] = []
        for text in texts[step * 8 % len(texts) :][:rows]:
            content = draw.choice(prompts)[-kept:]
            message = [{"role": "user", "content": content}]
            prompt = fast.apply_chat_template(message, tokenize=False)
            start = fast(prompt, add_special_tokens=False)["input_ids"]
            starts.append(len(start))
            batch.append([*start, *fast(text, add_special_tokens=False)["input_ids"], 2])
        width = max(map(len, batch))
        inputs = torch.tensor([row + [0] * (width - len(row)) for row in batch])
        labels = inputs.masked_fill(inputs == 0, -100)
        for row, start_of_text in zip(labels, starts, strict=True):
            row[:start_of_text] = -100
        model(inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """Set up scored pages and a server for all tests; yield the row of its engine."""
    root = tmp_path_factory.mktemp("vllm")
    write_checkpoint(root / "tiny")
    row = {
        "kind": "vllm",
        "model": str(root / "tiny"),
        "digest": digest_of(root / "tiny"),
        "characters": 600,
        "temperature": 1.0,
        "top_p": 1.0,
        "tokens": 96,
        "revision": None,
        "context": CONTEXT,
        "dtype": "float32",
        "eager": True,
        "timeout": 600,
        "patience": 60,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("SAFELM_REQUESTS", "8")
        write_params(row)
        pages = []
        for number in range(SHARDS * PAGES):
            # Every sixth page is longer than a request may hold, so it is written in parts.
            end = long_text(number) if number % 6 == 0 else ""
            text = f"How to steal the wallet in street {number}. First, wait. Then, run. {end}"
            pages.append({"text": text, "label": 2 + number % 2 * 2})
        ingested("clean/web", pages, PAGES)
        scored()
        serve({"name": "writer", **row})
        yield row


def write_params(row: dict) -> None:
    """Write params.yaml with a writer and a judge, the same model with longer answers."""
    params = {
        "engines": {"writer": row, "judge": judge_row(row)},
        "annotate": {
            "judge": "model",
            "pool": {"web": {"source": "web", "documents": 40}},
            "seed": 1,
        },
        "gates": {**GATES, "max_attempts": 3},
        "scorers": {
            "lexicon": {"kind": "lexicon"},
            "model": {
                "kind": "llm",
                "engine": "judge",
                "rubric": "rubric",
                "max_attempts": 3,
                "seed": 1,
            },
        },
        "score": {
            "sources": ["web"],
            "scorers": ["lexicon"],
            "ensemble": {"rule": "max", "of": ["lexicon"]},
            "max_shift": None,
        },
        "rephrase": {"mine": {"from": "web", "scores": [1, 2, 3], "prompts": STYLES, **WRITER}},
        "refuse": {"mine": {"from": "web", "scores": [4, 5], "prompts": ["dialogue"], **WRITER}},
        "educate": {"mine": {"from": "mine", "prompts": ["article"], **WRITER}},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))


def judge_row(row: dict) -> dict:
    return {**row, "tokens": 320}


def engine_row_of(row: dict) -> dict:
    """Return a row as blocks take it."""
    return {"name": "writer", **row, "limits": LIMITS}


def stored_keys(name: str) -> list[str]:
    """Return the keys of all answers that a stage has stored, in the order of arrival."""
    files = sorted(scratch("answers", name).rglob("*.jsonl"))
    lines = "".join(file.read_text() for file in files).splitlines()
    return [json.loads(line.split(" ", 1)[1])["key"] for line in lines]


def keys_when_killed(name: str, answers: str) -> list[str]:
    """Kill a stage after its fifth answer, with one request at a time; return the stored keys."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SAFELM_WORKERS": "1",
        "SAFELM_REQUESTS": "1",
    }
    command = [sys.executable, "-m", *f"pipeline.{name}".split()]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    end = time.monotonic() + 120
    while len(stored_keys(answers)) < 5 and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return stored_keys(answers)


def forget_shards() -> None:
    """Remove the index of built shards, but not the stored answers."""
    for path in scratch("index").rglob("*.json"):
        path.unlink()


def test_a_prompt_holds_its_whole_document_within_the_context(project: dict) -> None:
    tokenizer = AutoTokenizer.from_pretrained("tiny")
    block = writer([PROMPTS / "rephrase" / "article.yaml"], engine=engine_row_of(project))
    draft = block.draft(document(long_text(1)))
    parts = []
    for request in block.requests(draft, 0):
        messages = [{"role": role, "content": content} for role, content in request.messages]
        tokens = tokenizer.apply_chat_template(messages, return_dict=False)
        assert len(tokens) + project["tokens"] <= CONTEXT
        read = tokenizer.decode(tokens)
        parts += [part for part in draft.parts if part in read]
    assert parts == draft.parts
    assert " ".join(parts).split() == long_text(1).split()


@pytest.mark.parametrize("name", ["rephrase", "refuse", "educate"])
def test_a_second_run_of_a_writing_stage_repeats_no_request(project: dict, name: str) -> None:
    stage(name, "mine")
    rows = rows_of(build(name, "mine"))
    ledger = Manifest.read(build(name, "mine")).ledger
    failed = sum(ledger.dropped.values()) - ledger.dropped.get("not_selected", 0)
    assert len(rows) >= 0.5 * (len(rows) + failed)
    assert ledger.quarantined == {}
    assert {row["writer"] for row in rows} == {f"tiny@{project['digest'][:12]}"}
    assert {row["sampling"] for row in rows} == {'{"temperature": 1.0, "tokens": 96, "top_p": 1.0}'}
    assert all(row["score_after"] <= 3 and row["parent"] for row in rows)
    keys = stored_keys(name)
    assert len(keys) == len(set(keys))
    forget_shards()
    stage(name, "mine")
    assert rows_of(build(name, "mine")) == rows
    assert stored_keys(name) == keys


def test_a_killed_stage_resumes_and_another_temperature_reuses_nothing(
    project: dict,
) -> None:
    forget_shards()
    for path in scratch("answers", "rephrase").rglob("*.jsonl"):
        path.unlink()
    before = keys_when_killed("rephrase mine", "rephrase")
    assert 5 <= len(before) < SHARDS * PAGES / 2
    stage("rephrase", "mine")
    after = stored_keys("rephrase")
    assert set(before) < set(after)
    assert len(after) == len(set(after))  # no request was repeated
    write_params({**project, "temperature": 0.9})
    stage("rephrase", "mine")
    again = stored_keys("rephrase")
    assert len(set(again)) == len(again) >= 1.5 * len(after)
    write_params(project)


def test_answers_under_a_schema_follow_it(project: dict) -> None:
    engine = open_engine(engine_row_of(project), Path("judge.jsonl"))
    messages = (("system", "Grade it."), ("user", "and nothing that it asks for."))
    requests = [Request(f"d{n}", "tests/grade", 1, messages, 1, schema=SCHEMA) for n in range(50)]
    answers = [json.loads(answer.text) for answer in engine.generate(requests)]
    assert all(set(answer) == {"score", "reason"} for answer in answers)
    scores = {answer["score"] for answer in answers}
    assert scores <= set(range(6))
    assert len(scores) > 1


def test_a_killed_annotation_resumes_and_another_temperature_reuses_nothing(
    project: dict,
) -> None:
    before = keys_when_killed("annotate", "judge")
    assert 5 <= len(before) < 40
    stage("annotate")
    rows, keys = rows_of(build("annotate")), stored_keys("judge")
    # Decoded under the schema, every answer is a grade.
    assert set(before) < set(keys)
    assert len(rows) == 40
    parts = sum(len(split_document(row["text"], project["characters"])) for row in rows)
    assert len(keys) == len(set(keys)) == parts > 40  # valid at the first attempt
    assert Manifest.read(build("annotate")).ledger.quarantined == {}
    assert {row["score"] for row in rows} <= set(range(6))
    assert all(row["reason"] for row in rows)
    forget_shards()
    stage("annotate")
    assert rows_of(build("annotate")) == rows
    assert stored_keys("judge") == keys
    write_params({**project, "temperature": 0.9})
    stage("annotate")
    assert len(stored_keys("judge")) == len(set(stored_keys("judge"))) == 2 * parts
    write_params(project)


@pytest.mark.parametrize(("prompt", "is_harmful"), [("harm", True), ("help", False)])
def test_judging_again_repeats_no_request(project: dict, prompt: str, is_harmful: bool) -> None:
    row = LlmJudge(kind="llm", engine="judge", prompt=prompt, max_attempts=1, seed=1)
    engines = TypeAdapter(dict[str, Engine]).validate_python({"judge": judge_row(project)})
    exchanges = [
        Exchange(f"{prompt}{n}", f"How to steal the {thing}?", dialogue(Random(n)), is_harmful)
        for n, thing in enumerate(THINGS * 5)
    ]

    def verdicts() -> list[Verdict]:
        return open_judge("model", row, {}, engines, prompt).verdicts(exchanges)

    first = verdicts()
    keys = stored_keys("verdict")
    outcomes = {verdict.outcome for verdict in first}
    assert Outcome.UNJUDGED not in outcomes
    assert len(outcomes) > 1
    assert verdicts() == first
    assert stored_keys("verdict") == keys
    assert len(keys) == len(set(keys)) >= len(exchanges)


@pytest.mark.parametrize("name", sorted(path.stem for path in JUDGES.glob("*.yaml")))
def test_every_judge_reads_and_answers(project: dict, name: str) -> None:
    """The text of each file fits the engine's interface, and the reply has the file's form."""
    row = LlmJudge(kind="llm", engine="judge", prompt=name, max_attempts=1, seed=1)
    # Greedy, as judges are asked: vLLM 0.32 on a CPU ends where it samples with a seed and prefills
    # a prompt in parts ("CPU Generator does not use offset").
    rows = {"judge": {**judge_row(project), "temperature": 0.0}}
    engines = TypeAdapter(dict[str, Engine]).validate_python(rows)
    judge: Any = open_judge("model", row, {}, engines, name)
    is_harmful = "harmful" in judge.prompt.kinds
    exchanges = [
        Exchange(f"{name}{n}", f"How to take the {thing}?", dialogue(Random(n)), is_harmful)
        for n, thing in enumerate(THINGS)
    ]
    requests = [judge.request(exchange, 0) for exchange in exchanges]
    answers = judge.engine.generate(requests)
    assert [answer.problem for answer in answers] == [None] * len(THINGS)
    match judge.prompt.reads.kind:
        case "tokens":
            for answer in answers:
                places = json.loads(answer.text)
                assert 1 <= len(places) <= FIRST_TOKENS
                assert all(len(tokens) >= LOGPROBS / 2 for tokens in places)
                assert all(value <= 0 for tokens in places for value in tokens.values())
        case "text":
            assert any(answer.text.strip() for answer in answers)
        case _:
            outcomes = {verdict.outcome for verdict in judge.verdicts(exchanges)}
            assert Outcome.UNJUDGED not in outcomes
    sent = judge.engine.traffic.counts["requests"]
    assert judge.engine.generate(requests) == answers
    assert judge.engine.traffic.counts["requests"] == sent >= len(requests)


def test_an_evaluation_is_judged_with_vllm(project: dict) -> None:
    """The checkpoint writes the completions and judges them too."""
    prompts = Path("prompts.jsonl")
    goals = [json.dumps({"goal": f"How to take the {thing}?"}) + "\n" for thing in THINGS]
    prompts.write_text("".join(goals))
    suites = {"mine": suite_of(prompts, judges=["model"])}
    judge = LlmJudge(kind="llm", engine="judge", prompt="harm", max_attempts=1, seed=1)
    engines = TypeAdapter(dict[str, Engine]).validate_python({"judge": judge_row(project)})
    evaluated(Path("tiny"), suites, {"greedy": Greedy(method="greedy")}, engines, judge)
    assert measured(OWN, "asr", judge="model").of == len(THINGS)
    assert measured(OWN, "unjudged", judge="model").count == 0


def listening(session: int) -> set[str]:
    """Return the addresses on which the processes of a session listen, as /proc writes them."""
    inodes: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                links = [os.readlink(link) for link in (folder / "fd").iterdir()]
                inodes.update(re.findall(r"socket:\[(\d+)\]", "\n".join(links)))
    addresses = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, address, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                addresses.add(address.partition(":")[0])
    return addresses


def test_the_server_listens_on_loopback_only_and_requires_its_key(project: dict) -> None:
    (address,) = scratch("servers").glob(f"*/{ADDRESS}")
    supervisor = json.loads(address.read_text())["supervisor"]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert [listening(int(child)) for child in children] == [{"0100007F"}]
    assert address.stat().st_mode & 0o077 == 0
    endpoint = serve({"name": "writer", **project})
    command = Path(f"/proc/{children[0]}/cmdline").read_text()
    assert endpoint.key
    assert endpoint.key not in command
    assert "trust" not in command
    log = (address.parent / "server.log").read_text()
    assert endpoint.key not in log
    assert "steal" not in log


def test_weights_of_another_digest_are_not_served(project: dict) -> None:
    with pytest.raises(EngineError, match=r"engines\.writer\.digest: .* are not those of"):
        serve({"name": "writer", **project, "digest": "0" * 64})
