"""Terminal output: the progress bar of a stage, and text in columns."""

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

FORMAT = (
    "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} shards{postfix} [{elapsed}<{remaining}]"
)


class Progress:
    """The progress bar of a stage: finished and cached shards, rows a second, time left.

    Nothing is drawn unless standard error is a terminal.
    """

    def __init__(self, stage: str, shards: int, cached: int) -> None:
        self.rows = 0
        self.cached = cached
        self.began = time.monotonic()
        self.bar = tqdm(
            desc=stage,
            total=shards,
            initial=cached,
            leave=False,
            dynamic_ncols=True,
            bar_format=FORMAT,
            disable=not sys.stderr.isatty(),
        )

    @property
    def is_shown(self) -> bool:
        """Whether the bar is drawn."""
        return not self.bar.disable

    def advance(self, rows: int) -> None:
        """Count one more shard, made from so many rows."""
        self.rows += rows
        rate = self.rows / max(time.monotonic() - self.began, 1e-9)
        cached = f"{self.cached:,} cached, " if self.cached else ""
        self.bar.set_postfix_str(f"{cached}{rate:,.0f} rows/s", refresh=False)
        self.bar.update()

    def close(self) -> None:
        """Clear the line."""
        self.bar.close()


def align_columns(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Pad lines of cells to columns: the first `left` align left, the others right."""
    columns = []
    for index, column in enumerate(zip(*lines, strict=True)):
        width = max(map(len, column))
        side = "<" if index < left else ">"
        columns.append([f"{cell:{side}{width}}" for cell in column])
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
