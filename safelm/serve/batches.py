"""Batched decoding: one thread decodes waiting prompts together, whichever client sent them."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from prometheus_client import Counter, Gauge
from starlette.exceptions import HTTPException
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.decoding import Decoded, Decoder, word_starts
from safelm.decoding.check import check
from safelm.decoding.generate import search_class
from safelm.models.chat import end_ids, tag_id

MAX_WAITING = 1024
# Clients that were answered together send their next requests together. Wait for all of them.
GATHER_SECONDS = 0.005
WAITING = Gauge("safelm_waiting_prompts", "Prompts in the queue.")
RUNNING = Gauge("safelm_running_prompts", "Prompts that are being continued.")
TOKENS = Counter("safelm_tokens", "Tokens of texts that are done, and of their prompts.", ["of"])
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """A prompt to be continued by at most `new_tokens`.

    If `text` is cancelled, the prompt leaves its batch after the current step. `watch` is called in
    the decoding thread after every step, with the tokens so far and p(tag) after each of them.
    """

    prompt: list[int]
    new_tokens: int
    watch: Callable[[list[int], list[float]], None] | None = None
    text: Future[Decoded] = field(default_factory=Future)


class Batches:
    """The queue of jobs, and the thread that decodes up to `batch` of them at once.

    All jobs use the same model and decoder, and each has its own `new_tokens`, so any jobs can
    share a batch. A running batch takes no further jobs. A text is delivered when it is done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        decoder: Decoder,
        batch: int,
        seed: int,
    ) -> None:
        self.model = model
        self.decoder = decoder
        self.batch = batch
        self.seed = seed
        self.tag = tag_id(tokenizer)
        self.end = end_ids(tokenizer, model)
        self.word_starts = word_starts(tokenizer)
        self.waiting: deque[Job] = deque()
        self.taken = 0
        self.is_closed = False
        self.changed = threading.Condition()

    def check(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Raise ValueError for prompts that cannot be continued by so many tokens."""
        check(self.model, prompts, self.decoder, new_tokens, self.tag, self.batch, self.word_starts)

    def put(self, jobs: Sequence[Job]) -> None:
        """Append jobs to the queue. Raises HTTPException when it is full."""
        with self.changed:
            # Prompts whose client has left make room for others.
            self.waiting = deque(job for job in self.waiting if not job.text.done())
            if len(self.waiting) + len(jobs) > MAX_WAITING:
                raise HTTPException(
                    429,
                    f"{len(self.waiting)} prompts wait and {len(jobs)} are sent: expected at most "
                    f"{MAX_WAITING} together; try again later or send fewer at once",
                )
            self.waiting.extend(jobs)
            WAITING.set(len(self.waiting))
            self.changed.notify()

    def work(self) -> None:
        """Decode what waits until closed."""
        while not self.is_closed:
            self.decode(self.take())
            RUNNING.set(0)

    def close(self) -> None:
        """End `work` after the current step; the jobs that remain get no text."""
        with self.changed:
            self.is_closed = True
            self.changed.notify()

    def take(self) -> list[Job]:
        """Wait for jobs and take as many as one batch holds, in the order they came."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.is_closed)
            self.changed.wait_for(
                lambda: len(self.waiting) >= self.taken or self.is_closed, GATHER_SECONDS
            )
            self.taken = min(self.batch, len(self.waiting))
            WAITING.set(len(self.waiting) - self.taken)
            return [self.waiting.popleft() for _ in range(self.taken)]

    def decode(self, jobs: Sequence[Job]) -> None:
        """Decode jobs together; if that fails, decode each half separately.

        So a prompt that fails does not affect others, and a batch that exceeds memory is split.
        """
        jobs = [job for job in jobs if not job.text.done()]
        if not jobs or self.is_closed:
            return
        try:
            self.search(jobs)
            return
        except Exception as error:
            if len(jobs) == 1:
                logger.exception("a prompt of %d tokens failed", len(jobs[0].prompt))
                with suppress(InvalidStateError):  # cancelled meanwhile
                    message = f"{type(error).__name__}: {error!s:.200}"
                    jobs[0].text.set_exception(HTTPException(500, message))
                return
        half = len(jobs) // 2
        self.decode(jobs[:half])
        self.decode(jobs[half:])

    @torch.inference_mode()
    def search(self, jobs: Sequence[Job]) -> None:
        """Decode one batch, and deliver each text when it is done."""
        search = search_class(self.decoder)(
            self.model,
            [job.prompt for job in jobs],
            self.decoder,
            new_tokens=[job.new_tokens for job in jobs],
            tag=self.tag,
            end=self.end,
            word_starts=self.word_starts,
            seed=self.seed,
        )

        def show(index: int, tokens: list[int], tags: list[float]) -> None:
            if watch := jobs[index].watch:
                watch(tokens, tags)

        running = dict(enumerate(jobs))
        while running and not self.is_closed:
            RUNNING.set(len(running))
            is_watched = any(job.watch for job in running.values())
            search.step(show if is_watched else None)
            for index, job in list(running.items()):
                if decoded := search.decoded[index]:
                    finish(job, decoded)
                if job.text.done():
                    search.cancel(index)
                    del running[index]


def finish(job: Job, decoded: Decoded) -> None:
    """Deliver the text of a job, unless the job was cancelled."""
    with suppress(InvalidStateError):
        job.text.set_result(decoded)
        TOKENS.labels("prompts").inc(len(job.prompt))
        TOKENS.labels("texts").inc(len(decoded.tokens))
