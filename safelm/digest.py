"""Digests of files and folders."""

import hashlib
import json
from pathlib import Path

MANIFEST = "manifest.json"
BLOCK = 1 << 20


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(path: Path) -> tuple[str, str]:
    """md5 and sha256 of a file, read once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def content_digest(path: Path) -> str:
    """The digest of a file, or of a folder: by its manifest where it has one, else by all that is in it.

    Of a manifest only what was made counts, not the keys it was made by: code that changed and gave the same bytes
    changes nothing for those who read them. What is not there has a digest too.
    """
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        return "nothing"
    if (path / MANIFEST).is_file():
        values = json.loads((path / MANIFEST).read_bytes())
        tasks = [[task["name"], task["files"], task["ledger"]] for task in values["tasks"]]
        return hashlib.sha256(json.dumps(tasks, sort_keys=True).encode()).hexdigest()
    listing = [(inside.name, content_digest(inside)) for inside in sorted(path.iterdir()) if inside.name[0] != "."]
    return hashlib.sha256(repr(listing).encode()).hexdigest()
