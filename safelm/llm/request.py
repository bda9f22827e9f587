"""What is asked and what is answered; and how a document's text goes into a request: as data,
fenced, in pieces.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelm.builder.digest import json_digest
from safelm.seeding import sampling_seed
from safelm.text.sanitize import remove_matches
from specs.prompt import Prompt
from specs.tokens import SPECIAL

# Control tokens that chat models read: <|im_end|>, <s>, [INST], <start_of_turn>, …. The tag is one
# of SPECIAL.
CONTROL = re.compile(
    rf"{'|'.join(map(re.escape, SPECIAL))}"
    r"|<[|｜][^|｜<>\n]{1,64}[|｜]>|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|tool_call|tool_response)>"
    r"|<(?:start|end)_of_turn>|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<</?SYS>>",
    re.IGNORECASE,
)
PARAGRAPH, SENTENCE, WORD = (
    re.compile(r"\n\s*\n"),
    re.compile(r"(?<=[.!?…。！？])\s+|\n"),
    re.compile(r"\s+"),
)


FILTERED = (
    "content_filter"  # the provider's word for a question or an answer that its filter held back
)
REFUSALS = frozenset({"refused", FILTERED})


@dataclass(frozen=True)
class TemplateInput:
    """What the template engine reads of a request: the document, the prompt with its templates, the
    hazard if known.
    """

    text: str
    prompt: Prompt
    hazard: str | None = None


@dataclass(frozen=True)
class Request:
    """One question. The document's text stands fenced in the user's message and nowhere else.

    `id` is the document's, `prompt` and `version` name the words, `seed` is that of the params
    block, and `attempt` counts the times that the same thing is asked again because an answer was
    not good enough. With `schema`, a JSON schema, the answer is decoded under it."""

    id: str
    prompt: str
    version: int
    messages: tuple[tuple[str, str], ...]  # (role, content)
    seed: int
    attempt: int = 0
    schema: Mapping[str, Any] | None = None
    template: TemplateInput | None = None

    @property
    def draw(self) -> int:
        """The seed of this answer's sampling, from 0 to 2³¹ - 1: each document draws its own."""
        return sampling_seed(self.seed, self.prompt, self.id, self.attempt)

    def key(self, engine: Any) -> str:
        """What an answer is kept by: everything that shapes it, the engine's model and sampling
        included.
        """
        parts = [engine, self.prompt, self.version, self.messages, self.draw, self.schema]
        return json_digest(parts)


@dataclass(frozen=True)
class Answer:
    """What came back: a text and why it ends (`stop`, or `length` where it was cut off), or the
    problem instead.
    """

    text: str = ""
    finish: str = "stop"
    problem: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the problem is the question's own: a server that serves will not answer it,
        however often asked.
        """
        return self.problem in REFUSALS


def strip_control_tokens(text: str) -> str:
    """A document as it goes into a request: without the tag and without the control tokens of chat
    models.

    What is left when a token is taken out is no token either. A character that UTF-8 cannot hold
    becomes the replacement character."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return remove_matches(CONTROL, text, "\n")[0]  # no token holds a line break


def fence_document(frame: str, instruction: str, text: str) -> str:
    """The user's message: {instruction}, and {document} between two {fence} lines that it cannot
    hold.

    The fence is a digest of the text, so no document can close it: it would have to name its own
    digest."""
    data = strip_control_tokens(text)
    fence = f"=== {hashlib.sha256(data.encode()).hexdigest()[:32]} ==="
    parts = {"instruction": instruction.strip(), "document": data, "fence": fence}
    return re.sub(r"\{(instruction|document|fence)\}", lambda found: parts[found[1]], frame).strip()


def split_document(text: str, characters: int) -> list[str]:
    """A document in pieces of at most that many characters, cut between paragraphs, else sentences,
    words, letters.
    """
    return [
        piece for piece in _cut(text.strip(), characters, (PARAGRAPH, SENTENCE, WORD)) if piece
    ] or [""]


def _cut(text: str, limit: int, bounds: Sequence[re.Pattern[str]]) -> list[str]:
    """Greedy: each piece takes as many whole parts as fit; a part that does not fit alone is cut at
    a finer bound.
    """
    if len(text) <= limit:
        return [text]
    if not bounds:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    found: list[str] = []
    start = end = 0
    for low, high in _parts(text, bounds[0]):
        if high - start > limit and end > start:
            found.append(text[start:end])
            start = low
        if high - start > limit:
            found += _cut(text[start:high], limit, bounds[1:])
            start = high
        end = high
    return [piece.strip() for piece in [*found, text[start:end]] if piece.strip()]


def _parts(text: str, bound: re.Pattern[str]) -> list[tuple[int, int]]:
    """The stretches between bounds, as (start, end)."""
    ends = [(found.start(), found.end()) for found in bound.finditer(text)]
    starts = [0, *(end for _, end in ends)]
    return list(zip(starts, [*(start for start, _ in ends), len(text)], strict=True))
