"""Verification finds and names every damaged byte, and trusts no name from elsewhere."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from datatrove.data import Document

from safelm.builder.blocks import Input, Reader, Task
from safelm.builder.digest import file_digest, md5_and_sha256
from safelm.builder.files import is_safe_name
from safelm.builder.fingerprint import jsonable
from safelm.builder.locks import LockedError, all_stages_locked, locked
from safelm.builder.manifest import DamagedShard, Ledger, Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.run import make_shards, run
from safelm.builder.shards import Shard
from safelm.builder.store import Store
from safelm.documents.shards import ReadShards, WriteColumns, WriteDocuments
from safelm.maintenance.gc import collect_garbage
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.check import check, check_rest
from safelm.maintenance.verify.command import verify
from safelm.maintenance.verify.hashes import Stamps
from safelm.maintenance.verify.lock_file import (
    DamagedLockFile,
    read_listing,
    read_lock,
    write_listing,
)
from safelm.maintenance.verify.repair import cause_of_difference, remove_entries
from safelm.maintenance.verify.report import Fault, Report


class Lines(Reader):
    """A reader of a document for each line of each file; the line `bad` is quarantined."""

    def tasks(self) -> list[Task]:
        return [
            Task(file.stem, (Input(file, file_digest(file)),))
            for file in sorted(Path("lines").iterdir())
        ]

    def read(self, task: Task) -> Iterator[Document]:
        for number, text in enumerate(task.inputs[0].path.read_text().splitlines()):
            if text == "bad":
                self.quarantine("bad", file="lines", offset=number, content=b"bad")
            else:
                yield Document(text=text, id=f"{task.name}-{number}", metadata={"source": "web"})


def commit(**folders: Path) -> None:
    """Leave what `dvc commit` does: each file in the cache, a listing for each folder, dvc.lock."""
    stages = {}
    for stage, folder in folders.items():
        files = {
            path.relative_to(folder).as_posix(): md5_and_sha256(path)[0]
            for path in folder.rglob("*")
            if path.is_file()
        }
        for name, md5 in files.items():
            keep((folder / name).read_bytes(), md5)
        data = write_listing(files)
        md5 = hashlib.md5(data).hexdigest() + ".dir"
        keep(data, md5)
        deps = [{"path": "build/web", "md5": md5}] if stage != "web" else []
        stages[stage] = {
            "cmd": "true",
            "deps": deps,
            "outs": [{"path": folder.as_posix(), "hash": "md5", "md5": md5}],
        }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def keep(data: bytes, md5: str) -> None:
    target = store().object(md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(data)
        target.chmod(0o444)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of three shards, one with a quarantine, and a stage of one file; both committed."""
    monkeypatch.chdir(tmp_path)
    Path("lines").mkdir()
    for index in range(3):
        Path(f"lines/{index}.txt").write_text(f"hello {index}\n" + ("bad\n" if index == 1 else ""))
    run("web", [Lines(), WriteDocuments()])
    build("fit").mkdir()
    build("fit", "weights").write_bytes(bytes(range(256)))
    commit(web=build("web"), fit=build("fit"))


def store() -> Store:
    return Store(cache(), scratch())


def findings(**options: bool) -> list[tuple[int, str, str]]:
    report = check_build(**options)
    return [(finding.fault, finding.stage, str(finding.name)) for finding in report.findings]


def check_build(**options: bool) -> Report:
    return check(read_lock(), store(), **options)


