"""Where damaged and left-over files go: .safelm/quarantine, never the bin: look at them, then
delete it.
"""

import os
import shutil
from pathlib import Path

from safelm.builder.paths import scratch

FOLDER = "quarantine"


def quarantine(path: Path) -> Path:
    """Move a file or folder out of the way; where it is now: .safelm/quarantine/<number>/<its
    path>.
    """
    folder = scratch(FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max(
        (int(child.name) for child in folder.iterdir() if child.name.isdigit()), default=0
    )
    parts = [part for part in Path(os.path.relpath(path)).parts if part != ".."]
    target = folder.joinpath(f"{number:05d}", *parts)
    target.parent.mkdir(parents=True)
    shutil.move(path, target)
    return target
