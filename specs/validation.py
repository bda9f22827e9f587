"""Validation of params.yaml and of every shape, suite and prompt that it names.

It takes less than a second, and runs before a build spends any time.
"""

import json
from itertools import chain
from pathlib import Path

from specs import SPECS
from specs.checks.corpora import (
    check_corpora,
    check_dialogues,
    check_rewriting,
    check_selections,
    check_sources,
    check_tokenizer,
)
from specs.checks.evaluation import check_evaluation
from specs.checks.files import check_card, check_files
from specs.checks.filters import check_filters, check_usage
from specs.checks.mixtures import check_mixtures, check_models
from specs.checks.needs import check_addresses, check_needs
from specs.checks.references import check_references
from specs.checks.scorers import check_scorers
from specs.checks.start import check_start
from specs.checks.validity import check_validity
from specs.messages import Findings
from specs.params import PARAMS, Params
from specs.yaml_source import Problems, SpecError, YamlFile, check

SCHEMA = SPECS / "params.schema.json"


# In any order, because what they find is sorted by the lines of the file.
CHECKS = (
    check_references,
    check_scorers,
    check_rewriting,
    check_selections,
    check_corpora,
    check_mixtures,
    check_models,
    check_start,
    check_dialogues,
    check_tokenizer,
    check_evaluation,
    check_sources,
    check_filters,
    check_usage,
    check_card,
    check_validity,
)


def mistakes(params: Params) -> Findings:
    """Yield every contradiction between rows as (location, message)."""
    for check_rows in CHECKS:
        yield from check_rows(params)


def findings(params: Params) -> Findings:
    """Yield every contradiction between rows, and everything that a build needs and lacks."""
    yield from mistakes(params)
    yield from check_needs(params)


def read(path: Path = PARAMS, *, with_addresses: bool = False) -> Params:
    """Read params.yaml and check it as a whole. Raises SpecError."""
    file = YamlFile(path)
    params = check(Params, file)
    found = chain(findings(params), check_addresses(params) if with_addresses else ())
    file.refuse(file.problems(found))
    return params


def schema() -> str:
    """Return the JSON schema of params.yaml."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=1, ensure_ascii=False) + "\n"


def problems(path: Path = PARAMS, *, with_addresses: bool = False) -> Problems:
    """List everything that is wrong with params.yaml and the files beside it.

    With `with_addresses` also the servers without an address, which a build may not need.
    """
    found: Problems = []
    for step in (check_files, lambda: read(path, with_addresses=with_addresses)):
        try:
            step()
        except SpecError as error:
            found += error.problems
    # Both steps read the files that params.yaml names.
    return list(dict.fromkeys(found))
