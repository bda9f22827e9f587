"""All checks of params.yaml that no single row can make: that the rows fit each other."""

from collections.abc import Iterator

from specs.checks.comparisons import check_comparisons
from specs.checks.corpora import (
    check_corpora,
    check_dialogues,
    check_rewriting,
    check_sources,
    check_tags,
    check_tokenizer,
)
from specs.checks.evaluation import check_evaluation
from specs.checks.files import check_named_files
from specs.checks.mixtures import check_mixtures, check_models
from specs.checks.scorers import check_scorers
from specs.messages import Finding
from specs.params import Params


def findings(params: Params) -> Iterator[Finding]:
    """Yield every contradiction between rows, as (location, message)."""
    yield from check_scorers(params)
    yield from check_rewriting(params)
    yield from check_tags(params)
    yield from check_corpora(params)
    yield from check_mixtures(params)
    yield from check_models(params)
    yield from check_dialogues(params)
    yield from check_tokenizer(params.tokenizer)
    yield from check_evaluation(params)
    yield from check_comparisons(params)
    yield from check_sources(params)
    yield from check_named_files(params)
