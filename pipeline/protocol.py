"""The evaluation protocol of params.yaml, common to evaluate, compare, relearn and attack."""

import pipeline.offline  # noqa: F401  (before transformers)
from safelm.evaluation.protocol import EvaluationProtocol
from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def evaluation_protocol(params: Params) -> EvaluationProtocol:
    """Read the suites that the block `evaluate` names, and put them with its other settings."""
    block = params.evaluate
    return EvaluationProtocol(
        suites={name: Suite.read(name) for name in block.suites},
        decoders=block.decoders,
        checkpoint_decoders=block.checkpoint_decoders,
        tagged_models_only=block.tagged_models_only,
        calibration=block.calibration,
        judges=block.judges,
        scorers=params.scorers,
        engines=params.engines,
        # Suites of the made-up world read these files, although no row names them.
        files=[SPECS / "demo", SPECS / "hazards.yaml"],
        max_prompts=block.max_prompts,
        max_new_tokens=block.max_new_tokens,
        batch_size=block.batch_size,
        seed=block.seed,
    )
