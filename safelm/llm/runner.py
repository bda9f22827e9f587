"""DataTrove's InferenceRunner, with what makes its answers trustworthy put in its place.

The runner draws the documents, keeps a bounded number of requests in flight and counts them. It
does not keep answers (its cache hashes a request before the model and the sampling are in it,
datatrove/pipeline/inference/run_inference.py: _cached_request), does not write (it writes in the
order of completion, and only warns of a document that it cannot write: _save_document), does not
retry (six times with pauses of up to 160 s, without a key and without a time limit: _send_request
and servers/base.py: _raw_post), and starts no server (servers/vllm_server.py trusts remote code and
listens on every interface). safelm/llm has answers.py, client.py and server.py for these."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.servers import InferenceServer
from datatrove.pipeline.inference.types import GenerateFunction, InferenceError, ServerError

from safelm.llm.client import Client, Denied, Endpoint, Unanswered
from safelm.llm.engine import EngineError, EngineRow
from safelm.llm.request import REFUSALS, Answer

IN_A_ROW = 32  # questions without any answer after which the server counts as down


class Connection(InferenceServer):
    """A server that stands already: DataTrove's handle on it, and our client behind the handle."""

    def __init__(self, config: InferenceConfig, rank: int, client: Client) -> None:
        super().__init__(config, rank)
        self.client = client
        self.silent = 0

    async def start_server(self) -> None:
        """Nothing: it stands."""

    async def monitor_health(self) -> None:
        """Wait for ever: what goes wrong shows in the requests."""
        await asyncio.Future()

    async def is_ready(self) -> bool:
        """Yes: whether it answers shows in the requests."""
        return True

    async def _make_request(self, payload: dict) -> dict:
        try:
            reply = await self.client.generate(payload)
        except Denied as error:
            raise ServerError(str(error)) from None
        except Unanswered as error:
            self.silent += str(error) not in REFUSALS
            if self.silent >= IN_A_ROW:
                sentence = (
                    f"gave no answer to {self.silent} questions in a row ({error} the last time)"
                )
                raise ServerError(
                    f"{sentence}; answers so far are kept, mend it and run the stage again"
                ) from None
            raise
        self.silent = 0
        return reply

    async def __aexit__(self, kind: Any, error: Any, at: Any) -> None:
        await super().__aexit__(kind, error, at)
        await self.client.close()


class Runner(InferenceRunner):
    """Asks the payloads of one shard for a row of `engines`.

    `take` gets each answer with its key as soon as it is there, in any order. `served` is whether
    the server is known to answer, before and after."""

    def __init__(
        self,
        row: EngineRow,
        endpoint: Endpoint,
        in_flight: int,
        take: Callable[[str, Answer], None],
        served: bool = False,
    ) -> None:
        config = InferenceConfig(
            server_type="endpoint",
            model_name_or_path=row["model"],
            endpoint_url=endpoint.url,
            max_concurrent_generations=in_flight,
            server_start_max_retries=0,
        )
        super().__init__(self._asked, config, nullcontext())  # nothing is written
        self.row, self.endpoint, self.take, self.served = row, endpoint, take, served
        self.counts: Counter[str] = Counter()

    def generate(self, payloads: Mapping[str, dict[str, Any]]) -> None:
        """Ask every payload, each under its key. Raises EngineError where the server does not
        serve.
        """
        documents = (
            Document(text="", id=key, metadata={"payload": dict(one)})
            for key, one in payloads.items()
        )
        try:
            asyncio.run(self.run_async(documents))
        except ServerError as error:
            raise EngineError(f"{self.row['model']}: the server {error.error}") from None

    def _init_server(self, rank: int) -> InferenceServer:
        client = Client(self.endpoint, self.row["name"])
        client.counts, client.served = self.counts, self.served
        return Connection(self.config, rank, client)

    async def _asked(self, document: Document, generate: GenerateFunction) -> bool:
        """One question, in DataTrove's word a rollout. An InferenceError is not let out: it shows
        the whole payload.
        """
        try:
            result = await generate(document.metadata["payload"])
            answer, self.served = Answer(result.text, result.finish_reason), True
        except InferenceError as error:
            if not isinstance(error.__cause__, Unanswered):
                raise RuntimeError(
                    f"DataTrove could not ask: {type(error.__cause__).__name__}"
                ) from None
            answer = Answer(finish="", problem=str(error.__cause__))
        self.take(str(document.id), answer)
        return True

    async def _save_document(self, document: Document, *arguments: Any, **options: Any) -> None:
        """Nothing: `take` has it."""
