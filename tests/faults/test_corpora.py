"""Malformed corpora lose no good document, and every other row has a reason."""

import json
import re
from collections import Counter
from itertools import chain, product
from pathlib import Path

import pytest

from safelm.builder.run import run
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.base import ReadSource
from safelm.ingestion.duplicates import DropDuplicates
from safelm.ingestion.errors import SourceError
from safelm.ingestion.ingest import READERS
from tests.faults import corpora
from tests.faults.corpora import Corpus
from tests.ingested import rows_of
from tests.reading import VALUES, read, read_bytes, reasons

KINDS = {"jsonl": corpora.LINES | corpora.FILES, "parquet": corpora.PARQUET, "wet": corpora.RECORDS}
TABLE = list(chain.from_iterable(product([kind], rows) for kind, rows in KINDS.items()))


def accounted(reader: ReadSource, size: int) -> bool:
    """Return whether every quarantined row has a place and a reason."""
    return all(
        re.fullmatch(r"[0-9a-f]{64}", row["sha256"])
        and row["file"]
        and re.fullmatch(r"[a-z0-9_]+", row["reason"])
        and 0 <= row["offset"] <= max(size * 200, 1 << 20)
        and row["bytes"] >= 0
        for row in reader.quarantined
    )


@pytest.mark.parametrize("kind, name", TABLE, ids=lambda word: word)
def test_a_malformed_corpus_loses_no_good_document(tmp_path: Path, kind: str, name: str) -> None:
    corpus: Corpus = KINDS[kind][name]
    (tmp_path / corpus.name).write_bytes(corpus.data)
    documents, reader = read(kind, tmp_path / corpus.name)
    assert [document.text for document in documents] == corpus.texts
    assert reasons(reader) == corpus.went
    assert reader.rows_in == len(corpus.texts) + sum(corpus.went.values())
    assert accounted(reader, len(corpus.data))


@pytest.mark.parametrize("name", corpora.REFUSED)
def test_a_table_without_texts_is_refused_by_name(tmp_path: Path, name: str) -> None:
    data, words = corpora.REFUSED[name]
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(SourceError, match=words):
        read("parquet", tmp_path / "a.parquet")


def test_a_malformed_page_costs_itself_alone(tmp_path: Path) -> None:
    for number, (data, _, _) in enumerate(corpora.PAGES.values()):
        (tmp_path / f"{number:02d}.html").write_bytes(data)
    documents, reader = read("html", tmp_path)
    quarantined = {int(row["file"][:2]): row["reason"] for row in reader.quarantined}
    refused = {
        number: reason for number, (_, _, reason) in enumerate(corpora.PAGES.values()) if reason
    }
    assert quarantined == {
        number: reason for number, reason in refused.items() if reason != "no_main_text"
    }
    assert reader.dropped == {"no_main_text": list(refused.values()).count("no_main_text")}
    words = [word for _, word, _ in corpora.PAGES.values() if word]
    assert [word in document.text for word, document in zip(words, documents, strict=True)] == [
        True
    ] * len(words)
    assert reader.rows_in == len(corpora.PAGES) and accounted(reader, 0)


def test_no_malformed_file_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    every = list(KINDS["jsonl"].values())[::3]
    Path("files").mkdir()
    for number, corpus in enumerate(every):
        Path("files", f"{number:03d}-{corpus.name}").write_bytes(corpus.data)
    read = READERS["jsonl"](path=Path("files"), **VALUES)
    ledger = run("ingest/web", [read, DropDuplicates(), WriteDocuments()]).ledger
    went = sum((Counter(corpus.went) for corpus in every), Counter[str]())
    assert ledger.rows_in == sum(len(corpus.texts) for corpus in every) + went.total()
    assert went == Counter(
        {name: count for name, count in ledger.dropped.items() if name != "duplicate"}
    ) + Counter(ledger.quarantined)
    texts = set(chain.from_iterable(corpus.texts for corpus in every))
    assert {row["text"] for row in rows_of(Path("build/ingest/web"))} == texts


SAID = {"role": "user", "content": "What is a rose?"}, {"role": "assistant", "content": "A flower."}


MESSAGES = [
    7,
    1.5,
    True,
    "text",
    {},
    {"role": "user"},
    [],
    [7],
    [[]],
    ["a", "b"],
    [{}],
    [SAID[0]],
    [SAID[1]],
    SAID[::-1],
    [{**SAID[0], "content": None}, SAID[1]],
    [SAID[0], {**SAID[1], "content": ["A flower."]}],
    [{"content": "a"}] * 2,
]


@pytest.mark.parametrize("messages", MESSAGES, ids=str)
def test_a_malformed_dialogue_costs_itself_alone(tmp_path: Path, messages: object) -> None:
    rows = [{"messages": SAID}, {"messages": messages}, {"messages": SAID}]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    texts, went, reader = read_bytes(tmp_path, data, text="messages", prompt="messages")
    assert texts == ["A flower."] * 2 and sum(went.values()) == 1 and reader.rows_in == 3
    assert set(went) <= {"no_text", "no_prompt"} and accounted(reader, len(data))
