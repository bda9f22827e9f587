"""What `evaluate`, `compare`, `relearn` and `attack` ask every model alike."""

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
        tagged_only=dials.tagged_only,
        judges=dials.judges,
        scorers=tables.scorers,
        engines=tables.engines,
        reads=[SPECS / "demo", SPECS / "hazards.yaml"],
        prompts=dials.prompts,
        tokens=dials.tokens,
        batch=dials.batch,
        seed=dials.seed,
    )
