"""A sketch of the project: its dvc.yaml, params and code, but stages that only write their name.

It shows what DVC makes of an edit without a build of minutes.
"""

import subprocess
from pathlib import Path

import yaml

from pipeline.rows import outputs
from tests.conftest import ROOT, Project

# The arguments of a stage name its output: `evaluate safe instruct` is evaluate/safe-instruct.
MAKE = """\
stage=$1; shift
row=$(echo "$*" | tr ' ' '-')
folder=build/$stage${row:+/$row}
mkdir -p "$folder" && echo "$stage $row" > "$folder/made"
"""
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def sketch(folder: Path) -> Project:
    """Copy what git tracks or would track, with other commands, and build it with DVC alone."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = ("safelm/", "specs/", "pipeline/", ".dvc", ".gitignore", "dvc.yaml", "params.yaml")
    for name in filter(lambda name: name.startswith(kept), listed.splitlines()):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    text = (folder / "dvc.yaml").read_text(encoding="utf-8")
    stages = text.replace("python -m pipeline.", "sh make.sh ")
    (folder / "dvc.yaml").write_text(stages, encoding="utf-8")
    (folder / "make.sh").write_text(MAKE, encoding="utf-8")
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for output in outputs(yaml.safe_load(stages)["stages"], params):
        stage, _, row = output.removeprefix("build/").partition("/")
        (folder / output).mkdir(parents=True)
        (folder / output / "made").write_text(f"{stage} {row}\n", encoding="utf-8")
    project = Project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.dvc("commit", "--force", "--quiet")
    commit(project, "Build")
    return project


def commit(project: Project, title: str) -> None:
    """Commit everything."""
    project.run("git", "add", "-A")
    project.run("git", *IDENTITY, "commit", "-q", "-m", title)
