"""The promises of the house: one name is followed from dvc.yaml to the test, and imports run down
only.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.arguments import StageParser

STAGES = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
FLOORS = {
    "pipeline": {"pipeline", "safelm", "specs"},
    "safelm": {"safelm", "specs"},
    "specs": {"specs"},
}
SOURCES = [path for floor in FLOORS for path in sorted(Path(floor).rglob("*.py"))]


def body(stage: str) -> dict:
    entry = STAGES[stage]
    return entry.get("do", entry)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def blocks_read(path: Path) -> set[str]:
    """The blocks of params.yaml that a stage reads: the arguments of Params.read."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    reads = [call for call in calls if ast.unparse(call.func) == "Params.read"]
    return {
        argument.value
        for call in reads
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_file_a_test_and_a_folder(stage: str) -> None:
    assert Path(f"pipeline/{stage}.py").is_file()
    assert Path(f"tests/test_{stage}.py").is_file()
    assert body(stage)["cmd"].startswith(f"python -m pipeline.{stage}")
    assert all(out.startswith(f"build/{stage}") for out in body(stage)["outs"])
    assert f"pipeline/{stage}.py" in body(stage)["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_a_sentence_for_the_table_of_contents(stage: str) -> None:
    assert body(stage)["desc"].endswith((".", "?"))


@pytest.mark.parametrize("stage", STAGES)
def test_the_help_of_a_stage_says_what_it_reads_writes_and_is_turned_by(stage: str) -> None:
    told = StageParser(stage, f"{stage}: a sentence").format_help()
    assert f"usage: python -m pipeline.{stage} " in told and "${" not in told
    assert f"writes          build/{stage}" in told
    assert all(name.partition(".")[0] in told for name in body(stage)["params"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_no_block_that_dvc_does_not_watch(stage: str) -> None:
    watched = {name.partition(".")[0] for name in body(stage)["params"]}
    assert blocks_read(Path(f"pipeline/{stage}.py")) == watched


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_short_and_has_no_class(stage: str) -> None:
    text = Path(f"pipeline/{stage}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 70
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]


def test_the_code_a_stage_names_is_there() -> None:
    named = {
        dep
        for stage in STAGES
        for dep in body(stage)["deps"]
        if not dep.startswith(("build/", "$"))
    }
    assert [dep for dep in sorted(named) if "${" not in dep and not Path(dep).exists()] == []


def test_a_stage_depends_on_the_safelm_subjects_it_imports() -> None:
    shared = ("artifact", "blocks", "executor", "paths", "shards", "store", "ledger")
    helpers = {f"safelm.{name}" for name in shared}
    for stage in STAGES:
        used = {
            name for name in imports(Path(f"pipeline/{stage}.py")) if name.startswith("safelm.")
        } - helpers
        files = {name.replace(".", "/") for name in used}
        watched = [dep.removesuffix(".py") for dep in body(stage)["deps"]]
        assert all(
            any(file == dep or file.startswith(f"{dep}/") for dep in watched) for file in files
        ), (stage, files)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_run_down_only(path: Path) -> None:
    ours = {name.partition(".")[0] for name in imports(path)} & set(FLOORS)
    assert ours <= FLOORS[path.parts[0]]


def test_a_stage_imports_no_stage() -> None:
    files = [path for path in SOURCES if path.parts[0] == "pipeline"]
    stages = {f"pipeline.{stage}" for stage in STAGES}
    assert [str(path) for path in files if stages.intersection(imports(path))] == []


def test_the_library_does_not_know_the_params() -> None:
    files = [path for path in SOURCES if path.parts[0] == "safelm"]
    assert [str(path) for path in files if "specs.params" in imports(path)] == []


def test_the_grammar_imports_nothing_heavy() -> None:
    heavy = {"torch", "datatrove", "pyarrow", "numpy", "transformers", "polars"}
    files = [path for path in SOURCES if path.parts[0] == "specs"]
    assert [
        str(path) for path in files if heavy & {name.partition(".")[0] for name in imports(path)}
    ] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [
        str(path)
        for path in SOURCES
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ] == []


def test_nothing_unpickles_and_no_remote_code_runs() -> None:
    imported, called = (
        r"\bimport (?:c?[Pp]ickle|dill|marshal|shelve)\b",
        r"trust_remote_code\s*=\s*True|shell\s*=\s*True",
    )
    bad = re.compile(rf"{imported}|{called}|(?<![.\w])eval\(|0\.0\.0\.0")
    assert [str(path) for path in SOURCES if bad.search(path.read_text(encoding="utf-8"))] == []


def test_no_path_of_a_machine_stands_in_the_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    texts = [
        Path(name)
        for name in listed
        if Path(name).suffix in {".py", ".yaml", ".md", ".toml", ".css", ".html", ".jinja"}
    ]
    bad = re.compile(r"(?:^|[\s\"'(=])/(?:work|home|root|Users)/")
    assert [
        str(path)
        for path in texts
        if path.is_file() and bad.search(path.read_text(encoding="utf-8"))
    ] == []


def test_dvc_keeps_every_output_and_tells_nobody() -> None:
    config = Path(".dvc/config").read_text(encoding="utf-8")
    assert "analytics = false" in config and "reflink,hardlink,copy" in config
    assert "cache: false" not in Path("dvc.yaml").read_text(encoding="utf-8")
    assert "persist" not in Path("dvc.yaml").read_text(encoding="utf-8")
    assert "__pycache__" in Path(".dvcignore").read_text(encoding="utf-8")
