"""Digests of files and folders."""

import hashlib
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
    """The digest of a file, or of a folder: by its manifest where it has one, else by every file in it."""
    if path.is_file():
        return file_digest(path)
    if (path / MANIFEST).is_file():
        return file_digest(path / MANIFEST)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [(file.relative_to(path).as_posix(), file_digest(file)) for file in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()
