"""Words of params.yaml that a shell would run reach no command of dvc.yaml.

A row's name is the one word that reaches a command. The grammar, which `safelm build` checks first,
refuses whatever a shell could read in it. A bare `dvc repro` checks nothing: params.yaml is as
trusted as a Makefile.
"""

import re
import shutil
import subprocess
import sys
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from specs.validation import problems

ROOT = Path.cwd()
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TABLES = ("sources", "corpora", "mixtures", "models")
COMMAND = re.compile(r"python -m pipeline\.[a-z]+( [a-z][a-z0-9_]*)*")

PAYLOADS = [
    "web; touch canary",
    "web;touch canary;",
    "; touch canary #",
    "web && touch canary",
    "web || touch canary",
    "web & touch canary",
    "web | touch canary",
    "web\ntouch canary",
    "web\rtouch canary",
    "web\n\ntouch canary\n",
    "$(touch canary)",
    "`touch canary`",
    "web $(touch canary)",
    "web`touch canary`",
    "${IFS}touch canary",
    "web$(touch${IFS}canary)",
    "<(touch canary)",
    ">(touch canary)",
    "web > canary",
    "web >> canary",
    "web 2> canary",
    "web < /dev/null; touch canary",
    "'; touch canary; '",
    '"; touch canary; "',
    "\\'; touch canary; \\'",
    "web' && touch canary && '",
    "$'\\x3b touch canary'",
    "web\t;touch canary",
    "web\u2028touch canary",
    "web\u00a0; touch canary",
    "\uff1b touch canary",
    "--help; touch canary",
    "-c 'touch canary'",
    "{web,touch canary}",
    "web\\; touch canary",
    "${sources.web.path}; touch canary",
    "%(touch canary)",
    "!touch canary",
    "~+; touch canary",
    "(touch canary)",
    "web\x1b; touch canary",
    "web\b; touch canary",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with dvc.yaml, DVC's settings and the files of the grammar, and no canary in it."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(
        ROOT / ".dvc",
        tmp_path / ".dvc",
        ignore=shutil.ignore_patterns("cache", "tmp", "config.local"),
    )
    for folder in ("specs", "pipeline", "safelm"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(values: dict[str, Any]) -> Path:
    path = Path("params.yaml")
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def test_a_name_that_a_shell_would_run_is_refused(project: Path) -> None:
    values = deepcopy(PARAMS)
    for table in TABLES:
        values[table] |= dict.fromkeys(PAYLOADS, next(iter(values[table].values())))
    places = "\n".join(problem.at for problem in problems(write(values)))
    for table, name in product(TABLES, PAYLOADS):
        assert f"\n{table}.{name}" in f"\n{places}"
    assert len(PAYLOADS) >= 40


def commands(values: dict[str, Any]) -> list[str]:
    """Return the commands that DVC makes of dvc.yaml and these params."""
    from dvc.parsing import DataResolver
    from dvc.repo import Repo

    write(values)
    folder = str(Path.cwd())
    resolver = DataResolver(
        Repo(folder, uninitialized=True), folder, yaml.safe_load(Path("dvc.yaml").read_text())
    )
    return [entry["cmd"] for entry in resolver.resolve()["stages"].values()]


def test_no_other_word_reaches_a_command(project: Path) -> None:
    values = deepcopy(PARAMS)
    for number, words in enumerate(PAYLOADS):
        source = {"path": words, "files": words, "text": words, "prompt": words, "license": words}
        values["sources"][f"source_{number}"] = {**values["sources"]["web"], **source}
        values["corpora"][f"corpus_{number}"] = {"from": words, "epochs": 1.0}
        values["models"][f"model_{number}"] = {"mixture": words, "shape": words, "seed": 1}
    values["report"]["title"] = values["card"]["ngrams"] = values["tokenizer"]["path"] = PAYLOADS[0]
    found = commands(values)
    assert (
        len(found) > 3 * len(PAYLOADS)
        and [line for line in found if not COMMAND.fullmatch(line)] == []
    )


@pytest.mark.cases(quick=2, full=len(PAYLOADS))
def test_a_build_of_such_params_runs_nothing(project: Path, case: int) -> None:
    values = deepcopy(PARAMS)
    for table in TABLES:
        values[table][PAYLOADS[case]] = next(iter(values[table].values()))
    write(values)
    command = [sys.executable, "-m", "pipeline", "build"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "sources." in done.stderr
    assert not Path("canary").exists() and not Path("build").exists()
