"""Checks of the filters of sources, and of sources that no model may be trained on."""

from specs.checks.references import TUNING, row_of
from specs.corpus import Corpus, Educate, Selection
from specs.messages import Findings
from specs.params import Params
from specs.spec import values_at
from specs.suite import Suite
from specs.yaml_source import SpecError


def check_filters(params: Params) -> Findings:
    """Check that sources name a filter once, and that filters name suites of prompts."""
    for source, row in params.sources.items():
        for index, name in enumerate(row.filters):
            if name in params.filters and name in row.filters[:index]:
                yield (
                    ("sources", source, "filters", index),
                    f"must name a filter once (got {name} twice); leave one out",
                )
    for at, suite in values_at(params, "filters.*.suites.*"):
        if is_utility(suite):
            yield (
                at,
                f"must be a suite of prompts (got {suite}, of kind utility: its questions are "
                "written by lm-evaluation-harness); leave it out",
            )


def is_utility(suite: str) -> bool:
    """Return whether a suite is of kind utility; a faulty or missing one is reported elsewhere."""
    try:
        return Suite.read(suite).kind == "utility"
    except SpecError:
        return False


def check_usage(params: Params) -> Findings:
    """Refuse models that are trained on a source of `usage: evaluation_only`."""
    barred = {name for name, source in params.sources.items() if source.usage == "evaluation_only"}
    corpora = {
        name for name, corpus in params.corpora.items() if source_of(params, corpus.from_) in barred
    }
    for at, _ in values_at(params, "mixtures.*.phases.*.parts.*"):
        part = str(at[-1])
        if part in corpora:
            yield (
                at,
                f"must not be read by a mixture: its source "
                f"{source_of(params, params.corpora[part].from_)} has usage: evaluation_only; "
                "leave the part out",
            )
    for at, source in values_at(params, *TUNING):
        if source in barred:
            yield at, f"must not be {source}, which has usage: evaluation_only; name another source"


def source_of(params: Params, path: str) -> str | None:
    """Return the source whose pages lie in build/<path>, raw, tagged or rewritten.

    None for a row that is not there, which another check reports.
    """
    origin, _, name = path.partition("/")
    if origin == "clean":
        return name
    row = row_of(params, path)
    if isinstance(row, Educate):
        return source_of(params, f"refuse/{row.from_}")
    return row.from_ if isinstance(row, Selection) else None


def corpora_of(params: Params, model: str) -> list[Corpus]:
    """List the corpora that a model reads; one that is missing is reported by another check."""
    mixture = params.mixtures.get(params.models[model].mixture)
    names = mixture.corpora if mixture else []
    return [params.corpora[name] for name in names if name in params.corpora]
