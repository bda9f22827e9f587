"""Compare the data files of two builds by digest.

    python -m benchmarks.same_bytes record build > before.json
    python -m benchmarks.same_bytes compare before.json build

Manifests are left out: they hold keys, which change with the code. Exits with 1 when a data file
differs or is missing.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

# Folders that were renamed; the old name on the left.
RENAMED = {"/doses/": "/checkpoints/", "/replies/": "/completions/"}
# Formats that were changed on purpose: the measurements, and the report that is drawn from them.
CHANGED = re.compile(
    r"^(report/|relearn/|attack/|evaluate/[^/]+/([^/]+\.(json|parquet)$|utility/|probe/|utility\.json))"
)


def digests(build: Path) -> dict[str, str]:
    """Return the sha256 of every data file of a build, by its path under the new names."""
    files = sorted(path for path in build.rglob("*") if path.is_file())
    found = {}
    for path in files:
        if path.name == "manifest.json":
            continue
        name = path.relative_to(build).as_posix()
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record", help="print the digests").add_argument("build", type=Path)
    compare = commands.add_parser("compare", help="compare a build with recorded digests")
    compare.add_argument("before", type=Path)
    compare.add_argument("build", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "record":
        print(json.dumps(digests(arguments.build), indent=1))
        return
    before = json.loads(arguments.before.read_text(encoding="utf-8"))
    after = digests(arguments.build)
    wanted = {name: digest for name, digest in before.items() if not CHANGED.match(name)}
    missing = sorted(set(wanted) - set(after))
    differing = sorted(name for name in wanted if name in after and after[name] != wanted[name])
    new = sorted(name for name in set(after) - set(before) if not CHANGED.match(name))
    for label, names in (("missing", missing), ("differs", differing), ("new", new)):
        for name in names:
            print(f"{label}: {name}")
    equal = len(wanted) - len(missing) - len(differing)
    print(
        f"{equal} of {len(wanted)} data files are equal, {len(differing)} differ, "
        f"{len(missing)} are missing, {len(new)} are new; "
        f"{len(before) - len(wanted)} are of a format that was changed on purpose"
    )
    sys.exit(bool(missing or differing))


if __name__ == "__main__":
    main()
