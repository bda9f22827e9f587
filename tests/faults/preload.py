"""Modules, and digests of their code, that a forked stage finds ready."""

from importlib import import_module

import safelm.builder.run
import safelm.corpora.report_card
import safelm.corpora.tagging
import safelm.corpora.tokenization
import safelm.scoring.audit
import safelm.scoring.registry
import safelm.synthesis.writer
import specs.params
import tests.faults.forked
from safelm.builder.fingerprint import code_digest
from safelm.ingestion import child_safety as guard
from safelm.ingestion import duplicates, ingest, jsonl

code_digest(
    [
        "safelm.builder.blocks",
        "safelm.scoring.registry",
        "safelm.corpora.tagging",
        "safelm.synthesis.writer",
        jsonl.__name__,
    ]
)
code_digest([duplicates.__name__, guard.__name__, ingest.__name__])
# Libraries that DVC, its commands and maintenance import on their way.
for name in (
    "dvc.cli.parser",
    "dvc.repo.index",
    "dvc.repo.reproduce",
    "dvc.repo.worktree",
    "dvc.stage.run",
    "dvc.utils.strictyaml",
    "dvc_data.index.checkout",
    "dvc_data.index.fetch",
    "dvc_data.index.push",
    "fsspec.implementations.memory",
    "networkx",
    "pandas",
    "typer.main",
):
    import_module(name)

__all__ = ["safelm", "specs", "tests"]
