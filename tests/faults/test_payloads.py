"""Code in imported files never runs, in formats that run it elsewhere."""

import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safelm.builder.manifest import Manifest
from safelm.builder.shards import Shard
from safelm.corpora.report_card import read_queries
from safelm.corpora.tokenization import adopt_tokenizer
from safelm.ingestion.child_safety import WordLists
from safelm.models.chat import load
from safelm.scoring.encoder_model import load_encoder
from specs.validation import problems
from tests.reading import read
from tests.tiny import write_tokenizer

CANARY = "canary"
HAZARDS = Path("specs/hazards.yaml").absolute()


class Run:
    """An object whose pickle runs a command when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return subprocess.call, (["touch", CANARY],)


PICKLE = pickle.dumps(Run())
TAG = f"!!python/object/apply:os.system ['touch {CANARY}']"
MODULE = f"import pathlib\npathlib.Path({CANARY!r}).touch()\n"


def archive() -> bytes:
    """Write a PyTorch checkpoint: a zip file with a pickle in it."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("archive/data.pkl", PICKLE)
        file.writestr("archive/version", "3\n")
    return data.getvalue()


def objects() -> bytes:
    """Write an array of objects in numpy's format."""
    data = BytesIO()
    np.save(data, np.array([Run()], dtype=object), allow_pickle=True)
    return data.getvalue()


def source(kind: str, name: str, data: bytes) -> Callable[[], object]:
    """Read a file as a source."""

    def reads() -> object:
        Path(name).write_bytes(data)
        return read(kind, Path(name))

    return reads


def extension() -> object:
    """Write a table whose schema names a type that Arrow once unpickled."""
    field = pa.field(
        "text",
        pa.string(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": PICKLE,
        },
    )
    schema = pa.schema([field], metadata={"pandas": PICKLE, "code": PICKLE})
    pq.write_table(pa.table([pa.array(["a"])], schema=schema), "a.parquet")
    return (
        read("parquet", Path("a.parquet"))[0][0].text == "a"
        or Shard(Path("a.parquet"), 1, "").table()
    )


def data_set(**files: str | bytes) -> Callable[[], object]:
    """Read a folder of the Hugging Face kind, with code beside its data."""

    def reads() -> object:
        Path("rows").mkdir()
        for name, content in files.items():
            path = Path("rows", name.replace("__", "."))
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        spec = {"dataset": "./rows", "name": None, "split": "train", "revision": None}
        Path("set.yaml").write_text(json.dumps(spec))
        return read("huggingface", Path("set.yaml"))

    return reads


def spec(text: str) -> Callable[[], object]:
    """Check a params.yaml with these words in it."""

    def checks() -> object:
        Path("params.yaml").write_text(text)
        return problems(Path("params.yaml"))

    return checks


def named(name: str, text: str | bytes, use: Callable[[Path], object]) -> Callable[[], object]:
    """Use a file of this content."""

    def uses() -> object:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return use(Path(name))

    return uses


def model(
    use: Callable[[Path], object], config: dict[str, Any], **files: str | bytes
) -> Callable[[], object]:
    """Load a model's folder, with code in it."""

    def loads() -> object:
        folder = Path("model")
        write_tokenizer(folder)
        (folder / "config.json").write_text(json.dumps(config))
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        return use(folder)

    return loads


def tokens(folder: Path) -> object:
    return adopt_tokenizer(folder, 1 << 20)


def hub(path: Path) -> object:
    return read("huggingface", path)


def encoder(folder: Path) -> object:
    return load_encoder(folder, None, 16)


LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 300,
}
AUTO = {
    "AutoConfig": "code.Config",
    "AutoModelForCausalLM": "code.Model",
    "AutoModelForSequenceClassification": "code.Model",
}
OTHER = {"model_type": "other", "auto_map": AUTO}
TOKENIZER = json.dumps(
    {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["code.Mine", None]}}
)
WORLD = f"world: {TAG}\nhazards: a\n"

