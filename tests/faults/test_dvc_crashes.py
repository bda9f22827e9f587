"""DVC is killed at any of its file operations (K4).

The next build succeeds, or `doctor` names the cause and heals it. DVC writes some files in place;
one that a crash left empty stops it for ever.
"""

import json
import random
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults import forked
from tests.faults.inject import Fault
from tests.faults.toy import ROOT, State, Toy
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
