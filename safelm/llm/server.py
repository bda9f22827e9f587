"""vLLM server on this machine, shared by all workers that need the same model.

The first worker starts the server, and its supervisor (supervisor.py) stops it when no worker is
left. The server listens on 127.0.0.1 alone, requires a random key, and runs no code of the model's.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import safelm
from safelm.builder.digest import json_digest
from safelm.builder.environment import environment_number
from safelm.builder.paths import scratch
from safelm.builder.supervision import is_alive
from safelm.llm.client import Endpoint
from safelm.llm.engine import EngineError, EngineRow
from safelm.llm.weights import checked_folder

START_TIMEOUT = 1800  # seconds in which a model is loaded
# Keys of a row whose change requires another server.
SETTINGS = ("model", "digest", "context", "dtype", "eager")
ADDRESS, USERS, STARTING, LOG = "address.json", "users", "starting", "server.log"

# Every worker holds a shared lock on USERS. The kernel releases it however the process ends.
_locks: dict[Path, IO[str]] = {}


def serve(row: EngineRow) -> Endpoint:
    """Return the endpoint of a row's server, which is started if it is not running.

    Raises EngineError where it does not start.
    """
    digest = json_digest({name: row[name] for name in SETTINGS})
    # With the node's name: a cluster's nodes share the folder, but not 127.0.0.1.
    folder = scratch("servers", f"{digest[:16]}.{os.uname().nodename}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _locks:
        _locks[folder] = (folder / USERS).open("a")
        # Held before a server is looked for: the supervisor stops one that nobody uses.
        fcntl.flock(_locks[folder], fcntl.LOCK_SH)
    # One worker starts the server; the others wait, then find it running.
    with (folder / STARTING).open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        return _running_endpoint(folder) or _start(folder, row)


def _running_endpoint(folder: Path) -> Endpoint | None:
    """Return the endpoint of a running server, if there is one."""
    # The supervisor removes the file when it stops, but not when it is killed.
    try:
        address = json.loads((folder / ADDRESS).read_text(encoding="utf-8"))
        endpoint = Endpoint(address["url"], address["key"], address["supervisor"])
    except (OSError, ValueError, KeyError):
        return None
    return endpoint if is_alive(address["supervisor"]) else None


def _start(folder: Path, row: EngineRow) -> Endpoint:
    # A killed supervisor leaves its file, which the loop below must not read.
    (folder / ADDRESS).unlink(missing_ok=True)
    module = [sys.executable, "-m", "safelm.llm.supervisor"]
    # The supervisor must import this safelm, from whatever folder it starts.
    code = str(Path(safelm.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH", "")]))
    with (folder / LOG).open("w") as log:
        supervisor = subprocess.Popen(
            [*module, str(folder), json.dumps(_arguments(row))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # The server outlives this worker while others use it.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
    timeout = environment_number("SAFELM_SERVER_START") or START_TIMEOUT
    end = time.monotonic() + timeout
    while time.monotonic() < end and supervisor.poll() is None:
        if endpoint := _running_endpoint(folder):
            return endpoint
        time.sleep(0.2)
    supervisor.terminate()
    raise EngineError(f"engines.{row['name']}: vLLM did not start; see its log {folder / LOG}")


def _arguments(row: EngineRow) -> list[str]:
    """Return the arguments of vLLM's server."""
    import torch

    # Otherwise a model may write white space between JSON tokens without end.
    decoding = {"backend": "xgrammar", "disable_any_whitespace": True}
    values = {
        "model": str(checked_folder(row).absolute()),
        "served-model-name": row["model"],
        "max-model-len": row["context"],
        "dtype": row["dtype"],
        # Other formats can hold code.
        "load-format": "safetensors",
        # Not the model's own sampling defaults: a row says all that shapes the answers.
        "generation-config": "vllm",
        "seed": 0,
        "tensor-parallel-size": environment_number("SAFELM_DEVICES") or 1,
        "structured-outputs-config": json.dumps(decoding),
    }
    # Neither requests nor addresses in the log: pages may be harmful.
    flags = ["--disable-uvicorn-access-log", "--no-enable-log-requests"]
    if row["eager"]:
        flags.append("--enforce-eager")
    if not torch.cuda.is_available():
        # A prompt read in chunks ends vLLM 0.32 on a CPU if the request has a seed: it rewinds a
        # generator that cannot be rewound (v1/worker/gpu_model_runner.py, _bookkeeping_sync).
        flags.append("--no-enable-chunked-prefill")
    options = [f"--{name}={value}" for name, value in values.items()]
    return options + flags
