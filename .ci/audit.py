"""Look up the known vulnerabilities of every pinned package, with pip-audit.

    python .ci/audit.py    # as `make audit` calls it, in the environment of .ci/tools.lock

The exit code is 0 if none is known, 1 if some are, 2 if they could not be looked up.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

LOCKS = ("requirements.lock", ".ci/tools.lock")
# The advisories of osv.dev. PyPI's, the default of pip-audit, answer 404 for what a mirror does not
# serve, and then every package counts as one without a vulnerability. Nothing is resolved: the lock
# files name every package.
OPTIONS = ("--vulnerability-service", "osv", "--disable-pip", "--no-deps", "--desc", "off")


def main() -> None:
    """Print the vulnerabilities of each lock file."""
    sys.exit(max(audit(lock) for lock in LOCKS))


def audit(lock: str) -> int:
    """Print the vulnerabilities of a lock file and return the exit code; end if nobody answers."""
    with TemporaryDirectory() as folder:
        table = Path(folder, "table.txt")
        command = [str(Path(sys.executable).with_name("pip-audit")), *OPTIONS]
        command += ["--progress-spinner", "off", "--output", str(table), "--requirement", lock]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            print(f"{lock}: no known vulnerability")
            return 0
        # It exits with 1 as well where it fails, but has written no table then.
        if table.is_file():
            print(f"{lock}:\n{table.read_text(encoding='utf-8')}")
            return 1
    reason = (done.stderr.strip() or "no message").splitlines()[-1]
    print(
        f"{lock}: not audited, because osv.dev gave no answer; run it where there is a network "
        f"({reason[:200]})",
        file=sys.stderr,
    )
    sys.exit(2)


if __name__ == "__main__":
    main()
