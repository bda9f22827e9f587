"""The report of a verification: files that the build needs, and faults that were found in them."""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import NamedTuple

from safelm.builder.manifest import File


class Fault(IntFlag):
    """The kinds of faults; together they are the exit code, as in `nix store verify`."""

    CORRUPT = 1
    MISSING = 2
    UNVERIFIABLE = 4

    @property
    def label(self) -> str:
        """The fault's name in messages."""
        return str(self.name).lower()


class Problem(NamedTuple):
    """A fault and a sentence about it, before it is known whose it is."""

    fault: Fault
    what: str


@dataclass(frozen=True)
class Finding:
    """A file at fault: its path in build/ (`name`), the file itself, and an object's digest."""

    fault: Fault
    stage: str
    name: Path
    path: Path
    what: str
    md5: str | None = None

    def __str__(self) -> str:
        path = "" if self.path == self.name else f"{self.path}: "
        return f"{self.fault.label:<12} {self.stage:<18} {self.name}: {path}{self.what}"


@dataclass(frozen=True)
class Need:
    """A file that the build needs: its path in build/, its object, its entry in a manifest."""

    stage: str
    name: Path
    md5: str
    file: File | None = None


@dataclass
class Report:
    """Findings, and counts of what was checked: `checked` holds the digests of objects."""

    findings: list[Finding] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    stages: int = 0
    objects: int = 0
    bytes: int = 0
    hashed: int = 0
    seconds: float = 0.0

    @property
    def code(self) -> int:
        """The exit code: the union of all faults."""
        code = 0
        for finding in self.findings:
            code |= finding.fault
        return code

    def summary(self) -> str:
        """Write `1,234 objects (5.6 GB) of 23 stages verified in 3.2 s: 2 corrupt, 1 missing`."""
        counts = Counter(finding.fault for finding in self.findings)
        faults = [f"{counts[fault]:,} {fault.label}" for fault in Fault if counts[fault]]
        checked = f"{self.objects:,} objects ({self.bytes / 1e9:,.2f} GB) of {self.stages} stages"
        return f"{checked} verified in {self.seconds:.1f} s: {', '.join(faults) or 'all whole'}"


def digest_problem(kind: str, expected: str, got: str, size: int) -> Problem:
    """Describe a file whose digest is another one than expected."""
    return Problem(
        Fault.CORRUPT, f"expected {kind} {expected[:16]}…, got {got[:16]}… ({size:,} bytes)"
    )


def read_problem(error: OSError) -> Problem:
    """Describe a file that could not be read: missing, another kind of file, or unreadable."""
    if isinstance(error, FileNotFoundError):
        return Problem(Fault.MISSING, "is missing")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return Problem(Fault.CORRUPT, describe(error))
    return Problem(Fault.UNVERIFIABLE, describe(error))


def describe(error: BaseException) -> str:
    """Describe an error in one line, by the system's own words if it has some."""
    words = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return " ".join(words.split())[:200]
