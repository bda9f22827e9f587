"""A diagnosis: something that is wrong, with its remedy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FIX = "`make doctor FIX=1` moves it to .safelm/quarantine"


@dataclass(frozen=True)
class Diagnosis:
    """A fault in one line: where it is, what is wrong, and the remedy.

    `leftover` is the file or folder that `--fix` moves to the quarantine, and `mend` is what it
    calls where nothing is moved; `is_fixed` says that it has done so.
    """

    where: Path | str
    what: str
    remedy: str
    leftover: Path | None = None
    is_fixed: bool = False
    mend: Callable[[], object] | None = None

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.remedy}".split())


Diagnoses = Iterator[Diagnosis]


def leftover(path: Path, what: str) -> Diagnosis:
    """Diagnose a file that serves no purpose any more."""
    return Diagnosis(path, what, FIX, path)
