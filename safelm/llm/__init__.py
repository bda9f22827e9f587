"""Language models that write, annotate and judge.

A stage opens the engine of a row of params.yaml and passes Requests to its `generate`, which
returns the answers in the same order. A new kind of engine is a new case of `open_engine`.
"""

from safelm.llm.attempts import ask
from safelm.llm.engine import Answer, Engine, EngineError, Request, TemplateInput, list_counts
from safelm.llm.engines import answers_file, open_engine
from safelm.llm.fencing import fence_document, split_document, strip_control_tokens

__all__ = [
    "Answer",
    "Engine",
    "EngineError",
    "Request",
    "TemplateInput",
    "answers_file",
    "ask",
    "fence_document",
    "list_counts",
    "open_engine",
    "split_document",
    "strip_control_tokens",
]
