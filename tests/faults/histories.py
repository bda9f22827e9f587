"""Random histories of a small build: edits and their undoing, kills, damage, other folders.

    python -m tests.faults.histories SEED …     run some of them again, and print every move

Whatever happened to a build, the last one gives the bytes of a build without a history.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.faults import damage, forked, interpreter
from tests.faults.toy import PATIENCE, ROOT, SMALL, State, Toy, write_source

STAGES = ("ingest", "clean", "score", "tag", "audit", "card", "tokenizer")
CARD = "tagged"
READ = (
    "${item.path}",
    "build/score/web",
    "build/score/${item.source}",
    "build/score/${item.from}",
    "build/ingest/${key}",
    "build/clean/${item.source}",
    "build/clean/${item.from}",
    "build/clean/chat",
    "build/clean/web",
    "build/${item.from}",
)
# Workers also where there is little to read.
WIDE = ("safelm/builder/executors/local.py", "SMALL = 4 << 20", "SMALL = 0")
# Its pages are lines of JSON in the words of the made-up world, whose scorers may grade them.
MADE_UP = ("specs/checks/validity.py", 'if row.reader != "demo"', "if not row.reader")
# What is edited and taken back: values, code with and without a meaning, a list of words.
EDITS = {
    "value of tag": ("params.yaml", "rate: 0.5", "rate: 0.25"),
    "value of audit": ("params.yaml", "documents_per_score: 50", "documents_per_score: 3"),
    "value of tokenizer": ("params.yaml", "vocab_size: 300", "vocab_size: 280"),
    "value of ingest": ("params.yaml", "rows_per_shard: 4096", "rows_per_shard: 4000"),
    "comment in tag": ("safelm/text/tags.py", "SPACE = re", "# Between words.\nSPACE = re"),
    "code of tag": (
        "safelm/text/tags.py",
        "chosen = [gap for gap in gaps if draw() < rate]",
        "chosen = gaps[::2]",
    ),
    "code of ingest": (
        "safelm/ingestion/lines.py",
        'offset = 0\n    rest = b""',
        'rest = b""\n    offset = 0',
    ),
    "comment in card": ("pipeline/card.py", "params = Params", "# All.\n    params = Params"),
    "words of score": ("specs/hazards.yaml", "steal", "take"),
}
FOLDERS = ("toy", "a b", "ünï – 数", "deep/er/and/deeper")
PARTS = ("safelm", "specs", "pipeline", "web", "talks", "params.yaml", "dvc.yaml", ".dvcignore")


def make_project(root: Path) -> Toy:
    """Make a project whose params.yaml is valid and whose stages are those of dvc.yaml."""
    toy = Toy.make(root, SMALL["files"], SMALL["rows"])
    toy.edit(*WIDE)
    toy.edit(*MADE_UP)
    write_source(root / "talks", files=1, rows=6)
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["sources"]["chat"] = {**params["sources"]["web"], "path": "talks", "prompt": "url"}
    for block in ("instruct", "finetune"):
        params[block]["default"]["source"] = "chat"
    del params["corpora"]["math"]
    for mixture in params["mixtures"].values():
        for phase in mixture["phases"]:
            del phase["parts"]["math"]
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (root / "dvc.yaml").write_text(_stages(params), encoding="utf-8")
    return toy


def _stages(params: dict[str, Any]) -> str:
    """Take some stages of dvc.yaml, with those dependencies alone that are made or edited here.

    DVC needs half a second a stage to write a lock file with all the others.
    """
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {name: entries[name] for name in STAGES}
    stages["card"]["foreach"] = {CARD: params["corpora"][CARD]}
    for entry in stages.values():
        stage = entry.get("do", entry)
        stage.pop("meta", None)
        stage["deps"] = list(filter(_is_variable, stage["deps"]))
    return yaml.safe_dump({"stages": stages}, sort_keys=False, width=1000)


def _is_variable(path: str) -> bool:
    edited = [file for file, *_ in EDITS.values()]
    return path in READ or any(Path(file).is_relative_to(path) for file in edited)


def start(toy: Toy, *words: str, workers: int = 1) -> forked.Forked:
    """Start `python -m WORDS` in a project, in a session of its own."""
    variables = {**toy.variables(), "SAFELM_WORKERS": str(workers)}
    return forked.Forked.start(toy.root, interpreter.command, *words, fault=None, **variables)


class Failed(AssertionError):
    """A command of a history failed, or its end differs from a straight build."""


class History:
    """A project on its way, what was done to it, and what is to be undone."""

    def __init__(self, base: Toy, seconds: float, seed: int, folder: Path) -> None:
        self.draw = random.Random(seed)
        self.seed, self.seconds, self.folder = seed, seconds, folder
        self.original = base.root
        self.moves: list[str] = []
        self.edits: set[str] = set()
        self.is_damaged = False
        self.toy = base
        self.move_to(copy_links)

    def run(self, moves: int | None = None) -> State:
        """Make random moves, undo every edit, and return what a last build leaves."""
        names, weights = zip(*((name, weight) for name, (weight, _) in MOVES.items()), strict=True)
        for name in self.draw.choices(names, weights, k=moves or self.draw.randrange(4, 10)):
            self.note(name)
            MOVES[name][1](self)
        for name in sorted(self.edits):
            toggle(self, name)
        if self.is_damaged:
            repair(self)
        self.note("the last build")
        self.call("pipeline", "build", workers=self.draw.choice([1, 1, 2]))
        return self.toy.state()

    def note(self, move: str) -> None:
        self.moves.append(move)

    def call(self, *words: str, workers: int = 1) -> str:
        """Run a command; return what it printed. It may only fail on damage, and says so."""
        result = start(self.toy, *words, workers=workers).wait()
        self.note(f"    {' '.join(words)}: {result.code}")
        if (result.code and not self.is_damaged) or "Traceback" in result.text:
            raise Failed(f"{self}\n{result.text[-4000:]}")
        return result.text

    def move_to(self, copy: Callable[[Path, Path], object]) -> None:
        """Go on in another folder."""
        number = sum(path.is_dir() for path in self.folder.iterdir())
        root = self.folder / f"{number}" / self.draw.choice(FOLDERS)
        root.parent.mkdir(parents=True)
        copy(self.toy.root, root)
        self.toy = Toy(root)

    @property
    def is_built(self) -> bool:
        return (self.toy.root / "dvc.lock").exists()

    def __str__(self) -> str:
        return (
            f"python -m tests.faults.histories {self.seed}\n  in {self.toy.root}\n  "
            + "\n  ".join(self.moves)
        )


def copy_links(old: Path, new: Path) -> None:
    """Copy a project with its hard links, as `cp -a` does."""
    subprocess.run(["cp", "-a", str(old), str(new)], check=True)


def copy_bytes(old: Path, new: Path) -> None:
    """Copy a project file by file: links become files of their own."""
    shutil.copytree(old, new, symlinks=True)


COPIES: list[Callable[[Path, Path], object]] = [copy_links, copy_bytes, os.rename]


def clone(old: Path, new: Path) -> None:
    """Copy what git tracks; the remote is beside the folders of the history."""
    new.mkdir()
    for name in (*PARTS, "dvc.lock", ".dvc/config"):
        source = old / name
        (new / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, new / name)
        elif source.exists():
            shutil.copy2(source, new / name)


def toggle(history: History, name: str) -> None:
    """Make an edit, or take it back."""
    root, is_undone = history.toy.root, name in history.edits
    history.edits ^= {name}
    history.note(f"    {'undo ' if is_undone else ''}{name}")
    if name in EDITS:
        file, *texts = EDITS[name]
        history.toy.edit(file, *(reversed(texts) if is_undone else texts))
    elif is_undone:
        shutil.rmtree(root / "web")
        shutil.copytree(history.original / "web", root / "web")
        others = [other for other in INPUTS if other in history.edits]
        for other in others:
            INPUTS[other](root / "web")
    else:
        INPUTS[name](root / "web")


INPUTS: dict[str, Callable[[Path], object]] = {
    "a file more": lambda web: write_more(web / "03.jsonl"),
    "a file less": lambda web: (web / "00.jsonl").unlink(),
    "a line less": lambda web: shorten(web / "01.jsonl"),
}


def write_more(path: Path) -> None:
    path.write_text('{"text": "How to steal a boat. First, wait. Then, row."}\n')


def shorten(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def edit(history: History) -> None:
    toggle(history, history.draw.choice([*EDITS, *INPUTS]))


def build(history: History) -> None:
    history.call(*command(history), workers=history.draw.choice([1, 1, 1, 2, 3]))


def command(history: History) -> list[str]:
    jobs = str(history.draw.randrange(1, 4))
    return history.draw.choice([["dvc", "repro"], ["pipeline", "build", "--jobs", jobs]])


def kill(history: History) -> None:
    """Kill a build at a random moment: all of it, the first process alone, or one of the others."""
    draw = history.draw
    process = start(history.toy, *command(history), workers=draw.choice([1, 1, 2]))
    time.sleep(history.seconds * draw.random() * draw.random())
    first = process.process.pid
    assert first
    found = [pid for pid in members(first) if pid != first]
    victim = draw.choice([-first, first, draw.choice(found or [first])])
    history.note(f"    killed {'all' if victim < 0 else 'the first' if victim == first else 'one'}")
    with suppress(ProcessLookupError):
        if victim < 0:
            os.killpg(first, 9)
        else:
            os.kill(victim, 9)
    process.wait()
    end = time.monotonic() + PATIENCE
    while members(first):
        if time.monotonic() > end:
            raise Failed(f"{history}\nprocesses outlive their build: {members(first)}")
        time.sleep(0.02)


def members(session: int) -> list[int]:
    """List the living processes of a session."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(pid)
    return found


