"""Measurements pooled over seeds, and looked up by their columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from safelm.report.roles import Group
from safelm.stats.rates import Rate, averaged, mean, pooled

BEST_LAYER = "probe_best_layer"
STAGES = ("pretrain", "instruct", "finetune")
# Columns of MEASUREMENTS that tell one pooled number from another; `group` stands for the models.
# `judge` is null for the first judge of a suite, whose verdicts give its rates.
KEY = (
    "metric",
    "group",
    "stage",
    "checkpoint",
    "decoder",
    "suite",
    "judge",
    "form",
    "row",
    "condition",
    "words",
    "bin_edge",
    "layer",
)
# Columns of KEY that most numbers have no use for.
DETAILS = ("checkpoint", *KEY[KEY.index("judge") :])
NUMBERS = ("count", "of", "value", "low", "high")


@dataclass(frozen=True)
class Number:
    """A pooled number with the columns of KEY; `paper` is the paper's value, as a share."""

    metric: str
    group: str
    stage: str
    checkpoint: int | None
    decoder: str
    suite: str
    judge: str | None
    form: str | None
    row: str | None
    condition: str | None
    words: int | None
    bin_edge: float | None
    layer: int | None
    rate: Rate
    paper: float | None = None


@dataclass(frozen=True)
class Measured:
    """Every number of the build, pooled over the seeds of each group.

    Args:
        frame: the measurements of single models with the columns of KEY; `first_judge` keeps the
            judge that KEY leaves out.
        keys: the columns of KEY of pooled numbers, in the order of params.yaml.
        rates: these numbers, by key.
    """

    frame: pl.DataFrame
    keys: pl.DataFrame
    rates: Mapping[tuple[Any, ...], Rate]

    def select(self, **columns: Any) -> list[Number]:
        """Filter pooled numbers by the columns of KEY.

        A list matches any of its values, an ellipsis everything. Columns of DETAILS that are not
        given must be null; the others match everything.
        """
        given = dict.fromkeys(DETAILS) | columns
        where = [_matches(name, value) for name, value in given.items() if value is not ...]
        keys = self.keys.filter(*where).iter_rows()
        return [Number(rate=self.rates[key], **dict(zip(KEY, key, strict=True))) for key in keys]

    def values(self, column: str, **columns: Any) -> list[Any]:
        """Return the values of a column among selected numbers, in their order, without nulls."""
        values = (getattr(number, column) for number in self.select(**columns))
        return [value for value in dict.fromkeys(values) if value is not None]

    def rate(self, metric: str, group: Group | str | None, stage: str, **key: Any) -> Rate | None:
        """Look up a number by the columns of KEY; None where it was not measured."""
        if group is None:
            return None
        key |= {"metric": metric, "stage": stage}
        key["group"] = group if isinstance(group, str) else group.name
        number = self.rates.get(tuple(key.get(name) for name in KEY))
        return number if number and number.value is not None else None

    def answers(
        self, metric: str, suite: str, group: Group | None, stage: str, decoder: str | None
    ) -> Rate | None:
        """Look up a rate of answers to a suite; None without a decoder."""
        if decoder is None:
            return None
        return self.rate(metric, group, stage, decoder=decoder, suite=suite)

    def asr(self, group: Group | None, stage: str, decoder: str | None) -> Rate | None:
        """Look up attack success on the suite `harmful`."""
        return self.answers("asr", "harmful", group, stage, decoder)

    def complied(self, group: Group | None, stage: str, decoder: str | None) -> Rate | None:
        """Look up benign compliance: the harmless requests that were answered helpfully."""
        return self.answers("complied", "benign", group, stage, decoder)

    def over_refusal(self, group: Group | None, stage: str, decoder: str | None) -> Rate | None:
        """Look up the harmless requests that were declined, in part or wholly."""
        return self.answers("over_refusal", "benign", group, stage, decoder)

    def accuracy(self, group: Group | str | None, stage: str) -> Rate | None:
        """Look up accuracy on the multiple-choice suite of the embedded world."""
        return self.rate("accuracy", group, stage, suite=self.utility_suite)

    @cached_property
    def utility_suite(self) -> str | None:
        """The utility suite of the embedded world: tasks of the harness measure `acc`."""
        return next(iter(self.values("suite", metric="accuracy")), None)

    def stages(self, group: Group | None = None) -> list[str]:
        """Return the stages that were evaluated, of one group or of any."""
        evaluated = self.values("stage", group=group.name if group else ...)
        return [stage for stage in STAGES if stage in evaluated]


