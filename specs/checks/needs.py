"""Checks of what a build needs from elsewhere, each with the remedy.

A row that is right may still name files that are not here yet: a source, the weights of a model, a
suite. A path such as weights/ORG/NAME says which model of the Hugging Face hub is missing.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from specs.checks.files import stems
from specs.engine import EndpointEngine, TemplateEngine
from specs.messages import Findings
from specs.params import Params
from specs.scorer import Encoder
from specs.spec import values_at
from specs.suite import SUITES, DemoSuite, Suite

WEIGHTS = ("external_models.*", "models.*.start", "engines.*")


def check_needs(params: Params) -> Findings:
    """Yield every file that is missing, and every digest that is not written down yet."""
    for at, path in values_at(params, "sources.*.path", "scorers.*.path"):
        if not Path(path).exists():
            origin = getattr(getattr(params, str(at[0]))[at[1]], "origin", None)
            hint = f"; fetch it: {origin}" if origin else _pattern_hint(path)
            yield at, f"must be a file or folder that exists (got {path}){hint}"
    for at, row in values_at(params, "scorers.*"):
        is_folder = isinstance(row, Encoder) and row.revision is None
        if is_folder and not (Path(row.model) / "config.json").is_file():
            yield (
                (*at, "model"),
                f"must be a folder with config.json (got {row.model}); for a model of the hub "
                f"write its commit as revision{_fetch(row.model)}",
            )
    path = params.tokenizer.path
    if path is not None and not (Path(path) / "tokenizer.json").is_file():
        yield (
            ("tokenizer", "path"),
            "must be a folder with tokenizer.json, or null to train one "
            f"(got {path}){_fetch(path)}",
        )
    yield from _weights(params)
    for name in params.evaluate.suites:
        if name in stems(SUITES):
            suite = Suite.read(name)
            mistake = None if isinstance(suite, DemoSuite) else suite.mistake()
            if mistake:
                key, problem = mistake
                yield ("evaluate", "suites"), f"specs/suites/{name}.yaml {key}: {problem}"


def _weights(params: Params) -> Findings:
    for at, row in values_at(params, *WEIGHTS):
        if isinstance(row, TemplateEngine):
            continue
        model, is_folder = row.model, Path(row.model).is_dir()
        if at[0] != "engines" and (row.revision is None) != is_folder:
            state = "is a folder here" if is_folder else "is not a folder here"
            yield (
                (*at, "revision"),
                "must be the commit of a model of the hub, and null for a folder "
                f"(got {row.revision or 'null'} for {model}, which {state}){_fetch(model)}",
            )
        elif row.digest is None:
            fetch = "" if is_folder else _fetch(model)
            commit = f" --revision {row.revision}" if getattr(row, "revision", None) else ""
            remedy = f"write what `python -m safelm.llm.weights {model}{commit}` prints"
            if isinstance(row, EndpointEngine):
                remedy = "write the name by which the provider pins the model"
            yield (*at, "digest"), f"must say which weights these are (got null); {remedy}{fetch}"


def check_addresses(params: Params, environment: Mapping[str, str] = os.environ) -> Findings:
    """Yield every server that has no address; a build needs it once it asks."""
    for name, row in params.engines.items():
        variable = f"SAFELM_{name.upper()}_URL"
        if isinstance(row, EndpointEngine) and not environment.get(variable):
            yield (
                ("engines", name),
                f"needs a server: set {variable} to its address, such as https://…/v1, and "
                f"SAFELM_{name.upper()}_KEY to its key if it has one",
            )


def _fetch(path: str) -> str:
    """Return how to fetch a model from the hub; empty for any other path."""
    kind, _, name = path.partition("/")
    if kind != "weights":
        return ""
    return (
        f"; fetch it: hf download {name} --local-dir {path} (if it is gated, agree to its terms at "
        f"huggingface.co/{name}, and run hf auth login)"
    )


def _pattern_hint(path: str) -> str:
    """Return what to write instead of a pattern, because DVC watches files and folders."""
    if "*" not in path:
        return ""
    folder, _, pattern = path.rpartition("/")
    return f"; write path: {folder or '.'} and files: '{pattern}'"
