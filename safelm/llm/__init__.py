"""The one door for language models: requests in, answers out, in their order. An engine is a row of
ENGINES.

Who writes, annotates or judges makes Requests, opens the engine that a row of params.yaml
describes, and asks it."""

from safelm.llm.engine import Engine, EngineError
from safelm.llm.engines import ENGINES, answers_file, open_engine
from safelm.llm.request import (
    Answer,
    Request,
    TemplateInput,
    fence_document,
    split_document,
    strip_control_tokens,
)

__all__ = [
    "ENGINES",
    "Answer",
    "Engine",
    "EngineError",
    "Request",
    "TemplateInput",
    "answers_file",
    "fence_document",
    "open_engine",
    "split_document",
    "strip_control_tokens",
]