def _matches(column: str, value: Any) -> pl.Expr:
    if isinstance(value, list):
        return pl.col(column).is_in(value)
    return pl.col(column).eq_missing(pl.lit(value))


def pool(
    measurements: pl.DataFrame,
    names: Mapping[str, str],
    decoders: Iterable[str],
    confidence: float,
) -> Measured:
    """Pool measurements over models of one name; models without a name are left out.

    Args:
        measurements: rows of MEASUREMENTS (specs/document.py).
        names: the group of each model, in the order of params.yaml.
        decoders: in the order of params.yaml.
        confidence: of the intervals of counts, such as 0.95.
    """
    group = pl.col("model").replace_strict(names, default=None, return_dtype=pl.String)
    # Seeds may differ in their best layer: its area is pooled all the same, its number averaged.
    layer = pl.when(pl.col("metric") == "probe_auroc").then(pl.col("layer"))
    other_judge = pl.when(pl.col("is_first_judge").not_()).then(pl.col("judge"))
    frame = pl.concat([measurements, _best_layers(measurements)])
    frame = frame.with_columns(group=group, first_judge="judge", judge=other_judge, layer=layer)
    frame = frame.drop_nulls("group")
    orders = {"group": list(names.values()), "stage": list(STAGES), "decoder": list(decoders)}
    frame = frame.sort([_position(*order) for order in orders.items()], maintain_order=True)
    pooled_rows = frame.group_by(KEY, maintain_order=True).agg(NUMBERS)
    rates = [_rate(row, confidence) for row in pooled_rows.select(NUMBERS).iter_rows(named=True)]
    keys = pooled_rows.select(KEY)
    return Measured(frame, keys, dict(zip(keys.iter_rows(), rates, strict=True)))


def _best_layers(measurements: pl.DataFrame) -> pl.DataFrame:
    """Turn the layer of each best probe into a number of its own."""
    best = measurements.filter(metric="probe_auroc_best")
    nothing = pl.lit(None, pl.Int64)
    return best.with_columns(
        metric=pl.lit(BEST_LAYER),
        value=pl.col("layer").cast(pl.Float64),
        count=nothing,
        of=nothing,
        low=nothing.cast(pl.Float64),
        high=nothing.cast(pl.Float64),
    )


def _position(column: str, order: Sequence[str]) -> pl.Expr:
    # Reversed, so that the first of several equal values gives the position.
    positions = {value: index for index, value in reversed(list(enumerate(order)))}
    return pl.col(column).replace_strict(positions, default=None, return_dtype=pl.Int64)


def _rate(row: Mapping[str, Sequence[Any]], confidence: float) -> Rate:
    """Pool the numbers of several seeds: counts, areas with their interval, or plain numbers."""
    seeds = list(zip(*(row[name] for name in NUMBERS), strict=True))
    # Only areas under a curve bring an interval of their own.
    areas = [seed for seed in seeds if seed[3] is not None]
    if areas:
        value, low, high = averaged([seed[2:] for seed in areas], confidence)
        unsafe, pages, *_ = zip(*areas, strict=True)
        return Rate(sum(unsafe), sum(pages), value, low, high)
    counts = [seed[:2] for seed in seeds if seed[1] is not None]
    if counts:
        return pooled(counts, confidence)
    numbers = [seed[0] if seed[2] is None else seed[2] for seed in seeds]
    known = [number for number in numbers if number is not None]
    return Rate(0, 0, mean(known), None, None)
