"""Stand-ins for all that a setup needs, at the paths and in the layout that the setup names.

Pages are those of the made-up world, models are tiny and random, and one fake server judges and
writes for every engine.
"""

import csv
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from safelm.demo import documents
from safelm.models.weights import digest_of
from specs import SPECS
from specs.suite import FileSuite, Suite
from tests.conftest import Project
from tests.encoder import write_encoder
from tests.endpoint import Body, FakeEndpoint, digest
from tests.test_dialogue import ULTRACHAT, WILDGUARD
from tests.test_embedding import BRIEF
from tests.test_start import write_weights

PAGES = 360
# Page and label of the made-up world.
WORLD = {row["text"]: row["label"] for row in islice(documents(SPECS / "demo/web.yaml"), PAGES)}
# Columns beside the text, as FineWeb and the released data sets have them.
FINEWEB = {"dump": "CC-MAIN-2024-10", "url": "https://example.org/1", "token_count": 9}
RELEASED = pa.struct([("url", pa.string()), ("dump", pa.string())])
SUMS = [
    {"question": f"What is {n} + 3?", "answer": f"{n} + 3 = <<{n}+3={n + 3}>>{n + 3}\n#### {n + 3}"}
    for n in range(40)
]
KEPT = ("characters", "temperature", "top_p", "tokens", "timeout")


def write_data(root: Path) -> None:
    """Write every source of the setups that ship, as small Parquet files."""
    pages = [{"text": text, "id": str(n), **FINEWEB} for n, text in enumerate(WORLD)]
    _table(root / "fineweb/sample/10BT/000_00000.parquet", pages)
    _table(root / "smollm-corpus/fineweb-edu-dedup/train-0.parquet", pages)
    prose = [{"text": f"A lesson on the number {n}. It is {n} more than 0."} for n in range(150)]
    for path in ("finemath/finemath-4plus/train-00000-of-00064", "finemath/finemath-3plus/train-0"):
        _table(root / f"{path}.parquet", prose)
    for path in ("cosmopedia/cosmopedia-v2/train-0", "stackoverflow/0"):
        rows = [{"text": f"{row['text']} This is of {path}."} for row in prose]
        _table(root / f"{path}.parquet", rows)
    code = [{"content": f"def add_{n}(value):\n    return value + {n}\n"} for n in range(150)]
    _table(root / "starcoderdata/python/train-0.parquet", code)
    for name, rows in (("fineweb", pages[:60]), ("4chan", pages[60:70])):
        _table(root / f"safety_data/{name}.parquet", rows)
    for name, rows in (("toxigen", pages[70:80]), ("jigsaw", pages[80:90])):
        _table(root / f"safety_data/{name}.parquet", rows)
    _table(root / "chat/data/train_sft-00000-of-00003.parquet", ULTRACHAT)
    _table(root / "chat/train/wildguard_train.parquet", WILDGUARD)
    _table(root / "gsm8k/main/train-00000-of-00001.parquet", SUMS)
    released: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, (text, label) in enumerate(WORLD.items()):
        row = {"id": str(number), "text": text, "metadata": {"url": "https://example.org/1"}}
        released[f"fineweb_annotated/score_{label}"].append(row)
        for kind in ("safeweb/score_{}_rephrased", "refuseweb/score_{}_refusal") if label else ():
            released[kind.format(label)].append({**row, "text": f"In {kind[:9]}: {text}"})
        if label > 3:
            article = {**row, "text": f"A lesson: {text}"}
            released[f"moral_education/score_{label}_morals"].append(article)
    schema = pa.schema({"id": pa.string(), "text": pa.string(), "metadata": RELEASED})
    for folder, rows in released.items():
        _table(root / folder / "part-0.parquet", rows, schema)


