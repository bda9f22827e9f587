"""A vLLM server on this machine, shared by all workers that need the same model, and gone when
nobody does.

A user holds a lock on the server's folder for as long as its process lives; the supervisor
(supervisor.py) stops the server when nobody holds it, however the users ended. The first user
starts it. It listens on 127.0.0.1 alone, wants a random key, and runs no code of the model's."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import safelm
from safelm.builder.digest import json_digest
from safelm.builder.environment import environment_number
from safelm.builder.paths import scratch
from safelm.llm.client import Endpoint
from safelm.llm.engine import EngineError, EngineRow
from safelm.llm.weights import checked_folder

START = 1800  # seconds that a server may take to load its model
SETTINGS = (
    "model",
    "digest",
    "context",
    "dtype",
    "eager",
)  # of a row: what another server is needed for
ADDRESS, USERS, STARTING, LOG = "address.json", "users", "starting", "server.log"

_held: dict[Path, IO[str]] = {}  # this process's locks, for its life


def serve(row: EngineRow) -> Endpoint:
    """The server of a row, started if it does not stand. Raises EngineError where it cannot."""
    settings = {name: row[name] for name in SETTINGS}
    digest = json_digest(settings)
    folder = scratch("servers", f"{digest[:16]}.{os.uname().nodename}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _held:
        _held[folder] = (folder / USERS).open("a")
        fcntl.flock(_held[folder], fcntl.LOCK_SH)
    with (folder / STARTING).open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        return _standing(folder) or _start(folder, row)


def _standing(folder: Path) -> Endpoint | None:
    """The server that stands: its supervisor takes the address away when it goes."""
    try:
        found = json.loads((folder / ADDRESS).read_text(encoding="utf-8"))
        os.kill(found["supervisor"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return Endpoint(found["url"], found["key"])


def _start(folder: Path, row: EngineRow) -> Endpoint:
    (folder / ADDRESS).unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "safelm.llm.supervisor",
        str(folder),
        json.dumps(_arguments(row)),
    ]
    code = str(Path(safelm.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH", "")]))
    with (folder / LOG).open("w") as log:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
    end = time.monotonic() + (environment_number("SAFELM_SERVER_START") or START)
    while time.monotonic() < end and supervisor.poll() is None:
        if endpoint := _standing(folder):
            return endpoint
        time.sleep(0.2)
    supervisor.terminate()
    raise EngineError(f"engines.{row['name']}: vLLM did not start; its words are in {folder / LOG}")


def _arguments(row: EngineRow) -> list[str]:
    """vLLM's command line. It takes neither the sampling that the model's authors like nor any code
    of theirs.
    """
    values: dict[str, Any] = {
        "model": str(checked_folder(row).absolute()),
        "served-model-name": row["model"],
        "max-model-len": row["context"],
        "dtype": row["dtype"],
        "load-format": "safetensors",
        "generation-config": "vllm",
        "seed": 0,
        "tensor-parallel-size": environment_number("SAFELM_DEVICES") or 1,
        "structured-outputs-config": json.dumps(
            {"backend": "xgrammar", "disable_any_whitespace": True}
        ),
    }
    flags = [
        "--disable-uvicorn-access-log",
        "--no-enable-log-requests",
        *(["--enforce-eager"] if row["eager"] else []),
    ]
    return [*(f"--{name}={value}" for name, value in values.items()), *flags]
