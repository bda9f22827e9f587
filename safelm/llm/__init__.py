"""The one door for language models: requests in, answers out, in their order. An engine is a row of
ENGINES.

Who writes, annotates or judges makes Requests, opens the engine that a row of params.yaml
describes, and asks it."""

from safelm.llm.engine import Engine, EngineError
from safelm.llm.engines import ENGINES, answers_file, open_engine
from safelm.llm.request import Answer, Page, Request, as_data, fenced, pieces

__all__ = [
    "ENGINES",
    "Answer",
    "Engine",
    "EngineError",
    "Page",
    "Request",
    "answers_file",
    "as_data",
    "fenced",
    "open_engine",
    "pieces",
]
