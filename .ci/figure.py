"""Copy the picture of the last build to docs/report.svg, which the README shows.

It gets a digest of params.yaml; a test compares that digest with the params that are committed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import json_digest
from safelm.builder.paths import build

COMMITTED = Path("docs/report.svg")
# Blocks of params.yaml that change nothing in the picture.
UNUSED = ("audit", "card", "overlap", "relearn", "attacks", "external_models")


def params_digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of the blocks of params.yaml that the picture depends on."""
    return json_digest({name: rows for name, rows in params.items() if name not in UNUSED})[:16]


def main() -> None:
    """Copy the picture, and state the digest of params.yaml in it."""
    picture = build("report", "report.svg")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    stated = f" % intervals, digest of params.yaml: {params_digest(params)}</text>"
    text = picture.read_text(encoding="utf-8").replace(" % intervals</text>", stated, 1)
    COMMITTED.write_text(text, encoding="utf-8")
    print(f"{COMMITTED}: written from {picture}")


if __name__ == "__main__":
    main()
