"""The same shards on a real Ray cluster and a real Slurm: equal bytes, and a killed worker loses
only its own.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.builder.blocks import Block, Input, Reader, Task
from safelm.builder.digest import file_digest
from safelm.builder.locks import StageError
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import WriteDocuments, text_digest
from tests.clusters import no_ray, no_slurm, ray_head, slurm_node
from tests.faults.toy import FILES, Running, Toy

CLUSTERS = [
    pytest.param("ray", marks=pytest.mark.ray),
    pytest.param("slurm", marks=pytest.mark.slurm),
]
MISSING = {"ray": no_ray, "slurm": no_slurm}
START = {"ray": ray_head, "slurm": slurm_node}
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
SHARDS = 4


class Lines(Reader):
    """A document for each line of each file of a folder."""

    folder: str

    def tasks(self) -> list[Task]:
        return [
            Task(file.stem, (Input(file, file_digest(file)),))
            for file in sorted(Path(self.folder).iterdir())
        ]

    def read(self, task: Task) -> Iterator[Document]:
        for text in task.inputs[0].path.read_text().splitlines():
            yield Document(text=text, id=text_digest(None, text), metadata={"source": "web"})


class Shout(Block):
    """Upper case. At a line `fuse`, a file of that name is removed and its worker is killed, as the
    system would.
    """

    def process(self, document: Document) -> Iterator[Document]:
        if document.text == "fuse" and Path("fuse").exists():
            Path("fuse").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        document.text = document.text.upper()
        yield document


def shout() -> dict[str, bytes]:
    """Build a stage; its files."""
    run("rephrase", [Lines(folder="lines"), Shout(), WriteDocuments()])
    return files(build("rephrase"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_lines(folder: Path) -> None:
    folder.mkdir()
    for index in range(SHARDS):
        (folder / f"{index}.txt").write_text(
            f"hello {index}\nfuse\n" if index == 2 else f"hello {index}\n"
        )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the stage as this machine makes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("local"))
        write_lines(Path("lines"))
        return shout()


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A cluster that was started: the environment in which a stage runs on it."""
    reason = MISSING[request.param]()
    if reason:
        pytest.skip(reason)
    with START[request.param](tmp_path_factory.mktemp(request.param)) as environment:
        yield {"SAFELM_EXECUTOR": request.param, "SAFELM_TASKS_PER_JOB": "2", **environment}


