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
        self.rows, self.cached, self.began = 0, cached, time.monotonic()
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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [_padded(line, widths, left) for line in lines]


def _padded(line: Sequence[str], widths: Sequence[int], left: int) -> str:
    first = [cell.ljust(width) for cell, width in zip(line[:left], widths, strict=False)]
    rest = [cell.rjust(width) for cell, width in zip(line[left:], widths[left:], strict=True)]
    return "  ".join([*first, *rest]).rstrip()
