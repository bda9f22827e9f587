"""Checks of `comparisons`: every model that it names is a row of `models`."""

from collections.abc import Iterator

from specs.messages import Finding, Location, unknown_row
from specs.params import Params


def check_comparisons(params: Params) -> Iterator[Finding]:
    """Yield the models that are no rows."""
    for at, model in _named_models(params):
        if model not in params.models:
            yield ("comparisons", *at), unknown_row("models", model, params.models)


def _named_models(params: Params) -> Iterator[tuple[Location, str]]:
    comparisons = params.comparisons
    for role in ("standard", "filtered", "safe"):
        if model := getattr(comparisons, role):
            yield (role,), model
    for step, model in comparisons.ablation.items():
        yield ("ablation", step), model
    for table in ("amounts", "starts"):
        for name, series in getattr(comparisons, table).items():
            yield from (((table, name), model) for model in series.values())