@pytest.fixture
def project(cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages run on the cluster."""
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    write_lines(Path("lines"))
    return tmp_path


def made(capsys: pytest.CaptureFixture[str]) -> int:
    return int(re.findall(r"\((\d+) made\)", capsys.readouterr().out)[-1])


def test_equal_bytes_and_nothing_the_second_time(
    project: Path,
    expected: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_KEY", "a secret of mine")
    assert shout() == expected
    for file in Path(".safelm/logs").rglob("executor.pik"):  # what a job of Slurm unpickles
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert b"a secret of mine" not in file.read_bytes()
    assert made(capsys) == SHARDS
    assert shout() == expected
    assert made(capsys) == 0


def test_a_killed_worker_is_an_error_and_costs_what_was_not_finished(
    project: Path, expected: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("fuse").touch()
    with pytest.raises(StageError, match=r"shard 2\b.*(WorkerCrashedError|Killed)"):
        shout()
    assert not Path("fuse").exists() and not build("rephrase").exists()
    finished = len(list(Path(".safelm/index").rglob("*.json")))
    assert shout() == expected
    assert made(capsys) == SHARDS - finished


def test_an_error_names_the_shard(project: Path) -> None:
    Path("lines/3.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(StageError, match="shard 3: UnicodeDecodeError"):
        shout()


def test_real_stages_give_the_same_build(
    cluster: dict[str, str], local: Toy, tmp_path: Path
) -> None:
    toy = Toy.make(tmp_path / "toy")
    toy.environment = {**cluster, "SAFELM_TASKS_PER_JOB": "4"}
    assert toy.made(toy.build()) == local.made((local.root / "out-1.log").read_text())
    assert toy.state() == local.state()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The small project, built on this machine."""
    toy = Toy.make(tmp_path_factory.mktemp("local") / "toy")
    toy.build()
    return toy


@pytest.mark.slurm
@pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
def test_code_that_was_edited_after_the_plan_makes_nothing(
    cluster: dict[str, str], local: Toy, tmp_path: Path
) -> None:
    toy = local.copy(tmp_path / "toy")
    forget(toy, "score/web")
    wait = "touch waiting; until test -e go; do sleep 0.1; done"
    toy.environment = {**cluster, "SAFELM_TASKS_PER_JOB": "8", "SAFELM_SLURM_SETUP": wait}
    running = toy.start("pipeline.score", "web")
    wait_for(toy.root / "waiting", running)
    toy.edit("safelm/builder/blocks.py", "import hashlib\n", "import hashlib\n\nEDITED = True\n")
    (toy.root / "go").touch()
    assert running.wait() != 0
    assert "the code of this stage differ from its plan" in running.text
    assert list(toy.root.rglob(".safelm/index/*/*.json")) == []


@pytest.mark.slurm
@pytest.mark.parametrize("cluster", ["slurm"], indirect=True)
def test_an_interrupted_stage_takes_its_jobs_along(
    cluster: dict[str, str], local: Toy, tmp_path: Path
) -> None:
    toy = local.copy(tmp_path / "toy")
    forget(toy, "score/web")
    toy.environment = {**cluster, "SAFELM_SLURM_SETUP": "touch waiting; sleep 600"}
    running = toy.start("pipeline.score", "web")
    wait_for(toy.root / "waiting", running)
    running.process.send_signal(signal.SIGINT)
    assert running.wait() != 0
    queue = ["squeue", "--noheader", "--states=PENDING,RUNNING"]
    assert (
        subprocess.run(
            queue, env=toy.variables(), capture_output=True, text=True, check=True
        ).stdout
        == ""
    )


def wait_for(path: Path, running: Running) -> None:
    while not path.exists():
        assert running.process.poll() is None, running.text[-3000:]
        time.sleep(0.1)


def forget(toy: Toy, stage: str) -> None:
    """Take away a stage's output and all that knows its shards."""
    for folder in (".safelm", f"build/{stage}"):
        shutil.rmtree(toy.root / folder)
    (toy.root / "dvc.lock").unlink()


LISTENING = """
import psutil
from safelm.cluster.ray import connection
with connection():
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    sockets = [socket for process in processes for socket in process.net_connections("inet")]
    print({socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN})
"""


@pytest.mark.ray
@pytest.mark.skipif(bool(no_ray()), reason=str(no_ray()))
def test_a_ray_of_its_own_listens_on_the_loopback_interface_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, check=True
    )
    addresses = ast.literal_eval(done.stdout.strip())
    assert addresses and addresses <= LOOPBACK


@pytest.mark.ray
@pytest.mark.skipif(bool(no_ray()), reason=str(no_ray()))
def test_a_ray_of_its_own_gives_the_same_stage(local: Toy, tmp_path: Path) -> None:
    toy = local.copy(tmp_path / "toy")
    forget(toy, "score/web")
    toy.environment = {"SAFELM_EXECUTOR": "ray"}
    running = toy.start("pipeline.score", "web")
    assert running.wait() == 0, running.text[-3000:]
    assert toy.made(running.text)["score/web"] == FILES
    assert files(toy.root / "build/score/web") == files(local.root / "build/score/web")


@pytest.mark.ray
@pytest.mark.parametrize("cluster", ["ray"], indirect=True)
def test_more_than_the_ray_cluster_has_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFELM_TASK_GPUS", "64")
    with pytest.raises(
        StageError,
        match=r"SAFELM_TASK_GPUS: expected at most the 0 of the whole Ray cluster \(got 64\)",
    ):
        shout()


@pytest.mark.skipif(not no_ray(), reason="Ray is installed")
def test_no_ray_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFELM_EXECUTOR", "ray")
    write_lines(Path("lines"))
    with pytest.raises(
        StageError, match="the package ray is not installed; run `make cluster`, or unset it"
    ):
        shout()


def test_no_slurm_says_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFELM_EXECUTOR", "slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    write_lines(Path("lines"))
    with pytest.raises(
        StageError, match=r"SAFELM_EXECUTOR=slurm: could not submit a job: .*'sbatch'"
    ):
        shout()
