"""What a client asks of the server, read strictly: a field that would be left out silently is
refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

HEEDED = {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "stop"}
DECODERS = {
    "temperature",
    "top_p",
    "seed",
    "user",
    "store",
    "metadata",
}  # the decoder decides these, or nothing does
AS_USUAL: dict[str, tuple[Any, ...]] = {  # fields that may only have the value they have anyway
    "n": (1,),
    "best_of": (1,),
    "stream": (False,),
    "echo": (False,),
    "logprobs": (None, False),
    "suffix": (None, ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": (None, {}),
    "stream_options": (None,),
}
ROLES = ("system", "user", "assistant")
MAX_TOKENS = 16  # of a continued text where a client does not say, as OpenAI's completions have it


class BadQuestion(ValueError):
    """The client's mistake."""


@dataclass(frozen=True)
class Question:
    """Texts to continue, or one dialogue to answer (`messages`); an answer is cut before the first
    word of `stop`.

    tokens is None for an answer as long as it gets, which is what a client of chats means that does
    not say."""

    texts: Sequence[str]
    messages: Sequence[Mapping[str, str]]
    tokens: int | None
    stop: Sequence[str]

    @classmethod
    def read(cls, body: Any, chat: bool) -> "Question":
        """The body of a request. Raises BadQuestion with the field, what was expected and what
        came.
        """
        if not isinstance(body, dict):
            raise BadQuestion(f"expected a JSON object (got {type(body).__name__})")
        for name, value in body.items():
            if value is not None and name in AS_USUAL and not _among(value, AS_USUAL[name]):
                raise BadQuestion(
                    f"{name}: must be {AS_USUAL[name][0]} here (got {value!r:.80}); leave it out"
                )
            if name not in HEEDED | DECODERS and name not in AS_USUAL:
                raise BadQuestion(f"{name}: is not known here; leave it out")
        bounds = [
            body[name]
            for name in ("max_completion_tokens", "max_tokens")
            if body.get(name) is not None
        ]
        for tokens in bounds:
            if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
                raise BadQuestion(
                    f"max_tokens: expected a whole number from 1 up (got {tokens!r:.80})"
                )
        tokens = bounds[0] if bounds else None if chat else MAX_TOKENS
        stop = _texts("stop", [] if body.get("stop") is None else body["stop"])
        if chat:
            return cls([], _messages(body.get("messages")), tokens, stop)
        texts = _texts("prompt", body.get("prompt"))
        if not texts:
            raise BadQuestion("prompt: expected a text or a list of texts (got none)")
        return cls(texts, [], tokens, stop)

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the first stop word in it, and whether there was one."""
        places = [place for word in self.stop if word and (place := text.find(word)) >= 0]
        return (text[: min(places)], True) if places else (text, False)


def _among(value: Any, usual: Sequence[Any]) -> bool:
    """Whether a value is one of those; Python would have it that 0 is false, which in logprobs asks
    for something.
    """
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in usual)


def _texts(name: str, value: Any) -> list[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise BadQuestion(
            f"{name}: expected a text or a list of texts (got {type(value).__name__}); tokens are not read"
        )
    return found


def _messages(value: Any) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise BadQuestion(f"messages: expected a list of messages (got {type(value).__name__})")
    for place, message in enumerate(value):
        known = (
            isinstance(message, dict)
            and message.get("role") in ROLES
            and isinstance(message.get("content"), str)
        )
        if not known:
            raise BadQuestion(
                f"messages.{place}: expected {{role: {' | '.join(ROLES)}, content: a text}}"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]
