"""Every shard is made once, none is lost, and bytes do not depend on workers, folder or order."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pytest
from datatrove.data import Document

from safelm.builder.blocks import Block, Input, Reader, Task
from safelm.builder.digest import file_digest
from safelm.builder.environment import VariableError, workers
from safelm.builder.executors import local
from safelm.builder.fingerprint import ROOT, code_digest, import_closure
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import DamagedShard, Ledger, LedgerError, Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.plan import Plan, stage_fingerprint, task_key
from safelm.builder.run import make_shards, run
from safelm.builder.shards import shards, tables
from safelm.builder.store import Store
from safelm.builder.supervision import is_alive
from safelm.documents.shards import ReadShards, WriteDocuments, text_digest


class Lines(Reader):
    """A reader of a document for each line of each file of a folder."""

    folder: str

    def tasks(self) -> list[Task]:
        files = sorted(Path(self.folder).iterdir())
        return [Task(file.stem, (Input(file, file_digest(file)),)) for file in files]

    def read(self, task: Task) -> Iterator[Document]:
        for text in task.inputs[0].path.read_text().splitlines():
            yield Document(text=text, id=text_digest(None, text), metadata={"source": "web"})


class Shout(Block):
    """A block that writes upper case, drops short lines and quarantines digits.

    It loses a row, or dies, when a line says so.
    """

    mark: str = "!"

    def process(self, document: Document) -> Iterator[Document]:
        if len(document.text) < 3:
            return self.drop("short")
        if document.text.isdigit():
            return self.quarantine("digits", file="lines", offset=0, content=document.text.encode())
        if document.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if document.text == "change":
            Path("lines/1.txt").write_text("changed\n")
        if document.text != "lose":
            document.text = document.text.upper() + self.mark
            yield document


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").mkdir()
    for index in range(4):
        (tmp_path / "lines" / f"{index}.txt").write_text(
            f"hello {index}\nab\n12345\nworld {index}\n"
        )
    return tmp_path


def shout(mark: str = "!", stage: str = "rephrase") -> Manifest:
    return run(stage, [Lines(folder="lines"), Shout(mark=mark), WriteDocuments()])


def made(capsys: pytest.CaptureFixture[str]) -> int:
    return int(capsys.readouterr().out.split("(")[1].split(" ")[0])


def test_the_ledger_accounts_for_every_row() -> None:
    assert shout().ledger == Ledger(16, 8, {"short": 4}, {"digits": 4})
    (line,) = build("rephrase", "0.quarantine.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["reason"], row["offset"], row["bytes"]) == ("digits", 0, 5)


def test_a_lost_row_fails_the_stage() -> None:
    Path("lines/1.txt").write_text("hello\nlose\n")
    with pytest.raises(StageError, match=r"shard 1: LedgerError: .*\+1 unaccounted"):
        shout()
    assert not build("rephrase").exists()


def test_the_ledger_law() -> None:
    assert Ledger(10, 7, {"a": 2}, {"b": 1}).check("here")
    with pytest.raises(LedgerError, match="here"):
        Ledger(10, 7, {"a": 2}).check("here")
    with pytest.raises(LedgerError, match="-2 unaccounted"):
        Ledger(10, 12).check("here")


def test_a_cached_shard_is_not_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    shout()
    assert made(capsys) == 4
    shout()
    assert made(capsys) == 0


def test_one_changed_shard_costs_one_and_going_back_costs_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = shout()
    old = Path("lines/2.txt").read_text()
    Path("lines/2.txt").write_text("something else\n")
    made(capsys)
    shout()
    assert made(capsys) == 1
    Path("lines/2.txt").write_text(old)
    assert shout() == first
    assert made(capsys) == 0


def test_a_changed_value_makes_every_shard_and_going_back_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shout()
    made(capsys)
    shout(mark="?")
    assert made(capsys) == 4
    shout()
    assert made(capsys) == 0


def test_a_key_depends_on_inputs_values_and_stage_but_not_on_paths() -> None:
    task = Task("a", (Input(Path("x"), "1"),))
    renamed = Task("b", (Input(Path("y"), "1"),))
    changed = Task("a", (Input(Path("x"), "2"),))
    fingerprint = stage_fingerprint("s", [Shout()])
    key = task_key(fingerprint, task)
    assert task_key(fingerprint, renamed) == key
    assert task_key(fingerprint, changed) != key
    assert task_key(stage_fingerprint("s", [Shout(mark="?")]), task) != key
    assert task_key(stage_fingerprint("other", [Shout()]), task) != key


def test_a_path_among_the_values_counts_by_content(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("one")
    before = Shout(mark=file).declared()  # type: ignore[arg-type]
    file.write_text("two")
    assert Shout(mark=file).declared() != before  # type: ignore[arg-type]


def test_code_of_a_block_is_its_import_closure() -> None:
    closure = set(import_closure(["safelm.documents.shards"]))
    shape_bytes = {
        "safelm.builder.blocks",
        "safelm.builder.shards",
        "safelm.builder.digest",
        "specs.document",
    }
    move_bytes = {"safelm.builder.run", "safelm.builder.store"}
    assert shape_bytes <= closure
    assert not move_bytes & closure
    assert code_digest(["safelm.builder.blocks"]) != code_digest(["safelm.builder.paths"])


def test_a_comment_does_not_change_the_code_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safelm.builder import fingerprint as code

    (tmp_path / "safelm").mkdir()
    monkeypatch.setattr(code, "ROOT", tmp_path)
    digests = []
    for text in ("x = 1\n", '"""Doc."""\n# why\nx  =  1\n', "x = 2\n"):
        (tmp_path / "safelm" / "thing.py").write_text(text)
        digests.append(code.code_digest(["safelm.thing"]))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_bytes_do_not_depend_on_workers_or_folder(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shout()
    other = tmp_path / "elsewhere"
    other.mkdir()
    (tmp_path / "lines").rename(other / "lines")
    monkeypatch.chdir(other)
    monkeypatch.setenv("SAFELM_WORKERS", workers)
    monkeypatch.setattr(local, "SMALL", 0)
    assert shout() == first
    assert (other / "build/rephrase/manifest.json").read_bytes() == (
        tmp_path / "build/rephrase/manifest.json"
    ).read_bytes()


def test_a_dead_worker_is_an_error_that_names_shard_and_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "SMALL", 0)
    monkeypatch.setenv("SAFELM_WORKERS", "2")
    Path("lines/2.txt").write_text("die\n")
    with pytest.raises(StageError, match=r"shard 2: its worker died \(SIGKILL\)"):
        shout()
    Path("lines/2.txt").write_text("hello\n")
    assert shout().ledger.rows_out == 7


def test_an_error_in_a_worker_names_the_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SMALL", 0)
    monkeypatch.setenv("SAFELM_WORKERS", "2")
    Path("lines/3.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(StageError, match="shard 3: UnicodeDecodeError"):
        shout()


def test_reads_check_the_digest() -> None:
    shout()
    path = build("rephrase", "1.parquet")
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedShard, match=r"build/rephrase/1.parquet: expected sha256"):
        list(tables(build("rephrase")))


READING = """
import os
from pathlib import Path
from safelm.builder.shards import shards
before = os.listdir("/proc/self/task")
for shard in shards(Path("build/rephrase")):
    assert shard.table().num_rows == sum(part.num_rows for part in shard.batches())
