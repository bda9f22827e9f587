"""Leftovers of a crash are reported in one line with the remedy, and quarantined."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from safelm.builder.dvc_locks import remove_ended
from safelm.builder.manifest import Ledger
from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.builder.supervision import is_alive
from safelm.maintenance.doctor import dvc, examine, leftovers, lock_copy, surroundings
from safelm.maintenance.doctor.diagnosis import Diagnosis
from safelm.maintenance.doctor.run_cache import entry_digest, run_cache
from safelm.maintenance.verify.lock_file import DamagedLockFile, read_lock

LOCK = """schema: '2.0'
stages:
  web:
    cmd: python -m pipeline.web
    deps:
    - path: lines
      hash: md5
      md5: 43c23b21b6c11c4b6aa26d75758d784f.dir
      size: 12
      nfiles: 1
    params:
      params.yaml:
        web:
          rate: 0.00001
    outs:
    - path: build/web
      hash: md5
      md5: 664eee805aa27a2250ea0a5b6045a35a.dir
      size: 901912
      nfiles: 7
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SAFELM_")]:
        monkeypatch.delenv(name)
    dvc.FOLDER.mkdir(parents=True)
    Path(".dvc/config").write_text(
        '[core]\n    analytics = false\n[cache]\n    type = "reflink,hardlink,copy"\n'
    )


def lines(check: Callable[[], Iterator[Diagnosis]]) -> list[str]:
    texts = [str(diagnosis) for diagnosis in check()]
    assert all("\n" not in text and "; " in text for text in texts)
    return texts


def between_builds() -> list[Diagnosis]:
    return list(chain.from_iterable(check() for check in examine.BETWEEN_BUILDS))


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_valid_project_has_no_diagnosis() -> None:
    write("dvc.lock", LOCK)
    write(".dvc/tmp/rwlock", '{"write": {}}')
    assert examine.check_before_build() == []
    assert between_builds() == []
    for check in examine.ALL:
        if check is not surroundings.disk:  # this machine's may be full
            assert list(check()) == []


def test_an_empty_lock_file_is_reported_with_its_remedy() -> None:
    write("dvc.lock", "")
    (line,) = lines(dvc.lock_file)
    assert (
        line.startswith("dvc.lock: is not a lock file of DVC (0 bytes")
        and "make doctor FIX=1" in line
    )


def test_a_torn_lock_file_is_restored_at_every_length_and_a_conflict_is_not() -> None:
    write("dvc.lock", LOCK)
    lock_copy.keep_lock_file()
    for length in range(len(LOCK)):
        write("dvc.lock", LOCK[:length])
        lock_copy.keep_lock_file()
        restored = lock_copy.restore_lock_file()
        assert bool(restored) == (Path("dvc.lock").read_text() == LOCK), length
        lock_copy.keep_lock_file()
        read_lock()
        write("dvc.lock", LOCK)
        lock_copy.keep_lock_file()
    write("dvc.lock", f"<<<<<<< HEAD\n{LOCK}")
    assert lock_copy.restore_lock_file() == ""
    Path("dvc.lock").unlink()
    assert lock_copy.restore_lock_file() == "" and not Path("dvc.lock").exists()


def test_the_doctor_restores_a_torn_lock_file_and_keeps_what_was_there() -> None:
    write("dvc.lock", LOCK)
    lock_copy.keep_lock_file()
    write("dvc.lock", "stages:")
    (line,) = lines(dvc.lock_file)
    assert "`make doctor FIX=1` or a build restores the copy" in line
    (diagnosis,) = examine.run_check(dvc.lock_file, True)
    assert diagnosis.is_fixed and Path("dvc.lock").read_text() == LOCK
    assert [path.read_text() for path in scratch("quarantine").rglob("dvc.lock")] == ["stages:"]


@pytest.mark.parametrize(
    "old, new",
    [
        ("'2.0'", "'1.0'"),
        ("cmd: python -m pipeline.web", "x: 1"),
        ("664eee805aa27a2250ea0a5b6045a35a.dir", "664"),
        ("- path: build/web", "- x: y"),
        ("nfiles: 7", "nfiles: '7'"),
        ("schema", "{schema"),
        ("stages:", "stages: 1\nx:"),
        ("    outs:\n    - path", "    outs: 1\n    x:\n    - path"),
        ("rate: 0.00001", "rate: &a [*a]"),
        ("web:", "\0:"),
    ],
)
def test_a_lock_that_dvc_did_not_write_is_refused(old: str, new: str) -> None:
    assert old in LOCK
    write("dvc.lock", LOCK.replace(old, new))
    if "*a" in new:
        assert read_lock()["web"].name == "web"  # an alias is YAML; params are not ours to judge
        return
    with pytest.raises(DamagedLockFile):
        read_lock()


