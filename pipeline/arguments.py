"""The command line of a stage, with a help made of dvc.yaml."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from pipeline.dependencies import is_code, read_stages, refuse_outdated_rows
from pipeline.rows import body, is_row, patterns_of
from specs.params import Params


class StageParser(argparse.ArgumentParser):
    """The arguments of `python -m pipeline.<stage>`."""

    def __init__(self, stage: str, doc: str | None) -> None:
        super().__init__(
            prog=f"python -m pipeline.{stage}",
            description=doc,
            formatter_class=argparse.RawTextHelpFormatter,
        )
        self.stage = stage

    def add_row(self, name: str, table: str) -> None:
        """Add an argument that names a row of a table, or of a list such as score.sources."""
        rows = attrgetter(table)(Params.read(table.partition(".")[0]))
        self.add_argument(
            name,
            choices=rows,
            metavar=name,
            help=f"a row of `{table}` in params.yaml: {', '.join(rows)}",
        )

    def parse_row(self, name: str, table: str) -> str:
        """Parse a command line of one argument, a row of a table; return the row's name."""
        self.add_row(name, table)
        return str(getattr(self.parse_args(), name))

    def parse_args(self, *arguments: Any) -> argparse.Namespace:  # type: ignore[override]
        """Parse the arguments; as a stage of DVC, refuse rows that dvc.yaml does not list."""
        # Set by DVC. Run by hand, a stage does not depend on the rows that dvc.yaml lists.
        if "DVC_STAGE" in os.environ:
            refuse_outdated_rows(self.stage)
        return super().parse_args(*arguments)

    def format_help(self) -> str:
        """Add to argparse's help the place of the stage in the DAG."""
        return f"{super().format_help()}\n{_place(self.stage, body(read_stages()[self.stage]))}"


def _place(stage: str, definition: Mapping[str, Any]) -> str:
    lines = {
        "params": f"{_listed(definition['params'])} (blocks of params.yaml)",
        "reads": _listed(_inputs(definition)),
        "writes": _listed(definition["outs"]),
        "logs": f".safelm/logs/{stage}",
        "with its inputs": f"dvc repro {stage}",
        "alone": f"dvc repro --single-item {stage}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items()) + "\n"


def _inputs(definition: Mapping[str, Any]) -> Sequence[str]:
    """List what a stage reads, its rows by the patterns that stand for them."""
    patterns = patterns_of(definition)
    listed = [path for path in definition["deps"] if not is_code(path)]
    return [*(path for path in listed if not is_row(path, patterns)), *patterns]


def _listed(names: Iterable[str]) -> str:
    # A template variable of dvc.yaml, such as ${item.model}, is shown as <model>.
    plain = (re.sub(r"\$\{(?:\w+\.)?(\w+)\}", r"<\1>", name) for name in names)
    return ", ".join(plain) or "nothing"
