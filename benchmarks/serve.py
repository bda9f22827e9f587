"""Throughput of `safelm serve` with many clients, as a ratio to that with one.

    python -m benchmarks.serve build/instruct/safe --decoder greedy branch safebeam

Each client sends its next request when it has the answer to the last. The server is a process of
its own; the numbers of clients take turns, so that other work on the machine slows all of them.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import aiohttp

CLIENTS = (1, 8, 64)
NEW_TOKENS = 16


@contextmanager
def served(model: str, decoder: str) -> Iterator[str]:
    """Serve a model in a process of its own; its address."""
    command = [sys.executable, "-m", "pipeline", "serve", model, "--decoder", decoder]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            address = re.search(r"http://\S+", line)
            if not address:
                raise SystemExit(f"{model}: the server did not start")
            yield address[0]
        finally:
            process.terminate()


async def client(session: aiohttp.ClientSession, url: str, name: int, until: float) -> list[float]:
    """Ask one question after another; the seconds that each took."""
    seconds = []
    while (began := time.monotonic()) < until:
        question = f"How do I bake bread number {name} of {len(seconds)}?"
        body = {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": NEW_TOKENS,
        }
        async with session.post(f"{url}/chat/completions", json=body) as response:
            response.raise_for_status()
            await response.read()
        seconds.append(time.monotonic() - began)
    return seconds


async def load(url: str, clients: int, seconds: float) -> tuple[float, float]:
    """Keep so many clients busy; return requests a second and the median seconds of one."""
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.monotonic()
        names = range(clients)
        each = await asyncio.gather(
            *(client(session, url, name, began + seconds) for name in names)
        )
        wall = time.monotonic() - began
    latencies = [latency for row in each for latency in row]
    return len(latencies) / wall, median(latencies)


def measure(url: str, seconds: float, rounds: int) -> dict[int, tuple[float, float]]:
    """Measure each number of clients in turn; the round with the median throughput of each."""
    asyncio.run(load(url, max(CLIENTS), 1))
    found: dict[int, list[tuple[float, float]]] = {clients: [] for clients in CLIENTS}
    for _ in range(rounds):
        for clients in CLIENTS:
            found[clients].append(asyncio.run(load(url, clients, seconds)))
    return {clients: sorted(rows)[len(rows) // 2] for clients, rows in found.items()}


def main() -> None:
    """Print a line for each decoder and number of clients."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a folder in Hugging Face's format")
    parser.add_argument("--decoder", nargs="+", default=["greedy"], help="rows of params.yaml")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for decoder in options.decoder:
        with served(options.model, decoder) as url:
            found = measure(url, options.seconds, options.rounds)
        alone = found[1][0]
        for clients, (rate, latency) in found.items():
            print(
                f"{decoder:10} {clients:3} clients  {rate:7.1f} requests/s  "
                f"{rate / alone:5.1f} x  {latency * 1000:5.0f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