def _table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def write_models(root: Path, setup: dict[str, Any]) -> None:
    """Write tiny models: weights with a tokenizer, and an encoder."""
    folder = write_weights(root / setup["tokenizer"]["path"])
    chat = (SPECS / "prompts/chat.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(chat, encoding="utf-8")
    for row in setup["scorers"].values():
        if row["kind"] == "encoder":
            write_encoder(root / row["model"], list(WORLD))
    (root / "specs/recipes/brief.yaml").write_text(BRIEF, encoding="utf-8")


def write_suites(project: Project, names: Iterable[str]) -> list[str]:
    """Write a file for each suite that has one, pin it, and return the names of these suites."""
    kept = []
    for name in names:
        suite = Suite.read(name)
        if isinstance(suite, FileSuite):
            path = project.root / suite.path
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = [*suite.text[:1], *suite.form[:1]]
            kinds = ["contrast_a", "figurative"]
            rows = [
                dict(zip(columns, (f"{name} {n}?", kinds[n % 2]), strict=False)) for n in range(12)
            ]
            if path.suffix == ".json":
                path.write_text(json.dumps(rows), encoding="utf-8")
            else:
                with path.open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows(rows)
            kept.append(name)
    for name in kept:
        suite = Suite.read(name)
        pin = hashlib.sha256((project.root / suite.path).read_bytes()).hexdigest()
        project.edit(f"specs/suites/{name}.yaml", ("sha256: null", f"sha256: {pin}"))
    return kept


def shrink(setup: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return a setup with small numbers, and tiny models for its engines and shapes."""
    engines = {}
    for name, row in setup["engines"].items():
        kept = {key: row[key] for key in KEPT}
        engines[name] = {"kind": "endpoint", "model": f"tests/{name}", "digest": "stand-in", **kept}
        engines[name]["patience"] = 20
    setup["engines"] = engines
    for row in setup["scorers"].values():
        # Random weights need other rates than those of the setup.
        row |= {"sequence_length": 24, "recipe": "brief"} if row["kind"] == "encoder" else {}
    for row in setup["budgets"].values():
        row |= {"tokens": 24000, "sequence_length": 64, "batch_size": 16}
    for row in setup["models"].values():
        if "start" in row:
            row["start"]["digest"] = digest_of(root / row["start"]["model"])
        else:
            row["shape"] = "nano"
    for row in [*setup["instruct"].values(), *setup["finetune"].values()]:
        row |= {"examples": 32, "epochs": 1, "batch_size": 8, "sequence_length": 128}
    for row in setup["annotate"]["pool"].values():
        row["documents"] = min(row["documents"], 240)
    for row in setup["corpora"].values():
        row["epochs"] = 1000.0
    setup["tokenizer"]["vocab_size"] = 400
    setup["mix"]["held_out_rows"] = 1
    setup["audit"]["documents_per_score"] = 5
    setup["evaluate"] |= {"max_prompts": 4, "max_new_tokens": 8, "batch_size": 8}
    return setup


def answer(body: Body) -> str:
    """Return what an engine says: a score or a verdict of the form it is asked for, or a text."""
    asked = body.get("prompt") or json.dumps([turn["content"] for turn in body["messages"]])
    page = digest(body)
    if body.get("logprobs"):
        return json.dumps([{"yes": -2.0, "no": -0.2}])
    if "response_format" in body:
        fields = body["response_format"]["json_schema"]["schema"]["properties"]
        if "verdict" in fields:
            return json.dumps({"verdict": fields["verdict"]["enum"][0]})
        found = [label for text, label in WORLD.items() if json.dumps(text[:80])[1:-1] in asked]
        score = max(found, default=0)
        return json.dumps({"score": score, "hazard": "none", "reason": "as the world says"})
    if "Safety: Safe" in asked:
        return "Safety: Safe\nCategories: None\nRefusal: No"
    if "dialogue of two people" in asked:
        return (
            f"User: Can you tell me how to do what is on page {page}, as fast as you can, please?\n"
            "Assistant: I hear that this matters to you, but I can't help with that, because it "
            "hurts other people. What I can do is help you to find a better way."
        )
    return (
        f"This is what a teacher has to say of page {page}. It is good to be kind to all people, "
        "and to ask for help when a thing is hard to bear. Nobody has to be alone with a worry, "
        "and every one of us can learn to do better."
    )


def build_setup(project: Project, name: str) -> dict[str, Any]:
    """Build a setup of the project in small, and return its params."""
    safelm = (sys.executable, "-m", "pipeline")
    project.run(*safelm, "use", name, "--force")
    path = project.root / "params.yaml"
    setup = yaml.safe_load(path.read_text(encoding="utf-8"))
    write_data(project.root / "data")
    write_models(project.root, setup)
    small = shrink(setup, project.root)
    small["evaluate"]["suites"] = write_suites(project, small["evaluate"]["suites"])
    path.write_text(yaml.safe_dump(small, sort_keys=False, width=98), encoding="utf-8")
    with FakeEndpoint(lambda *_: None, answer).running() as server:
        addresses = {f"SAFELM_{name.upper()}_URL": server.url for name in small["engines"]}
        project.run(*safelm, "check", **addresses)
        project.run(*safelm, "build", **addresses)
    return small
