"""What the tests share: a copy of the project whose DAG was built once, in miniature of the
miniature.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # as in a stage: before transformers is imported

ROOT = Path(__file__).resolve().parent.parent

# Text edits that make the DAG small enough for a test; every stage still runs for real.
SMALL = {
    "params.yaml": [
        ("  tokens: 450000\n", "  tokens: 20000\n"),
        ("web: {source: web, documents: 4000}", "web: {source: web, documents: 600}"),
        ("  examples: 2000\n", "  examples: 96\n"),
        ("  examples: 500\n", "  examples: 32\n"),
        ("  checkpoints: [32, 128] ", "  checkpoints: [16] "),
        ("  max_prompts: 144\n", "  max_prompts: 24\n"),
        ("calibration, max_prompts: 360}", "calibration, max_prompts: 24}"),
        ("  tagged_models_only: [threshold, random_drop, ", "  tagged_models_only: ["),
        ("    threshold:                      # drops by an absolute bound\n", ""),
        ("      {method: safebeam, beams: 4, candidates: 4, drop: absolute, ", "    # "),
        ("    random_drop:   {method: safebeam, ", "    # "),
        ("  filtered: {mixture: filtered, shape: nano, seed: 1}\n", ""),
        ("  filtered: filtered\n", "  filtered: null\n"),
        ("    score_0: filtered\n", ""),
    ],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="the fault tests at their full counts (make faults)"
    )


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own."""

    root: Path

    def run(
        self, *command: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, with the environment of these tests and no site-wide DVC
        state.
        """
        variables = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc/site"),
            "DVC_NO_ANALYTICS": "1",
            **environment,
        }
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, env=variables)
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """Run DVC; what it printed."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check).stdout

    def edit(self, name: str, *edits: tuple[str, str]) -> None:
        """Replace words in a file; each must be there."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        for old, new in edits:
            assert old in text, (name, old)
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")

    def changed(self) -> set[str]:
        """The stages that DVC calls out of date."""
        lines = self.dvc("status").splitlines()
        return {
            line.rstrip(":")
            for line in lines
            if line and not line.startswith(("\t", " ")) and line.endswith(":")
        }


def copy_of_the_project(target: Path) -> Project:
    """The tracked files and those git would track, in a git repository of their own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    project = Project(target)
    for name, edits in SMALL.items():
        project.edit(name, *edits)
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    project.run("git", "init", "-q", "-b", "main")
    project.run(sys.executable, "-m", "pipeline", "check")  # dvc.yaml lists the rows that are left
    project.run("git", "add", "-A")
    project.run("git", *identity, "commit", "-q", "-m", "Start")
    return project


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The whole DAG, from raw pages to the report, built as `make repro` builds it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("dag") / "safelm")
    project.run(sys.executable, "-m", "pipeline", "build")
    return project
