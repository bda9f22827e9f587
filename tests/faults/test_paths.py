"""Names that lead out of a folder, wherever one can stand: nothing is written outside."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from safelm.builder.manifest import Manifest
from safelm.builder.run import run
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.errors import SourceError
from safelm.ingestion.ingest import READERS
from specs.validation import problems
from tests.faults.corpora import record
from tests.reading import VALUES

PARAMS = Path("params.yaml").read_text(encoding="utf-8")
OUTSIDE = "{outside}/escape"  # an absolute path
TABLES = ("sources", "corpora", "mixtures", "models")

NAMES = [
    "../escape",
    "../../escape",
    "../../../../../../escape",
    "./../escape",
    "a/../../escape",
    "....//escape",
    OUTSIDE,
    "~/escape",
    "$HOME/escape",
    "file://{outside}/escape",
    "..\\..\\escape",
    "C:\\escape",
    "\\\\host\\share\\escape",
    "%2e%2e%2fescape",
    "..%2fescape",
    "..%c0%afescape",
    "\uff0e\uff0e\uff0fescape",
    "\u2024\u2024/escape",
    "escape\0.txt",
    "../escape\n",
    "\r../escape",
    "\u202e../escape",
    "e\u0301scape/../../escape",
    "CON",
    "NUL.txt",
    "aux:stream",
    "-rf",
    "| touch escape",
    ".git/hooks/pre-commit",
    ".dvc/config",
    "dvc.yaml",
    "x" * 300,
    "../" * 100 + "escape",
    ".",
    "..",
    "",
]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder above the project, whose other files must not change."""
    project = tmp_path / "deep" / "project"
    (project / "pages").mkdir(parents=True)
    (project / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before
    assert set(os.listdir(project)) <= {".dvc", ".safelm", "build", "pages"}
    assert set(os.listdir(project / ".dvc")) <= {"cache"}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file beside the project."""
    files = (
        file
        for file in folder.rglob("*")
        if file.is_file() and "project" not in file.relative_to(folder).parts
    )
    return {file.as_posix(): file.read_bytes() for file in files}


def sources(name: str) -> dict[str, bytes]:
    """Write files that hold a name wherever their format has one."""
    row = {
        "text": f"a page called {name}",
        **dict.fromkeys(("id", "url", "title", "license", "crawl", "source"), name),
    }
    line = json.dumps({**row, "metadata": row, "file_path": name}).encode() + b"\n"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(line)
        tar.addfile(entry, io.BytesIO(line))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr(name or "a", line)
    header = (
        b"\x1f\x8b\x08\x08\0\0\0\0\0\xff"
        + name.replace("\0", "").encode("utf-8", "replace")
        + b"\0"
    )
    plain = name.replace("\n", " ").replace("\r", " ")
    wet = record(
        f"a page called {name}",
        **{"WARC-Target-URI": plain, "WARC-Filename": plain, "WARC-Record-ID": plain},
    )
    packed = header + gzip.compress(line)[10:]
    return {
        "a.jsonl": line,
        "b.tar.gz": data.getvalue(),
        "c.zip": zipped.getvalue(),
        "d.gz": packed,
        "e.wet": wet,
    }


def build(path: Path, kind: str = "jsonl", files: str = "*") -> Manifest:
    """Ingest a source and return its documents."""
    read = READERS[kind](**{**VALUES, "path": path, "files": files})
    return run("ingest/web", [read, WriteDocuments(rows_per_file=1)])


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_in_a_document_leads_nowhere(outside: Path, name: str) -> None:
    for file, data in sources(name.format(outside=outside)).items():
        Path("pages", file).write_bytes(data)
    assert build(Path("pages"), files="[abcd]*").ledger.rows_out >= 2
    assert build(Path("pages"), "wet", "*.wet").ledger.rows_out == 1


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_of_any_name_is_read(outside: Path, name: str) -> None:
    name = name.format(outside="").replace("/", "\u2215").replace("\0", "")[:60] or "empty"
    file = Path("pages", name if name not in (".", "..") else f"{name}x")
    file.write_bytes(b'{"text": "a page"}\n{"text": 7}\n')
    if file.name.startswith("."):
        with pytest.raises(SourceError, match="no file matches"):  # hidden
            build(Path("pages"))
    else:
        assert build(Path("pages")).ledger.rows_in == 2


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_pattern_reads_nothing_outside(outside: Path, name: str) -> None:
    (outside / "escape").write_bytes(b'{"text": "a secret"}\n')
    Path("pages", "page.jsonl").write_bytes(b'{"text": "a page"}\n')
    with pytest.raises(SourceError):
        build(Path("pages"), files=name.format(outside=outside))
    (outside / "escape").unlink()


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name], ids=ascii)
def test_a_spec_gives_no_folder_of_such_a_name(tmp_path: Path, name: str) -> None:
    name = name.format(outside=tmp_path)
    params = yaml.safe_load(PARAMS)
    for table in TABLES:
        params[table][name] = next(iter(params[table].values()))
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(params, allow_unicode=True), encoding="utf-8"
    )
    text = "\n".join(str(problem) for problem in problems(tmp_path / "params.yaml"))
    assert [table for table in TABLES if f" {table}." not in text] == []


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_manifest_names_no_file_outside(outside: Path, name: str) -> None:
    file = {"suffix": ".parquet", "rows": 1, "bytes": 1, "md5": "0" * 32, "sha256": "0" * 64}
    name = f"../{name.format(outside=outside)}"
    for bad in (
        {"name": name},
        {"files": [{**file, "suffix": f"/{name}"}]},
        {"files": [{**file, "md5": name}]},
    ):
        task = {"name": "00000", "key": "a", "files": [file], "ledger": {}, **bad}
        values = {"format": 1, "stage": "ingest/web", "ledger": {}, "tasks": [task]}
        with pytest.raises((ValueError, RuntimeError)):
            Manifest.parse(json.dumps(values).encode())


def test_a_link_in_a_source_is_read_and_not_written(outside: Path) -> None:
    (outside / "page.jsonl").write_bytes(b'{"text": "a page"}\n')
    Path("pages", "link.jsonl").symlink_to(outside / "page.jsonl")
    Path("pages", "loop").symlink_to(Path("pages"))
    Path("pages", "broken.jsonl").symlink_to(outside / "nothing")
    assert build(Path("pages")).ledger.rows_out == 1
    assert (outside / "page.jsonl").read_bytes() == b'{"text": "a page"}\n'
    (outside / "page.jsonl").unlink()
