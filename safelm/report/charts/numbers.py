"""Numbers and names as readers see them."""

from safelm.stats.rates import Rate

THIN = "\u202f"  # a narrow space that does not break
NONE = "–"
UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "k"))


def percent(value: float | None) -> str:
    """Format a share: `52.6 %`, or a dash for None."""
    if value is None:
        return NONE
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{value * 100 + 0.0:.1f}{THIN}%"


def short_percent(share: float) -> str:
    """Format a share without trailing zeros: `95 %`."""
    return f"{share * 100:g}{THIN}%"


def interval(rate: Rate) -> str:
    """Format the interval of a rate in percent: `[45.6, 59.5]`."""
    if rate.low is None or rate.high is None:
        return ""
    return f"[{rate.low * 100:.1f}, {rate.high * 100:.1f}]"


def rate_text(rate: Rate | None) -> str:
    """Format a rate in full: `52.6 % [45.6, 59.5], 101 of 192`."""
    if rate is None or rate.value is None:
        return "not measured"
    return f"{percent(rate.value)} {interval(rate)}, {rate.count:,} of {rate.of:,}"


def points(
    value: float, low: float, high: float, factor: float = 100.0, unit: str = "points"
) -> tuple[str, str]:
    """Format a difference of two rates and its interval: `−46.4 points`, `[−53.0, −39.1]`."""
    shown = [f"{share * factor + 0.0:+,.1f}".replace("-", "−") for share in (value, low, high)]
    return f"{shown[0]} {unit}", f"[{shown[1]}, {shown[2]}]"


def readable(name: str) -> str:
    """Write the name of a row as people do: `score_0` becomes score 0."""
    return name.replace("_", " ")


def short_number(value: float) -> str:
    """Format a large number for an axis: `450k`, `1.2M`."""
    for size, letter in UNITS:
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
