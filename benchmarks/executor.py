"""The cost of an edit: shards made again and seconds, beside plain DVC and DataTrove's executor.

    python -m benchmarks.executor            1,000 shards of 20 pages
    python -m benchmarks.executor --shards 100

Three builds read the same JSON lines and tag them at a rate from params.yaml. `safelm` is a DVC
stage on our executor. `dvc` is a DVC stage that runs DataTrove's LocalPipelineExecutor from
nothing, because DVC runs a stage as a whole. `datatrove` is LocalPipelineExecutor alone, which
resumes from the logs of its last run. Seconds are those of whole commands, including the start of
Python and DVC.
"""

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
SAFELM_STAGE = """\
import yaml
from pathlib import Path
from safelm.builder.run import run
from safelm.corpora.tagging import InsertTags
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.ingest import READERS

if __name__ == "__main__":
    rate = yaml.safe_load(Path("params.yaml").read_text())["rate"]
    read = READERS["jsonl"](
        path=Path("pages"), files="*", source="web", text="text", license="CC0-1.0",
        max_line_bytes=1 << 20, max_document_bytes=1 << 20, max_expansion_ratio=200,
    )
    run("tag", [read, InsertTags(rate=rate, mode="bernoulli", seed=1), WriteDocuments()])
"""
DATATROVE_STAGE = """\
import random, shutil, sys, yaml
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter

def insert_tags(data, rank=0, world_size=1):
    rate = yaml.safe_load(open("params.yaml"))["rate"]
    for document in data:
        draw = random.Random(document.id)
        tag = lambda word: f"{word} <tag>" if draw.random() < rate else word
        document.text = " ".join(map(tag, document.text.split()))
        yield document

if __name__ == "__main__":
    if "fresh" in sys.argv:
        shutil.rmtree("logs", ignore_errors=True)
    blocks = [JsonlReader("pages", add_file_path=False), insert_tags, ParquetWriter("build/tag")]
    LocalPipelineExecutor(blocks, tasks=SHARDS, workers=2, logging_dir="logs").run()
"""
DVC_FILE = """\
stages:
  tag:
    cmd: {python} stage.py {fresh}
    deps: [pages]
    params: [rate]
    outs: [build/tag]
"""


@dataclass
class Project:
    """A project that builds the stage in one of the three ways, `name`."""

    name: str
    root: Path
    shards: int

    def prepare(self) -> None:
        """Write the pages, the stage and, except for DataTrove alone, a DVC repository."""
        (self.root / "pages").mkdir(parents=True)
        for number in range(self.shards):
            self.write_pages(number, "page")
        stage = SAFELM_STAGE
        if self.name != "safelm":
            stage = DATATROVE_STAGE.replace("SHARDS", str(self.shards))
        (self.root / "stage.py").write_text(stage)
        self.write_rate(0.05)
        if self.name != "datatrove":
            self.call(sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet")
            config = (ROOT / ".dvc/config").read_text()
            config = config.replace("[core]", "[core]\n    no_scm = True")
            (self.root / ".dvc/config").write_text(config)
            fresh = "fresh" if self.name == "dvc" else ""
            dvc_file = DVC_FILE.format(python=sys.executable, fresh=fresh)
            (self.root / "dvc.yaml").write_text(dvc_file)

    def write_pages(self, number: int, word: str) -> None:
        """Write one file of pages."""
        text = f"The {word} of garden {number} is red, and the tree beside it is tall and old. " * 5
        lines = []
        for row in range(ROWS):
            lines.append(json.dumps({"text": f"{text}{row}", "id": f"{number}-{row}"}))
        (self.root / f"pages/{number:05d}.jsonl").write_text("\n".join(lines) + "\n")

    def write_rate(self, rate: float) -> None:
        """Write params.yaml."""
        (self.root / "params.yaml").write_text(f"rate: {rate}\n")

    def call(self, *command: str) -> str:
        """Run a command in the project and return what it printed."""
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
        """Build, and return (shards that were made, seconds)."""
        started = time.time()
        began = time.monotonic()
        command = ["stage.py"] if self.name == "datatrove" else ["-m", "dvc", "repro"]
        output = self.call(sys.executable, *command)
        seconds = time.monotonic() - began
        if self.name == "safelm":
            match = re.search(r"\((\d+) made\)", output)
            return int(match[1]) if match else 0, seconds
        made = 0
        for path in (self.root / "logs/stats").glob("[0-9]*.json"):
            made += path.stat().st_mtime >= started
        return made, seconds

    def disk_bytes(self) -> tuple[int, int]:
        """Return the bytes of the files in build/, and those that build/ and the cache occupy."""
        build = sum(path.stat().st_size for path in files_of(self.root / "build"))
        # A linked file occupies its bytes once.
        occupied = {}
        for path in files_of(self.root / "build") + files_of(self.root / ".dvc/cache"):
            state = path.stat()
            occupied[state.st_ino] = state.st_size
        return build, sum(occupied.values())


def files_of(folder: Path) -> list[Path]:
    """List the files of a folder, which need not exist."""
    return [path for path in folder.rglob("*") if path.is_file()]


EDITS: tuple[tuple[str, Callable[[Project], None]], ...] = (
    ("first build", lambda project: None),
    ("nothing changed", lambda project: None),
    ("one shard changed", lambda project: project.write_pages(project.shards // 2, "rose")),
    ("the param changed", lambda project: project.write_rate(0.1)),
    ("and changed back", lambda project: project.write_rate(0.05)),
)


def main() -> None:
    """Make every edit in every project, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=1000)
    shards = parser.parse_args().shards
    with tempfile.TemporaryDirectory() as folder:
        projects = []
        for name in ("safelm", "dvc", "datatrove"):
            projects.append(Project(name, Path(folder) / name, shards))
            projects[-1].prepare()
        print(f"{shards:,} shards; shards made and seconds, and seconds as a multiple of safelm's")
        print(f"{'':<20}" + "".join(f"{project.name:>24}" for project in projects))
        sizes: list[tuple[int, int]] = []
        for name, edit in EDITS:
            print_row(name, edit, projects)
            sizes = sizes or [project.disk_bytes() for project in projects]
        print("datatrove alone skips by rank: after an edit its output is that of before")
        for project, (build, occupied) in zip(projects, sizes, strict=True):
            print(
                f"{project.name:<10} build/ {build:>12,} bytes, on disk with the cache after the "
                f"first build {occupied:>12,}: {occupied / build:.2f}x"
            )
        began = time.monotonic()
        projects[0].call(sys.executable, "-c", "import safelm.builder.run, dvc.repo")
        print(f"importing DVC and our executor alone: {time.monotonic() - began:.1f} s")


def print_row(name: str, edit: Callable[[Project], None], projects: list[Project]) -> None:
    """Make an edit in each project, build it, and print the row of the table."""
    cells = []
    for project in projects:
        edit(project)
        cells.append(project.build())
    first_seconds = cells[0][1]
    row = f"{name:<20}"
    for made, seconds in cells:
        row += f"{made:>8,} {seconds:>7.1f} s {seconds / first_seconds:>5.1f}x"
    print(row, flush=True)


if __name__ == "__main__":
    main()
