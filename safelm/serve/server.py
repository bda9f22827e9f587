"""An OpenAI-compatible server: HTTP on 127.0.0.1, one request after another to the one model."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.builder.digest import json_digest
from safelm.decoding import Decoded, Decoder, generate, word_starts
from safelm.decoding.check import reach_of
from safelm.models.chat import dialogue_tokens, end_ids, page_tokens, tag_id
from safelm.serve.request import BadRequest, CompletionRequest, Json
from safelm.stats.rates import DIGITS

# Tokens of an answer at most, where the client does not say.
MAX_ANSWER_TOKENS = 1024
MAX_BODY_BYTES = 1 << 20
# A page of the web may call this server by another name (DNS rebinding): it is not answered.
HOSTS = ("127.0.0.1", "localhost")
# Connections that may wait to be accepted: a harness opens hundreds at once.
BACKLOG = 1024
PATHS = {"/v1/completions": "text_completion", "/v1/chat/completions": "chat.completion"}


@dataclass
class Service:
    """A model with a decoder, and its answers to requests."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoder: Decoder
    batch: int = 64
    seed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: Any, kind: str) -> Json:
        """Complete the texts or the dialogue of a request. Raises BadRequest or ValueError."""
        chat = kind == PATHS["/v1/chat/completions"]
        request = CompletionRequest.read(body, chat)
        prompts = self.prompt_tokens(request)
        with self.lock:
            decoded = generate(
                self.model,
                prompts,
                self.decoder,
                new_tokens=request.max_tokens or self.room(prompts),
                tag=tag_id(self.tokenizer),
                end=end_ids(self.tokenizer, self.model),
                batch=self.batch,
                word_starts=word_starts(self.tokenizer),
                seed=self.seed,
            )
        prompt_tokens = sum(map(len, prompts))
        completion_tokens = sum(len(text.tokens) for text in decoded)
        choices = [self.choice(index, text, request, chat) for index, text in enumerate(decoded)]
        return {
            "id": json_digest(body)[:24],
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            },
        }

    def prompt_tokens(self, request: CompletionRequest) -> list[list[int]]:
        """Encode the prompts, without literal special tokens of the client's."""
        if not request.messages:
            return page_tokens(self.tokenizer, request.texts)
        return dialogue_tokens(self.tokenizer, [request.messages])

    def room(self, prompts: Sequence[Sequence[int]]) -> int:
        """Bound an answer whose length the client does not say by what the model still sees."""
        reach = reach_of(self.model.config)
        if reach is None:
            return MAX_ANSWER_TOKENS
        return max(1, min(MAX_ANSWER_TOKENS, reach - max(map(len, prompts))))

    def choice(self, index: int, decoded: Decoded, request: CompletionRequest, chat: bool) -> Json:
        """Describe one completion.

        content_filter says that the decoder stopped at the tag, or refused what it had written; not
        of a text that ends before, at a stop word.
        """
        whole = str(self.tokenizer.decode(decoded.tokens, skip_special_tokens=True))
        text, is_cut = request.cut(whole)
        reason = "stop" if is_cut or decoded.finished else "length"
        if decoded.short_circuited and not is_cut:
            reason = "content_filter"
        message: Json = {"text": text}
        if chat:
            message = {"message": {"role": "assistant", "content": text}}
        return {
            "index": index,
            **message,
            "logprobs": None,
            "finish_reason": reason,
            "tag_probabilities": [round(tag, DIGITS) for tag in decoded.tag_probabilities],
        }

    def models(self) -> Json:
        """List the one model that is served."""
        return {
            "object": "list",
            "data": [{"id": self.name, "object": "model", "owned_by": "safelm"}],
        }


def read_json(body: bytes) -> Any:
    """Read a body. Raises ValueError, also for JSON nested too deep and for half an emoji."""
    try:
        values = json.loads(body)
    except RecursionError as error:
        raise BadRequest("expected a JSON object (got one nested too deep)") from error
    # Half an emoji is a lone surrogate, which no text file or tokenizer takes.
    json.dumps(values, ensure_ascii=False).encode()
    return values


class Server(ThreadingHTTPServer):
    """A thread for each connection; those that come faster than threads start wait."""

    request_queue_size = BACKLOG


def make_server(service: Service, port: int) -> ThreadingHTTPServer:
    """Bind a server of this model to 127.0.0.1; `serve_forever` answers.

    Port 0 takes a free one.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else a body waits 40 ms behind its headers.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.is_local() and self.path == "/v1/models":
                self.reply(200, service.models())
            else:
                served = f"GET /v1/models, POST {' or '.join(PATHS)}"
                self.refuse(404, f"{self.path[:80]}: is not served; {served}")

        def do_POST(self) -> None:
            body, kind = self.body(), PATHS.get(self.path)
            if body is None:
                self.refuse(413, f"expected Content-Length of at most {MAX_BODY_BYTES} bytes")
            elif kind is None or not self.is_local():
                self.refuse(404, f"{self.path[:80]}: is not served; POST {' or '.join(PATHS)}")
            else:
                self.answer(body, kind)

        def answer(self, body: bytes, kind: str) -> None:
            try:
                answer = service.answer(read_json(body), kind)
            # A chat template may refuse a role.
            except (ValueError, TemplateError) as error:
                self.refuse(400, str(error))
            except Exception as error:
                # Such as a GPU without memory: the client must not be left waiting.
                self.refuse(500, f"{type(error).__name__}: {error}", "server_error")
                raise
            else:
                self.reply(200, answer)

        def body(self) -> bytes | None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
                self.close_connection = True
                return None
            return self.rfile.read(int(length))

        def is_local(self) -> bool:
            return self.headers.get("Host", "").partition(":")[0] in HOSTS

        def refuse(self, status: int, message: str, kind: str = "invalid_request_error") -> None:
            self.reply(status, {"error": {"message": message, "type": kind}})

        def reply(self, status: int, values: Json) -> None:
            data = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Log nothing: requests are private."""

    return Server((HOSTS[0], port), Handler)


def address(server: ThreadingHTTPServer) -> str:
    """Give the URL of a server, as clients want it."""
    return f"http://{HOSTS[0]}:{server.server_address[1]}/v1"
