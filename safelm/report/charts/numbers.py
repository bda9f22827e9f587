"""How numbers are written for people."""

from safelm.stats.differences import Difference
from safelm.stats.rates import Rate

THIN = "\u202f"  # a narrow space that does not break
NONE = "–"


def percent(value: float | None) -> str:
    """`52.6 %`, or a dash."""
    return NONE if value is None else f"{value * 100 + 0.0:.1f}{THIN}%"


def whole(share: float) -> str:
    """`95 %`."""
    return f"{share * 100:g}{THIN}%"


def interval(rate: Rate) -> str:
    """`[45.6, 59.5]`, in percent."""
    return (
        ""
        if rate.low is None or rate.high is None
        else f"[{rate.low * 100:.1f}, {rate.high * 100:.1f}]"
    )


def rate_text(rate: Rate | None) -> str:
    """`52.6 % [45.6, 59.5], 101 of 192`."""
    if rate is None or rate.value is None:
        return "not measured"
    return f"{percent(rate.value)} {interval(rate)}, {rate.count:,} of {rate.of:,}"


def points(gap: Difference) -> tuple[str, str]:
    """`−46.4 points` and `[−53.0, −39.1]`: a difference of two percentages, and its interval."""
    return points_between(gap.value, gap.low, gap.high)


def points_between(value: float, low: float, high: float) -> tuple[str, str]:
    """The same of a difference and its two bounds, as shares of 1."""
    return f"{_signed(value)} points", f"[{_signed(low)}, {_signed(high)}]"


def per_million(rate: Rate) -> str:
    """`36.2 per million`."""
    return NONE if rate.value is None else f"{rate.value * 1e6:,.1f} per million"


def per_million_gap(gap: Difference) -> str:
    """`−15.8 per million [−17.0, −14.6]`."""
    value, low, high = (
        f"{share * 1e6 + 0.0:+,.1f}".replace("-", "−") for share in (gap.value, gap.low, gap.high)
    )
    return f"{value} per million [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value * 100 + 0.0:+.1f}".replace("-", "−")


def plain(name: str) -> str:
    """`score_0` as people write it: score 0."""
    return name.replace("_", " ")


def amount(value: float) -> str:
    """`450k`, `1.2M`: a large number on an axis."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
