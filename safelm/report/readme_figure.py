"""The README's picture: Figure 2 of the last build, as one SVG file.

`python -m safelm.report.readme_figure` copies it from build/report to docs/report.svg, with a
digest of params.yaml; a test compares that digest with the params that are committed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from safelm.builder.digest import json_digest
from safelm.builder.paths import build
from safelm.report.charts import svg
from safelm.report.data import ReportData
from safelm.report.figures.answers import attack_success

HERE = Path(__file__).parent
PICTURE, COMMITTED = "report.svg", Path("docs/report.svg")
# Blocks of params.yaml that change nothing in the picture.
UNUSED = ("audit", "card", "overlap", "relearn", "attacks", "external_models")
GAP, TOP, LINE = 24.0, 56.0, 20.0
VIEW_BOX = re.compile(r'class="chart".*?viewBox="0 0 (\S+) (\S+)" style="[^"]*"')
DIGEST = re.compile(r"digest of params\.yaml: (\w+)")


def draw_picture(data: ReportData) -> str:
    """Draw the panels of Figure 2 side by side, with their legend and colours."""
    figure = attack_success(data)
    panels, height, x = [], 0.0, GAP
    for panel in figure.panels:
        nested, own_height = _nested(panel.chart, x)
        panels += [svg.text(x, TOP - 8, panel.title, class_="heading"), nested]
        height, x = max(height, TOP + own_height + 2 * LINE), x + svg.WIDTH + GAP
    css = (HERE / "page.css").read_text(encoding="utf-8")
    page = (HERE / "page.html.jinja").read_text(encoding="utf-8")
    patterns = page[page.index("<defs>") : page.index("</defs>") + len("</defs>")]
    patterns = patterns.replace("<pattern ", '<pattern class="patterns" ')
    background = svg.element("rect", width="100%", height="100%", fill="var(--paper)")
    words = f"Attack success rate. {data.declared.title}, {100 * data.confidence:g} % intervals"
    drawn = [
        svg.element("title", figure.title),
        svg.element("style", Markup(css)),
        Markup(patterns),
        background,
        *_legend(data),
        *panels,
        svg.text(GAP, height - LINE, words, class_="muted"),
    ]
    attributes = {"xmlns": "http://www.w3.org/2000/svg", "role": "img"}
    size = f"0 0 {svg.number(x)} {svg.number(height)}"
    return svg.element("svg", *drawn, viewBox=size, **attributes) + "\n"


def _nested(chart: Markup, x: float) -> tuple[Markup, float]:
    """Place a chart within a larger picture; return it with its height."""
    found = VIEW_BOX.search(chart)
    assert found, "a chart has a view box"
    width, height = found.groups()
    place = f'x="{svg.number(x)}" y="{svg.number(TOP)}" width="{width}" height="{height}"'
    return Markup(VIEW_BOX.sub(place, chart, count=1)), float(height)


def _legend(data: ReportData) -> list[Markup]:
    drawn, x = [], GAP
    for style, meaning in data.legend(data.main_decoders):
        drawn += [svg.block(x, 12.0, 15.0, 11.0, style), svg.text(x + 21, 22.0, meaning)]
        x += 21 + svg.text_width(meaning) + GAP
    drawn.append(svg.diamond(x + 5, 17.5, "the paper"))
    drawn.append(svg.text(x + 16, 22.0, "the paper (1.7 billion parameters)"))
    return drawn


def params_digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of the blocks of params.yaml that the picture depends on."""
    return json_digest({name: rows for name, rows in params.items() if name not in UNUSED})[:16]


def digest_of(picture: str) -> str | None:
    """Return the digest that a committed picture states."""
    found = DIGEST.search(picture)
    return found[1] if found else None


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
