"""The README's picture: Figure 2 of the last build, as one SVG file.

`python -m safelm.report.readme_figure` copies it from build/report to docs/report.svg, with a
digest of params.yaml; a test compares that digest with the params that are committed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import json_digest
from safelm.builder.paths import build
from safelm.report.charts import svg
from safelm.report.data import ReportData
from safelm.report.figures.answers import attack_success

PICTURE, COMMITTED = "report.svg", Path("docs/report.svg")
# Blocks of params.yaml that change nothing in the picture.
UNUSED = ("audit", "card", "overlap", "relearn", "attacks", "external_models")


def draw_picture(data: ReportData) -> str:
    """Draw the panels of Figure 2 side by side, with their legend and colours."""
    figure = attack_success(data)
    picture = svg.render(
        "picture.svg.jinja",
        figure=figure,
        words=f"{data.declared.title}, {100 * data.confidence:g} % intervals",
    )
    return picture + "\n"


def params_digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of the blocks of params.yaml that the picture depends on."""
    return json_digest({name: rows for name, rows in params.items() if name not in UNUSED})[:16]


def main() -> None:
    """Copy the picture of the last build to docs/report.svg, with the digest of params.yaml."""
    picture = build("report", PICTURE).read_text(encoding="utf-8")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    stated = f" % intervals, digest of params.yaml: {params_digest(params)}</text>"
    picture = picture.replace(" % intervals</text>", stated, 1)
    COMMITTED.write_text(picture, encoding="utf-8")
    print(f"{COMMITTED}: written from {build('report', PICTURE)}")


if __name__ == "__main__":
    main()
