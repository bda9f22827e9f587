"""All processes of the project itself are killed a few times (K1); the outcome is the same."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Project, copy_of_the_project

SECONDS = 1800  # what takes longer hangs


def killed(project: Project, seconds: float) -> None:
    """Run `make repro`, and kill its session after so many seconds."""
    log = project.root / ".killed.log"
    site = {"DVC_SITE_CACHE_DIR": str(project.root / ".dvc/site"), "DVC_NO_ANALYTICS": "1"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "build"],
            cwd=project.root,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PATH": path, **site},
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS)


def outputs(project: Project) -> Any:
    """Return what dvc.lock says, whose stages are in the order in which they ended."""
    return yaml.safe_load((project.root / "dvc.lock").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.cases(quick=0, full=3)
def test_the_project_heals_after_kills_of_all_its_processes(
    case: int, built: Project, tmp_path: Path
) -> None:
    draw = random.Random(case)
    project = copy_of_the_project(tmp_path / "safelm")
    for _ in range(4):
        killed(project, draw.uniform(5, 90))
    project.run(sys.executable, "-m", "pipeline", "build")
    assert outputs(project) == outputs(built)
    assert "up to date" in project.run(sys.executable, "-m", "pipeline", "build").stdout
