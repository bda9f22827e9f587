"""Architecture: packages import downwards without circles, and one name is followed for a stage.

The name of a stage in dvc.yaml is that of its file, its test and its output folder.
"""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from pipeline.arguments import StageParser
from pipeline.dependencies import update_dependencies
from tests.faults.mutants import MUTANTS, Mutant

# Each package by its floor. A package may import from its own floor and from those below.
FLOORS = {
    "pipeline": 5,
    "safelm.pretraining": 4,
    "safelm.synthesis": 4,
    "safelm.evaluation": 4,
    "safelm.serve": 4,
    "safelm.publishing": 4,
    "safelm.ingestion": 3,
    "safelm.cleaning": 3,
    "safelm.scoring": 3,
    "safelm.corpora": 3,
    "safelm.posttraining": 3,
    "safelm.decoding": 3,
    "safelm.documents": 2,
    "safelm.llm": 2,
    "safelm.models": 2,
    "safelm.demo": 2,
    "safelm.report": 2,
    "safelm.maintenance": 2,
    "specs": 1,
    "safelm.builder": 1,
    "safelm.stats": 1,
    "safelm.text": 1,
    "safelm.seeding": 1,
    "safelm": 1,  # safelm/__init__.py, which every import of a package runs
}
MAX_PACKAGES = 25
ROOTS = ("pipeline", "safelm", "specs")
SOURCES = [path for root in ROOTS for path in sorted(Path(root).rglob("*.py"))]
STAGES = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
MAX_STAGE_LINES = 70
HEAVY = {"torch", "datatrove", "pyarrow", "numpy", "transformers", "polars"}
TEXTS = {".py", ".yaml", ".md", ".toml", ".css", ".html", ".jinja"}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, `from package import module` included."""
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """Return the package of a module, which for safelm is the subpackage."""
    root, _, rest = module.partition(".")
    name = f"{root}.{rest.partition('.')[0]}"
    return name if root == "safelm" and rest and is_module(name) else root


def is_module(name: str) -> bool:
    path = Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def package_graph() -> dict[str, set[str]]:
    """Return the packages that each package imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        package = package_of(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
        own = {package_of(name) for name in imports(path) if name.split(".")[0] in ROOTS}
        graph[package] |= own - {package, "safelm"}
    return graph


def test_every_package_has_a_floor() -> None:
    assert set(package_graph()) == set(FLOORS)
    assert len(FLOORS) <= MAX_PACKAGES


@pytest.mark.parametrize("package", FLOORS)
def test_imports_run_down_only(package: str) -> None:
    upwards = [name for name in package_graph()[package] if FLOORS[name] > FLOORS[package]]
    assert upwards == []


def test_package_imports_have_no_circle() -> None:
    TopologicalSorter(package_graph()).prepare()  # raises CycleError with the packages


def test_builder_imports_no_other_package_of_ours() -> None:
    assert package_graph()["safelm.builder"] == set()


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_tools_and_grammars_import_no_pipeline(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    allowed = {"pipeline": set(ROOTS), "safelm": {"safelm", "specs"}, "specs": {"specs"}}
    assert roots & set(ROOTS) <= allowed[path.parts[0]]


def test_a_stage_imports_no_stage() -> None:
    stages = {f"pipeline.{stage}" for stage in STAGES}
    files = Path("pipeline").glob("*.py")
    assert [str(path) for path in files if stages.intersection(imports(path))] == []


def test_safelm_does_not_import_params() -> None:
    files = Path("safelm").rglob("*.py")
    assert [str(path) for path in files if "specs.params" in imports(path)] == []


@pytest.mark.parametrize("path", sorted(Path("specs").rglob("*.py")), ids=str)
def test_grammars_import_nothing_heavy(path: Path) -> None:
    assert HEAVY.isdisjoint(name.partition(".")[0] for name in imports(path))


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
def test_the_help_of_a_stage_names_its_inputs_outputs_and_params(stage: str) -> None:
    text = StageParser(stage, f"{stage}: a sentence").format_help()
    assert f"usage: python -m pipeline.{stage} " in text and "${" not in text
    assert re.search(rf"^writes +build/{stage}", text, re.MULTILINE)
    assert all(name.partition(".")[0] in text for name in body(stage)["params"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_no_block_that_dvc_does_not_watch(stage: str) -> None:
    watched = {name.partition(".")[0] for name in body(stage)["params"]}
    read_blocks = set()
    for node in ast.walk(ast.parse(read(Path(f"pipeline/{stage}.py")))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Params.read":
            constants = (item for item in node.args if isinstance(item, ast.Constant))
            read_blocks |= {constant.value for constant in constants}
    assert read_blocks == watched


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_short_and_has_no_class(stage: str) -> None:
    text = read(Path(f"pipeline/{stage}.py"))
    assert len(text.splitlines()) <= MAX_STAGE_LINES
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]


def test_dependencies_in_dvc_yaml_are_those_derived_from_imports() -> None:
    outdated = update_dependencies(with_code=True, write=False)
    assert outdated == [], "run `make format`"


def test_dependencies_in_dvc_yaml_exist() -> None:
    deps = {dep for stage in STAGES for dep in body(stage)["deps"] if "${" not in dep}
    files = [dep for dep in sorted(deps) if not dep.startswith("build/")]
    assert [dep for dep in files if not Path(dep).exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_every_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(read(path)))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_unpickles_and_no_remote_code_runs(path: Path) -> None:
    pickles = r"\bimport (?:c?[Pp]ickle|dill|marshal|shelve)\b"
    code = r"trust_remote_code\s*=\s*True|shell\s*=\s*True|(?<![.\w])eval\("
    assert not re.search(rf"{pickles}|{code}|0\.0\.0\.0", read(path))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_occurs(mutant: Mutant) -> None:
    assert mutant.old in read(Path(mutant.file))
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert name in read(Path(path))


def test_no_path_of_a_machine_is_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    paths = [path for path in map(Path, listed.stdout.splitlines()) if path.suffix in TEXTS]
    absolute = re.compile(r"(?:^|[\s\"'(=])/(?:work|home|root|Users)/")
    assert [str(path) for path in paths if path.is_file() and absolute.search(read(path))] == []


def test_dvc_keeps_every_output_and_sends_no_statistics() -> None:
    config, stages = read(Path(".dvc/config")), read(Path("dvc.yaml"))
    assert "analytics = false" in config and "reflink,hardlink,copy" in config
    assert "cache: false" not in stages and "persist" not in stages
    assert "__pycache__" in read(Path(".dvcignore"))
