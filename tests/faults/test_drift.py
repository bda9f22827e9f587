"""Columns that change on the way: the declared schema is kept, the rest has a reason."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safelm.builder.run import run
from safelm.documents.shards import WriteDocuments, text_digest
from safelm.ingestion.ingest import READERS
from specs.document import DOCUMENT
from tests.ingested import rows_of
from tests.reading import VALUES

Row = dict[str, Any]

# What a later row of a source has, and what must become of it: columns of the document, or a
# reason.
DRIFTS: dict[str, tuple[Row, Row | str]] = {
    "a late column": ({"url": "https://a"}, {"url": "https://a"}),
    "a late column of no schema": ({"views": 7}, {}),
    "a column that went": ({}, {"url": None}),
    "a whole number becomes a fraction": ({"label": 3.0}, {"label": 3}),
    "a label becomes half of one": ({"label": 2.5}, {"label": None}),
    "a label becomes a word": ({"label": "3"}, {"label": None}),
    "a title becomes a number": ({"title": 7}, {"title": None}),
    "a title becomes a list": ({"title": ["a"]}, {"title": None}),
    "a title becomes null": ({"title": None}, {"title": None}),
    "an id in the metadata": ({"metadata": {"id": "theirs"}}, {}),
    "a text in the metadata": ({"metadata": {"text": "theirs"}}, {"text": "another page"}),
    "an id that is a number": ({"id": 7}, {}),
    "metadata becomes a string": ({"metadata": "{}"}, {"url": None}),
    "metadata has a url": ({"metadata": {"url": "https://b"}}, {"url": "https://b"}),
    "the url moves into meta": ({"meta": {"url": "https://b"}}, {"url": "https://b"}),
    "two urls": ({"url": "https://a", "metadata": {"url": "https://b"}}, {"url": "https://a"}),
    "metadata grows deeper": ({"metadata": {"url": {"href": "https://b"}}}, {"url": None}),
    "another source": ({"source": "theirs"}, {"source": "web"}),
    "a parent and a writer of theirs": (
        {"parent": "p", "writer": "w", "seed": 1},
        {"parent": None, "writer": None},
    ),
    "a licence becomes null": ({"license": None}, {"license": "CC0-1.0"}),
    "a licence becomes an object": ({"license": {"name": "MIT"}}, {"license": "CC0-1.0"}),
    "a crawl by another name": ({"dump": "CC-1"}, {"crawl": "CC-1"}),
    "text becomes a list": ({"text": ["a"]}, "no_text"),
    "text becomes a number": ({"text": 7}, "no_text"),
    "text gets another name": ({"content": "a", "text": None}, "no_text"),
}


def documents(path: Path, kind: str) -> tuple[list[Row], dict[str, int], int]:
    """Return the rows of a source's shards, its quarantine, and the number of rows."""
    read = READERS[kind](**{**VALUES, "path": path})
    ledger = run("ingest/web", [read, WriteDocuments()]).ledger
    return rows_of(Path("build/ingest/web")), ledger.quarantined, ledger.rows_in


@pytest.mark.parametrize("name", DRIFTS)
def test_a_row_that_differs_is_kept_by_the_schema_or_has_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    drift, expected = DRIFTS[name]
    first = {"text": "a page", "id": "1", "title": "A", "label": 3, "metadata": {"n": 1}}
    rows = [first, {"text": "another page", **drift}]
    Path("pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made, quarantined, count = documents(Path("pages.jsonl"), "jsonl")
    assert count == 2 and all(list(row) == list(DOCUMENT) for row in made)
    assert made[0]["text"] == "a page" and made[0]["label"] == 3
    if isinstance(expected, str):
        assert len(made) == 1 and quarantined == {expected: 1}
    else:
        (row,) = made[1:]
        assert quarantined == {} and row["id"] == text_digest(None, "another page")
        assert {column: row[column] for column in expected} == expected


TABLES: dict[str, dict[str, pa.Array]] = {
    "one column more": {"extra": pa.array([1])},
    "one column less": {},
    "large strings": {"text": pa.array(["b"], pa.large_string())},
    "a dictionary": {"text": pa.array(["b"]).dictionary_encode()},
    "the url is a number": {"url": pa.array([7])},
    "the label is a fraction": {"label": pa.array([4.0])},
    "metadata is a struct": {
        "metadata": pa.array([{"url": "https://a", "text": "theirs", "id": "theirs"}])
    },
    "the date is a time": {"date": pa.array([0], pa.timestamp("ns"))},
    "the title is null": {"title": pa.nulls(1)},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_differs_is_kept_by_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pages").mkdir()
    first = {"text": ["a"], "url": ["https://a"], "title": ["A"], "label": [3], "date": ["2020"]}
    pq.write_table(pa.table(first), "pages/a.parquet")
    pq.write_table(pa.table({"text": ["b"], **TABLES[name]}), "pages/b.parquet")
    made, quarantined, count = documents(Path("pages"), "parquet")
    assert count == 2 and quarantined == {} and [row["text"] for row in made] == ["a", "b"]
    assert all(list(row) == list(DOCUMENT) for row in made)
    kept = {"the label is a fraction": ("label", 4), "metadata is a struct": ("url", "https://a")}
    column, value = kept.get(name, ("license", "CC0-1.0"))
    assert made[1][column] == value
    assert name != "the date is a time" or made[1]["crawl"].startswith("1970-01-01")