def spoil(history: History) -> None:
    """Damage some files of the cache, of build/ or of the index, as a failing disk does."""
    if not history.is_built:
        return
    root, draw = history.toy.root, history.draw
    files = []
    for pattern in (".dvc/cache/files/md5/??/*", "build/**/*", ".safelm/index/??/*.json"):
        files += [path for path in sorted(root.glob(pattern)) if path.is_file()]
    draw.shuffle(files)
    by_inode = {path.stat().st_ino: path for path in files if path.stat().st_size}
    for path in list(by_inode.values())[: draw.randrange(1, 4)]:
        kind = draw.choice([damage.flip, damage.truncate, damage.zero, damage.delete])
        history.note(f"    {kind.__name__} {path.relative_to(root)}")
        kind(damage.Target(path, frozenset()), draw)
    history.is_damaged = True
    if draw.random() < 0.5:
        repair(history)


def repair(history: History) -> None:
    if history.is_built:
        history.is_damaged = False
        history.call("pipeline", "verify", "--repair")


def collect(history: History) -> None:
    if history.is_built:
        history.call("pipeline", "gc", "--hours", history.draw.choice(["0", "24"]))


# DVC's own command fails on outputs that are not built yet.
PULLS = [["pipeline", "pull"], ["dvc", "pull", "--allow-missing"]]