assert os.listdir("/proc/self/task") == before
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_reading_starts_no_thread_that_could_outlive_python() -> None:
    shout()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", READING], env=environment, check=True)


def test_a_missing_object_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = shout()
    md5 = manifest.tasks[1][1].files[0].md5
    Path(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}").unlink()
    made(capsys)
    assert shout() == manifest
    assert made(capsys) == 1


def test_an_object_cut_short_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = shout()
    md5 = manifest.tasks[1][1].files[0].md5
    path = Path(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1])
    made(capsys)
    assert shout() == manifest and path.read_bytes() == whole
    assert made(capsys) == 1


def plan_of_shout() -> Plan:
    blocks = [Lines(folder="lines"), Shout(), WriteDocuments()]
    return Plan.of("rephrase", blocks, Store(cache(), scratch()))


def with_fingerprint(plan: Plan, **changes: str) -> Plan:
    return replace(plan, fingerprint=replace(plan.fingerprint, **changes))


@pytest.mark.parametrize("name", ["values", "code"])
def test_a_process_that_would_make_other_bytes_refuses(name: str) -> None:
    plan = plan_of_shout()
    plan.refuse_difference()
    with pytest.raises(StageError, match=f"the {name} of this stage"):
        with_fingerprint(plan, **{name: "0" * 64}).refuse_difference()


def test_a_shard_with_a_damaged_index_entry_is_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shout()
    record = next(iter(sorted(Path(".safelm/index").rglob("*.json"))))
    record.write_bytes(record.read_bytes()[:40])
    made(capsys)
    shout()
    assert made(capsys) == 1


def test_a_shard_is_on_disk_once() -> None:
    shout()
    assert build("rephrase", "0.parquet").stat().st_nlink == 2


