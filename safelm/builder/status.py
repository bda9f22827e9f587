"""What is out of date, as DVC says, with the changes that it would miss."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safelm.builder.dvc_locks import Patience
from safelm.builder.inputs import changed_inputs, keep_stamps, stamp_inputs
from safelm.builder.paths import BUILD

Needs = Mapping[str, Collection[str]]  # by stage: the stages among them whose outputs it reads


class Outdated(NamedTuple):
    """Stages to build, and the bytes that they are expected to write."""

    needs: Needs
    bytes: int


def outdated() -> Outdated:
    """Ask DVC which stages are out of date, when other commands of DVC have ended.

    Returns:
        These stages and all that read from them, each with those among them that it waits for.
        They are expected to write as much as at their last build; those without one, as much as
        they read of what is there.
    """
    # Importing DVC takes half a second, which only a build has to spend.
    from dvc.lock import LockError

    patience = Patience()
    while True:
        try:
            return _ask_dvc()
        except LockError:
            if not patience.pause():
                raise


def _ask_dvc() -> Outdated:
    from dvc.repo import Repo
    from dvc.repo.graph import get_subgraph_of_nodes

    with Repo() as repo:
        stamps = stamp_inputs(_inputs(repo.index.stages))
        for path in changed_inputs(stamps):
            repo.state.hashes.delete(path)
        changed = repo.status()
        graph = repo.index.graph
        keep_stamps(stamps)
        stages = [stage for stage in graph if stage.addressing in changed]
        if not stages:
            return Outdated({}, 0)
        affected = get_subgraph_of_nodes(graph, stages, downstream=True)
        needs = {}
        for stage in affected:
            needed = [other.addressing for other in graph.successors(stage) if other in affected]
            needs[stage.addressing] = frozenset(needed)
        return Outdated(needs, _expected_bytes(affected))


def _inputs(stages: Iterable[Any]) -> Iterator[Path]:
    """Yield what stages read that no stage makes: sources and code."""
    for stage in stages:
        for dep in stage.deps:
            path = Path(dep.fs_path)
            if not path.is_relative_to(BUILD.absolute()):
                yield path


def _expected_bytes(stages: Iterable[Any]) -> int:
    written = 0
    inputs = set[Path]()
    for stage in stages:
        sizes = [out.meta.size for out in stage.outs]
        if None in sizes:
            inputs.update(Path(dep.fs_path) for dep in stage.deps)
        else:
            written += sum(sizes)
    # Code, which every stage reads, is too small to matter.
    return written + sum(file_bytes(path) for path in inputs)


def file_bytes(path: Path) -> int:
    """Add up the bytes of a file, or of the files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
