"""The command safelm: help that teaches, and one sentence for what a user can mend."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.tiny import write_model, write_tokenizer

COMMANDS = ["build", "check", "use", "add", "estimate", "judges", "serve", "publish", "pull"]
COMMANDS += ["verify", "doctor", "retry", "gc"]


def safelm(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def refused(*arguments: str, cwd: Path = ROOT) -> str:
    """What a command prints that fails: never a traceback."""
    done = safelm(*arguments, cwd=cwd)
    assert done.returncode and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files without which no command runs, and DVC without git."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for name in ("specs", "safelm", "pipeline"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".dvc").mkdir()
    config = (ROOT / ".dvc/config").read_text(encoding="utf-8")
    config = config.replace("[core]", "[core]\n    no_scm = true")
    (tmp_path / ".dvc/config").write_text(config, encoding="utf-8")
    return tmp_path


def test_help_names_every_command_and_how_to_begin() -> None:
    text = safelm("--help").stdout
    lines = text.partition("Commands:\n")[2]
    assert re.findall(r"^  (\w+) ", lines, re.MULTILINE) == COMMANDS
    assert "safelm check" in text and "docs/" in text
    # A sentence that is too long for its line would be cut off.
    assert "..." not in lines


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_what_it_does(command: str) -> None:
    done = safelm(command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: safelm {command} ")


def test_a_misspelt_command_is_corrected() -> None:
    assert "Did you mean 'build'?" in refused("biuld")


@pytest.mark.parametrize("command", ["build", "check", "verify", "doctor", "gc"])
def test_another_folder_is_named_with_the_remedy(command: str, tmp_path: Path) -> None:
    text = refused(command, cwd=tmp_path)
    assert (
        text
        == f"{tmp_path}: has no dvc.yaml; change to the folder of the project, such as your clone\n"
    )


def test_a_project_without_dvc_yaml_is_not_up_to_date(project: Path) -> None:
    (project / "dvc.yaml").unlink()
    assert "has no dvc.yaml" in refused("build", cwd=project)


def test_a_download_without_git_is_told_what_to_run(project: Path) -> None:
    (project / ".dvc/config").write_bytes((ROOT / ".dvc/config").read_bytes())
    assert "has no .git, as in a ZIP download" in (text := refused("build", cwd=project))
    assert "`git init`" in text and text.count("\n") == 1


def test_a_second_build_waits_and_names_the_process_of_the_first(project: Path) -> None:
    lock = project / ".safelm/locks/build"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"process {os.getpid()} is building it since today")
        file.flush()
        command = [sys.executable, "-m", "pipeline", "build"]
        second = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
        assert second.stderr
        line = second.stderr.readline()
        assert second.poll() is None
        second.kill()
        rest = second.communicate()[1]
    assert line == (
        f"build: process {os.getpid()} is building it since today; waiting until it ends\n"
    )
    assert rest == ""


def test_a_failing_stage_shows_its_message_and_its_log(project: Path) -> None:
    """Also the last one of the graph, the report."""
    stage = {"cmd": "echo 'report: no measurements; run evaluate' >&2; exit 3", "outs": ["build/x"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"report": stage}}))
    text = refused("build", cwd=project)
    assert "report: no measurements; run evaluate" in text
    assert text.rstrip().endswith("the whole log is .safelm/logs/report.log")


def test_mistakes_of_params_are_shown_by_line(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("min_words: 12", "min_words: 0"))
    for command in ("check", "build"):
        assert refused(command, cwd=project).startswith("params.yaml:")


def test_mistakes_of_a_suite_are_shown_by_line(project: Path) -> None:
    (project / "specs").unlink()
    shutil.copytree(ROOT / "specs", project / "specs")
    path = project / "specs/suites/harmful.yaml"
    path.write_text(path.read_text().replace("kind: harmful", "kind: harmfull"))
    for command in ("check", "build"):
        text = refused(command, cwd=project)
        assert "specs/suites/harmful.yaml:3 kind: must be" in text and text.count("\n") == 1


def test_check_says_that_all_is_well(project: Path) -> None:
    done = safelm("check", cwd=project)
    assert done.returncode == 0 and "params.yaml is valid: 4 sources" in done.stdout


def test_add_writes_rows_and_what_reads_them(project: Path) -> None:
    rows = {"models": {"other": {"mixture": "standard", "shape": "nano", "seeds": [2]}}}
    (project / "rows.yaml").write_text(yaml.safe_dump(rows))
    done = safelm("add", "rows.yaml", cwd=project)
    assert "1 rows of models added from rows.yaml" in done.stdout, done.stderr
    assert "build/pretrain/other" in (project / "dvc.yaml").read_text()


def test_add_of_a_missing_file_is_told(project: Path) -> None:
    assert refused("add", "rows.yml", cwd=project).startswith("rows.yml")


def test_estimate_of_an_unknown_model_names_those_there_are() -> None:
    text = refused("estimate", "params.yaml", "saef")
    assert "has no row saef" in text and "safe" in text


def test_serve_of_an_unknown_folder_suggests_one(project: Path) -> None:
    model = project / "build/instruct/safe"
    model.mkdir(parents=True)
    (model / "config.json").touch()
    text = refused("serve", "build/instruct/saef", "--decoder", "greedy", cwd=project)
    assert "did you mean build/instruct/safe?" in text and text.count("\n") == 1


def test_serve_of_an_unknown_decoder_names_the_rows(project: Path) -> None:
    text = refused("serve", "build/instruct/safe", "--decoder", "gredy", cwd=project)
    assert "--decoder gredy: expected a row of evaluate.decoders" in text
    assert text.endswith("did you mean greedy?\n")


def test_serve_refuses_a_decoder_that_needs_a_tag_the_model_never_read(project: Path) -> None:
    model = project / "plain"
    write_model(model, write_tokenizer(project / "tokenizer"), knows_tag=False)
    text = refused("serve", "plain", "--decoder", "branch", cwd=project)
    assert text.startswith("--decoder branch: reads the harmfulness tag, which plain never saw")
    assert text.count("\n") == 1
