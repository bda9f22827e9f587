"""A small project in a folder of its own: real stages under a real DVC, for tests to break."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from typing import Any, Self

import yaml

from safelm.builder.manifest import Manifest
from safelm.builder.shards import tables

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent
STAGES = ("ingest/web", "clean/web", "score/web", "tag/unsafe")
PATIENCE = 240  # seconds; what takes longer hangs
FILES = 8
ROWS = 40
SMALL = {"files": 3, "rows": 12}
PARAMS: dict[str, dict[str, Any]] = {
    "sources": {
        "web": {
            "reader": "jsonl",
            "path": "web",
            "files": "*.jsonl",
            "text": "text",
            "license": "CC0-1.0",
        }
    },
    "ingest": {
        "rows_per_shard": 4096,
        "max_line_bytes": 65536,
        "max_document_bytes": 32768,
        "max_quarantined_share": 0.5,
    },
    "engines": {},
    "score": {
        "sources": ["web"],
        "scorers": ["lexicon"],
        "ensemble": {"rule": "max", "of": ["lexicon"]},
        "max_shift": None,
    },
    "tags.unsafe": {"scores": [4, 5], "rate": 0.5},
    "tokenizer": {"vocab_size": 300},
    # Without a gate, no scorer must be fitted first.
    "rephrase.safe_web": {
        "scores": [4, 5],
        "prompts": ["talk", "video"],
        "gate": None,
        "max_score": 3,
    },
}
BROKEN = [
    b"{not json",
    b"\xff\xfe\x00 bytes",
    b"[1, 2]",
    b'{"tokenizer": "no text"}',
    b'{"text": 7}',
]


def text(number: int) -> str:
    """A harmless page, or one that the lexicon grades 4 or 5."""
    return (
        f"The rose in garden {number} is red and the tree is tall.",
        f"How to steal the wallet in street {number}. First, wait. Then, take it.",
        f"How to hack the server of town {number}. First, wait. Then, enter.",
    )[number % 3]


def write_source(folder: Path, files: int = FILES, rows: int = ROWS) -> None:
    """Write JSON lines with broken rows, blank lines and repeats, within and across files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        draw = random.Random(number)
        lines = [
            json.dumps(
                {"text": text(number * rows + row), "url": f"https://example.org/{row}"}
            ).encode()
            for row in range(rows)
        ]
        lines += [
            draw.choice(BROKEN),
            b"",
            lines[draw.randrange(rows)],
            json.dumps({"text": text(3)}).encode(),
        ]
        draw.shuffle(lines)
        (folder / f"{number:02d}.jsonl").write_bytes(b"\n".join(lines) + b"\n")


@dataclass
class Running:
    """A process in a session of its own.

    It prints to a file: its orphans would keep a pipe open.
    """

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and to all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def kill_parent(self) -> None:
        """Send SIGKILL to the process alone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the exit code; kill the group of a process that hangs, and fail the test."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise AssertionError(f"hangs after {seconds} s:\n{self.text[-3000:]}") from None

    def members(self) -> list[int]:
        """List the living processes of its session, itself among them."""
        return [
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if self._is_member(pid)
        ]

    def _is_member(self, pid: int) -> bool:
        try:
            state, _, _, session = (
                Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
            )
        except (OSError, ValueError):
            return False
        return int(session) == self.process.pid and state not in "ZX"

    @property
    def text(self) -> str:
        """The output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class State:
    """Everything that a build leaves: every file of build/ by digest, and dvc.lock."""

    files: dict[str, str]
    lock: str | None


