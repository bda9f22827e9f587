"""Registry of engines: from a row of `engines` in params.yaml to an open engine."""

from pathlib import Path

from safelm.builder.blocks import Task
from safelm.builder.digest import json_digest
from safelm.builder.paths import scratch
from safelm.llm.engine import Engine, EngineRow


def open_engine(row: EngineRow, answers: Path) -> Engine:
    """Open the engine of a row.

    `answers` is the file that stores the answers; the template engine stores none.
    """
    # Imported here: a stage without a server needs no HTTP client.
    match row["kind"]:
        case "template":
            from safelm.llm.templates.engine import TemplateEngine
            from specs.prompt import HAZARDS, SHARED

            return TemplateEngine(SHARED, HAZARDS)
        case "endpoint":
            from safelm.llm.client import Endpoint
            from safelm.llm.model import LanguageModel

            return LanguageModel(row, Endpoint.from_environment(row["name"]), answers)
        case kind:
            from safelm.llm.model import LanguageModel
            from safelm.llm.server import serve

            assert kind == "vllm", kind
            return LanguageModel(row, serve(row), answers)


def answers_file(row: EngineRow, stage: str, task: Task) -> Path:
    """Return the file that stores a stage's answers for one shard."""
    model = json_digest([row["kind"], row.get("model"), row.get("digest")])
    shard = task.inputs[0].sha256 if task.inputs else task.name
    return scratch("answers", stage, model[:16], f"{shard[:32]}.jsonl")
