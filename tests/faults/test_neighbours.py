"""Two clones on one cache, in which three processes run at once: nothing is lost, nothing fails."""

import random
import shutil
import time
from pathlib import Path

import pytest

from safelm.builder import workspaces
from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from tests.faults import damage
from tests.faults.forked import Forked
from tests.faults.histories import EDITS, Machine, copy_links, difference, start
from tests.faults.toy import State, Toy

COMMANDS = {
    "build": ("pipeline", "build"),
    "build in lanes": ("pipeline", "build", "--jobs", "3"),
    "gc": ("pipeline", "gc"),
    "gc of all": ("pipeline", "gc", "--hours", "0"),
    "verify": ("pipeline", "verify"),
    "pull": ("pipeline", "pull"),
}
VALUES = [name for name in EDITS if name.startswith("value of")]


class Neighbours:
    """Two clones that were built, as they were then; `restore` brings them back."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        self.saved, self.folder = folder / "saved", folder / "clones"
        self.saved.mkdir()
        for name in ("one", "two"):
            copy_links(self.machine.base.root, self.saved / name)
            Toy(self.saved / name).edit(".dvc/config", "[cache]", "[cache]\n    dir = ../../cache")
        self.restore()
        for number, clone in enumerate(self.clones):
            run(clone, "pipeline", "build", "--jobs", "1")
            if not number:
                run(clone, "dvc", "push")
        shutil.rmtree(self.saved)
        copy_links(self.folder, self.saved)
        self.states: dict[frozenset[str], State] = {}

    @property
    def clones(self) -> list[Toy]:
        return [Toy(self.folder / name) for name in ("one", "two")]

    def restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        copy_links(self.saved, self.folder)

    def state(self, edits: frozenset[str]) -> State:
        """Return what a clone without a neighbour builds after some edits."""
        if edits not in self.states:
            root = self.saved.with_name(f"alone-{len(self.states)}")
            copy_links(self.saved, root)
            alone = Toy(root / "one")
            for name in edits:
                alone.edit(*EDITS[name])
            run(alone, "pipeline", "build", "--jobs", "1")
            self.states[edits] = alone.state()
        return self.states[edits]


def run(clone: Toy, *words: str) -> str:
    result = start(clone, *words).wait()
    assert result.code == 0, (words, result.text)
    return result.text


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Neighbours:
    return Neighbours(tmp_path_factory.mktemp("neighbours"))


@pytest.mark.cases(quick=3, full=60)
def test_neighbours_wait_for_each_other(
    case: int, neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(case)
    neighbours.restore()
    edits: dict[Path, frozenset[str]] = {}
    for clone in neighbours.clones:
        monkeypatch.chdir(clone.root)
        workspaces.register()  # restored, it is another folder
        edits[clone.root] = frozenset(draw.sample(VALUES, draw.randrange(0, 3)))
        for name in edits[clone.root]:
            clone.edit(*EDITS[name])
    begun: list[tuple[str, Forked]] = []
    for _ in range(3):
        name, clone = draw.choice(list(COMMANDS)), draw.choice(neighbours.clones)
        begun.append((f"{clone.root.name}: {name}", start(clone, *COMMANDS[name])))
        time.sleep(draw.choice([0, 0, draw.uniform(0, 3)]))
    ended = {f"{number} {name}": one.wait() for number, (name, one) in enumerate(begun)}
    told = "\n".join(f"{name}: {one.code}\n{one.text}" for name, one in ended.items())
    for result in ended.values():
        assert result.code == 0 and "Traceback" not in result.text, told
    for clone in neighbours.clones:
        monkeypatch.chdir(clone.root)
        assert not damage.check_build().findings, told
        before = whole_entries()
        made = clone.made(run(clone, "pipeline", "build", "--jobs", "1"))
        new = whole_entries() - before
        assert sum(made.values()) <= len(new), f"{clone.root.name}: {made}\n{told}"
        assert not difference(clone.state(), neighbours.state(edits[clone.root])), told
        run(clone, "pipeline", "verify")


def whole_entries() -> set[str]:
    """Return the keys in the index here whose objects are whole."""
    store = Store(cache(), scratch())
    return {path.stem for path in store.index() if store.get(path.stem)}
