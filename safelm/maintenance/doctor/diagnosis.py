"""A sign that something is wrong."""

from dataclasses import dataclass
from pathlib import Path

FIX = "`make doctor FIX=1` moves it aside"


@dataclass(frozen=True)
class Diagnosis:
    """Where, what, and what to do about it; `aside` is what `--fix` moves out of the way, `mended`
    that it did.
    """

    where: str
    what: str
    remedy: str
    aside: Path | None = None
    mended: bool = False

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.remedy}".split())


def left_over(path: Path, what: str, then: str = "") -> Diagnosis:
    """A file that is only in the way."""
    return Diagnosis(str(path), what, FIX + then, path)
