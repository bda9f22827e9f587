"""Cards of data sets and models, filled from the build; and the upload to the hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from jinja2 import Environment, FileSystemLoader
from pyarrow.parquet import read_metadata

from safelm import __version__
from safelm.builder.digest import file_digest, json_digest
from safelm.builder.files import Json
from safelm.builder.paths import build
from safelm.report.charts.numbers import readable
from safelm.report.charts.svg import ENVIRONMENT
from safelm.report.figures.makers import makers
from safelm.report.measured import STAGES
from specs.tokens import TAG

HERE = Path(__file__).parent
RELEASE: Json = yaml.safe_load((HERE / "release.yaml").read_bytes())
FUNCTIONS = (build, file_digest, json_digest, makers, read_metadata, readable)


def templates(**facts: Any) -> Environment:
    """Return the templates of cards, with facts that all share.

    No fact may hold the text of a document or an answer of a model: these are untrusted.
    """
    found = ENVIRONMENT.overlay(
        loader=FileSystemLoader(HERE), autoescape=False, keep_trailing_newline=True
    )
    functions = {function.__name__: function for function in FUNCTIONS}
    # An ellipsis, which templates cannot write, selects numbers of every judge or attack.
    constants = {"every": ..., "release": RELEASE, "stages": STAGES, "tag": TAG}
    found.globals = {**found.globals, **functions, **constants, "version": __version__, **facts}
    return found


def push(root: Path, organisation: str) -> Iterator[str]:
    """Upload every folder to the hub, into a private repository; yield the addresses."""
    hub = HfApi()
    for folder in sorted(root.glob("*s/*")):
        kind = folder.parent.name.removesuffix("s")
        name = f"{organisation}/{folder.name}"
        url = hub.create_repo(
            name,
            repo_type=kind,
            private=True,
            exist_ok=True,
            space_sdk="static" if kind == "space" else None,
        )
        hub.upload_folder(repo_id=name, repo_type=kind, folder_path=folder)
        yield str(url)
