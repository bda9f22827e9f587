"""DVC is killed at any of its file operations (K4).

The next build succeeds, or `doctor` names the cause and heals it. DVC writes some files in place;
one that a crash left empty stops it for ever.
"""

import json
import random
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from safelm.builder.status import outdated
from tests.faults import forked
from tests.faults.inject import Fault
from tests.faults.toy import ROOT, SMALL, State, Toy
from tests.faults.whole import torn


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, State, list[str]]:
    """A project whose shards are made, its state when built, and DVC's operations until then."""
    toy = Toy.make(tmp_path_factory.mktemp("dvc") / "toy", files=2, rows=6)
    assert forked.build(toy, "ingest web").code == 0
    done = toy.copy(tmp_path_factory.mktemp("done") / "toy")
    operations = done.root.parent / "operations"
    inject(done, Fault(), operations)
    done.build("--single-item", "ingest")
    return toy, done.state(), operations.read_text().splitlines()


def inject(toy: Toy, fault: Fault, log: Path) -> None:
    """Inject a fault into DVC in this project, from now on."""
    toy.environment = {
        "PYTHONPATH": f"{ROOT / 'tests/faults/site'}:{ROOT}",
        "SAFELM_FAULT": json.dumps(asdict(fault)),
        "SAFELM_FAULT_LOG": str(log),
    }


def faults(operations: list[str]) -> list[Fault]:
    """List a kill before every operation, and one after every file opened, empty or half full."""
    opened = [at for at, name in enumerate(operations, 1) if name.startswith("open ")]
    every = [Fault(at, "kill") for at in range(1, len(operations) + 1)]
    for at in opened:
        every += [Fault(at, "truncated"), Fault(at, "partial")]
    random.Random(2).shuffle(every)
    return every


@pytest.mark.cases(quick=3, full=60)
def test_dvc_heals_or_is_healed(
    case: int, whole: tuple[Toy, State, list[str]], tmp_path: Path
) -> None:
    unbuilt, state, operations = whole
    fault = faults(operations)[case]
    toy = unbuilt.copy(tmp_path / "toy")
    inject(toy, fault, tmp_path / "log")
    killed = toy.repro("--single-item", "ingest")
    assert killed.wait() == -signal.SIGKILL, killed.text
    killed.kill_group()
    toy.environment = {}
    again = toy.repro("--single-item", "ingest")
    if again.wait():
        where = operations[fault.at - 1]
        line = again.text.strip().splitlines()[-1][:200]
        print(f"K4: DVC is stopped by a kill at {where} ({fault.mode}): {line}")
        doctor = toy.start("pipeline", "doctor", "--fix")
        doctor.wait()
        last = toy.repro("--single-item", "ingest")
        assert last.wait() == 0, (where, again.text, doctor.text, last.text)
    assert toy.state().files == state.files
    assert torn(toy.root) == []


def test_a_torn_lock_file_is_restored_by_the_next_build(tmp_path: Path) -> None:
    """DVC writes dvc.lock in place: a full disk empties it, and DVC refuses to read it."""
    toy = Toy.make(tmp_path / "toy", **SMALL)
    assert (first := toy.start("pipeline.project")).wait() == 0, first.text
    state = toy.state()
    (toy.root / "dvc.lock").write_text("")
    second = toy.start("pipeline.project")
    assert second.wait() == 0, second.text
    assert "dvc.lock: was torn (0 bytes) and is again as of" in second.text
    assert "everything is up to date" in second.text and toy.state() == state


def test_a_build_that_would_fill_the_disk_is_refused_before_it_starts(tmp_path: Path) -> None:
    toy = Toy.make(tmp_path / "toy", **SMALL)
    toy.environment["SAFELM_FREE_GB"] = "1000000"
    refused = toy.start("pipeline.project")
    assert refused.wait() == 1 and "Running stage" not in refused.text
    assert "GB are free, and 1,000,000.0 GB may be needed (SAFELM_FREE_GB)" in refused.text
    assert not (toy.root / "build").exists()


def test_the_estimate_is_what_the_last_build_wrote(finished: Toy) -> None:
    assert outdated() == ({}, 0)
    for name in ("tag", "tokenizer"):
        shutil.rmtree(finished.root / "build" / name)
    needs, expected = outdated()
    lock = yaml.safe_load((finished.root / "dvc.lock").read_text())["stages"]
    assert set(needs) == {"tag", "tokenizer"}
    assert expected == sum(lock[name]["outs"][0]["size"] for name in needs) > 0
    (finished.root / "dvc.lock").unlink()
    inputs = sum(path.stat().st_size for path in (finished.root / "web").iterdir())
    assert inputs < outdated().bytes < inputs + 10_000_000


def test_a_limit_of_file_sizes_is_named_and_no_database_is_blamed(tmp_path: Path) -> None:
    toy = Toy.make(tmp_path / "toy", **SMALL)
    command = 'ulimit -f 8; exec "$@"'
    limited = toy.start("pipeline.project", prefix=("bash", "-c", command, "bash"))
    assert limited.wait() == 1
    assert "ulimit -f: lets no file grow beyond 8,192 bytes" in limited.text
    assert "damaged" not in limited.text and "Traceback" not in limited.text
    again = toy.start("pipeline.project")
    assert again.wait() == 0, again.text
