"""Requests to the server, read strictly: a field that would be ignored silently is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelm.builder.files import Json

USED = {"prompt", "messages", "max_tokens", "max_completion_tokens", "stop", "stream"}
# Fields that harnesses send and the decoder decides, or that change nothing.
IGNORED = {"model", "temperature", "top_p", "seed", "user", "store", "metadata"}
# Fields that are accepted only with the value that they have anyway.
FIXED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (None, False),
    "suffix": (None, ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": (None, {}),
    "stream_options": ({"include_usage": True}, {"include_usage": False}, {}),
}
ROLES = ("system", "user", "assistant")
# The default length of a continued text in OpenAI's completions.
MAX_TOKENS = 16
MAX_PROMPTS = 256
MAX_NEW_TOKENS = 1 << 15


class BadRequest(ValueError):
    """A mistake of the client; the message names the field, what was expected and what came."""


@dataclass(frozen=True)
class CompletionRequest:
    """Texts to continue, or one dialogue to answer (`messages`).

    A completion is cut before the first word of `stop`. `max_tokens` is None for an answer as long
    as it gets, which a client of chats means by leaving it out. `stream` asks for the answer in
    parts, `usage` for the counts of tokens after the last of them.
    """

    texts: Sequence[str]
    messages: Sequence[Mapping[str, str]]
    max_tokens: int | None
    stop: Sequence[str]
    stream: bool
    usage: bool

    @classmethod
    def read(cls, body: Any, chat: bool) -> "CompletionRequest":
        """Read the body of a request. Raises BadRequest."""
        if not isinstance(body, dict):
            raise BadRequest(f"expected a JSON object (got {type(body).__name__})")
        _refuse_unused(body)
        max_tokens = _max_tokens(body, None if chat else MAX_TOKENS)
        # Clients write null for a field that they do not use.
        stop = [] if body.get("stop") is None else _texts("stop", body["stop"])
        stream = body.get("stream") or False
        if not isinstance(stream, bool):
            raise BadRequest(f"stream: expected true or false (got {stream!r:.80})")
        options = body.get("stream_options") or {}
        usage = options.get("include_usage", False)
        if chat:
            messages = _messages(body.get("messages"))
            return cls([], messages, max_tokens, stop, stream, usage)
        texts = _texts("prompt", body.get("prompt"))
        if not 0 < len(texts) <= MAX_PROMPTS:
            raise BadRequest(
                f"prompt: expected a text or a list of up to {MAX_PROMPTS} texts "
                f"(got {len(texts) or 'none'})"
            )
        return cls(texts, [], max_tokens, stop, stream, usage)

    def cut(self, text: str) -> tuple[str, bool]:
        """Cut a text before the first stop word in it; also say whether there was one."""
        found = [text.find(word) for word in self.stop if word]
        indices = [index for index in found if index >= 0]
        if not indices:
            return text, False
        return text[: min(indices)], True

    def cut_growing(self, text: str) -> str:
        """Cut a text that will go on, also before what may become a stop word."""
        whole, is_cut = self.cut(text)
        # All but the last character of the longest word may already stand at the end.
        held = max(map(len, self.stop), default=1) - 1
        return whole if is_cut or held < 1 else whole[:-held]


def _refuse_unused(body: Json) -> None:
    for name, value in body.items():
        if name not in USED | IGNORED | FIXED.keys():
            raise BadRequest(f"{name}: is not known here; leave it out")
        if name in FIXED and value is not None and not _is_one_of(value, FIXED[name]):
            raise BadRequest(
                f"{name}: must be {FIXED[name][0]} here (got {value!r:.80}); leave it out"
            )


def _is_one_of(value: Any, allowed: Sequence[Any]) -> bool:
    """Compare by value and kind: Python has 0 == False, but logprobs: 0 asks for something."""
    is_bool = isinstance(value, bool)
    return any(value == other and isinstance(other, bool) == is_bool for other in allowed)


def _max_tokens(body: Json, default: int | None) -> int | None:
    names = ("max_completion_tokens", "max_tokens")
    bounds = [body[name] for name in names if body.get(name) is not None]
    for bound in bounds:
        if type(bound) is not int or not 1 <= bound <= MAX_NEW_TOKENS:
            expected = f"a whole number from 1 to {MAX_NEW_TOKENS}"
            raise BadRequest(f"max_tokens: expected {expected} (got {bound!r:.80})")
    return bounds[0] if bounds else default


def _texts(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest(
            f"{name}: expected a text or a list of texts (got {type(value).__name__}); "
            "tokens are not read"
        )
    return texts


def _messages(value: Any) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise BadRequest(f"messages: expected a list of messages (got {type(value).__name__})")
    messages = []
    for index, message in enumerate(value):
        values = message if isinstance(message, dict) else {}
        role = values.get("role")
        content = _content(values.get("content"))
        if role not in ROLES or content is None:
            raise BadRequest(
                f"messages.{index}: expected {{role: {' | '.join(ROLES)}, content: a text}}"
            )
        messages.append({"role": role, "content": content})
    return messages


def _content(value: Any) -> str | None:
    """Read a text, which some clients send as a list of parts; None for anything else."""
    parts = value if isinstance(value, list) else [{"text": value}]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        # An image, say: an answer to the rest would be an answer to another question.
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts) if texts else None
