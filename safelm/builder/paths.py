"""Where things are: the folders of the project, relative to the directory that holds dvc.yaml."""

import configparser
import os
from pathlib import Path

BUILD = Path("build")
SCRATCH = Path(".safelm")  # disposable: logs, the shard index, attempts, unfinished checkpoints


def build(*parts: str) -> Path:
    """The output folder of a stage: build("ingest", "web") is build/ingest/web."""
    return BUILD.joinpath(*parts)


def scratch(*parts: str) -> Path:
    """A folder beside the build that may be deleted at any time."""
    return SCRATCH.joinpath(*parts)


def cache() -> Path:
    """The folder of DVC's content-addressed objects, <cache dir>/files/md5.

    Read from DVC's own configuration files, the local one first; importing DVC would cost a third
    of a second a stage."""
    for file in (Path(".dvc/config.local"), Path(".dvc/config")):
        parser = configparser.ConfigParser()
        parser.read(file)
        if parser.has_option("cache", "dir"):
            folder = Path(parser.get("cache", "dir"))
            return (folder if folder.is_absolute() else file.parent / folder) / "files" / "md5"
    return Path(".dvc/cache/files/md5")


def workers() -> int:
    """How many processes a data step may use: SAFELM_WORKERS, else the cores this process may run
    on.
    """
    return environment_number("SAFELM_WORKERS") or len(os.sched_getaffinity(0))


def environment_number(variable: str) -> int | None:
    """A whole number above 0 from the environment; None where the variable is not set."""
    asked = os.environ.get(variable, "")
    if asked and not (asked.isdigit() and int(asked)):
        raise ValueError(
            f"{variable}: expected a whole number above 0 (got {asked!r}); unset it for the default"
        )
    return int(asked) if asked else None
