"""What an edit costs: shards that are made again, and seconds, beside plain DVC and DataTrove's own
executor.

    python -m benchmarks.executor            1,000 shards of 20 pages
    python -m benchmarks.executor --shards 100

Each way reads the same JSON lines and tags them at a rate that params.yaml holds. `safelm` is a DVC
stage on our executor. `dvc` is a DVC stage that runs DataTrove's LocalPipelineExecutor from
nothing, as DVC runs a stage: whole. `datatrove` is LocalPipelineExecutor alone, with the logs of
its last run, which is how it resumes. Seconds are those of whole commands, the start of Python and
DVC included."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = 20
STAGE = """\
import yaml
from pathlib import Path
from safelm.blocks import WriteDocuments
from safelm.executor import run
from safelm.reading.readers import READERS
from safelm.tagging import InsertTags

if __name__ == "__main__":
    rate = yaml.safe_load(Path("params.yaml").read_text())["rate"]
    read = READERS["jsonl"](path=Path("pages"), files="*", source="web", text="text", prompt=None, license="CC0-1.0",
                            max_line_bytes=1 << 20, max_document_bytes=1 << 20, max_expansion_ratio=200)
    run("tag", [read, InsertTags(rate=rate, mode="bernoulli", seed=1), WriteDocuments()])
"""
WHOLE = """\
import random, shutil, sys, yaml
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter

def tag(data, rank=0, world_size=1):
    rate = yaml.safe_load(open("params.yaml"))["rate"]
    for document in data:
        draw = random.Random(document.id)
        words = document.text.split()
        document.text = " ".join(word + " <tag>" if draw.random() < rate else word for word in words)
        yield document

if __name__ == "__main__":
    if "fresh" in sys.argv:
        shutil.rmtree("logs", ignore_errors=True)
    LocalPipelineExecutor([JsonlReader("pages", add_file_path=False), tag, ParquetWriter("build/tag")], tasks=SHARDS,
                          workers=2, logging_dir="logs").run()
"""
DVC = """\
stages:
  tag:
    cmd: {python} stage.py {fresh}
    deps: [pages]
    params: [rate]
    outs: [build/tag]
"""


@dataclass
class Way:
    """One way to build the same stage, in a project of its own."""

    name: str
    root: Path
    shards: int

    def prepare(self) -> None:
        """The pages, the stage and, but for DataTrove alone, a DVC repository."""
        (self.root / "pages").mkdir(parents=True)
        for number in range(self.shards):
            self.write(number, "page")
        script = STAGE if self.name == "safelm" else WHOLE.replace("SHARDS", str(self.shards))
        (self.root / "stage.py").write_text(script)
        self.rate(0.05)
        if self.name != "datatrove":
            self.call(sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet")
            config = (
                (ROOT / ".dvc/config").read_text().replace("[core]", "[core]\n    no_scm = True")
            )
            (self.root / ".dvc/config").write_text(config)
            fresh = "fresh" if self.name == "dvc" else ""
            (self.root / "dvc.yaml").write_text(DVC.format(python=sys.executable, fresh=fresh))

    def write(self, number: int, word: str) -> None:
        """One file of pages."""
        text = f"The {word} of garden {number} is red, and the tree beside it is tall and old. " * 5
        lines = [
            json.dumps({"text": f"{text}{row}", "id": f"{number}-{row}"}) for row in range(ROWS)
        ]
        (self.root / "pages" / f"{number:05d}.jsonl").write_text("\n".join(lines) + "\n")

    def rate(self, rate: float) -> None:
        """The param."""
        (self.root / "params.yaml").write_text(f"rate: {rate}\n")

    def call(self, *command: str) -> str:
        """Run a command in the project; all that it printed."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc/site"),
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(command)} failed\n{done.stdout[-3000:]}")
        return done.stdout

    def build(self) -> tuple[int, float]:
        """(shards that were made, seconds)."""
        before, began = time.time(), time.monotonic()
        command = ["stage.py"] if self.name == "datatrove" else ["-m", "dvc", "repro"]
        text = self.call(sys.executable, *command)
        seconds = time.monotonic() - began
        if self.name == "safelm":
            return int(match[1]) if (match := re.search(r"\((\d+) made\)", text)) else 0, seconds
        logs = (self.root / "logs/stats").glob("*.json")
        return sum(
            path.name[0].isdigit() and path.stat().st_mtime >= before for path in logs
        ), seconds

    def disk(self) -> tuple[int, int]:
        """(bytes of the files of build/, bytes that build/ and the cache take together)."""
        shown = sum(
            path.stat().st_size for path in (self.root / "build").rglob("*") if path.is_file()
        )
        folders = [folder for folder in ("build", ".dvc/cache") if (self.root / folder).exists()]
        taken = {
            (state := path.stat()).st_ino: state.st_size
            for folder in folders
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        }
        return shown, sum(taken.values())


EDITS: tuple[tuple[str, Callable[[Way], None]], ...] = (
    ("first build", lambda way: None),
    ("nothing changed", lambda way: None),
    ("one shard changed", lambda way: way.write(way.shards // 2, "rose")),
    ("the param changed", lambda way: way.rate(0.1)),
    ("and changed back", lambda way: way.rate(0.05)),
)


def main() -> None:
    """Make every edit in every way, one after another, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=1000)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder:
        ways = [Way(name, Path(folder) / name, shards) for name in ("safelm", "dvc", "datatrove")]
        for way in ways:
            way.prepare()
        print(f"{shards:,} shards; shards made and seconds, and seconds as a multiple of safelm's")
        print(f"{'':<20}" + "".join(f"{way.name:>24}" for way in ways))
        sizes: list[tuple[int, int]] = []
        for name, edit in EDITS:
            cells = []
            for way in ways:
                edit(way)
                made, seconds = way.build()
                cells.append((made, seconds))
            row = "".join(
                f"{made:>8,} {seconds:>7.1f} s {seconds / cells[0][1]:>5.1f}x"
                for made, seconds in cells
            )
            print(f"{name:<20}{row}", flush=True)
            sizes = sizes or [way.disk() for way in ways]
        print("datatrove alone skips by rank: after an edit its output is that of before")
        for way, (shown, taken) in zip(ways, sizes, strict=True):
            ratio = f"{taken:>12,}: {taken / shown:.2f}x"
            print(
                f"{way.name:<10} build/ {shown:>12,} bytes, on disk with the cache after the first build {ratio}"
            )
        began = time.monotonic()
        ways[0].call(sys.executable, "-c", "import safelm.executor, dvc.repo")
        print(f"importing DVC and our executor alone: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
