"""The documentation: what it names exists, and its examples are valid."""

import re
from pathlib import Path

import pytest
import typer
import yaml

from pipeline.cli import app
from specs import validation
from specs.add_rows import add
from tests.conftest import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# CHANGELOG tells of files and settings that are gone.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
FOLDERS = r"(?:\.ci|\.github|benchmarks|docs|pipeline|safelm|specs|tests)"
CODE = [path for root in ("pipeline", "safelm") for path in (ROOT / root).rglob("*.py")]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(page: Path) -> str:
    """Return the code of a page: its blocks and what stands in backticks."""
    text = read(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


def named(pattern: str) -> set[str]:
    """Return what a pattern finds in the code of all current pages."""
    return {found for page in CURRENT for found in re.findall(pattern, code_of(page))}


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    names = re.findall(rf"(?<![\w./-])({FOLDERS}/[\w./-]+\w)(?![\w<*])", code_of(page))
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", read(page))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    assert {"repro", "test"} <= named(r"\bmake ([a-z-]+)") <= targets


def test_commands_that_are_named_exist() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {"check", "serve"} <= named(r"(?<![\w.'/-])safelm ([a-z]+)\b") <= commands


def test_modules_that_are_run_exist() -> None:
    modules = named(r"python -m ((?:pipeline|safelm|benchmarks|tests)\.[\w.]+)")
    paths = [ROOT / f"{module.replace('.', '/')}.py" for module in modules]
    assert paths and [path for path in paths if not path.is_file()] == []


def test_environment_variables_are_documented_and_read() -> None:
    """Those that a user sets; the names of the example of an endpoint are made from its row."""
    internal, made = (
        {"SAFELM_RETRY", "SAFELM_WORKER_NUMBER"},
        {"SAFELM_WRITER_URL", "SAFELM_WRITER_KEY"},
    )
    text = "\n".join(map(read, CODE))
    used = set(re.findall(r"\"(SAFELM_[A-Z_]+[A-Z])\"", text)) - internal
    documented = named(r"\b(SAFELM_[A-Z_]+[A-Z])\b")
    assert used and documented - made == used


def examples(name: str) -> list[str]:
    """Return the YAML blocks of a page."""
    return re.findall(r"^```yaml\n(.*?)^```", read(ROOT / name), re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and what it names, as the current one."""
    (tmp_path / "params.yaml").write_text(read(ROOT / "params.yaml"))
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "number"),
    [("README.md", 0), ("docs/mixtures.md", 0), ("docs/data.md", 3)],
)
def test_rows_of_an_example_are_valid(name: str, number: int, project: Path) -> None:
    params = yaml.safe_load(read(project / "params.yaml"))
    for table, rows in yaml.safe_load(examples(name)[number]).items():
        params[table] |= rows
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert [str(problem) for problem in validation.problems()] == []


def test_the_experiment_of_an_example_can_be_added(project: Path) -> None:
    (project / "rows.yaml").write_text(examples("docs/mixtures.md")[2])
    added = add(Path("rows.yaml"))
    assert added["models"] == ["refusals_6", "refusals_6_2", "refusals_6_3"]
    assert [str(problem) for problem in validation.problems()] == []


def test_the_results_of_the_readme_are_those_of_its_picture() -> None:
    """The picture is drawn by the build; its bars go by stage, then by model."""
    titles = re.findall(r"<title>greedy: ([\d.]+)\s%", read(ROOT / "docs/report.svg"))
    assert len(titles) == 9
    rates = [round(float(title)) for title in titles]
    text = " ".join(read(ROOT / "README.md").split())
    assert f"attack success of the base model from {rates[0]} to {rates[2]} %" in text
    assert f"it is {rates[6]} % for the standard model and {rates[8]} % for the safe one" in text
