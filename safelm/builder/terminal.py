"""How far a stage is, in one line of a terminal; nothing where nobody looks."""

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

FORMAT = (
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} shards{postfix} [{elapsed}<{remaining}]"
)


class Progress:
    """The bar of one stage: shards that are done, those of them that were known before, rows a
    second, time left.
    """

    def __init__(self, stage: str, shards: int, known: int) -> None:
        self.rows, self.known, self.began = 0, known, time.monotonic()
        self.bar = tqdm(
            desc=stage,
            total=shards,
            initial=known,
            leave=False,
            dynamic_ncols=True,
            bar_format=FORMAT,
            disable=not sys.stderr.isatty(),
        )

    @property
    def is_shown(self) -> bool:
        """Whether somebody may look at it."""
        return not self.bar.disable

    def made(self, rows: int) -> None:
        """One shard more, of so many rows that were read."""
        self.rows += rows
        self.bar.set_postfix_str(self._beside(), refresh=False)
        self.bar.update()

    def close(self) -> None:
        """Clear the line."""
        self.bar.close()

    def _beside(self) -> str:
        rate = self.rows / max(time.monotonic() - self.began, 1e-9)
        known = f"{self.known:,} known, " if self.known else ""
        return f"{known}{rate:,.0f} rows/s"


def align_columns(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells as text in columns: the first `left` columns begin together, the others end
    together.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<"] * left + [">"] * (len(widths) - left)
    return [
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
