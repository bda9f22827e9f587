"""Setups: whole files for params.yaml, specs/setups/<name>.yaml."""

import subprocess
from pathlib import Path

from specs import SPECS
from specs.checks.files import stems
from specs.messages import unknown_file
from specs.params import PARAMS
from specs.yaml_source import YamlFile

SETUPS = SPECS / "setups"


class SetupError(ValueError):
    """A setup that is not there, or that would overwrite edits."""


def titles() -> dict[str, str]:
    """Return the title of the report of every setup."""
    files = {name: YamlFile(SETUPS / f"{name}.yaml").values for name in stems(SETUPS)}
    return {name: values["report"]["title"] for name, values in files.items()}


def use(name: str, *, force: bool, target: Path = PARAMS) -> None:
    """Write a setup to params.yaml.

    Raises SetupError for an unknown name, and for edits of params.yaml that neither the last commit
    nor a setup has, unless `force` is set.
    """
    if name not in stems(SETUPS):
        raise SetupError(unknown_file("specs/setups", name, stems(SETUPS)))
    if target.is_file() and not force and not _is_saved(target):
        raise SetupError(
            f"{target}: has edits that are not committed; commit them, or write `--force` to "
            "overwrite them"
        )
    target.write_bytes((SETUPS / f"{name}.yaml").read_bytes())


def _is_saved(path: Path) -> bool:
    command = ["git", "show", f"HEAD:./{path.name}"]
    commit = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)
    saved = [setup.read_bytes() for setup in SETUPS.glob("*.yaml")]
    return path.read_bytes() in [*saved, commit.stdout]
