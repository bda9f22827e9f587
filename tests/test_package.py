"""The package: every file is in the wheel, and importing it changes nothing of the importer."""

import os
import subprocess
import sys
import tomllib
from importlib import util
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

from safelm.builder.environment import INSTRUCTIONS
from tests.conftest import ROOT

PACKAGES = ("pipeline/", "safelm/", "specs/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of the tracked files, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked("pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    run(sys.executable, "-m", "pip", "wheel", *options, str(source))
    (found,) = target.glob("safelm-*.whl")
    return found


def tracked(*paths: str) -> list[str]:
    names = run("git", "ls-files", *paths, cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_every_file(wheel: Path) -> None:
    inside = set(ZipFile(wheel).namelist())
    assert [name for name in tracked(*PACKAGES) if name not in inside] == []
    assert {"safelm/py.typed", "specs/py.typed", "safelm/report/page.css"} <= inside


def test_the_wheel_reads_its_data_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    ZipFile(wheel).extractall(installed)
    code = """
from specs.paper import Paper
from specs.shape import Shape
from specs.suite import Suite
import specs
print(Paper.read() is not None, Shape.read("nano").layers > 0, Suite.read("harmful").kind)
print(specs.__file__)
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("True True harmful"), done.stderr
    assert str(installed) in done.stdout


def test_decoding_is_imported_from_any_folder(tmp_path: Path) -> None:
    code = "from safelm.decoding import CustomGenerate; print(CustomGenerate.__name__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path) == "CustomGenerate\n"


def test_importing_safelm_changes_nothing_of_the_process(tmp_path: Path) -> None:
    code = """
import gc, os, sys
os.environ.pop("HF_HUB_OFFLINE", None)
before = gc.get_threshold(), dict(os.environ), sys.excepthook
import safelm, safelm.builder.run, safelm.decoding, safelm.models.chat, safelm.posttraining.trainer
assert gc.get_threshold() == before[0] and sys.excepthook is before[2]
changed = {name for name, value in os.environ.items() if before[1].get(name) != value}
# Libraries set the first three. The last keeps text out of tracebacks; loguru reads it once.
allowed = {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR", "LOGURU_DIAGNOSE"}
assert changed <= allowed, changed
assert before[1].keys() <= os.environ.keys()
"""
    run(sys.executable, "-c", code, cwd=tmp_path)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = "import safelm; print(safelm.__version__)"
    assert run(sys.executable, "-c", code).strip() == project["version"]


def test_every_package_of_the_lock_has_hashes() -> None:
    install = module(ROOT / ".ci/install.py")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = install.ENTRY.findall(lock)
    assert len(entries) == sum("==" in line for line in lock.splitlines() if line[0] != "#")
    assert [pin for pin, hashes in entries if "sha256:" not in hashes] == []


@pytest.mark.parametrize(
    ("version", "sha256", "is_unexpected"),
    [("1.0", "aa", False), ("1.0", "bb", True), ("1.0+cpu", "bb", False), ("2.0", "bb", False)],
)
def test_a_file_that_is_not_that_of_the_lock_is_refused(
    version: str, sha256: str, is_unexpected: bool
) -> None:
    install = module(ROOT / ".ci/install.py")
    item = {
        "metadata": {"name": "Some_Package", "version": version},
        "download_info": {"archive_info": {"hashes": {"sha256": sha256}}},
    }
    assert install.is_unexpected(item, {"some-package==1.0": ["aa"]}) is is_unexpected


def module(path: Path) -> ModuleType:
    spec = util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


ARITHMETIC = """
import hashlib, sys
if sys.argv[1:]:
    import pipeline
import numpy as np, torch
numbers = np.linspace(0.1, 9, 10_001)
values = torch.from_numpy(numbers).float()
parts = [np.exp(numbers), np.log(numbers), np.log1p(numbers)]
parts += [f(values).numpy() for f in (torch.exp, torch.log, torch.nn.functional.silu)]
parts.append(values.view(73, 137).softmax(-1).numpy())
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16])
"""


def test_a_stage_rounds_alike_on_every_x86_machine() -> None:
    """The digest is that of AVX2; without the settings, AVX-512 gives another."""
    kept = {name: value for name, value in os.environ.items() if name not in INSTRUCTIONS}
    command = [sys.executable, "-c", ARITHMETIC]
    printed = [
        subprocess.run(
            command + words, cwd=ROOT, env=kept, capture_output=True, text=True, check=True
        ).stdout.strip()
        for words in ([], ["as a stage"])
    ]
    assert printed[1] == "bb08930bcdd7ed6c"
    if "avx512dq" in Path("/proc/cpuinfo").read_text():
        assert printed[0] != printed[1]
