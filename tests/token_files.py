"""Tokenized corpora for tests, as the stage tokenize writes them, and a minimal tokenizer."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from safelm.builder.digest import md5_and_sha256
from safelm.builder.manifest import File, Ledger, Manifest, ManifestEntry

END = 0


def write_corpus(
    folder: Path, documents: Sequence[Sequence[int]], shards: int = 2, end: int = END
) -> Path:
    """Write documents (token ids without END) in this many shards."""
    folder.mkdir(parents=True)
    tasks = []
    for number in range(shards):
        own, name = documents[number::shards], f"{number:05d}-00000"
        tokens = np.concatenate([np.array([*document, end]) for document in own] or [np.zeros(0)])
        tokens.astype("<u2").tofile(folder / f"{name}.ds")
        np.cumsum([len(document) + 1 for document in own], dtype="<u8").tofile(
            folder / f"{name}.ds.index"
        )
        paths = {suffix: folder / f"{name}{suffix}" for suffix in (".ds", ".ds.index")}
        files = tuple(
            File(s, len(own), path.stat().st_size, *md5_and_sha256(path))
            for s, path in paths.items()
        )
        tasks.append((name, ManifestEntry(name, files, Ledger(len(own), len(own)))))
    Manifest(f"tokenize/{folder.name}", tuple(tasks)).write(folder)
    return folder


def write_tokenizer(folder: Path, vocabulary: int) -> Path:
    """Write the parts of a tokenizer that the training stages read."""
    folder.mkdir(parents=True)
    added = [
        {"id": 0, "content": "<|endoftext|>"},
        {"id": 3, "content": "<potentially_unsafe_content>"},
    ]
    vocab = {str(number): number for number in range(vocabulary)}
    values = {"model": {"vocab": vocab}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    return folder
