"""The interface of language models: requests, answers, and the engines between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from safelm.builder.digest import json_digest
from safelm.seeding import sampling_seed
from specs.prompt import Prompt

EngineRow = Mapping[str, Any]  # a row of `engines`, with its `name`

# The provider's word for a question or an answer that its filter held back.
FILTERED = "content_filter"
REFUSALS = frozenset({"refused", FILTERED})


@dataclass(frozen=True)
class TemplateInput:
    """The part of a request for the template engine: document, prompt, and hazard if known."""

    text: str
    prompt: Prompt
    hazard: str | None = None


@dataclass(frozen=True)
class Request:
    """One question to a language model.

    The document's text stands fenced in the user's message and nowhere else. With `schema`, a JSON
    schema, the answer is decoded under it.
    """

    id: str  # the document's
    prompt: str
    version: int
    messages: tuple[tuple[str, str], ...]  # (role, content)
    seed: int  # of the params block
    attempt: int = 0  # repeats after answers that were not good enough
    schema: Mapping[str, Any] | None = None
    template: TemplateInput | None = None

    @property
    def sampling_seed(self) -> int:
        """The seed of this answer's sampling, from 0 to 2³¹ - 1: each document has its own."""
        return sampling_seed(self.seed, self.prompt, self.id, self.attempt)

    def key(self, engine: Any) -> str:
        """Return the digest of everything that shapes the answer.

        `engine` is the engine's identity: its model and sampling.
        """
        question = (self.prompt, self.version, self.messages, self.sampling_seed, self.schema)
        return json_digest([engine, *question])


@dataclass(frozen=True)
class Answer:
    """A text and why it ends, or the problem instead.

    `finish` is `stop`, or `length` where the text was cut off.
    """

    text: str = ""
    finish: str = "stop"
    problem: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the question is the problem: a working server will never answer it."""
        return self.problem in REFUSALS


class EngineError(RuntimeError):
    """An engine cannot be used; the message says why and what to do.

    Its answers so far are saved.
    """


class Engine(Protocol):
    """Generates answers to requests."""

    @property
    def name(self) -> str:
        """The name that is stored with each text, as its writer."""

    @property
    def sampling(self) -> str | None:
        """The sampling settings as JSON, stored likewise; None where nothing is sampled."""

    @property
    def characters(self) -> int | None:
        """The number of characters of a document that it reads at a time; None without a limit."""

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return one answer for each request, in their order."""
