"""Small files of DVC and of the store, cut at every length (I4).

They are used as they are, made anew, or reported in one line.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from dvc.rwlock import SCHEMA as RWLOCK_SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from voluptuous import Invalid

from safelm.builder.manifest import DamagedShard, Manifest, ManifestEntry
from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.doctor import dvc, examine, leftovers, surroundings
from safelm.maintenance.doctor.diagnosis import Diagnosis
from safelm.maintenance.doctor.run_cache import entry_digest, run_cache
from tests.faults.toy import Toy

Counter = Callable[[int, int], int]


def lengths(size: int, number: int) -> Sequence[int]:
    """Choose so many lengths from 0 on, evenly; all if there are no more."""
    return (
        sorted({size * index // number for index in range(min(number, size))})
        if number < size
        else range(size)
    )


def reported(check: Callable[[], Iterator[Diagnosis]]) -> list[str]:
    lines = [str(diagnosis) for diagnosis in check()]
    assert all("\n" not in line and "Traceback" not in line for line in lines)
    return lines


def dvc_takes(text: str) -> bool:
    """Return whether DVC itself reads a lock file of this text."""
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, "dvc.lock"))
        return True
    except (YAMLFileCorruptedError, Invalid):
        return False


def test_a_lock_of_every_length_is_reported_unless_dvc_takes_it(
    finished: Toy, count: Counter
) -> None:
    path = Path("dvc.lock")
    whole = path.read_bytes()
    for length in lengths(len(whole), count(60, 10**6)):
        path.write_bytes(whole[:length])
        assert len(reported(dvc.lock_file)) == 1 or dvc_takes(whole[:length].decode()), length


@pytest.mark.cases(quick=1, full=20)
def test_a_torn_lock_costs_no_work(finished: Toy, oracle: Toy, case: int) -> None:
    path = Path("dvc.lock")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * case // 20])
    if reported(dvc.lock_file):
        build = finished.start("pipeline", "build", "--jobs", "1")
        assert (
            build.wait() == 1
            and build.text.startswith("dvc.lock: ")
            and build.text.count("\n") == 1
        ), build.text
        doctor = finished.start("pipeline", "doctor", "--fix")
        assert doctor.wait() == 0, doctor.text
    printed = finished.build()
    assert sum(finished.made(printed).values()) == 0
    assert finished.state() == oracle.state()


def test_an_rwlock_of_every_length_is_reported_unless_dvc_takes_it(finished: Toy) -> None:
    holder = {"pid": 2**22 + 1, "cmd": "dvc repro"}
    whole = json.dumps(
        {"write": {"/a/build/score": holder}, "read": {"/a/build/web": [holder, holder]}}
    )
    for length in range(len(whole) + 1):
        Path(".dvc/tmp/rwlock").write_text(whole[:length])
        try:
            takes = bool(RWLOCK_SCHEMA(json.loads(whole[:length])))
        except (ValueError, Invalid):
            takes = False
        assert bool(reported(dvc.rwlock)) != takes, length


def test_an_entry_of_the_run_cache_of_every_length_is_reported(
    finished: Toy, count: Counter
) -> None:
    for path in sorted(Path(".dvc/cache/runs").glob("??/*/*"))[: count(1, 4)]:
        whole = path.read_bytes()
        for length in lengths(len(whole), count(200, 10**6)):
            path.write_bytes(whole[:length])
            assert reported(run_cache) or _content(whole[:length]) == _content(whole), (
                path,
                length,
            )
        path.write_bytes(whole)
    assert not reported(run_cache)


def _content(data: bytes) -> str:
    return entry_digest(parse_yaml(data.decode(), "run"))


@pytest.mark.cases(quick=1, full=18)
def test_a_torn_run_cache_is_quarantined_and_the_build_goes_on(
    finished: Toy, oracle: Toy, case: int
) -> None:
    left = ("temporary", "torn", "empty")[case % 3]
    entries = [
        path
        for path in sorted(Path(".dvc/cache/runs").glob("??/*/*"))
        if b"build/score" in path.read_bytes()
    ]
    for path in entries:
        data = path.read_bytes()
        path.unlink()
        if left == "torn":
            path.write_bytes(data[: len(data) * (case + 1) // 19])
        elif left == "temporary":
            path.with_name(".Ab3xQ.tmp").write_bytes(data[: len(data) * case // 18])
    assert reported(run_cache)
    doctor = finished.start("pipeline", "doctor", "--fix")
    assert doctor.wait() == 0, doctor.text
    Path("dvc.lock").unlink()
    printed = finished.build()
    assert sum(finished.made(printed).values()) == 0
    assert finished.state() == oracle.state()


def test_an_index_entry_of_every_length_is_not_done_and_reported(
    finished: Toy, count: Counter
) -> None:
    store = Store(cache(), scratch())
    path = sorted(Path(".safelm/index").glob("??/*.json"))[0]
    whole, record = path.read_bytes(), store.get(path.stem)
    values = json.loads(whole)
    assert record and json.loads(json.dumps(asdict(record))).items() <= values.items()
    assert values.keys() - asdict(record).keys() == {"digest", "stamps"}
    for length in lengths(len(whole), count(100, 10**6)):
        path.write_bytes(whole[:length])
        assert store.get(path.stem) is None and len(reported(leftovers.index_entries)) == 1, length
    assert isinstance(record, ManifestEntry)


def test_a_manifest_of_every_length_is_one_line(finished: Toy, count: Counter) -> None:
    path = Path("build/score/web/manifest.json")
    whole = path.read_bytes()
    path.unlink()
    for length in lengths(len(whole), count(100, 10**6)):
        path.write_bytes(whole[:length])
        try:
            assert Manifest.read(path.parent) == Manifest.parse(whole), length
        except DamagedShard as error:
            assert "\n" not in str(error) and "build/score" in str(error), length


def test_settings_of_every_length_are_reported_or_read(finished: Toy) -> None:
    path = Path(".dvc/config")
    whole = path.read_text()
    for length in range(len(whole)):
        path.write_text(whole[:length])
        if not reported(surroundings.readable):
            examine.check_before_build()


@pytest.mark.cases(quick=1, full=24)
def test_torn_databases_of_dvc_get_a_new_place(finished: Toy, oracle: Toy, case: int) -> None:
    finished.build()
    bases = sorted(Path(".dvc/site").rglob("cache.db"))
    path = bases[case % len(bases)]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * (2 * (case // 2) + 1) // 25])
    if finished.start("dvc", "status", "--quiet").wait() not in (0, 1):
        doctor = finished.start("pipeline", "doctor")
        assert doctor.wait() == 1 and "databases of known digests are damaged" in doctor.text, (
            doctor.text
        )
        assert doctor.text.count("\n") == 1, doctor.text
        assert finished.start("pipeline", "doctor", "--fix").wait() == 0
    assert "up to date" in finished.build()
    assert finished.state() == oracle.state()
