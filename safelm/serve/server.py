"""The server: HTTP on 127.0.0.1, one answer after another, for there is one model."""

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
from safelm.serve.request import BadQuestion, Json, Question
from safelm.stats.rates import DIGITS

ANSWER = 1024  # tokens of an answer at most, where the client does not say
BODY = 1 << 20  # bytes of a request, at most
HOSTS = (
    "127.0.0.1",
    "localhost",
)  # a page of the web that names this address otherwise is not answered
WAITING = 1024  # connections that may wait to be taken up: a harness opens hundreds at once
PATHS = {"/v1/completions": "text_completion", "/v1/chat/completions": "chat.completion"}


@dataclass
class Service:
    """A model with a decoder, and the answers to questions."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoder: Decoder
    batch: int = 64
    seed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: Any, kind: str) -> Json:
        """The reply to a request for completions of texts or of a dialogue. Raises BadQuestion or
        ValueError.
        """
        chat = kind == PATHS["/v1/chat/completions"]
        question = Question.read(body, chat)
        prompts = self.prompt_tokens(question)
        with self.lock:
            decoded = generate(
                self.model,
                prompts,
                self.decoder,
                new_tokens=question.tokens or self.room(prompts),
                tag=tag_id(self.tokenizer),
                end=end_ids(self.tokenizer, self.model),
                batch=self.batch,
                word_starts=word_starts(self.tokenizer),
                seed=self.seed,
            )
        asked, written = (
            sum(map(len, texts)) for texts in (prompts, [one.tokens for one in decoded])
        )
        return {
            "id": json_digest(body)[:24],
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
            "choices": [
                self.choice(place, one, question, chat) for place, one in enumerate(decoded)
            ],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": written,
                "total_tokens": asked + written,
            },
        }

    def prompt_tokens(self, question: Question) -> list[list[int]]:
        """What the model reads, without literal special tokens of the client's."""
        if not question.messages:
            return page_tokens(self.tokenizer, question.texts)
        return dialogue_tokens(self.tokenizer, [question.messages])

    def room(self, prompts: Sequence[Sequence[int]]) -> int:
        """The tokens that an answer may take where the client does not say: what the model still
        sees, up to ANSWER.
        """
        reach = reach_of(self.model.config)
        return ANSWER if reach is None else max(1, min(ANSWER, reach - max(map(len, prompts))))

    def choice(self, place: int, decoded: Decoded, question: Question, chat: bool) -> Json:
        """One answer. content_filter says that the decoder stopped at the tag, or refused what it
        had written; not of a text that ends before, at a stop word."""
        whole = str(self.tokenizer.decode(decoded.tokens, skip_special_tokens=True))
        text, stopped = question.cut(whole)
        refused = decoded.short_circuited and not stopped
        reason = (
            "content_filter" if refused else "stop" if stopped or decoded.finished else "length"
        )
        said: Json = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        tags = [round(tag, DIGITS) for tag in decoded.tag_probabilities]
        return {
            "index": place,
            **said,
            "logprobs": None,
            "finish_reason": reason,
            "tag_probabilities": tags,
        }

    def models(self) -> Json:
        """The one model that is served."""
        return {
            "object": "list",
            "data": [{"id": self.name, "object": "model", "owned_by": "safelm"}],
        }


def read(body: bytes) -> Any:
    """The values of a body. Raises ValueError also of what is nested too deep, or is no text, as
    half an emoji is.
    """
    try:
        values = json.loads(body)
    except RecursionError as error:
        raise BadQuestion("expected a JSON object (got one nested too deep)") from error
    json.dumps(values, ensure_ascii=False).encode()
    return values


class Server(ThreadingHTTPServer):
    """A thread for each connection; those that come faster than threads start wait, and are not
    reset.
    """

    request_queue_size = WAITING


def server_of(service: Service, port: int) -> ThreadingHTTPServer:
    """A server of this model on 127.0.0.1; port 0 takes a free one. `serve_forever` answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms behind its headers

        def do_GET(self) -> None:
            if self.is_local() and self.path == "/v1/models":
                self.reply(200, service.models())
            else:
                self.refuse(
                    404,
                    f"{self.path[:80]}: is not served; GET /v1/models, POST {' or '.join(PATHS)}",
                )

        def do_POST(self) -> None:
            body, kind = self.body(), PATHS.get(self.path)
            if body is None:
                self.refuse(413, f"expected Content-Length of at most {BODY} bytes")
            elif kind is None or not self.is_local():
                self.refuse(404, f"{self.path[:80]}: is not served; POST {' or '.join(PATHS)}")
            else:
                try:
                    answer = service.answer(read(body), kind)
                except (ValueError, TemplateError) as error:  # a template may refuse a role
                    self.refuse(400, str(error))
                except Exception as error:  # such as a GPU without memory: told here, and the client not left waiting
                    self.refuse(500, f"{type(error).__name__}: {error}", "server_error")
                    raise
                else:
                    self.reply(200, answer)

        def body(self) -> bytes | None:
            length = self.headers.get("Content-Length", "")
            if not length.isascii() or not length.isdigit() or int(length) > BODY:
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
            """Nothing: what clients ask is theirs."""

    return Server((HOSTS[0], port), Handler)


def address(server: ThreadingHTTPServer) -> str:
    """Where a server is, as clients want it."""
    return f"http://{HOSTS[0]}:{server.server_address[1]}/v1"