PAYLOADS: dict[str, Callable[[], object]] = {
    "a pickle as JSON lines": source("jsonl", "a.jsonl", PICKLE),
    "a pickle as a table": source("parquet", "a.parquet", PICKLE),
    "a pickle as WARC": source("warc", "a.warc", PICKLE),
    "a pickle as HTML": source("html", "a.html", PICKLE),
    "a pickle in a text": source(
        "jsonl", "a.jsonl", json.dumps({"text": PICKLE.decode("latin-1")}).encode()
    ),
    "a checkpoint as JSON lines": source("jsonl", "a.pt", archive()),
    "objects of numpy as JSON lines": source("jsonl", "a.npy", objects()),
    "a type of Arrow's": extension,
    "a tag in a text": source(
        "jsonl", "a.jsonl", json.dumps({"text": TAG, "metadata": {"py/reduce": TAG}}).encode()
    ),
    "a script in a page": source(
        "html", "a.html", b"<?php system('touch canary'); ?><script>x</script><p>a"
    ),
    "an entity in a page": source(
        "html", "a.html", b'<!DOCTYPE a [<!ENTITY b SYSTEM "expect://touch canary">]><p>&b;'
    ),
    "a script beside a data set": data_set(rows__py=MODULE, train__jsonl='{"text": "a"}\n'),
    "a script as a data set": data_set(rows__py=MODULE),
    "a pickle as a data set": data_set(train__pkl=PICKLE),
    "a tag in a data set's card": data_set(
        README__md=f"---\nconfigs: {TAG}\n---\n", train__jsonl='{"text": "a"}\n'
    ),
    "a tag in the file that names a data set": named("set.yaml", f"dataset: {TAG}\n", hub),
    "a tag in params.yaml": spec(f"sources: {TAG}\n"),
    "a new object in params.yaml": spec(
        "sources: !!python/object/new:os.system ['touch canary']\n"
    ),
    "a name in params.yaml": spec("sources: !!python/name:os.system\n"),
    "a module in params.yaml": spec("sources: !!python/module:antigravity\n"),
    "a tag in the embedded world": named("web.yaml", WORLD, lambda path: read("demo", path)),
    "a tag in hazards": named("hazards.yaml", TAG, lambda path: read_queries(path, HAZARDS)),
    "a pickle as hazards": named("hazards.json", PICKLE, lambda path: read_queries(path, HAZARDS)),
    "an object in hazards": named(
        "a.json", '{"py/object": "os.system"}', lambda path: read_queries(path, HAZARDS)
    ),
    "a tag in the guard": named("guard.yaml", TAG, WordLists.read),
    "a pickle as a manifest": named(
        "manifest.json", PICKLE, lambda path: Manifest.parse(path.read_bytes())
    ),
    "a pickle as a tokenizer": named(
        "tokenizer.json", PICKLE, lambda path: adopt_tokenizer(path.parent, 1 << 20)
    ),
    "code beside a tokenizer": model(
        tokens, LLAMA, tokenizer_config__json=TOKENIZER, code__py=MODULE
    ),
    "code that a model names": model(load, OTHER, code__py=MODULE),
    "code that a tokenizer names": model(
        load, LLAMA, tokenizer_config__json=TOKENIZER, code__py=MODULE
    ),
    "a pickle as weights": model(load, LLAMA, pytorch_model__bin=PICKLE),
    "a checkpoint as weights": model(load, LLAMA, pytorch_model__bin=archive()),
    "a pickle that is called safetensors": model(load, LLAMA, model__safetensors=PICKLE),
    "code that an encoder names": model(encoder, OTHER, code__py=MODULE),
    "a checkpoint as an encoder's weights": model(encoder, LLAMA, pytorch_model__bin=archive()),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_code_in_what_is_imported_never_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    try:
        PAYLOADS[name]()
    except Exception as error:  # how it is refused is another matter
        assert CANARY not in str(type(error))
    assert CANARY not in os.listdir()


def test_the_payloads_run_where_they_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLE)
    assert CANARY in os.listdir()
    Path(CANARY).unlink()
    exec(MODULE)
    assert CANARY in os.listdir()