def flip(path: Path, at: int = 40) -> None:
    """Flip one bit in place; inode, mode, size and time stay."""
    stat = path.stat()
    with open(os.open(path, os.O_RDWR), "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_whole_build_is_whole() -> None:
    report = check_build()
    assert (report.code, report.objects, report.stages) == (0, 8, 2)
    assert "8 objects" in report.summary() and "all whole" in report.summary()


def test_one_flipped_bit_is_found_and_its_stage_and_shard_are_named() -> None:
    flip(build("web", "1.parquet"))
    assert findings() == [(Fault.CORRUPT, "web", "build/web/1.parquet")]
    assert "corrupt      web                build/web/1.parquet: .dvc/cache" in str(
        check_build().findings[0]
    )


def test_a_copy_in_build_is_compared_too() -> None:
    flip(build("fit", "weights"))
    assert findings() == [(Fault.CORRUPT, "fit", "build/fit/weights")]
    assert findings(build=False) == []


def test_truncated_swapped_missing_and_extra_files_are_found() -> None:
    first, second = (
        store().object(md5_and_sha256(build("web", name))[0]) for name in ("0.parquet", "2.parquet")
    )
    data = first.read_bytes(), second.read_bytes()
    for path, other in ((first, data[1]), (second, data[0])):
        path.unlink()
        path.write_bytes(other)
    build("web", "more.parquet").write_bytes(b"more")
    store().object(md5_and_sha256(build("fit", "weights"))[0]).unlink()
    assert sorted(findings()) == [
        (Fault.CORRUPT, "web", "build/web/0.parquet"),
        (Fault.CORRUPT, "web", "build/web/2.parquet"),
        (Fault.CORRUPT, "web", "build/web/more.parquet"),
        (Fault.MISSING, "fit", "build/fit/weights"),
    ]
    assert check_build().code == Fault.CORRUPT | Fault.MISSING


def test_a_damaged_listing_is_reported_as_the_folder() -> None:
    md5 = read_lock()["web"].outs[0].md5
    assert md5
    flip(store().object(md5))
    assert findings() == [(Fault.CORRUPT, "web", "build/web")]


def test_a_folder_that_is_not_checked_out_is_one_finding() -> None:
    shutil.rmtree(build("web"))
    assert findings() == [(Fault.MISSING, "web", "build/web")]


def test_an_output_without_md5_is_unverifiable() -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["fit"]["outs"][0] |= {"hash": "etag", "etag": "x"}
    del lock["stages"]["fit"]["outs"][0]["md5"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert findings() == [(Fault.UNVERIFIABLE, "fit", "build/fit")]


def test_the_ledger_law_is_verified_in_the_manifests() -> None:
    manifest = Manifest.read(build("web"))
    name, record = manifest.tasks[0]
    broken = replace(record, ledger=replace(record.ledger, rows_in=7))
    path = build("web", "manifest.json")
    Manifest("web", ((name, broken), *manifest.tasks[1:])).write(build("web"))
    commit(web=build("web"))
    assert [finding.what.partition(":")[0] for finding in check_build().findings] == ["shard 0"]
    values = json.loads(path.read_text())
    values["tasks"][0]["ledger"]["rows_in"], values["ledger"]["rows_in"] = 1, 99
    path.write_text(json.dumps(values))
    commit(web=build("web"))
    assert "is not the sum of its shards'" in check_build().findings[0].what


def test_rows_and_digests_are_verified_against_the_manifest() -> None:
    values = json.loads(build("web", "manifest.json").read_text())
    values["tasks"][0]["files"][0]["sha256"] = "0" * 64
    values["tasks"][2]["files"][0]["rows"] = values["tasks"][2]["ledger"]["rows_out"] = 2
    values["tasks"][2]["ledger"]["rows_in"] = 2
    values["ledger"] |= {"rows_in": 5, "rows_out": 4}
    build("web", "manifest.json").write_text(json.dumps(values))
    commit(web=build("web"))
    texts = [finding.what for finding in check_build().findings]
    assert len(texts) == 2 and "expected sha256 0000" in texts[0]
    assert texts[1] == "holds 1 rows, its manifest says 2"


def test_a_manifest_must_agree_with_the_listing() -> None:
    build("web", "stray.parquet").write_bytes(b"no record of it")
    commit(web=build("web"))
    assert [finding.what for finding in check_build().findings] == [
        "does not agree with the folder's listing on stray.parquet"
    ]


def test_folders_in_a_folder_have_manifests_of_their_own() -> None:
    run("web/inner", [Lines(), WriteDocuments()])
    commit(web=build("web"))
    assert check_build().code == 0
    build("web", "inner", "stray.parquet").write_bytes(b"no record of it")
    commit(web=build("web"))
    assert [(str(finding.name), finding.what) for finding in check_build().findings] == [
        (
            "build/web/inner/manifest.json",
            "does not agree with the folder's listing on stray.parquet",
        )
    ]


def test_a_quick_check_sees_rewritten_files_but_not_those_with_a_kept_time() -> None:
    stamps = Stamps()
    assert check(read_lock(), store(), stamps=stamps).hashed
    stamps.write()
    assert check(read_lock(), store(), stamps=Stamps.read()).hashed == 0
    flip(build("web", "0.parquet"))
    assert check(read_lock(), store(), stamps=Stamps.read()).code == 0  # the price of speed
    assert check_build().code == Fault.CORRUPT
    build("web", "1.parquet").touch()
    assert (
        check(read_lock(), store(), stamps=Stamps.read()).hashed
        == build("web", "1.parquet").stat().st_size
    )


def test_damaged_stamps_count_as_none() -> None:
    stamps = Stamps()
    check(read_lock(), store(), stamps=stamps)
    stamps.write()
    data = (scratch() / "verified.json").read_bytes()
    for length in range(0, len(data), 7):
        (scratch() / "verified.json").write_bytes(data[:length])
        assert Stamps.read().known == {}


def test_objects_of_earlier_builds_are_verified_on_request() -> None:
    keep(b"old", hashlib.md5(b"old").hexdigest())
    keep(b"rotten", hashlib.md5(b"fresh").hexdigest())
    report = check_build()
    check_rest(report, store())
    assert [(finding.fault, finding.stage, finding.md5) for finding in report.findings] == [
        (Fault.CORRUPT, "(earlier build)", hashlib.md5(b"fresh").hexdigest())
    ]


def test_index_entries_of_damaged_objects_are_quarantined_and_others_kept() -> None:
    manifest = Manifest.read(build("web"))
    first, second = (record for _, record in manifest.tasks[:2])
    remove_entries({first.files[0].md5}, store())
    assert store().get(first.key) is None and store().get(second.key) == second


def entry_path(key: str) -> Path:
    return scratch("index", key[:2], f"{key}.json")


@pytest.mark.parametrize("damage", ["another key", "other rows"])
def test_a_wrong_entry_of_the_index_is_told_and_its_shard_made_again(
    damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Manifest.read(build("web"))
    first, second = (entry for _, entry in whole.tasks[:2])
    data = entry_path(second.key).read_text()
    if damage == "another key":
        entry_path(first.key).write_text(data)
    else:
        entry_path(second.key).write_text(data.replace('"rows_in": 2', '"rows_in": 3'))
    assert len([entry for entry in whole.entries() if store().get(entry.key) is None]) == 1
    Path("dvc.lock").unlink()  # which would bring the entry back
    made = run("web", [Lines(), WriteDocuments()])
    assert (made, made.made) == (whole, 1)
    assert capsys.readouterr().err.count("is not the entry of its key; it is made again") == 1


def test_an_entry_with_other_rows_than_its_input_is_told_and_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = [ReadShards(folder=build("web")), WriteDocuments()]
    whole = run("copy", blocks)
    name, entry = whole.tasks[0]
    store().write_entry(replace(entry, ledger=Ledger(rows_in=9, rows_out=9)), {})
    assert run("copy", blocks) == whole
    assert f"copy: shard {name}: was made of 9 rows, its input has 1" in capsys.readouterr().err


def test_an_object_is_hashed_before_its_first_use_and_once() -> None:
    (entry,) = [entry for _, entry in Manifest.read(build("web")).tasks[:1]]
    path = store().object(entry.files[0].md5)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(b"x" * len(whole))  # as fetched: another inode, the same size
    assert store().get(entry.key) is None
    path.write_bytes(whole)
    assert store().get(entry.key) == entry
    flip(path)  # the price of speed, as above
    assert store().get(entry.key) == entry


def test_an_intermediate_is_verified_and_made_again_when_a_reader_finds_it_damaged() -> None:
    blocks = [ReadShards(folder=build("web")), WriteColumns(columns={"source": "string"})]
    made = make_shards("card/web", blocks)  # of three shards with the same bytes
    _, file = next(made.files())
    path = store().object(file.md5)
    whole = path.read_bytes()
    flip(path)
    assert [(finding.fault, finding.stage) for finding in check_build().findings] == [
        (Fault.CORRUPT, "card/web")
    ]
    with pytest.raises(DamagedShard, match="was changed after it was built"):
        Shard(path, file.rows, file.sha256).bytes()
    assert make_shards("card/web", blocks).made == 3
    assert path.read_bytes() == whole and check_build().code == 0


def test_how_a_stage_came_about_is_in_no_key_and_no_manifest() -> None:
    blocks = [ReadShards(folder=build("web")), WriteColumns(columns={"source": "string"})]
    fresh, cached = make_shards("card/web", blocks), make_shards("card/web", blocks)
    assert (fresh.made, cached.made) == (3, 0)
    assert jsonable(fresh) == jsonable(cached) and fresh.dump() == cached.dump()


def test_a_repair_blames_what_changed_and_nothing_else() -> None:
    before = read_lock()["fit"]
    (dep,) = before.deps
    after = replace(before, read={dep: "0" * 32})
    assert cause_of_difference(before, after) == f"{dep} changed since it was built"
    assert "the same bytes twice" in cause_of_difference(before, before)


def test_quarantine_keeps_everything_under_its_own_path() -> None:
    for text in ("one", "two"):
        Path("lines/0.txt").write_text(text)
        quarantine(Path("lines/0.txt"))
    assert not Path("lines/0.txt").exists()
    assert [path.read_text() for path in sorted(scratch("quarantine").rglob("0.txt"))] == [
        "one",
        "two",
    ]


def test_nothing_is_moved_while_a_build_runs() -> None:
    with all_stages_locked("is repairing files"):
        pass
    with (
        locked("web"),
        pytest.raises(LockedError, match=f"web: process {os.getpid()} is building it"),
        all_stages_locked("is repairing files"),
    ):
        pass


@pytest.mark.parametrize(
    "value",
    [{"suffix": "../../x"}, {"suffix": "/etc/x"}, {"md5": "../../../etc/passwd"}, {"sha256": ""}],
    ids=str,
)
def test_a_pulled_entry_that_leads_out_of_its_folder_is_refused(value: dict) -> None:
    manifest = json.loads(build("web", "manifest.json").read_text())
    manifest["tasks"][0]["files"][0] |= value
    with pytest.raises(ValueError, match="expected a file name, an md5 and a sha256"):
        Manifest.parse(json.dumps(manifest).encode())
    key = manifest["tasks"][0]["key"]
    scratch("index", key[:2], f"{key}.json").write_text(json.dumps(manifest["tasks"][0]))
    assert store().get(key) is None


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "dvc.lock: is missing, .*restore it with `git checkout dvc.lock`"),
        ("stages:", "dvc.lock: is not a lock file of DVC .*; `make doctor` names the remedy"),
    ],
)
def test_garbage_is_not_collected_without_a_valid_lock_file(text: str | None, words: str) -> None:
    Path("dvc.lock").unlink()
    if text:
        Path("dvc.lock").write_text(text)
    with pytest.raises(DamagedLockFile, match=words):
        collect_garbage()


