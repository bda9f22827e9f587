"""The supply chain: what is installed is what requirements.lock says, on every machine."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT

INSTALL = ROOT / ".ci/install.py"


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
