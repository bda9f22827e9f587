"""The projects that share a cache: each leaves a file beside it, so that none loses its objects."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from safelm.builder.digest import json_digest
from safelm.builder.files import write_synced
from safelm.builder.paths import SCRATCH, cache

RESERVE = 4 << 20  # bytes


@dataclass(frozen=True)
class Workspace:
    """A project that builds on the cache: its folder, the host that saw it, the folder's inode."""

    path: str
    host: str
    inode: int

    @classmethod
    def here(cls) -> "Workspace":
        """Describe the project in the current folder."""
        folder = Path.cwd()
        return cls(str(folder), os.uname().nodename, folder.stat().st_ino)

    @property
    def file(self) -> Path:
        """The file that registers it."""
        return folder() / f"{json_digest([self.host, self.path])[:16]}.json"

    @property
    def locks(self) -> list[Path]:
        """The lock files of its stages."""
        return sorted(Path(self.path, SCRATCH, "locks").glob("*"))

    def is_here(self) -> bool:
        """Return whether its folder is there, and not another one of the same name."""
        try:
            return Path(self.path).stat().st_ino == self.inode
        except OSError:
            return False

    def is_gone(self) -> bool:
        """Return whether it was deleted; the folders of another host cannot be seen from here."""
        return not self.is_here() and self.host == os.uname().nodename


def folder() -> Path:
    """Return the folder of registrations, `<cache dir>/workspaces`."""
    return cache().parent.parent / "workspaces"


def register() -> None:
    """Leave the file of this project, or refresh its time: the time of the last build."""
    here = Workspace.here()
    data = json.dumps(asdict(here)).encode()
    if here.file.is_file() and here.file.read_bytes() == data:
        os.utime(here.file)
        return
    write_synced(here.file, data)


def reserve() -> Path:
    """Return the file that `safelm gc` removes first: on a full disk it needs room to begin."""
    return folder() / "reserve"


def take_reserve() -> None:
    """Write the reserve if it is missing, unless a build may need the room."""
    with suppress(OSError):
        has_room = shutil.disk_usage(folder()).free > 16 * RESERVE
        if has_room and not reserve().is_file():
            # Random, which no file system stores in less.
            reserve().write_bytes(os.urandom(RESERVE))


def workspaces() -> Iterator[Workspace]:
    """Yield every registered project; a damaged file, which no project wrote, counts as none."""
    for path in sorted(folder().glob("*.json")):
        try:
            yield Workspace(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            continue