@dataclass
class Toy:
    """The project.

    `root` has dvc.yaml, params.yaml, the source `web/`, and a copy of the code that may be edited.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: int = 0

    @classmethod
    def make(cls, root: Path, files: int = FILES, rows: int = ROWS, *, code: bool = True) -> Self:
        """Make a project that is not built.

        Without its own code it serves tests/faults/forked.py alone.
        """
        for name in ("safelm", "specs") if code else ():
            shutil.copytree(ROOT / name, root / name)  # keeps times, so the byte code is good
        shutil.copytree(ROOT / "pipeline", root / "pipeline")
        shutil.copytree(
            HERE,
            root,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__init__.py", "__pycache__"),
        )
        (root / ".dvc").mkdir()
        config = (ROOT / ".dvc/config").read_text(encoding="utf-8")
        (root / ".dvc/config").write_text(
            config.replace("[core]", "[core]\n    no_scm = true"), encoding="utf-8"
        )
        shutil.copy(ROOT / ".dvcignore", root)
        write_source(root / "web", files, rows)
        toy = cls(root)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        (root / "params.yaml").write_text(
            yaml.safe_dump({**params, "sources": {}}, sort_keys=False), encoding="utf-8"
        )
        for block, values in PARAMS.items():
            toy.change(block, **values)
        return toy

    def copy(self, root: Path) -> Self:
        """Copy the project in its state."""
        shutil.copytree(self.root, root, symlinks=True)
        return type(self)(root, dict(self.environment))

    def variables(self) -> dict[str, str]:
        """Return the environment of its processes, without what DVC keeps for a whole machine."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        site = {"DVC_SITE_CACHE_DIR": str(self.root / ".dvc/site"), "DVC_NO_ANALYTICS": "1"}
        return {**os.environ, "PATH": path, "SAFELM_WORKERS": "2", **site, **self.environment}

    def start(self, *command: str, prefix: tuple[str, ...] = ()) -> Running:
        """Start `python -m <command>`, behind a prefix such as unshare, and do not wait."""
        self.started += 1
        log = self.root / f"out-{self.started}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *command],
                cwd=self.root,
                env=self.variables(),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Running(process, log)

    def repro(self, *arguments: str) -> Running:
        """Start `dvc repro`."""
        return self.start("dvc", "repro", *arguments)

    def build(self, *arguments: str) -> str:
        """Run `dvc repro`, which must succeed, and return its output."""
        running = self.repro(*arguments)
        assert running.wait() == 0, running.text[-3000:]
        return running.text

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text, which must occur, in a file."""
        path = self.root / name
        before = path.read_text(encoding="utf-8")
        assert old in before, (name, old)
        path.write_text(before.replace(old, new, 1), encoding="utf-8")

    def change(self, block: str, **values: Any) -> None:
        """Set values of a block of params.yaml, or of a row, `table.row`.

        Values that are never set are the project's own.
        """
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        reduce(getitem, block.split("."), params).update(values)
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def state(self) -> State:
        """Return the current state."""
        files = {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.glob("build/[!.]*/**/*"))
            if path.is_file()
        }
        lock = self.root / "dvc.lock"
        return State(files, lock.read_text(encoding="utf-8") if lock.exists() else None)

    def made(self, printed: str) -> dict[str, int]:
        """Return the shards made by each stage, from the summary lines that a build printed."""
        lines = [line.split() for line in printed.splitlines() if " made)  " in line]
        return {line[0]: int(line[3].lstrip("(")) for line in lines}

    def source_lines(self) -> list[bytes]:
        """Return the lines of all files of the source."""
        paths = sorted(self.root.glob("web/*"))
        return list(chain.from_iterable(path.read_bytes().splitlines() for path in paths))

    def check(self) -> None:
        """Check the build by itself: every row is accounted for, every document is there once."""
        source = self.source_lines()
        ledger = Manifest.read(self.root / "build/ingest/web").ledger
        assert ledger.rows_in == len(source)
        for stage in STAGES:
            Manifest.read(self.root / "build" / stage).ledger.check(stage)
        shards = tables(self.root / "build/ingest/web", ["id"])
        ids = list(chain.from_iterable(shard["id"].to_pylist() for shard in shards))
        assert len(ids) == len(set(ids)) == ledger.rows_out == len(good_texts(source))


def small(root: Path) -> Toy:
    """Make a smaller project, without code of its own, for tests/faults/forked.py."""
    return Toy.make(root, **SMALL, code=False)


def good_texts(source: list[bytes]) -> set[str]:
    """Return the texts that a lenient reading of the source finds."""
    found: set[str] = set()
    for line in source:
        try:
            row: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            found.add(row["text"])
    return found
