"""Install the project's dependencies and some extras in the versions of requirements.lock.

    python .ci/install.py dev ray

Pip says which files it would take, and their sha256 is compared with the lock before any of them
is installed. Pip's own --require-hashes cannot do the first step: it asks for a hash of every
package, and those that PyPI's torch needs for CUDA are not in the lock, nor wanted beside the build
for CPUs. They are installed as they come, and named.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ENTRY = re.compile(r"^([\w.-]+==[^\s\\]+)((?:\s*\\\n.*--hash=sha256:\w+)*)", re.MULTILINE)


def main() -> None:
    """Compare what pip would install with the lock, then install exactly that."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(name for extra in sys.argv[1:] for name in extras[extra])]
    known = read_lock(Path("requirements.lock"))
    files = resolve(wanted, known)
    if wrong := [_name(item) for item in files if is_unexpected(item, known)]:
        sys.exit(
            f"{', '.join(wrong)}: the files of your package index are not those of "
            "requirements.lock, and nothing was installed; use PyPI"
        )
    if unknown := [_name(item) for item in files if not is_known(item, known)]:
        print(f"not in requirements.lock, installed as they come: {', '.join(unknown)}")
    if files:
        install(files)


def read_lock(path: Path) -> dict[str, list[str]]:
    """Return the allowed sha256 of each pin of the lock."""
    entries = ENTRY.findall(path.read_text(encoding="utf-8"))
    return {normalised(pin): re.findall(r"sha256:(\w+)", rest) for pin, rest in entries}


def resolve(wanted: Iterable[str], pins: Iterable[str]) -> list[dict[str, Any]]:
    """Return what pip would install, in the versions of the pins, with the sha256 of each file."""
    with TemporaryDirectory() as folder:
        constraints, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        constraints.write_text("\n".join(pins), encoding="utf-8")
        _pip("--dry-run", "--report", str(report), "-c", str(constraints), *wanted)
        return json.loads(report.read_text(encoding="utf-8"))["install"]


def install(files: Iterable[dict[str, Any]]) -> None:
    """Install files that were compared; pip refuses any other."""
    with TemporaryDirectory() as folder:
        lines = (f"{_pin(item)} --hash=sha256:{_sha256(item)}" for item in files)
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("\n".join(lines), encoding="utf-8")
        _pip("--no-deps", "--require-hashes", "-r", str(requirements))


def _pip(*arguments: str) -> None:
    """Run `pip install` in this environment; end as it ends, without a traceback."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def is_unexpected(item: dict[str, Any], known: dict[str, list[str]]) -> bool:
    """Return whether a file has another sha256 than the lock says.

    A version such as 2.13.0+cpu is not on PyPI, and the lock has the hash of one platform only.
    """
    version, _, local = item["metadata"]["version"].partition("+")
    allowed = known.get(normalised(f"{_name(item)}=={version}"))
    return allowed is not None and _sha256(item) not in allowed and not local


def is_known(item: dict[str, Any], known: dict[str, list[str]]) -> bool:
    """Return whether the lock has the sha256 of a file."""
    return any(_sha256(item) in allowed for allowed in known.values())


def _name(item: dict[str, Any]) -> str:
    return item["metadata"]["name"]


def _pin(item: dict[str, Any]) -> str:
    return f"{_name(item)}=={item['metadata']['version']}"


def _sha256(item: dict[str, Any]) -> str | None:
    return item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")


def normalised(pin: str) -> str:
    """Return a pin with its name as PyPI compares names."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


if __name__ == "__main__":
    main()
