"""Damage to the bytes of a finished build, with time and mode kept where that is possible."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.verify.check import check
from safelm.maintenance.verify.lock_file import read_lock
from safelm.maintenance.verify.report import Report


@dataclass(frozen=True)
class Target:
    """A file of a build, in the cache or in build/, and the stages that own its bytes."""

    path: Path
    stages: frozenset[str]


def check_build() -> Report:
    """Check the build in this folder."""
    return check(read_lock(), Store(cache(), scratch()))


def targets() -> list[Target]:
    """List every object of an output of the build in this folder, and every file in build/.

    Stages that have an object in common, such as `ingest` and a `clean` that drops nothing, own its
    files together: they are hard links to it.
    """
    owners: dict[Path, set[str]] = {}
    store, stages = Store(cache(), scratch()), read_lock()
    needs = check_build().needs
    for need in (need for need in needs if need.name.parts[0] == "build"):
        together = owners.setdefault(store.object(need.md5), set())
        together.add(need.stage)
        owners[need.name] = together
    for stage in stages.values():
        for out in stage.outs:
            owners.setdefault(store.object(str(out.md5)), set()).add(stage.name)
    return [Target(path, frozenset(owners[path])) for path in sorted(owners)]


def overwrite(path: Path, data: bytes) -> None:
    """Write other bytes into the same inode and keep mode and time, as a failing disk does."""
    stat = path.stat()
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, data)
    os.close(descriptor)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip(target: Target, draw: random.Random) -> None:
    """Flip one random bit."""
    data = bytearray(target.path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    overwrite(target.path, bytes(data))


def truncate(target: Target, draw: random.Random) -> None:
    """Cut at a random length, often at 0, as a power loss does."""
    data = target.path.read_bytes()
    overwrite(target.path, data[: draw.choice([0, draw.randrange(len(data))])])


def zero(target: Target, draw: random.Random) -> None:
    """Write a block of zeros."""
    data = target.path.read_bytes()
    start = draw.randrange(len(data))
    while not any(data[start:]):
        start = draw.randrange(len(data))
    overwrite(target.path, data[:start] + bytes(len(data) - start))


def delete(target: Target, draw: random.Random) -> None:
    """Delete the file."""
    target.path.unlink()


def swap(target: Target, draw: random.Random) -> None:
    """Swap the file with another one."""
    other = draw.choice(
        [item for item in targets() if item.path.read_bytes() != target.path.read_bytes()]
    )
    part = target.path.with_name("part")
    os.rename(target.path, part)
    os.rename(other.path, target.path)
    os.rename(part, other.path)


def extra(target: Target, draw: random.Random) -> None:
    """Add a file that no stage made, in the folder of one in build/."""
    stage = draw.choice(
        sorted({item.path.parent for item in targets() if item.path.parts[0] == "build"})
    )
    (stage / f"{draw.randrange(10**6)}.parquet").write_bytes(draw.randbytes(99))


DAMAGE: dict[str, Callable[[Target, random.Random], None]] = {
    "truncate": truncate,
    "zero": zero,
    "swap": swap,
    "delete": delete,
    "extra": extra,
}


def junk(draw: random.Random) -> None:
    """Leave half-written objects, as a killed DVC does in its cache."""
    folder = draw.choice(sorted(cache().glob("??")))
    (folder / f".{draw.randbytes(8).hex()}.tmp").write_bytes(draw.randbytes(1000))
    (cache() / f".{draw.randbytes(8).hex()}.tmp").write_bytes(b"")