def share(history: History) -> None:
    """Push the build, and go on in a fresh clone that pulls it."""
    if history.is_built and not history.is_damaged:
        history.call("dvc", "push")
        history.move_to(clone)
        history.call(*history.draw.choice(PULLS))


def elsewhere(history: History) -> None:
    history.move_to(history.draw.choice(COPIES))


def clean(history: History) -> None:
    """Delete what can be made again."""
    for name in history.draw.choice([["build"], [".safelm"], ["build", ".safelm"]]):
        history.note(f"    without {name}")
        shutil.rmtree(history.toy.root / name, ignore_errors=True)


MOVES: dict[str, tuple[int, Callable[[History], None]]] = {
    "edit": (5, edit),
    "build": (3, build),
    "kill": (3, kill),
    "damage": (2, spoil),
    "gc": (1, collect),
    "push and pull": (1, share),
    "elsewhere": (1, elsewhere),
    "clean": (1, clean),
}


class Machine:
    """A project, and what a build of it without a history leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = make_project(folder / "base")
        remote = folder / "remote"
        with (self.base.root / ".dvc/config").open("a") as file:
            file.write(f"    \n['remote \"shared\"']\n    url = {remote}\n")
        self.base.edit(".dvc/config", "[core]", "[core]\n    remote = shared")
        straight = History(self.base, 0, 0, self._fresh("straight"))
        forked.run(folder, print)
        began = time.monotonic()
        straight.call("pipeline", "build", "--jobs", "1")
        self.seconds = time.monotonic() - began
        self.state = straight.toy.state()

    def _fresh(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def run(self, seed: int, moves: int | None = None) -> History:
        """Run a history; it must end in the state of the straight build."""
        history = History(self.base, self.seconds, seed, self._fresh(f"history-{seed}"))
        try:
            state = history.run(moves)
        except Failed:
            raise
        except Exception as error:
            raise Failed(f"{history}\n{error!r}") from error
        if differing := difference(state, self.state):
            raise Failed(f"{history}\n  differs: {differing}")
        shutil.rmtree(history.folder)
        return history


def difference(one: State, other: State) -> list[str]:
    """Name the files in which two builds differ."""
    names = sorted(one.files.keys() | other.files.keys())
    found = [name for name in names if one.files.get(name) != other.files.get(name)]
    return [*found, *(["dvc.lock"] if one.lock != other.lock else [])]


def main() -> None:
    """Run the histories of some seeds, such as 17 or 0-199."""
    folder = Path(tempfile.mkdtemp(prefix="histories"))
    machine = Machine(folder)
    print(f"in {folder}; the straight build took {machine.seconds:.1f} s", flush=True)
    failed = []
    for words in sys.argv[1:]:
        first, _, last = words.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            began = time.monotonic()
            try:
                history = machine.run(seed)
                if len(sys.argv) == 2 and not last:
                    print(history)
                print(f"{seed}: {time.monotonic() - began:.1f} s", flush=True)
            except Failed as error:
                failed.append(seed)
                print(f"{seed}: FAILED\n{error}", flush=True)
    print(f"{len(failed)} failed: {failed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
