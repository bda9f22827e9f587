"""The supply chain: what is installed is what requirements.lock says, on every machine."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from tests.conftest import ROOT

INSTALL, AUDIT = ROOT / ".ci/install.py", ROOT / ".ci/audit.py"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin/python"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs `leaf`, and a package index that has it."""
    (tmp_path / "index").mkdir()
    write_wheel(tmp_path / "index", "leaf", "1.0")
    text = '[project]\ndependencies = ["leaf"]\n[project.optional-dependencies]\ndev = []\n'
    (tmp_path / "pyproject.toml").write_text(text)
    return tmp_path


def write_wheel(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def write_lock(project: Path, sha256: str, pin: str = "leaf==1.0") -> None:
    (project / "requirements.lock").write_text(f"{pin} \\\n    --hash=sha256:{sha256}\n")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(python: Path, project: Path, *extras: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project / "index"),
    }
    command = [str(python), str(INSTALL), *extras]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def has_leaf(python: Path) -> bool:
    code = "import importlib.util as u; print(u.find_spec('leaf') is not None)"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout == "True\n"


def test_a_file_with_another_hash_is_never_installed(python: Path, project: Path) -> None:
    """Nor by the second run, which finds what the first one left."""
    write_lock(project, "0" * 64)
    for _ in range(2):
        done = install(python, project, "dev")
        assert done.returncode == 1
        assert done.stderr.startswith("leaf: the files of your package index are not those of")
        assert not has_leaf(python)


def test_a_file_of_the_lock_is_installed(python: Path, project: Path) -> None:
    write_lock(project, sha256(project / "index/leaf-1.0-py3-none-any.whl"))
    write_wheel(project / "index", "leaf", "2.0")  # newer than the lock
    done = install(python, project, "dev")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert has_leaf(python)
    assert (install(python, project).returncode, has_leaf(python)) == (0, True)  # nothing to do
    subprocess.run([str(python), "-m", "pip", "uninstall", "-qq", "-y", "leaf"], check=True)


def test_a_package_that_the_lock_does_not_have_is_named(python: Path, project: Path) -> None:
    write_lock(project, "0" * 64, pin="other==1.0")
    done = install(python, project)
    assert done.stdout == "not in requirements.lock, installed as they come: leaf\n", done.stderr
    subprocess.run([str(python), "-m", "pip", "uninstall", "-qq", "-y", "leaf"], check=True)


def test_a_failure_of_pip_has_no_traceback_of_ours(python: Path, project: Path) -> None:
    write_lock(project, "0" * 64, pin="leaf==3.0")
    done = install(python, project)
    assert done.returncode == 1
    assert "ResolutionImpossible" in done.stderr and "Traceback" not in done.stderr


# What pip-audit does: it writes a table if it found something, and exits with 1 then and also if it
# could not ask.
FOUND = """
import sys
open(sys.argv[sys.argv.index("--output") + 1], "w").write("leaf 1.0 GHSA-1\\n")
sys.exit("Found 1 known vulnerability in 1 package")
"""
CLEAN = "import sys; print('No known vulnerabilities found', file=sys.stderr)"
UNREACHABLE = "raise ConnectionError('osv.dev: name or service not known')"


def audit(folder: Path, pip_audit: str) -> subprocess.CompletedProcess[str]:
    """Run the audit with a program in the place of pip-audit, which needs a network."""
    (folder / "python").symlink_to(sys.executable)
    (folder / "pip-audit").write_text(f"#!{sys.executable}\n{pip_audit}")
    (folder / "pip-audit").chmod(0o755)
    command = [str(folder / "python"), str(AUDIT)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_known_vulnerability_fails_the_audit(tmp_path: Path) -> None:
    done = audit(tmp_path, FOUND)
    assert done.returncode == 1
    assert done.stdout.count("GHSA-1") == 2  # in each lock file


def test_an_audit_without_findings_passes(tmp_path: Path) -> None:
    done = audit(tmp_path, CLEAN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("requirements.lock: no known vulnerability\n")


def test_an_audit_without_a_network_is_no_passed_audit(tmp_path: Path) -> None:
    done = audit(tmp_path, UNREACHABLE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("requirements.lock: not audited, because osv.dev gave no answer")
    assert done.stderr.count("\n") == 1


def jobs(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def commands(path: Path) -> list[str]:
    steps = [step for job in jobs(path).values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def test_the_workflow_runs_the_commands_of_a_clean_clone() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    local = [line for line in lines if not line.startswith(("#", "set "))]
    assert {"make check", "make test"} <= set(local)
    assert commands(ROOT / ".github/workflows/ci.yml") == local


def test_the_weekly_workflow_audits_the_pinned_packages() -> None:
    path = ROOT / ".github/workflows/dependencies.yml"
    # YAML 1.1 reads the key `on` as true.
    triggers = yaml.safe_load(path.read_text(encoding="utf-8"))[True]
    assert triggers["schedule"] and "requirements.lock" in triggers["pull_request"]["paths"]
    assert "make audit-dependencies" in commands(path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_pinned_and_may_write_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert uses and [line for line in uses if not PINNED.match(line)] == []
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert all(0 < job["timeout-minutes"] <= 120 for job in jobs(path).values())
    assert not any("permissions" in job for job in jobs(path).values())


def test_every_package_of_the_tools_has_hashes() -> None:
    """Pip compares them all, and refuses an entry without one."""
    lines = (ROOT / ".ci/tools.lock").read_text(encoding="utf-8").splitlines()
    pins = [at for at, line in enumerate(lines) if "==" in line and line[0] not in "# "]
    assert pins and all("--hash=sha256:" in lines[at + 1] for at in pins)
    assert "--require-hashes -r $<" in (ROOT / "Makefile").read_text(encoding="utf-8")
