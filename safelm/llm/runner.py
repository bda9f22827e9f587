"""Runner of a shard's requests: DataTrove's InferenceRunner with its unreliable parts replaced.

DataTrove's runner sends the requests and keeps a bounded number of them in flight. These parts of
datatrove/pipeline/inference are replaced:

- the cache (run_inference.py: _cached_request) by answers.py: it hashes a request before the model
  and the sampling are in it,
- the writer (run_inference.py: _save_document) by the caller's `on_answer`: it writes in the order
  of completion, and only warns of a document that it cannot write,
- the retries (run_inference.py: _send_request, servers/base.py: _raw_post) by client.py: they pause
  up to 160 s, send no key and have no time limit,
- the server (servers/vllm_server.py) by server.py: it trusts remote code and listens on every
  interface.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.servers import InferenceServer
from datatrove.pipeline.inference.types import GenerateFunction, InferenceError, ServerError

from safelm.llm.client import Client, Endpoint, ServerUnusable, Traffic, Unanswered
from safelm.llm.engine import Answer, EngineError, EngineRow


class Connection(InferenceServer):
    """DataTrove's interface to a server, with our client behind it."""

    def __init__(self, config: InferenceConfig, rank: int, client: Client) -> None:
        super().__init__(config, rank)
        self.client = client

    async def start_server(self) -> None:
        """Do nothing: the server is running."""

    async def monitor_health(self) -> None:
        """Tell of a server that is silent; failures show in the requests."""
        await self.client.watch()

    async def is_ready(self) -> bool:
        """Return True: failures show in the requests."""
        return True

    async def _make_request(self, payload: dict) -> dict:
        try:
            return await self.client.generate(payload)
        except ServerUnusable as error:
            raise ServerError(str(error)) from None

    async def __aexit__(self, kind: Any, error: Any, at: Any) -> None:
        await super().__aexit__(kind, error, at)
        await self.client.close()


class RequestRunner(InferenceRunner):
    """Sends the payloads of one shard to the server of a row of `engines`.

    `on_answer` is called with the key and the answer of each request, in the order of arrival.
    """

    def __init__(
        self,
        row: EngineRow,
        endpoint: Endpoint,
        traffic: Traffic,
        in_flight: int,
        on_answer: Callable[[str, Answer], None],
    ) -> None:
        config = InferenceConfig(
            server_type="endpoint",
            model_name_or_path=row["model"],
            endpoint_url=endpoint.url,
            max_concurrent_generations=in_flight,
            # The server runs already, so there is no start to repeat.
            server_start_max_retries=0,
        )
        # nullcontext in place of DataTrove's writer: nothing is written.
        super().__init__(self._rollout, config, nullcontext())
        self.row = row
        self.endpoint = endpoint
        self.traffic = traffic
        self.on_answer = on_answer

    def send(self, payloads: Mapping[str, dict[str, Any]]) -> None:
        """Send every payload; raise EngineError where the server can serve none."""
        documents = (
            Document(text="", id=key, metadata={"payload": dict(payload)})
            for key, payload in payloads.items()
        )
        try:
            asyncio.run(self.run_async(documents))
        except ServerError as error:
            place = f"engines.{self.row['name']} at {self.endpoint.url}"
            raise EngineError(f"{place}: the server {error.error}") from None

    def _init_server(self, rank: int) -> InferenceServer:
        return Connection(self.config, rank, Client(self.endpoint, self.row, self.traffic))

    async def _rollout(self, document: Document, generate: GenerateFunction) -> bool:
        """Send one request and pass its answer on."""
        try:
            result = await generate(document.metadata["payload"])
        except InferenceError as error:
            # Not raised again: its message holds the whole payload, with the page.
            cause = error.__cause__
            if not isinstance(cause, Unanswered):
                raise RuntimeError(
                    f"DataTrove could not send the request: {type(cause).__name__}"
                ) from None
            answer = Answer(finish="", problem=str(cause))
        else:
            answer = Answer(result.text, result.finish_reason)
        self.on_answer(str(document.id), answer)
        return True

    async def _save_document(self, document: Document, *arguments: Any, **options: Any) -> None:
        """Do nothing: `on_answer` has the answer."""
