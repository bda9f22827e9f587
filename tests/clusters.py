"""A Ray and a Slurm of one node for tests: they listen on the loopback interface, keep all in one
folder, and end.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PATIENCE = 60  # seconds

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000
PartitionName=all Nodes=ALL Default=YES
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
"""


def no_ray() -> str | None:
    """Why Ray cannot be tested here, if it cannot."""
    return (
        None if importlib.util.find_spec("ray") else "ray not installed; `make cluster` installs it"
    )


@contextmanager
def ray_head(folder: Path) -> Iterator[dict[str, str]]:
    """Start the head of a cluster that asks for a token; yields the environment in which Ray finds
    it.
    """
    (port,) = _free_ports(1)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {
        "RAY_ADDRESS": f"127.0.0.1:{port}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        **token,
    }
    temporary = tempfile.mkdtemp(
        prefix="ray-"
    )  # Ray's sockets lie in it, and their names may have 107 bytes only
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--node-ip-address=127.0.0.1",
        "--include-dashboard=false",
        "--disable-usage-stats",
        "--num-cpus=2",
        f"--object-store-memory={100 << 20}",
        f"--temp-dir={temporary}",
    ]
    head = _start(
        command,
        folder,
        {name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
    )
    try:
        _until(lambda: "Ray runtime started" in (folder / "ray.out").read_text())
        yield environment
    finally:
        _end([head])
        shutil.rmtree(temporary, ignore_errors=True)


def no_slurm() -> str | None:
    """Why Slurm cannot be tested here, if it cannot."""
    absent = [name for name in DAEMONS if not shutil.which(name, path=_path())]
    if absent:
        return f"{' and '.join(absent)} not installed; `make cluster` installs them on Debian"
    return None if os.geteuid() == 0 else "slurmd runs as root"


@contextmanager
def slurm_node(folder: Path) -> Iterator[dict[str, str]]:
    """Start the three daemons; yields the environment in which sbatch finds them."""
    munge = [
        "--key-file",
        "munge.key",
        "--socket",
        "munge.socket",
        "--pid-file",
        "munge.pid",
        "--seed-file",
        "munge.seed",
        "--log-file",
        "munge.log",
    ]
    munge = [f"{folder}/{item}" if item.startswith("munge.") else item for item in munge]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    _write_key(folder / "munge.key")
    _write_configuration(folder)
    environment = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": _path()}
    commands = [
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            running.append(_start(command, folder, environment))
            _until((folder / "munge.socket").exists)
        _until(lambda: "idle" in _ask("sinfo", environment))
        yield environment
    finally:
        _end(running)


def _write_key(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(1024))


def _write_configuration(folder: Path) -> None:
    controller, node = _free_ports(2)
    text = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        folder=folder,
        user="root",
        cpus=len(os.sched_getaffinity(0)),
        controller=controller,
        node=node,
    )
    (folder / "slurm.conf").write_text(text, encoding="utf-8")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def _start(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    name = "ray" if command[0] == sys.executable else command[0]
    with (folder / f"{name}.out").open("wb") as file:
        return subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=file, stderr=file
        )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ask(command: str, environment: dict[str, str]) -> str:
    return subprocess.run(
        [command], env={**os.environ, **environment}, capture_output=True, text=True
    ).stdout


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "Slurm did not come up; see its logs"
        time.sleep(0.1)
