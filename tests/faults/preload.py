"""Modules, and digests of their code, that a forked stage finds ready."""

import safelm.builder.run
import safelm.corpora.tagging
import safelm.corpora.tokenization
import safelm.scoring.registry
import safelm.synthesis.writer
import specs.params
import tests.faults.forked
from safelm.builder.fingerprint import code_digest
from safelm.ingestion import child_safety as guard
from safelm.ingestion import duplicates, ingest, jsonl
from safelm.ingestion import registry as readers

code_digest(
    [
        "safelm.builder.blocks",
        "safelm.scoring.registry",
        "safelm.corpora.tagging",
        "safelm.synthesis.writer",
        jsonl.__name__,
    ]
)
code_digest([duplicates.__name__, guard.__name__, ingest.__name__, readers.__name__])

__all__ = ["safelm", "specs", "tests"]
