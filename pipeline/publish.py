"""The command `safelm publish`: a finished build as folders for the hub."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.declared import declared_rows
from safelm.builder.paths import build
from safelm.publishing.cards import push
from safelm.publishing.publish import publish
from safelm.report.data import read_data
from specs import validation
from specs.checks.filters import source_of


def lines(root: Path, organisation: str | None) -> Iterator[str]:
    """Write the folders, upload them if there is an organisation, and yield what was done.

    A folder that is there is left as it is, so that cards may be edited before they are uploaded.

    Raises:
        SpecError: params.yaml is not valid.
        DamagedShard: an output is missing, or is not what was built.
    """
    if root.exists():
        yield f"{root}: is there already and stays as it is; remove it to publish the build anew"
    else:
        params = validation.read()
        # Every origin has a source in params that are valid.
        rows = params.corpora.values()
        sources = {row.from_: str(source_of(params, row.from_)) for row in rows}
        yield from publish(root, read_data(build(), declared_rows(params)), params, sources)
    if organisation is not None:
        yield from push(root, organisation)
