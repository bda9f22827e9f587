"""What `evaluate` and `compare` ask every model alike."""

from typing import Any

from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def asked(tables: Params) -> dict[str, Any]:
    """Suites, judges and sizes, as evaluate_model takes them; which model and which decoders is the stage's own."""
    dials = tables.evaluate
    return {
        "reads": [SPECS / "demo", SPECS / "hazards.yaml"],
        "suites": {name: Suite.read(name) for name in dials.suites},
        "judges": dials.judges,
        "scorers": tables.scorers,
        "engines": tables.engines,
        "prompts": dials.prompts,
        "tokens": dials.tokens,
        "batch": dials.batch,
        "seed": dials.seed,
    }
