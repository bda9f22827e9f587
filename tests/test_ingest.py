"""Stage ingest: a source becomes shards without duplicates, and every row is accounted for."""

import bz2
import gzip
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import ingest
from safelm.builder.executors.base import QUARANTINE
from safelm.builder.locks import StageError
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.shards import shards, tables
from safelm.ingestion.errors import SourceError
from safelm.ingestion.ingest import READERS
from specs.source import DemoSource, HubSource, PageSource, TableSource, TextArchiveSource

PARAMS = """
sources:
  web: {{reader: {reader}, path: pages, files: "{files}", text: text, license: MIT}}
ingest:
  rows_per_shard: 3
  max_line_bytes: 1000000
  max_document_bytes: 500000
  max_expansion_ratio: 200
  max_quarantined_share: {quarantine}
"""
SECRET = "no message may show this text"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pages").mkdir()
    return tmp_path


def write(name: str, *texts: str) -> None:
    Path("pages", name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def write_params(**values: Any) -> None:
    defaults = {"reader": "jsonl", "files": "*", "quarantine": 0.5}
    Path("params.yaml").write_text(PARAMS.format(**defaults | values))


def run(monkeypatch: pytest.MonkeyPatch, **values: Any) -> Manifest:
    """Run the stage as its command line does."""
    write_params(**values)
    monkeypatch.setattr(sys, "argv", ["ingest", "web"])
    ingest.main()
    return Manifest.read(build("ingest", "web"))


def texts() -> list[str]:
    return [text for table in tables(build("ingest", "web")) for text in table["text"].to_pylist()]


def test_a_source_becomes_shards_of_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", *"abcd")
    write("b.jsonl", *"ef")
    manifest = run(monkeypatch)
    assert texts() == list("abcdef") and manifest.ledger.rows_in == 6
    names = [shard.path.name for shard in shards(build("ingest", "web"))]
    assert names == ["00000-00000.parquet", "00000-00001.parquet", "00001-00000.parquet"]


def test_every_row_of_a_source_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", "a", "b", "a", "", "Sex education for children")
    with Path("pages/a.jsonl").open("ab") as file:
        file.write(b'\n\xff\n{"text": 1}\n{"text": "c"}\n')
    ledger = run(monkeypatch, quarantine=0.9).ledger
    assert (ledger.rows_in, ledger.rows_out) == (9, 3) and texts() == ["a", "b", "c"]
    assert ledger.dropped == {"blank_line": 1, "child_safety": 1, "duplicate": 1}
    assert ledger.quarantined == {"no_text": 2, "not_utf8": 1}


def test_the_quarantine_says_where_a_row_is(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", "a", "b")
    Path("pages/b.jsonl").write_bytes(b'{"text": "c"}\nbroken\n')
    run(monkeypatch)
    (line,) = (build("ingest", "web") / f"00001{QUARANTINE}").read_text().splitlines()
    row = json.loads(line)
    assert (row["file"], row["offset"], row["reason"], row["bytes"]) == (
        "b.jsonl",
        14,
        "not_json",
        6,
    )


def test_the_first_file_keeps_a_document_that_several_have(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", *"abcd")
    write("b.jsonl", *"xbyd")
    write("c.jsonl", *"xz")
    Path("pages/d.jsonl").write_text("\n\n")
    manifest = run(monkeypatch)
    assert texts() == list("abcdxyz")
    assert manifest.ledger.rows_in == 12 and manifest.ledger.dropped == {
        "blank_line": 2,
        "duplicate": 3,
    }
    assert [record.ledger.rows_out for _, record in manifest.tasks] == [4, 2, 1, 0]


def test_shards_without_repeats_are_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", *"abcd")
    write("b.jsonl", *"efg")
    before = run(monkeypatch).tasks
    write("c.jsonl", *"hb")
    after = run(monkeypatch).tasks
    assert after[:2] == before and after[2][1].ledger.dropped == {"duplicate": 1}


def test_a_file_of_repeats_leaves_its_ledger_and_no_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", *"abc")
    write("b.jsonl", *"cba")
    with Path("pages/b.jsonl").open("ab") as file:
        file.write(b"broken\n")
    manifest = run(monkeypatch)
    assert texts() == list("abc") and manifest.ledger.rows_in == 7
    assert [file.suffix for file in manifest.tasks[1][1].files] == [QUARANTINE]


def test_a_new_file_costs_one_shard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("b.jsonl", *"abcd")
    run(monkeypatch)
    write("a.jsonl", *"xy")
    run(monkeypatch)
    run(monkeypatch)
    assert [line.partition(")")[0][-6:] for line in capsys.readouterr().out.splitlines()] == [
        "1 made"
    ] * 2 + ["0 made"]
    assert texts() == list("xyabcd")


def test_too_much_in_quarantine_fails_with_a_table_of_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("a.jsonl", "a", "b")
    Path("pages/b.jsonl").write_text(f'{{"text": "c"}}\n{SECRET}\n["{SECRET}"]\n{SECRET}\n')
    with pytest.raises((StageError, SourceError)) as error:
        run(monkeypatch, quarantine=0.4)
    message = str(error.value)
    assert (
        "3 of 6 rows are in quarantine, more than ingest.max_quarantined_share allows (40.00%)"
        in message
    )
    assert (
        "not_an_object          1  b.jsonl:44" in message
        and "not_json               2  b.jsonl:14" in message
    )
    assert SECRET not in message and not build("ingest", "web").exists()


BOUNDS = [
    (1, 0.01, False),
    (2, 0.01, True),
    (10, 0.1, False),
    (11, 0.1, True),
    (99, 1.0, False),
    (1, 0.001, True),
]


@pytest.mark.parametrize("bad, allowed, is_refused", BOUNDS)
def test_the_quarantine_may_be_as_large_as_allowed(
    monkeypatch: pytest.MonkeyPatch, bad: int, allowed: float, is_refused: bool
) -> None:
    lines = [
        json.dumps({"text": f"page {number}"}) if number >= bad else SECRET for number in range(100)
    ]
    Path("pages/a.jsonl").write_text("\n".join(lines) + "\n")
    if is_refused:
        with pytest.raises(
            StageError,
            match=rf"{bad} of 100 rows are in quarantine, more than ingest.max_quarantined_share",
        ) as error:
            run(monkeypatch, quarantine=allowed)
        assert f"not_json  {bad:>9,}  a.jsonl:0" in str(error.value) and SECRET not in str(
            error.value
        )
    else:
        assert run(monkeypatch, quarantine=allowed).ledger.quarantined == {"not_json": bad}


def lose_halves(kind: str) -> None:
    """Write ten files of pages in one format, six of which are lost."""
    for number in range(10):
        rows = [{"text": f"page {number} {row} {'leaf ' * 20}"} for row in range(200)]
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        is_lost = number < 6
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), file := BytesIO())
            data = file.getvalue()[: file.tell() // 2] if is_lost else file.getvalue()
        elif kind == "bz2":
            data = bz2.compress(lines) if is_lost else lines
        else:
            data = lines.replace(b"\n", b"\r") if is_lost else lines
        Path("pages", f"{number}.{kind}").write_bytes(data)


@pytest.mark.parametrize("kind", ["parquet", "bz2", "jsonl"])
def test_files_that_are_lost_whole_count_by_their_bytes(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lose_halves(kind)
    reader = "parquet" if kind == "parquet" else "jsonl"
    with pytest.raises(
        StageError, match=r"6 of 10 files \(\d\d?\.\d\d% of the bytes\) have no"
    ) as error:
        run(monkeypatch, reader=reader, quarantine=0.01)
    assert f"0.{kind}:0" in str(error.value) and not build("ingest", "web").exists()
    assert run(monkeypatch, reader=reader, quarantine=0.7).ledger.rows_out == 800


def test_a_wrong_field_name_names_the_field_and_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"content": SECRET, "url": "https://example.org"}] * 3
    Path("pages/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(StageError) as error:
        run(monkeypatch)
    message = str(error.value)
    assert "a.jsonl:0 (no field 'text'; its fields: 'content', 'url')" in message
    assert "correct the row of `sources`" in message and "loosen" not in message
    assert SECRET not in message


def test_a_source_without_a_usable_document_fails_with_its_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("pages/a.jsonl").write_text(f"{SECRET}\n{SECRET}\n")
    with pytest.raises((StageError, SourceError)) as error:
        run(monkeypatch, quarantine=1.0)
    message = str(error.value)
    assert "produced no output from 2 rows: 2 in = 0 out + 2 quarantined (not_json 2)" in message
    assert "not_json          2  a.jsonl:0" in message and SECRET not in message
    rows = Path(".safelm/logs/ingest/web.quarantine.jsonl").read_text().splitlines()
    assert [json.loads(row)["offset"] for row in rows] == [0, len(SECRET) + 1]


def test_a_source_of_empty_files_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl")
    with pytest.raises((StageError, SourceError), match="no row in any of its files"):
        run(monkeypatch)


def test_a_pattern_that_matches_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", "a")
    with pytest.raises((StageError, SourceError), match=r"there is a\.jsonl; correct `files`"):
        run(monkeypatch, files="*.parquet")


def test_an_unknown_source_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_params()
    command = [sys.executable, "-m", "pipeline.ingest", "wbe"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ingest_root())}
    )
    assert done.returncode == 2 and "choose from 'web'" in done.stderr.replace(
        "choose from web", "choose from 'web'"
    )


