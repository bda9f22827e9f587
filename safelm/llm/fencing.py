"""Documents in requests: cleaned of control tokens, fenced as data, and split where too long."""

import hashlib
import re
from collections.abc import Iterator, Sequence

from safelm.text.sanitize import remove_matches
from specs.tokens import SPECIAL

# Control tokens of chat models: <|im_end|>, <s>, [INST], <start_of_turn>, …. SPECIAL has the tag.
CONTROL = re.compile(
    rf"{'|'.join(map(re.escape, SPECIAL))}"
    r"|<[|｜][^|｜<>\n]{1,64}[|｜]>"
    r"|</?(?:s|bos|eos|pad|unk|mask|sep|cls|think|tool_call|tool_response)>"
    r"|<(?:start|end)_of_turn>"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|SYSTEM_PROMPT)\]|<</?SYS>>",
    re.IGNORECASE,
)
PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\n")
WORD = re.compile(r"\s+")


def strip_control_tokens(text: str) -> str:
    """Remove the tag and the control tokens of chat models from a document.

    No token remains, even where the removal of one would form another.
    """
    # Lone surrogates become "?": no server could read them.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return remove_matches(CONTROL, text, "\n")[0]  # no token contains a line break


def fence_document(frame: str, instruction: str, text: str) -> str:
    """Return the user's message: the instruction, and the document between two fences.

    `frame` has the slots {instruction}, {document} and {fence}.
    """
    data = strip_control_tokens(text)
    # A digest of the document, so that no document can close its fence.
    fence = f"=== {hashlib.sha256(data.encode()).hexdigest()[:32]} ==="
    values = {"instruction": instruction.strip(), "document": data, "fence": fence}
    # In one pass, so that slots in the document are not filled.
    filled = re.sub(r"\{(instruction|document|fence)\}", lambda slot: values[slot[1]], frame)
    return filled.strip()


def split_document(text: str, characters: int) -> list[str]:
    """Split a document into parts of at most `characters` characters.

    It is split between paragraphs where possible, else between sentences, words or characters. An
    empty document gives one empty part.
    """
    parts = _split(text.strip(), characters, (PARAGRAPH, SENTENCE, WORD))
    return list(filter(None, parts)) or [""]


def _split(text: str, limit: int, boundaries: Sequence[re.Pattern[str]]) -> list[str]:
    """Fill each part with as many segments as fit; a segment that is too long is split further."""
    if len(text) <= limit:
        return [text]
    if not boundaries:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    parts: list[str] = []
    start = end = 0
    for low, high in _segments(text, boundaries[0]):
        if high - start > limit and end > start:
            parts.append(text[start:end])
            start = low
        if high - start > limit:
            parts += _split(text[start:high], limit, boundaries[1:])
            start = high
        end = high
    stripped = map(str.strip, [*parts, text[start:end]])
    return list(filter(None, stripped))


def _segments(text: str, boundary: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the segments between boundaries."""
    start = 0
    for match in boundary.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)
