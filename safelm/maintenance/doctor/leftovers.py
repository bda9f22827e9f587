"""What killed builds leave in the cache and in .safelm: never used again. Looked at while none
runs.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from safelm.builder.manifest import ManifestEntry
from safelm.builder.paths import BUILD, cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.doctor.diagnosis import Diagnosis, left_over
from safelm.maintenance.quarantine import FOLDER

OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")
PREFIX = re.compile(r"[0-9a-f]{2}")


def half_written() -> Iterator[Diagnosis]:
    """Files in the cache whose name is no digest: DVC and the store write under another name first."""
    for folder in sorted(cache().glob("*")):
        if not PREFIX.fullmatch(folder.name):
            yield left_over(folder, "was being written to the cache")
            continue
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if not OBJECT.fullmatch(path.name) and not path.name.endswith(".unpacked"):
                yield left_over(
                    path, f"was being written to the cache ({path.stat().st_size:,} bytes)"
                )


def attempts() -> Iterator[Diagnosis]:
    """Folders of tries that did not end; the shards they finished are in the store."""
    places = (Store(cache(), scratch()).temporary_root, scratch("attempts"), BUILD / ".attempts")
    for path in (path for place in places for path in sorted(place.glob("*"))):
        yield left_over(path, f"is a try that did not end ({_size(path) / 1e6:,.1f} MB)")


def records() -> Iterator[Diagnosis]:
    """Records that cannot be read. Their shards count as not made, so this costs work and nothing
    else.
    """
    for path in sorted(scratch("index").glob("??/*")):
        if path.suffix != ".json" or path.name.startswith("."):
            yield left_over(path, "was being written to the index")
            continue
        try:
            whole = ManifestEntry.load(json.loads(path.read_bytes())).key == path.stem
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            yield left_over(path, "is a damaged record; its shard is made again if it is needed")


def quarantine() -> Iterator[Diagnosis]:
    """What was moved aside before and takes room."""
    folder = scratch(FOLDER)
    if size := _size(folder):
        remedy = "delete it when you have looked at it"
        yield Diagnosis(str(folder), f"keeps {size / 1e6:,.1f} MB that was moved aside", remedy)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