def ingest_root() -> Path:
    return Path(ingest.__file__).parent.parent


def test_no_text_of_a_document_is_in_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.jsonl", SECRET, "b")
    Path("pages/b.jsonl").write_text(f'{{"text": ["{SECRET}"]}}\n')
    run(monkeypatch)
    logs = [
        file
        for file in Path(".safelm").rglob("*")
        if file.is_file() and file.suffix in (".log", ".json")
    ]
    assert logs and not [file for file in logs if SECRET.encode() in file.read_bytes()]


def test_the_same_bytes_with_any_number_of_workers_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = []
    for workers in ("1", "2"):
        folder = tmp_path / f"with {workers}"
        (folder / "pages").mkdir(parents=True)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("SAFELM_WORKERS", workers)
        for number in range(3):  # enough bytes for workers to be worth starting
            words = [f"{number} {word % 7} " + "leaf " * 1500 for word in range(300)]
            Path("pages", f"{number}.jsonl.gz").write_bytes(
                gzip.compress(
                    "".join(json.dumps({"text": text}) + "\n" for text in words).encode(),
                    1,
                    mtime=0,
                )
            )
        run(monkeypatch)
        manifests.append((build("ingest", "web") / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1] and b"with 1" not in manifests[0]


def test_every_reader_of_the_grammar_is_there() -> None:
    kinds = (DemoSource, TableSource, PageSource, TextArchiveSource, HubSource)
    named = [get_args(kind.model_fields["reader"].annotation) for kind in kinds]
    assert set(READERS) == {reader for names in named for reader in names}