def test_a_damaged_lock_file_is_unverifiable(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").write_text("stages:")
    assert verify() == Fault.UNVERIFIABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dvc.lock: is not a lock file of DVC") and "`make doctor`" in line


def test_makers_come_before_readers() -> None:
    assert list(read_lock()) == ["web", "fit"]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "./a",
        ".",
        "..",
        "",
        "a\0b",
        "a\\..\\b",
        "a/",
        "x" * 256,
        "\ud800",
        7,
    ],
)
def test_names_that_lead_out_of_a_folder_are_refused(name: object) -> None:
    assert not is_safe_name(name)
    with pytest.raises(DamagedLockFile):
        read_listing(json.dumps([{"md5": "a" * 32, "relpath": name}]).encode())


@pytest.mark.parametrize(
    "entries",
    [
        [{"md5": "../../x", "relpath": "a"}],
        [{"md5": "a" * 32}],
        {"a": 1},
        [1],
        7,
        None,
        "x",
        [{"md5": "a" * 32, "relpath": "a"}] * 2,
        [{"md5": "a" * 32, "relpath": "a"}, {"md5": "a" * 32, "relpath": "a/b"}],
    ],
)
def test_an_invalid_listing_is_refused(entries: object) -> None:
    with pytest.raises(DamagedLockFile):
        read_listing(json.dumps(entries).encode())


def test_a_listing_is_written_as_dvc_does() -> None:
    assert write_listing({"b": "2" * 32, "a/c": "1" * 32}) == (
        b'[{"md5": "%s", "relpath": "a/c"}, {"md5": "%s", "relpath": "b"}]' % (b"1" * 32, b"2" * 32)
    )


def test_a_pulled_listing_that_leads_out_is_a_finding_and_not_followed(tmp_path: Path) -> None:
    data = json.dumps([{"md5": hashlib.md5(b"x").hexdigest(), "relpath": "../../evil"}]).encode()
    md5 = hashlib.md5(data).hexdigest() + ".dir"
    keep(data, md5)
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["fit"]["outs"][0]["md5"] = md5
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    (finding,) = check_build().findings
    assert (finding.fault, finding.stage) == (
        Fault.CORRUPT,
        "fit",
    ) and "outside of its folder" in finding.what
