"""Measurements: the rows of `measurements.parquet`, one number each (specs/document.py)."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safelm.builder.shards import write_table
from safelm.stats.rates import DIGITS, Json
from specs.document import MEASUREMENTS

MEASUREMENTS_FILE = "measurements.parquet"


class Measurement(NamedTuple):
    """One row of MEASUREMENTS."""

    metric: str
    count: int | None = None
    of: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    model: str | None = None
    stage: str | None = None
    checkpoint: int | None = None
    decoder: str | None = None
    suite: str | None = None
    suite_kind: str | None = None
    judge: str | None = None
    judge_kind: str | None = None
    is_first_judge: bool | None = None
    form: str | None = None
    row: str | None = None
    condition: str | None = None
    words: int | None = None
    bin_edge: float | None = None
    layer: int | None = None


def share(metric: str, count: int, of: int, **columns: Any) -> Measurement:
    """Return the row of a count; its value is None where nothing was counted (`of` is 0)."""
    value = round(count / of, DIGITS) if of else None
    return Measurement(metric, count, of, value, **columns)


def write_measurements(rows: Iterable[Measurement], folder: Path) -> None:
    """Write measurements.parquet, in the order of the rows."""
    write_table([row._asdict() for row in rows], MEASUREMENTS, folder / MEASUREMENTS_FILE)


# The rest of this file turns the trees of metrics.json into rows, until the stages make rows.


def _rates(tree: Json, **columns: Any) -> Iterator[Measurement]:
    for metric, leaf in tree.items():
        if isinstance(leaf, Mapping) and "count" in leaf:
            yield share(metric, leaf["count"], leaf["of"], **columns)


def suite_rows(
    tree: Json, suite: str, kind: str, judges: Mapping[str, str], first: str, **columns: Any
) -> Iterator[Measurement]:
    columns |= {"suite": suite, "suite_kind": kind}
    by_first = {"judge": first, "judge_kind": judges[first], "is_first_judge": True}
    yield from _rates(tree, **columns, **by_first)
    for form, rates in tree["forms"].items():
        yield from _rates(rates, **columns, **by_first, form=form)
    for judge, rates in tree["judges"].items():
        other = {"judge": judge, "judge_kind": judges[judge], "is_first_judge": False}
        yield from _rates(rates, **columns, **other)


def _area(metric: str, area: Json | None, **columns: Any) -> Measurement:
    if not area:
        return Measurement(metric, **columns)
    pages = area["unsafe"] + area["safe"]
    return Measurement(
        metric, area["unsafe"], pages, area["value"], area["low"], area["high"], **columns
    )


def evaluation_rows(metrics: Json, kinds: Mapping[str, str]) -> Iterator[Measurement]:
    """The rows of evaluate's metrics.json."""
    names = {"model": metrics["model"], "stage": metrics["stage"]}
    yield Measurement("knows_tag", value=float(metrics["knows_tag"]), **names)
    for suite, facts in metrics["suites"].items():
        where = {**names, "suite": suite, "suite_kind": facts["kind"]}
        yield Measurement("rows", count=facts["rows"], **where)
        yield Measurement("prompts", count=facts["asked"], **where)
        for reason, count in facts["left_out"].items():
            yield Measurement(f"left_out_{reason}", count=count, **where)
    trees = {None: metrics["decoders"]}
    trees |= {int(read): one["decoders"] for read, one in metrics["doses"].items()}
    for checkpoint, decoders in trees.items():
        for decoder, suites in decoders.items():
            for suite, tree in suites.items():
                facts = metrics["suites"][suite]
                about = (suite, facts["kind"], facts["judges"], facts["judge"])
                yield from suite_rows(tree, *about, **names, checkpoint=checkpoint, decoder=decoder)
    utility = metrics.get("utility", {})
    demo = next((name for name, kind in kinds.items() if kind == "demo_utility"), None)
    where = {**names, "suite": demo, "suite_kind": "utility"}
    if "accuracy" in utility:
        leaf = utility["accuracy"]
        yield share("accuracy", leaf["count"], leaf["of"], **where)
        yield Measurement("perplexity", value=utility["perplexity"], **where)
    tag = utility.get("tag", {"auroc": {}, "bins": {}})
    for words, area in tag["auroc"].items():
        yield _area("tag_auroc", area, words=None if words == "page" else int(words), **where)
    for edge, one in tag["bins"].items():
        unsafe = one["unsafe"]
        yield share("tag_bin", unsafe["count"], unsafe["of"], bin_edge=float(edge), **where)
        yield Measurement("tag_bin_mean", value=one["mean"], bin_edge=float(edge), **where)
    if probe := utility.get("probe"):
        for layer, area in probe["layers"].items():
            yield _area("probe_auroc", area, layer=int(layer), **where)
        best, last = probe["best"], len(probe["layers"]) - 1
        yield _area("probe_auroc_best", best["area"], layer=best["layer"], **where)
        yield _area("probe_auroc_last", probe["last"], layer=last, **where)
        yield _area("probe_auroc_words", probe["words"], **where)
        for half in ("fitted", "measured"):
            yield Measurement(f"probe_pages_{half}", count=probe["pages"][half], **where)
    for task, measured in utility.get("tasks", {}).items():
        yield from _rates(measured, **names, suite=task, suite_kind="utility")


def relearn_rows(
    rows: Json, kinds: Mapping[str, tuple[str, dict[str, str], str]]
) -> Iterator[Measurement]:
    """The rows of relearn's metrics.json."""
    for name, row in rows.items():
        for model, curve in row["models"].items():
            for read, one in curve.items():
                where = {"row": name, "model": model, "stage": row["stage"]}
                where["checkpoint"] = int(read)
                yield Measurement("held_out_loss", value=one["held_out_loss"], **where)
                for decoder, suites in one["decoders"].items():
                    for suite, tree in suites.items():
                        yield from suite_rows(tree, suite, *kinds[suite], **where, decoder=decoder)


def attack_rows(
    attacks: Json, kinds: Mapping[str, tuple[str, dict[str, str], str]]
) -> Iterator[Measurement]:
    """The rows of attack's metrics.json."""
    for name, row in attacks.items():
        suite = row["suite"]
        for model, stages in row["models"].items():
            for stage, found in stages.items():
                where = {"row": name, "model": model, "stage": stage}
                about = {"suite": suite, "suite_kind": kinds[suite][0]}
                yield Measurement("prompts", count=found["asked"], **where, **about)
                for reason, count in found["left_out"].items():
                    yield Measurement(f"left_out_{reason}", count=count, **where, **about)
                for condition, said in found["target"].items():
                    for metric, value in said.items():
                        yield Measurement(
                            f"target_{metric}", value=value, condition=condition, **where, **about
                        )
                for decoder, conditions in found["decoders"].items():
                    for condition, tree in conditions.items():
                        columns = {**where, "decoder": decoder, "condition": condition}
                        yield from suite_rows(tree, suite, *kinds[suite], **columns)
