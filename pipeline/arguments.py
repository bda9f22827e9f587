"""The command line of a stage, with a help that teaches: what dvc.yaml says it reads, writes and is
turned by.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from specs.params import Params
from specs.yaml_source import YamlFile

CODE = ("pipeline/", "safelm/")


class StageParser(argparse.ArgumentParser):
    """The arguments of `python -m pipeline.<stage>`."""

    def __init__(self, stage: str, doc: str | None) -> None:
        prog, shape = f"python -m pipeline.{stage}", argparse.RawTextHelpFormatter
        super().__init__(prog=prog, description=doc, formatter_class=shape)
        self.stage = stage

    def add_row(self, name: str, table: str) -> None:
        """An argument that names a row of a table in params.yaml."""
        rows = getattr(Params.read(table), table)
        self.add_argument(
            name,
            choices=rows,
            metavar=name,
            help=f"a row of `{table}` in params.yaml: {', '.join(rows)}",
        )

    def format_help(self) -> str:
        """What argparse says, and what dvc.yaml knows."""
        entry = YamlFile(Path("dvc.yaml")).values["stages"][self.stage]
        return f"{super().format_help()}\n{_place(self.stage, entry)}"


def _place(stage: str, entry: dict[str, Any]) -> str:
    """The stage's place in the DAG, one line for each kind of edge."""
    body = entry.get("do", entry)
    reads = [
        name for name in body["deps"] if not name.startswith(CODE) and not name.endswith(".py")
    ]
    lines = {
        "turned by": f"{_listed(body['params'])} (blocks of params.yaml)",
        "reads": _listed(reads),
        "writes": _listed(body["outs"]),
        "logs": f".safelm/logs/{stage}",
        "as DVC runs it": f"dvc repro {stage}, with all that it needs; only this: dvc repro --single-item {stage}",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items()) + "\n"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(re.sub(r"\$\{(?:\w+\.)?(\w+)\}", r"<\1>", name) for name in names) or "nothing"
