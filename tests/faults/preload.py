"""What a forked stage finds ready: the modules, and the digest of their code, which cannot change in between."""

import safelm.executor
import safelm.scoring.scorers
import safelm.tagging
import safelm.tokens
import safelm.writing.writer
import specs.params
import tests.faults.forked
from safelm.code import code_digest
from safelm.reading import duplicates, guard, ingest, jsonl, readers

code_digest(["safelm.blocks", "safelm.scoring.scorers", "safelm.tagging", "safelm.writing.writer", jsonl.__name__])
code_digest([duplicates.__name__, guard.__name__, ingest.__name__, readers.__name__])

__all__ = ["safelm", "specs", "tests"]