def test_a_torn_rwlock_is_reported_unless_dvc_is_writing_it() -> None:
    write(".dvc/tmp/rwlock", '{"write": {"/a": {"pi')
    (line,) = lines(dvc.rwlock)
    assert line.startswith(".dvc/tmp/rwlock: is torn (21 bytes)")
    with open(".dvc/tmp/rwlock.lock", "a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert lines(dvc.rwlock) == []


def test_a_build_empties_a_torn_rwlock() -> None:
    for torn in ("", '{"write": {"/a": {"pi', "[1]"):
        write(".dvc/tmp/rwlock", torn)
        assert remove_ended() == ["a process was killed while it wrote to it"]
        assert Path(".dvc/tmp/rwlock").read_text() == "{}" and lines(dvc.rwlock) == []


def hold_rwlock(pid: int) -> None:
    write(".dvc/tmp/rwlock", json.dumps({"write": {"/a": {"pid": pid, "cmd": "dvc repro"}}}))


def test_rwlock_of_a_dead_process_is_left_to_dvc() -> None:
    hold_rwlock(2**22 + 1)
    assert lines(dvc.rwlock) == []


def test_rwlock_of_a_zombie_is_a_leftover() -> None:
    process = subprocess.Popen(["true"])
    while is_alive(process.pid):
        time.sleep(0.01)
    hold_rwlock(process.pid)
    (line,) = lines(dvc.rwlock)
    process.wait()
    assert f"its process {process.pid} is a zombie" in line


def test_rwlock_of_a_recycled_process_number_is_a_leftover() -> None:
    process = subprocess.Popen(["sleep", "30"])
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    hold_rwlock(process.pid)
    (line,) = lines(dvc.rwlock)
    process.kill()
    process.wait()
    assert f"its number {process.pid} belongs to another program now" in line


def test_a_dead_process_is_removed_from_the_rwlock_and_a_living_one_stays() -> None:
    process = subprocess.Popen(["true"])
    while is_alive(process.pid):
        time.sleep(0.01)
    dead = {"pid": process.pid, "cmd": "/bin/dvc repro"}
    living = {"pid": os.getpid(), "cmd": Path("/proc/self/cmdline").read_text().replace("\0", " ")}
    values = {"write": {"/a": dead, "/b": living}, "read": {"/c": [dead], "/d": [dead, living]}}
    write(".dvc/tmp/rwlock", json.dumps(values))
    (diagnosis,) = examine.run_check(dvc.rwlock, True)
    process.wait()
    assert diagnosis.is_fixed and f"its process {process.pid} is a zombie" in str(diagnosis)
    left = json.loads(Path(".dvc/tmp/rwlock").read_text())
    assert left == {"write": {"/b": living}, "read": {"/d": [living]}}
    assert list(dvc.rwlock()) == []


def test_a_full_disk_is_named_where_sqlite_blames_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert dvc.outside_cause() is None
    monkeypatch.setattr(dvc, "ROOM", 1 << 60)
    cause = str(dvc.outside_cause())
    assert cause.startswith(".dvc/tmp: ") and "bytes are free, and DVC's databases need" in cause


def run_entry() -> tuple[Path, str]:
    """Return an entry of the run cache as DVC writes it, named by the digest of its content."""
    import yaml

    text = LOCK.partition("  web:\n")[2].replace("\n    ", "\n").removeprefix("    ")
    name = entry_digest(yaml.safe_load(text))
    return Path(f".dvc/cache/runs/ab/{'ab' * 32}/{name}"), text


def test_the_run_cache_is_whole_or_reported() -> None:
    path, text = run_entry()
    write(str(path), text)
    assert lines(run_cache) == []
    write(str(path), text.replace("rate: 0.00001", "rate: 1e-05"))  # as DVC's YAML writes it
    assert lines(run_cache) == []
    write(f"{path.parent}/.Xyz.tmp", "")
    (line,) = lines(run_cache)
    assert line.startswith(
        f"{path.parent}/.Xyz.tmp: an entry of DVC's run cache was being written (0 bytes)"
    )


def test_a_folder_of_the_run_cache_with_nothing_whole_goes_as_one() -> None:
    path, text = run_entry()
    write(str(path), text[:100])
    (diagnosis,) = run_cache()
    assert diagnosis.leftover == path.parent and "is damaged (100 bytes)" in str(diagnosis)
    path.unlink()
    (diagnosis,) = run_cache()
    assert diagnosis.leftover == path.parent and "is empty" in str(diagnosis)


def test_every_length_of_a_run_cache_entry_is_reported() -> None:
    path, text = run_entry()
    assert text.endswith("  size: 901912\n  nfiles: 7\n")
    harmless = {
        len(text) - len("  nfiles: 7\n"),
        len(text) - len("  size: 901912\n  nfiles: 7\n"),
    }  # only a size less
    for length in range(len(text)):
        write(str(path), text[:length])
        assert len(lines(run_cache)) == (length not in harmless), length


def test_a_listing_that_leads_out_is_reported_before_a_checkout() -> None:
    write("dvc.lock", LOCK)
    listing = json.dumps([{"md5": "a" * 32, "relpath": "../../.bashrc"}])
    write(str(Store(cache(), scratch()).object("664eee805aa27a2250ea0a5b6045a35a.dir")), listing)
    (line,) = lines(dvc.listings)
    assert (
        "the listing of build/web (web) names a file outside of its folder" in line
        and "do not run" in line
    )
    assert [str(diagnosis) for diagnosis in examine.check_before_build()] == [line]


def test_leftovers_and_nothing_else_are_reported_and_quarantined() -> None:
    store = Store(cache(), scratch())
    with store.temporary_directory("k" * 64) as folder:
        (folder / ".txt").write_text("whole")
        entry = store.commit("k" * 64, folder, {".txt": 1}, Ledger())
    write(".dvc/cache/files/md5/.abc.tmp", "half")
    write(".dvc/cache/files/md5/ab/.cdef.tmp", "half")
    write(".safelm/attempts/0123.host.1/.parquet", "half")
    write(".safelm/index/ab/abcd.json", '{"key": "ab')
    write(".safelm/index/ab/.abcd.json.host.1", "")
    leftovers = [diagnosis.leftover for diagnosis in between_builds()]
    assert len(leftovers) == 5 and all(path and path.exists() for path in leftovers)
    fixed = chain.from_iterable(examine.run_check(check, True) for check in examine.BETWEEN_BUILDS)
    assert [diagnosis.is_fixed for diagnosis in fixed] == [True] * 5
    assert between_builds() == []
    kept = [path.read_text() for path in scratch("quarantine").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(["half", "half", "half", '{"key": "ab', ""])
    assert store.get("k" * 64) == entry


def test_a_variable_that_nothing_reads_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFELM_WORKER", "2")
    monkeypatch.setenv("SAFELM_WORKERS", "many")
    assert lines(surroundings.variables) == [
        "SAFELM_WORKER: is no variable that SafeLM reads; unset it; did you mean SAFELM_WORKERS?",
        "SAFELM_WORKERS: expected a whole number above 0 (got 'many'); unset it for the default",
    ]


@pytest.mark.parametrize(
    "old, new",
    [
        ('type = "reflink,hardlink,copy"', "type = copy"),
        ("analytics = false", "analytics = true"),
        ("[core]", "['remote \"r\"']\n    url = /r\n[core]"),
        (
            "[core]",
            "['remote \"r\"']\n    url = /r\n    verify = true\n    secret_access_key = x\n[core]",
        ),
    ],
)
def test_settings_that_lose_disk_space_safety_or_privacy_are_reported(old: str, new: str) -> None:
    path = Path(".dvc/config")
    assert lines(surroundings.configuration) == []
    path.write_text(path.read_text().replace(old, new))
    (line,) = lines(surroundings.configuration)
    assert line.startswith(".dvc/config: ") and "= x" not in line


def test_settings_that_cannot_be_read_are_the_only_diagnosis() -> None:
    Path(".dvc/config").write_text("[core")
    (line,) = lines(surroundings.readable)
    assert line.startswith(".dvc/config: cannot be read (File contains no section headers")
    assert [str(diagnosis) for diagnosis in examine.examine()] == [line]


def test_a_secret_in_the_local_settings_is_allowed() -> None:
    write(".dvc/config.local", "['remote \"r\"']\n    secret_access_key = x\n")
    assert lines(surroundings.configuration) == []


def test_little_room_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "FREE", 1 << 60)
    texts = lines(surroundings.disk)
    assert len(texts) == 2 and all("are free for" in line for line in texts)


def test_a_cache_elsewhere_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(surroundings, "FREE", 0)
    monkeypatch.setattr(surroundings, "FREE_SHARE", 0)
    elsewhere = next(
        (path for path in map(Path, ("/dev/shm", "/run", "/proc")) if path.is_dir()), None
    )
    if elsewhere is None or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    Path(".dvc/config").write_text(f"[cache]\n    dir = {elsewhere}\n")
    assert any("on another file system than build/" in line for line in lines(surroundings.disk))


def test_versions_that_the_lock_does_not_name_are_reported() -> None:
    write("requirements.lock", f"pytest=={pytest.__version__}\nnumpy==0.1\nnot-there==1.0\n")
    (line,) = lines(surroundings.python)
    assert (
        "numpy " in line and "for 0.1" in line and "pytest" not in line and "not-there" not in line
    )


def test_a_damaged_lock_file_is_quarantined() -> None:
    write("dvc.lock", "")
    (diagnosis,) = examine.run_check(dvc.lock_file, True)
    assert diagnosis.is_fixed and not Path("dvc.lock").exists()
    assert list(leftovers.quarantined()) == []  # 0 bytes


@pytest.mark.parametrize("command", ["doctor", "verify"])
def test_help_explains_the_exit_code(command: str) -> None:
    root = Path(surroundings.__file__).parents[3]
    words = [sys.executable, "-m", "pipeline", command, "--help"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0 and "exit code" in done.stdout