def test_a_pulled_build_is_cached_without_the_index(capsys: pytest.CaptureFixture[str]) -> None:
    import hashlib
    import shutil

    manifest = shout()
    listing = []
    for path in sorted(build("rephrase").iterdir()):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        listing.append({"md5": md5, "relpath": path.name})
        target = Path(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(path, target)
    data = json.dumps(listing).encode()
    name = f"{hashlib.md5(data).hexdigest()}.dir"
    target = cache() / name[:2] / name[2:]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(data)
    Path("dvc.lock").write_text(
        f"stages:\n  rephrase:\n    outs:\n    - {{path: build/rephrase, md5: {name}}}\n"
    )
    shutil.rmtree(".safelm")
    shutil.rmtree("build")
    made(capsys)
    assert shout() == manifest
    assert made(capsys) == 0


def test_a_stage_without_output_fails() -> None:
    for file in Path("lines").iterdir():
        file.write_text("ab\n")
    with pytest.raises(StageError, match="produced no output from 4 rows"):
        shout()


def test_an_empty_selection_is_not_a_failure() -> None:
    shout(stage="ingest/web")
    write_scores({})
    chosen = ReadShards(folder=build("ingest/web"), scores=build("score"), select=(4, 5))
    manifest = run("refuse", [chosen, WriteDocuments()])
    assert manifest.ledger == Ledger(8, 0, {"not_selected": 8}, {})
    assert [table.num_rows for table in tables(build("refuse"))] == [0, 0, 0, 0]


def write_scores(hazards: Mapping[str, str]) -> None:
    """Score 0 for every document, with the hazards of some."""

    class Zero(Block):
        def process(self, document: Document) -> Iterator[Document]:
            document.metadata |= {"score": 0, "hazard": hazards.get(document.id)}
            yield document

    from safelm.documents.shards import WriteColumns
    from specs.document import scores_of_all

    run(
        "score",
        [ReadShards(folder=build("ingest/web")), Zero(), WriteColumns(columns=scores_of_all([]))],
    )


def test_selected_documents_carry_their_score() -> None:
    shout(stage="ingest/web")
    write_scores({})
    reader = ReadShards(folder=build("ingest/web"), scores=build("score"), select=(0,))
    documents = chain.from_iterable(reader.read(task) for task in reader.tasks())
    assert [document.metadata["score"] for document in documents] == [0] * 8


def ids(stage: str) -> list[str]:
    return pa.concat_tables(tables(build(stage)))["id"].to_pylist()


@pytest.mark.parametrize("select", [(0,), None])
def test_a_document_of_a_guarded_hazard_reaches_no_writer_and_no_training(
    select: tuple[int, ...] | None,
) -> None:
    shout(stage="ingest/web")
    first, second, *rest = ids("ingest/web")
    write_scores({first: "child_exploitation", second: "privacy"})
    read = ReadShards(folder=build("ingest/web"), scores=build("score"), select=select)
    manifest = run("refuse", [read, WriteDocuments()])
    assert manifest.ledger == Ledger(8, 7, {"child_safety": 1}, {})
    assert ids("refuse") == [second, *rest]


def test_a_second_build_of_a_stage_is_refused_with_the_process_number() -> None:
    with (
        locked("rephrase"),
        pytest.raises(StageError, match=f"process {os.getpid()} is building it"),
        locked("rephrase"),
    ):
        pass


def test_large_tasks_are_split_into_files_of_so_many_rows() -> None:
    manifest = run("ingest/web", [Lines(folder="lines"), WriteDocuments(rows_per_file=3)])
    assert [shard.path.name for shard in shards(build("ingest/web"))][:3] == [
        "0-00000.parquet",
        "0-00001.parquet",
        "1-00000.parquet",
    ]
    assert manifest.ledger.rows_out == 16


def test_no_path_and_no_clock_in_an_output(tmp_path: Path) -> None:
    shout()
    for path in build("rephrase").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_make_shards_writes_nothing_to_build() -> None:
    make_shards("rephrase", [Lines(folder="lines"), Shout(), WriteDocuments()])
    assert not build("rephrase").exists()


def test_a_process_with_other_code_than_the_plan_refuses() -> None:
    stale = with_fingerprint(plan_of_shout(), code="of yesterday")
    with pytest.raises(StageError, match="shard 0: StageError: the code of this stage"):
        local.LocalExecutor(stale).build()
    assert stale.missing() == [0, 1, 2, 3]


def test_an_input_that_changes_during_the_run_fails_the_stage() -> None:
    Path("lines/1.txt").write_text("hello\nchange\n")
    with pytest.raises(
        StageError, match=r"shard 1: StageError: lines/1.txt: input changed during the run"
    ):
        shout()


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_variable_that_is_no_whole_number_is_refused(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFELM_WORKERS", value)
    with pytest.raises(VariableError, match="SAFELM_WORKERS: expected a whole number above 0"):
        workers()


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(process.pid)
    process.kill()
    # Returns when it has ended, and leaves it to be reaped.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)
    process.wait()
    assert not is_alive(process.pid)


def test_an_unknown_executor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFELM_EXECUTOR", "cloud")
    with pytest.raises(
        StageError, match=r"SAFELM_EXECUTOR: expected local, ray, slurm \(got 'cloud'\)"
    ):
        shout()


def test_a_lock_file_that_dvc_is_writing_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text("stages:\n  refuse:\n    outs:\n    - {path: build/rephr")
    writing = threading.Timer(0.3, Path("dvc.lock").write_text, ["stages: {}\n"])
    writing.start()
    shout(stage="refuse")
    writing.join()
    assert made(capsys) == 4


def test_a_damaged_lock_file_stops_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text("stages:\n  refuse:\n    outs:\n    - {path: build/rephr")
    shout(stage="refuse")
    assert made(capsys) == 4
