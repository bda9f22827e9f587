"""Requests a second through the door beside the same server driven directly, and texts a second
from the templates.

    python -m benchmarks.writing

The server is a process of its own that answers after a fixed time, as an engine with free places
does; what is measured is what our side adds: fencing, keys, DataTrove's runner, checked replies,
and every answer written to disk."""

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from loguru import logger

from safelm.llm import Request, TemplateInput, fence_document, strip_control_tokens
from safelm.llm.client import Endpoint
from safelm.llm.model import IN_FLIGHT, LanguageModel
from safelm.llm.templates.engine import TemplateEngine
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
}
TEXT = "It is good to be kind to people, and here is why that is so for all of us. " * 10


def serve(port: Any, seconds: float) -> None:
    """Answer every question after some seconds."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(seconds)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT},
            "finish_reason": "stop",
        }
        return web.json_response({"model": body["model"], "choices": [choice], "usage": {}})

    async def run() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.put(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def directly(url: str, bodies: Sequence[dict[str, Any]]) -> None:
    """What one would write by hand: a session and a semaphore."""
    places = asyncio.Semaphore(IN_FLIGHT)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(body: dict[str, Any]) -> str:
            async with (
                places,
                session.post(f"{url}/chat/completions", json={**body, "model": MODEL}) as response,
            ):
                return (await response.json())["choices"][0]["message"]["content"]

        await asyncio.gather(*map(ask, bodies))


def requests_of(count: int, words: int) -> list[Request]:
    """Questions about documents of some words."""
    prompt, shared = Prompt.read(PROMPTS / "rephrase" / "article.yaml"), Shared.read()
    found = []
    for number in range(count):
        text = (
            f"They steal the wallet in street {number}. "
            + "The day was long and the way was far. " * (words // 9)
        )
        user = fence_document(shared.frame, prompt.instruction, text)
        messages = (("system", shared.instructions["rephrase"]), ("user", user))
        page = TemplateInput(strip_control_tokens(text), prompt)
        found.append(Request(str(number), prompt.id, prompt.version, messages, 1, page=page))
    return found


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Both, in turn and several times; the ratio is that of the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--words", type=int, default=300, help="of a document")
    parser.add_argument(
        "--answer", type=float, default=1.0, help="seconds that the server takes for an answer"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logger.remove()
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port, options.answer), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    asked = requests_of(options.requests, options.words)
    ours, theirs = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            engine = LanguageModel(ROW, Endpoint(url), Path(folder) / "answers.jsonl")
            bodies = [engine.payload(request) for request in asked]
            theirs.append(seconds(lambda bodies=bodies: asyncio.run(directly(url, bodies))))
            ours.append(seconds(lambda engine=engine: engine.generate(asked)))
    server.kill()
    direct, door = (
        options.requests / statistics.median(theirs),
        options.requests / statistics.median(ours),
    )
    templates = TemplateEngine(SHARED, HAZARDS)
    templates.generate(asked[:10])
    written = len(asked) / seconds(lambda: templates.generate(asked))
    print(
        f"{IN_FLIGHT} in flight, {options.answer} s an answer: directly {direct:,.1f} requests/s, through the door"
    )
    print(f"{door:,.1f} requests/s: ratio {door / direct:.3f}")
    print(f"templates: {written:,.0f} texts/s of documents of {options.words} words")


if __name__ == "__main__":
    main()
