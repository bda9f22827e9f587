"""Interface of language models: requests, answers, and the engines that turn one into the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from safelm.builder.digest import json_digest
from safelm.seeding import sampling_seed
from specs.prompt import Prompt

EngineRow = Mapping[str, Any]  # a row of `engines` in params.yaml, with its `name`

# The finish reason of OpenAI-compatible servers for a request or an answer that they withhold.
FILTERED = "content_filter"
REFUSALS = frozenset({"refused", FILTERED})


@dataclass(frozen=True)
class TemplateInput:
    """The part of a request that only the template engine reads."""

    text: str
    prompt: Prompt
    hazard: str | None = None


@dataclass(frozen=True)
class Request:
    """One request to a language model.

    With `schema`, a JSON schema, the answer is decoded under it. `body` has further keys of the
    JSON body: a `prompt` is continued in place of messages, and with `logprobs` the answer is JSON,
    {token: log-probability} for each of the first tokens.
    """

    id: str  # of the document
    prompt: str  # the id of the prompt
    version: int  # of the prompt
    # (role, content); the document's text stands in the user's message alone, fenced.
    messages: tuple[tuple[str, str], ...]
    seed: int  # of the block of params.yaml
    attempt: int = 0  # counts the answers that were rejected before
    schema: Mapping[str, Any] | None = None
    template: TemplateInput | None = None
    body: Mapping[str, Any] | None = None

    @property
    def sampling_seed(self) -> int:
        """The seed of this answer's sampling, from 0 to 2³¹ - 1; each document has its own."""
        return sampling_seed(self.seed, self.prompt, self.id, self.attempt)

    def key(self, engine: Any) -> str:
        """Return the digest of everything that shapes the answer.

        `engine` holds the model and the sampling.
        """
        # DataTrove's key leaves out model and sampling: a rerun with another model mixes answers.
        question = (self.prompt, self.version, self.messages, self.sampling_seed, self.schema)
        # No body adds nothing, so answers stored before there were bodies keep their keys.
        return json_digest([engine, *question, *filter(None, [self.body])])


@dataclass(frozen=True)
class Answer:
    """A text and its finish reason, or the name of the problem instead.

    `finish` is `stop`, or `length` where the text was cut off. Engines return no problem but
    refusals: an outage is an EngineError, so that it never becomes data.
    """

    text: str = ""
    finish: str = "stop"
    problem: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the server works but will never answer this request."""
        return self.problem in REFUSALS


class EngineError(RuntimeError):
    """An engine cannot be used; the message says why and what to do.

    Its answers so far are saved.
    """


class Engine(Protocol):
    """Generates answers to requests."""

    @property
    def name(self) -> str:
        """The model's name, stored with each text as its writer."""

    @property
    def sampling(self) -> str | None:
        """The sampling settings as JSON, stored with each text; None where nothing is sampled."""

    @property
    def characters(self) -> int | None:
        """The most characters of a document in one request; None without a limit."""

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return one answer for each request, in their order."""

    def reject(self, requests: Sequence[Request]) -> None:
        """Mark the stored answers to requests as unusable, so that they can be asked again."""


def list_counts(counts: Mapping[str, int]) -> str:
    """Return counts as they are logged: "2 invalid, 1,024 valid"."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
