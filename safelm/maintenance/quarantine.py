"""A quarantine, .safelm/quarantine, where damaged files and leftovers are kept, not deleted."""

import os
import shutil
from pathlib import Path

from safelm.builder.paths import scratch


def quarantine_folder() -> Path:
    """Return the folder of the quarantine, whose files may be deleted at any time."""
    return scratch("quarantine")


def quarantine(path: Path) -> Path:
    """Move a file or folder to .safelm/quarantine/<number>/<its path>; return where it is now."""
    root = quarantine_folder()
    root.mkdir(parents=True, exist_ok=True)
    numbers = [int(child.name) for child in root.iterdir() if child.name.isdecimal()]
    number = max(numbers, default=0) + 1
    # A cache outside of the project keeps its path below the number.
    parts = [part for part in Path(os.path.relpath(path)).parts if part != ".."]
    target = root.joinpath(f"{number:05d}", *parts)
    target.parent.mkdir(parents=True)
    shutil.move(path, target)
    return target
