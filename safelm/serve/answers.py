"""Answers in OpenAI's format, whole or as a stream of parts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from jinja2 import TemplateError
from starlette.exceptions import HTTPException
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.builder.digest import json_digest
from safelm.builder.files import Json
from safelm.decoding import Decoded, Decoder
from safelm.decoding.check import reach_of
from safelm.models.chat import TokenLists, dialogue_tokens, page_tokens
from safelm.serve.batches import Batches, Job
from safelm.serve.request import BadRequest, CompletionRequest
from safelm.stats.rates import DIGITS

# Tokens of an answer at most, where the client does not say.
MAX_ANSWER_TOKENS = 1024
# What an unfinished character of several bytes is decoded to.
UNFINISHED = "\ufffd"


@dataclass
class Service:
    """A model with a decoder, and its answers to requests."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoder: Decoder
    batch: int = 64
    seed: int = 0
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.batches = Batches(self.model, self.tokenizer, self.decoder, self.batch, self.seed)

    def read(self, body: bytes, is_chat: bool) -> "Answer":
        """Read a request. Raises HTTPException for a mistake of the client."""
        try:
            values = read_json(body)
            request = CompletionRequest.read(values, is_chat)
            prompts = self.prompt_tokens(request)
            new_tokens = request.max_tokens or self.room(prompts)
            self.batches.check(prompts, new_tokens)
        # A chat template may refuse a role.
        except (ValueError, TemplateError) as error:
            raise HTTPException(400, str(error)) from error
        jobs = [Job(prompt, new_tokens) for prompt in prompts]
        return Answer(self, request, is_chat, json_digest(values)[:24], jobs)

    def prompt_tokens(self, request: CompletionRequest) -> TokenLists:
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

    def decode(self, tokens: list[int]) -> str:
        """Turn tokens into text."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def models(self) -> Json:
        """List the one model that is served."""
        return {
            "object": "list",
            "data": [{"id": self.name, "object": "model", "owned_by": "safelm"}],
        }


@dataclass
class Answer:
    """The answer to a request, from the jobs that it waits for."""

    service: Service
    request: CompletionRequest
    is_chat: bool
    id: str
    jobs: Sequence[Job]

    async def whole(self) -> Json:
        """Wait for all texts, and describe them."""
        texts = await asyncio.gather(*(asyncio.wrap_future(job.text) for job in self.jobs))
        choices = [self.choice(index, self.written(text)) for index, text in enumerate(texts)]
        return {**self.head(""), "choices": choices, "usage": self.usage()}

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events; their parts add up to the answer of `whole`."""
        try:
            async for values in self.parts():
                yield f"data: {json.dumps(values)}\n\n"
        except HTTPException as error:
            # The status has been sent: only an event can still say that the model failed.
            yield f"data: {json.dumps(error_body(500, error.detail))}\n\n"
        yield "data: [DONE]\n\n"

    async def parts(self) -> AsyncIterator[Json]:
        """Yield the new part of each text.

        A decoder that keeps one text streams it token by token. One that chooses among several
        sends its choice at the end.
        """
        changed = asyncio.Event()
        drafts = [Draft() for _ in self.jobs]
        # Texts grow in the decoding thread, where an asyncio.Event must not be set directly.
        wake = partial(asyncio.get_running_loop().call_soon_threadsafe, changed.set)
        for draft, job in zip(drafts, self.jobs, strict=True):
            if self.service.decoder.texts == 1:
                job.watch = partial(draft.follow, wake)
            job.text.add_done_callback(lambda _: wake())
        unfinished = dict(enumerate(self.jobs))
        while unfinished:
            await changed.wait()
            # Before the jobs are read, so that what changes meanwhile wakes the loop again.
            changed.clear()
            for index, job in list(unfinished.items()):
                if job.text.done():
                    del unfinished[index]
                    written = self.written(job.text.result())
                else:
                    written = self.draft(*drafts[index].latest)
                if new := drafts[index].unsent(written):
                    yield {**self.head(".chunk"), "choices": [self.choice(index, new, "delta")]}
        if self.request.usage:
            yield {**self.head(".chunk"), "choices": [], "usage": self.usage()}

    def head(self, part: str) -> Json:
        """Return the fields that every part repeats; `part` is the suffix of a chat's `object`."""
        return {
            "id": self.id,
            "object": f"chat.completion{part}" if self.is_chat else "text_completion",
            "created": int(time.time()),
            "model": self.service.name,
        }

    def usage(self) -> Json:
        """Count tokens."""
        prompt_tokens = sum(len(job.prompt) for job in self.jobs)
        completion_tokens = sum(len(job.text.result().tokens) for job in self.jobs)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def written(self, decoded: Decoded) -> "Written":
        """Cut a text that is done, and say why it ended.

        content_filter says that the decoder stopped at the tag, or refused what it had written; not
        of a text that ends before, at a stop word.
        """
        text, is_cut = self.request.cut(self.service.decode(decoded.tokens))
        reason = "stop" if is_cut or decoded.finished else "length"
        if decoded.short_circuited and not is_cut:
            reason = "content_filter"
        return Written(text, decoded.tag_probabilities, reason)

    def draft(self, tokens: list[int], tags: list[float]) -> "Written":
        """Cut off the end of an unfinished text that may still change."""
        text = self.service.decode(tokens).rstrip(UNFINISHED)
        return Written(self.request.cut_growing(text), tags, None)

    def choice(self, index: int, written: "Written", role: str = "message") -> Json:
        """Describe a text, or with role `delta` the new part of a text."""
        message = {role: {"role": "assistant", "content": written.text}}
        return {
            "index": index,
            **(message if self.is_chat else {"text": written.text}),
            "logprobs": None,
            "finish_reason": written.reason,
            "tag_probabilities": [round(tag, DIGITS) for tag in written.tags],
        }


class Written(NamedTuple):
    """A text, p(tag) after each of its tokens, and why it ended: None while it is written."""

    text: str
    tags: list[float]
    reason: str | None


class Draft:
    """An unfinished text, and how much of it has been sent to the client."""

    def __init__(self) -> None:
        self.latest: tuple[list[int], list[float]] = ([], [])
        self.characters = self.tags = 0

    def follow(self, wake: Callable[[], object], tokens: list[int], tags: list[float]) -> None:
        """Store the text so far; called in the decoding thread."""
        self.latest = (tokens, tags)
        wake()

    def unsent(self, written: Written) -> Written | None:
        """Return the part of a text that was not sent yet; None if there is none."""
        text, tags, reason = written
        new = Written(text[self.characters :], tags[self.tags :], reason)
        self.characters = max(self.characters, len(text))
        self.tags = len(tags)
        return new if any(new) else None


def read_json(body: bytes) -> Any:
    """Read a body. Raises ValueError, also for JSON nested too deep and for half an emoji."""
    try:
        values = json.loads(body)
    except RecursionError as error:
        raise BadRequest("expected a JSON object (got one nested too deep)") from error
    # Half an emoji is a lone surrogate, which no text file or tokenizer takes.
    json.dumps(values, ensure_ascii=False).encode()
    return values


def error_body(status: int, message: str) -> Json:
    """Write an error in OpenAI's format."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind}}
