"""The evaluation of one model at one stage, as `evaluate` calls it.

What measures is imported when there is something to measure, for importing it takes longer than most stages.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from specs.decoder import Decoder as Dials
from specs.suite import Suite


def evaluate_model(
    folder: Path,
    *,
    base: Path,
    model: str,
    stage: str,
    suites: Mapping[str, Suite],
    decoders: Mapping[str, Dials],
    tagged_only: Collection[str],
    prompts: int,
    tokens: int,
    batch: int,
    seed: int,
) -> list[str]:
    """Ask every suite with every decoder; what the stage prints."""
    from safelm.decoding import Decoder
    from safelm.evaluation.model import evaluate, table

    metrics = evaluate(
        base,
        folder,
        name=model,
        stage=stage,
        suites=suites,
        decoders={name: Decoder(**dials.model_dump(), seed=seed) for name, dials in decoders.items()},
        tagged_only=tagged_only,
        prompts=prompts,
        tokens=tokens,
        batch=batch,
        seed=seed,
    )
    return [f"evaluate/{model}-{stage}", *table(metrics)]
