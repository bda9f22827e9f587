"""Checks that a fault left only whole files: one with a final name is finished, or absent."""

import hashlib
import json
from pathlib import Path

from safelm.builder.manifest import Manifest
from safelm.builder.shards import shards

OUTPUTS = ("build/ingest/web", "build/clean/web", "build/score/web", "build/tag/unsafe")


def torn(root: Path) -> list[str]:
    """List what is not whole: objects, index entries, and shards of a stage's folder."""
    return [
        *_objects(root / ".dvc/cache/files/md5"),
        *_records(root / ".safelm/index"),
        *_folders(root),
    ]


def _objects(cache: Path) -> list[str]:
    found = [path for path in cache.glob("??/*") if path.is_file() and len(path.name) == 30]
    wrong = [
        path
        for path in found
        if hashlib.md5(path.read_bytes()).hexdigest() != path.parent.name + path.name
    ]
    loose = [path for path in found if path.stat().st_mode & 0o222]
    return [
        *(f"object {path.parent.name}{path.name} does not hold its bytes" for path in wrong),
        *(f"object {path.parent.name}{path.name} can be written" for path in loose),
    ]


def _records(index: Path) -> list[str]:
    wrong = []
    for path in index.glob("??/*.json"):
        if not path.name.startswith("."):
            try:
                json.loads(path.read_bytes())["files"]
            except (ValueError, KeyError) as error:
                wrong.append(f"record {path.name}: {error}")
    return wrong


def _folders(root: Path) -> list[str]:
    wrong = []
    for output in OUTPUTS:
        folder = root / output
        if folder.exists():
            try:
                Manifest.read(folder)
                for suffix in (".parquet", ".jsonl"):
                    for shard in shards(folder, suffix):
                        shard.bytes()
            except Exception as error:
                wrong.append(f"{output}: {error}")
    tokenizer = root / "build/tokenizer"
    if tokenizer.exists():
        try:
            json.loads(tokenizer.joinpath("tokenizer.json").read_bytes())
        except (OSError, ValueError) as error:
            wrong.append(f"build/tokenizer: {error}")
    return wrong
