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

# Folders that were renamed: a pattern of the old name, which does not fit the new one.
RENAMED = {
    r"/doses/": "/checkpoints/",
    r"/replies/": "/completions/",
    r"^(score|audit)/(?!web/)": r"\1/web/",
    r"^rephrase/(?!safe_web/)": "rephrase/safe_web/",
    r"^refuse/(?!dialogues/)": "refuse/dialogues/",
    r"^educate/(?!lessons/)": "educate/lessons/",
}
# Formats that were changed on purpose: the measurements, the report that is drawn from them, and
# the names of the texts in which prompts were found.
CHANGED = re.compile(
    r"^(report/|overlap/|relearn/|attack/|evaluate/[^/]+/([^/]+\.(json|parquet)$|utility/|probe/|utility\.json))"
)


def digests(build: Path) -> dict[str, str]:
    """Return the sha256 of every data file of a build, by its path under the new names."""
    files = sorted(path for path in build.rglob("*") if path.is_file())
    found = {}
    for path in files:
        if path.name == "manifest.json":
            continue
        name = renamed(path.relative_to(build).as_posix())
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def renamed(name: str) -> str:
    """Return the path of a data file under the new names."""
    for old, new in RENAMED.items():
        name = re.sub(old, new, name)
    return name


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
    recorded = json.loads(arguments.before.read_text(encoding="utf-8"))
    before = {renamed(name): digest for name, digest in recorded.items()}
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
