"""Paths of a project: build/, scratch files and DVC's cache, relative to the folder of dvc.yaml."""

import configparser
from pathlib import Path

BUILD = Path("build")
# Disposable: logs, locks, the index of shards, unfinished checkpoints.
SCRATCH = Path(".safelm")
OBJECTS = Path("files/md5")  # the objects in a cache folder of DVC


def build(*parts: str) -> Path:
    """Return the output folder of a stage: build("ingest", "web") is build/ingest/web."""
    return BUILD.joinpath(*parts)


def scratch(*parts: str) -> Path:
    """Return a path in the scratch folder, which may be deleted at any time."""
    return SCRATCH.joinpath(*parts)


def cache() -> Path:
    """Return the folder of DVC's content-addressed objects, <cache dir>/files/md5.

    The place is read from DVC's own configuration files, the local one first. Importing DVC
    instead would cost a third of a second a stage.
    """
    for file in (Path(".dvc/config.local"), Path(".dvc/config")):
        parser = configparser.ConfigParser()
        parser.read(file)
        folder = parser.get("cache", "dir", fallback=None)
        if folder is not None:
            # A relative folder is relative to the file that names it.
            return file.parent / folder / OBJECTS
    return Path(".dvc/cache") / OBJECTS
