"""Writing of a finished build as folders in the layout of the hub."""

import shutil
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment

from safelm.builder.paths import build
from safelm.builder.provenance import check_inputs
from safelm.builder.shards import check_folder
from safelm.publishing.cards import RELEASE, templates
from safelm.publishing.corpora import write_corpus
from safelm.report.data import ReportData
from safelm.report.measured import STAGES
from specs.corpus import scores_of


def publish(root: Path, data: ReportData, params: Any, sources: Mapping[str, str]) -> Iterator[str]:
    """Write the corpora that may be redistributed, every model and the report.

    Args:
        root: a new folder, for the folders datasets, models and spaces.
        data: the build.
        params: params.yaml.
        sources: the source behind each origin of `corpora`, such as rephrase/safe_web.

    Yields:
        A line for each folder, and for each origin that is refused.

    Raises:
        DamagedShard: an output is missing, or is not what was built.
    """
    cards = templates(data=data, params=params, sources=sources)
    for origin, source in sources.items():
        row = data.declared.sources[source]
        if row.usage == "training" and row.license in RELEASE["licenses"]:
            folder = root / "datasets" / origin.replace("/", "-")
            yield _write_dataset(folder, origin, data, cards)
        else:
            yield RELEASE["refused"].format(origin=origin, source=source, row=row)
    for model, stage in product(data.declared.models, STAGES):
        folder = root / f"models/{model}-{stage}"
        yield _copy(build(stage, model), folder, cards, model=model, stage=stage)
    yield _copy(build("report"), root / "spaces/report", cards)


def _write_dataset(folder: Path, origin: str, data: ReportData, cards: Environment) -> str:
    rows = [row for row in data.declared.corpora.values() if row.from_ == origin]
    scores = sorted(set[int]().union(*(scores_of(row) or () for row in rows)))
    ending = RELEASE["stages"][origin.partition("/")[0]]["ending"]
    check_inputs([build(origin)])
    write_corpus(folder, origin, scores or None, ending)
    files = sorted(folder.rglob("*.parquet"))
    for name in ("README.md", "croissant.json"):
        _write(cards, folder / name, origin=origin, scores=scores, files=files)
    return str(folder)


def _copy(output: Path, folder: Path, cards: Environment, **facts: Any) -> str:
    check_inputs([output])
    check_folder(output)
    shutil.copytree(output, folder, ignore=shutil.ignore_patterns(*RELEASE["left_out"]))
    _write(cards, folder / "README.md", **facts)
    return str(folder)


def _write(cards: Environment, path: Path, **facts: Any) -> None:
    """Render a file of a folder by the template of its kind, such as datasets.README.md.jinja."""
    kind, name = path.parts[-3:-1]
    text = cards.get_template(f"{kind}.{path.name}.jinja").render(name=name, **facts)
    path.write_text(text, encoding="utf-8")
