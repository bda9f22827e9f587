"""The process above one vLLM server: it starts it, says where it is, and stops it when nobody holds
its lock.

It answers for the whole process group: vLLM's engine and its workers outlive a server that is
killed. A supervisor that is killed itself takes the server along, by the signal that the kernel
sends to its child."""

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from safelm.builder.files import write_synced
from safelm.builder.supervision import die_with_parent
from safelm.llm.server import ADDRESS, USERS

HOST = "127.0.0.1"
LINGER = 3.0  # seconds without a user after which the server goes
POLL = 0.25
STOP = 15.0  # seconds that it may take to end by itself
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": HOST,
}


def free_port() -> int:
    """A port of the loopback interface that nobody has."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


def start(arguments: list[str], port: int, key: str) -> subprocess.Popen:
    """vLLM's own server, in a session of its own; the key goes by the environment, which other
    users cannot read.
    """
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--host={HOST}",
        f"--port={port}",
    ]
    environment = {**os.environ, **QUIET, "VLLM_API_KEY": key}
    return subprocess.Popen(
        [*command, *arguments],
        env=environment,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
    )


def is_up(port: int) -> bool:
    """Whether the server answers that it is well."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except (OSError, urllib.error.URLError):
        return False


def is_used(folder: Path) -> bool:
    """Whether any process holds the server's lock."""
    with (folder / USERS).open("a") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop(server: subprocess.Popen) -> None:
    """End the server and everything that it started."""
    server.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def supervise(folder: Path, arguments: list[str]) -> int:
    """Run the server until nobody uses it; its exit code where it ended by itself."""
    port, key = free_port(), secrets.token_urlsafe(32)
    server = start(arguments, port, key)
    address = {"url": f"http://{HOST}:{port}/v1", "key": key, "supervisor": os.getpid()}
    announced, unused = False, 0.0
    try:
        while server.poll() is None and unused < LINGER:
            unused = 0.0 if is_used(folder) else unused + POLL
            if not announced and is_up(port):
                write_synced(folder / ADDRESS, json.dumps(address).encode())
                announced = True
            time.sleep(POLL)
        return server.poll() or 0
    finally:
        (folder / ADDRESS).unlink(missing_ok=True)
        stop(server)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """supervisor.py FOLDER ARGUMENTS, the latter as a JSON list."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    folder, arguments = Path(sys.argv[1]), json.loads(sys.argv[2])
    raise SystemExit(supervise(folder, arguments))


if __name__ == "__main__":
    main()
