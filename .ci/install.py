"""Install the project's dependencies and some extras in the versions of requirements.lock.

    python .ci/install.py dev ray

The sha256 of every installed file is compared with the lock. Pip's own --require-hashes cannot do
that here: it asks for a hash of every package, and those that PyPI's torch needs for CUDA are not
in the lock, nor wanted beside the build for CPUs. They are installed as they come.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

ENTRY = re.compile(r"^([\w.-]+==[^\s\\]+)((?:\s*\\\n.*--hash=sha256:\w+)*)", re.MULTILINE)


def main() -> None:
    """Install, then verify what pip reports."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(name for extra in sys.argv[1:] for name in extras[extra])]
    lock = Path("requirements.lock").read_text(encoding="utf-8")
    hashes = {pin: re.findall(r"sha256:(\w+)", rest) for pin, rest in ENTRY.findall(lock)}
    with TemporaryDirectory() as folder:
        pins, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        pins.write_text("\n".join(hashes), encoding="utf-8")
        options = ["-qq", "--disable-pip-version-check", "--report", str(report), "-c", str(pins)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *wanted], check=True)
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    known = {normalised(pin): allowed for pin, allowed in hashes.items()}
    wrong = [item["metadata"]["name"] for item in installed if is_unexpected(item, known)]
    if wrong:
        sys.exit(
            f"{', '.join(wrong)}: the files from your package index are not those of "
            "requirements.lock; use PyPI, then `rm -r .venv` and make it again"
        )


def is_unexpected(item: dict, known: dict[str, list[str]]) -> bool:
    """Return whether an installed file has another sha256 than the lock says.

    A version such as 2.13.0+cpu is not on PyPI: only those that the lock lists can be compared.
    """
    version, _, local = item["metadata"]["version"].partition("+")
    allowed = known.get(normalised(f"{item['metadata']['name']}=={version}"))
    found = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
    return allowed is not None and found not in allowed and not local


def normalised(pin: str) -> str:
    """Return a pin with its name as PyPI compares names."""
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


if __name__ == "__main__":
    main()
