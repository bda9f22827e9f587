"""Measurements pooled over seeds, and looked up by their columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import polars as pl

from safelm.stats.rates import Rate, averaged, mean, pooled

BEST_LAYER = "probe_best_layer"
STAGES = ("pretrain", "instruct", "finetune")
# The suite that a metric is reported on; metrics not listed are reported on the utility suite.
SUITES = {"asr": "harmful", "neither": "harmful", "complied": "benign", "over_refusal": "benign"}


@dataclass(frozen=True, kw_only=True)
class Number:
    """A pooled number, with the columns of MEASUREMENTS that identify it.

    Args:
        group: the models that were pooled.
        judge: null for the first judge of a suite, which decides the suite's rates.
        paper: the paper's value, as a share.
    """

    row: str | None = None
    group: str
    stage: str
    checkpoint: int | None = None
    condition: str | None = None
    decoder: str = ""
    suite: str = ""
    judge: str | None = None
    form: str | None = None
    metric: str
    words: int | None = None
    bin_edge: float | None = None
    layer: int | None = None
    rate: Rate
    paper: float | None = None


# All fields but `rate` and `paper`.
KEY = tuple(field.name for field in fields(Number))[:-2]
# Columns of KEY that are null in most numbers.
DETAILS = [name for name in KEY if name not in ("metric", "group", "stage", "decoder", "suite")]
NUMBERS = ("count", "of", "value", "low", "high")


@dataclass(frozen=True)
class Measured:
    """Every number of the build, pooled over the seeds of each group.

    Args:
        frame: the measurements of single models with the columns of KEY. Its `judge` is null for
            the first judge of a suite; `first_judge` names the judge of every row.
        keys: the columns of KEY and the index of each pooled number, in the order of params.yaml.
        numbers: the pooled numbers.
    """

    frame: pl.DataFrame
    keys: pl.DataFrame
    numbers: Sequence[Number]

    def select(self, **columns: Any) -> list[Number]:
        """Filter pooled numbers by the columns of KEY.

        A list matches any of its values, an ellipsis everything. Columns of DETAILS that are not
        given must be null; the others match everything.
        """
        given = dict.fromkeys(DETAILS) | columns
        where = [_matches(name, value) for name, value in given.items() if value is not ...]
        return [self.numbers[index] for index in self.keys.filter(*where)["index"]]

    def values(self, column: str, **columns: Any) -> list[Any]:
        """Return the values of a column among selected numbers, in their order, without nulls."""
        values = (getattr(number, column) for number in self.select(**columns))
        return [value for value in dict.fromkeys(values) if value is not None]

    def rate(
        self,
        metric: str,
        group: str | None,
        stage: str,
        decoder: str | None = None,
        judge: str | None = None,
    ) -> Rate | None:
        """Look up a rate on the suite that its metric is reported on; None if not measured."""
        suite = SUITES.get(metric, self.utility_suite)
        key = {"metric": metric, "suite": suite, "decoder": decoder, "judge": judge}
        numbers = self.select(group=group, stage=stage, **key)
        return next((number.rate for number in numbers if number.rate.value is not None), None)

    @cached_property
    def utility_suite(self) -> str | None:
        """The utility suite of the demo world; lm-evaluation-harness names its metric `acc`."""
        return next(iter(self.values("suite", metric="accuracy")), None)

    @cached_property
    def judges(self) -> pl.DataFrame:
        """The judges of every suite: suite, its kind, judge, its kind, and whether it is first."""
        rows = self.frame.filter(pl.col("first_judge").is_not_null(), pl.col("row").is_null())
        columns = ("suite", "suite_kind", "first_judge", "judge_kind", "is_first_judge")
        return rows.select(columns).drop_nulls().unique().sort(columns)

    def stages(self, group: str | None = None) -> list[str]:
        """List the stages that were evaluated, for one group or for any."""
        evaluated = self.values("stage", group=group or ...)
        return [stage for stage in STAGES if stage in evaluated]


def _matches(column: str, value: Any) -> pl.Expr:
    if isinstance(value, list):
        return pl.col(column).is_in(value)
    # Unlike ==, it finds null equal to null.
    return pl.col(column).eq_missing(pl.lit(value))


def pool(
    measurements: pl.DataFrame, names: Mapping[str, str], decoders: Iterable[str], confidence: float
) -> Measured:
    """Pool measurements over the models of each group; models without a group are left out.

    Args:
        measurements: rows of MEASUREMENTS (specs/document.py).
        names: the group of each model, in the order of params.yaml.
        decoders: in the order of params.yaml.
        confidence: of the intervals of counts, such as 0.95.
    """
    group = pl.col("model").replace_strict(names, default=None, return_dtype=pl.String)
    # Seeds may have different best layers: their areas are pooled, and the layer numbers averaged.
    layer = pl.when(pl.col("metric") == "probe_auroc").then(pl.col("layer"))
    other_judge = pl.when(pl.col("is_first_judge").not_()).then(pl.col("judge"))
    # The layer of each best probe is a number of its own.
    best = measurements.filter(metric="probe_auroc_best").with_columns(
        metric=pl.lit(BEST_LAYER),
        value=pl.col("layer").cast(pl.Float64),
        **dict.fromkeys(("count", "of", "low", "high")),
    )
    frame = pl.concat([measurements, best], how="vertical_relaxed")
    frame = frame.with_columns(group=group, first_judge="judge", judge=other_judge, layer=layer)
    frame = frame.drop_nulls("group")
    orders = {"group": names.values(), "stage": STAGES, "decoder": decoders}
    # A group has several models; the position of the first decides.
    kinds = {column: pl.Enum([*dict.fromkeys(order)]) for column, order in orders.items()}
    # An Enum sorts in the order of its categories; an unknown decoder becomes null.
    positions = [pl.col(column).cast(kind, strict=False) for column, kind in kinds.items()]
    frame = frame.sort(positions, maintain_order=True)
    rows = frame.group_by(KEY, maintain_order=True).agg(NUMBERS)
    numbers = []
    for row in rows.iter_rows(named=True):
        seeds = list(zip(*(row.pop(name) for name in NUMBERS), strict=True))
        numbers.append(Number(rate=_rate(seeds, confidence), **row))
    return Measured(frame, rows.select(KEY).with_row_index(), numbers)


def _rate(seeds: Sequence[tuple[Any, ...]], confidence: float) -> Rate:
    """Pool NUMBERS of several seeds: counts, areas with their interval, or plain numbers."""
    # Only areas under a curve bring an interval of their own.
    areas = [seed for seed in seeds if seed[3] is not None]
    if areas:
        value, low, high = averaged([seed[2:] for seed in areas], confidence)
        unsafe, pages, *_ = zip(*areas, strict=True)
        return Rate(sum(unsafe), sum(pages), value, low, high)
    counts = [(count, of) for count, of, *_ in seeds if of is not None]
    if counts:
        return pooled(counts, confidence)
    # A measurement without a value is a plain count.
    numbers = [count if value is None else value for count, _, value, *_ in seeds]
    return Rate(0, 0, mean([number for number in numbers if number is not None]), None, None)
