"""Language models: requests in, answers out, in the same order.

Stages that write, annotate or judge build Requests, open the engine of a row of params.yaml, and
call its `generate`. A new kind of engine is a new row of ENGINES.
"""

from safelm.llm.engine import Answer, Engine, EngineError, Request, TemplateInput
from safelm.llm.engines import ENGINES, answers_file, open_engine
from safelm.llm.fencing import fence_document, split_document, strip_control_tokens

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
