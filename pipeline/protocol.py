"""What `evaluate`, `compare`, `relearn` and `attack` ask every model alike."""

import pipeline.offline  # noqa: F401  (before transformers)
from safelm.evaluation.protocol import Asked
from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def asked(tables: Params) -> Asked:
    """The block `evaluate` of params.yaml, with its suites read."""
    dials = tables.evaluate
    return Asked(
        suites={name: Suite.read(name) for name in dials.suites},
        decoders=dials.decoders,
        tagged_only=dials.tagged_models_only,
        judges=dials.judges,
        scorers=tables.scorers,
        engines=tables.engines,
        reads=[SPECS / "demo", SPECS / "hazards.yaml"],
        prompts=dials.max_prompts,
        tokens=dials.max_new_tokens,
        batch=dials.batch_size,
        seed=dials.seed,
    )
