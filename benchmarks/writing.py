"""Requests per second through a language-model engine, beside the same server driven directly.

    python -m benchmarks.writing

The server is a process of its own that answers after a fixed time, as an engine with free slots
does. What is measured is what our side adds: fencing, keys, DataTrove's runner, checked replies,
and every answer written to disk. The texts per second of the templates are printed as well.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from loguru import logger

from safelm.llm import Request, TemplateInput, fence_document, strip_control_tokens
from safelm.llm.client import Endpoint
from safelm.llm.model import IN_FLIGHT, LanguageModel
from safelm.llm.templates.engine import TemplateEngine
from specs.engine import Limits
from specs.prompt import HAZARDS, PROMPTS, SHARED, Prompt, Shared

MODEL = "benchmark/writer"
ROW = {
    "name": "writer",
    "kind": "endpoint",
    "model": MODEL,
    "digest": "weights",
    "characters": 8000,
    "temperature": 0.7,
    "top_p": 1.0,
    "tokens": 256,
    "limits": Limits(timeout=600.0, patience=1800.0),
}
TEXT = "It is good to be kind to people, and here is why that is so for all of us. " * 10


def serve(port: Any, delay: float) -> None:
    """Answer every request after `delay` seconds, and put the port into a queue."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(delay)
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"model": body["model"], "choices": [choice], "usage": {}})

    async def run() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def request_directly(url: str, bodies: Sequence[dict[str, Any]]) -> None:
    """Send requests as one would by hand, with a session and a semaphore."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(body: dict[str, Any]) -> str:
            post = session.post(f"{url}/chat/completions", json={**body, "model": MODEL})
            async with slots, post as response:
                return (await response.json())["choices"][0]["message"]["content"]

        await asyncio.gather(*map(send, bodies))


def make_requests(count: int, words: int) -> list[Request]:
    """Make requests to rephrase documents of some words."""
    prompt = Prompt.read(PROMPTS / "rephrase" / "article.yaml")
    shared = Shared.read()
    filler = "The day was long and the way was far. " * (words // 9)
    requests = []
    for number in range(count):
        text = f"They steal the wallet in street {number}. {filler}"
        user = fence_document(shared.frame, prompt.instruction, text)
        request = Request(
            id=str(number),
            prompt=prompt.id,
            version=prompt.version,
            messages=(("system", shared.instructions["rephrase"]), ("user", user)),
            seed=1,
            template=TemplateInput(strip_control_tokens(text), prompt),
        )
        requests.append(request)
    return requests


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(url: str, requests: Sequence[Request]) -> tuple[float, float]:
    """Return the seconds of a direct client, and of the engine with an empty store of answers."""
    with tempfile.TemporaryDirectory() as folder:
        engine = LanguageModel(ROW, Endpoint(url), Path(folder) / "answers.jsonl")
        bodies = [engine.payload(request) for request in requests]
        direct = seconds(lambda: asyncio.run(request_directly(url, bodies)))
        return direct, seconds(partial(engine.generate, requests))


def main() -> None:
    """Time both in turn, several times, and print the ratio of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--words", type=int, default=300, help="words of a document")
    parser.add_argument(
        "--delay", type=float, default=1.0, help="seconds that the server takes for an answer"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logger.remove()
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port, options.delay), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    requests = make_requests(options.requests, options.words)
    times = [measure(url, requests) for _ in range(options.repeats)]
    server.kill()
    direct, engine = (
        options.requests / statistics.median(column) for column in zip(*times, strict=True)
    )
    templates = TemplateEngine(SHARED, HAZARDS)
    # The first texts load the templates.
    templates.generate(requests[:10])
    texts = len(requests) / seconds(partial(templates.generate, requests))
    print(
        f"{IN_FLIGHT} in flight, {options.delay} s an answer: direct client {direct:,.1f} "
        f"requests/s, engine {engine:,.1f} requests/s, ratio {engine / direct:.3f}"
    )
    print(f"templates: {texts:,.0f} texts/s of documents of {options.words} words")


if __name__ == "__main__":
    main()
