"""The evaluation of one model at one stage, as `evaluate` calls it: what is asked, by key, and what
is made of it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from safelm.builder.artifact import Part, artifact
from safelm.demo.prompts import DEMO as DEMO
from safelm.evaluation.completions import ask, solve, usefulness
from safelm.evaluation.probes.linear import probe
from safelm.evaluation.prompt_files import PromptFileError
from safelm.evaluation.prompts import Stock, in_chat
from safelm.evaluation.protocol import Asked
from safelm.evaluation.results import PROBE, UTILITY, evaluate, piece_name, stocks_of
from safelm.models.metadata import CHECKPOINTS
from specs.decoder import Decoder
from specs.suite import AnySuite, DemoSuite, HarnessSuite


def evaluate_model(
    folder: str,
    *,
    base: Path,
    model: str,
    stage: str,
    doses: Collection[str],
    asked: Asked,
) -> None:
    """Build build/<folder>. Only what no earlier run has asked of this very model is asked.

    What finetuning kept on its way is asked with the decoders of `doses`.
    """
    suites, sizes = asked.suites, {"batch": asked.batch, "seed": asked.seed}
    stocks = stocks_of(suites, stage=stage, limit=asked.prompts, seed=asked.seed)
    chosen = asked.decoders_of(base, asked.decoders)
    few = [name for name in chosen if name in doses]
    kept = sorted((base / CHECKPOINTS).glob("*"), key=lambda path: int(path.name)) if few else []
    models = {"": (base, list(chosen)), **{path.name: (path, few) for path in kept}}
    pieces = {
        piece_name(decoder, suite, dose): _replies(
            place, stage, suites[suite], found, chosen[decoder], {**sizes, "tokens": asked.tokens}
        )
        for dose, (place, names) in models.items()
        for decoder in names
        for suite, found in stocks.items()
    }
    pieces |= {
        f"{UTILITY}/{name}": _measured(name, base, suite, {**sizes, "limit": asked.prompts})
        for name, suite in suites.items()
        if suite.kind == "utility"
    }
    pieces |= {
        f"{PROBE}/{name}": Part(probe, {"model": base, "demo": DEMO, **sizes})
        for name, suite in suites.items()
        if isinstance(suite, DemoSuite) and suite.kind == "utility"
    }
    artifact(
        folder,
        evaluate,
        pieces=pieces,
        model=base,
        name=model,
        stage=stage,
        suites=dict(suites),
        decoders=list(chosen),
        doses={path.name: few for path in kept},
        prompts=asked.prompts,
        seed=asked.seed,
        **asked.judging(stocks, f"{model}-{stage}"),
    )


def _replies(
    model: Path,
    stage: str,
    suite: AnySuite,
    found: Stock,
    decoder: Decoder,
    sizes: Mapping[str, int],
) -> Part:
    """The replies to one suite with one decoder. Neither's name is in their key, only what they
    stand for.
    """
    prompts = [(question.id, question.text) for question in found.asked]
    values = {"chat": in_chat(suite, stage), "prompts": prompts, "decoder": decoder}
    return Part(ask, {"model": model, **values, **sizes})


def _measured(name: str, model: Path, suite: AnySuite, sizes: Mapping[str, int]) -> Part:
    """What a model knows beside safety, by one suite."""
    values = {"model": model, "suite": suite, **sizes}
    if isinstance(suite, HarnessSuite):
        if mistake := suite.mistake():
            raise PromptFileError(f"specs/suites/{name}.yaml {mistake[0]}: {mistake[1]}")
        return Part(
            solve, {**values, "files": [Path(file) for file in (suite.path, suite.shots) if file]}
        )
    return Part(usefulness, {**values, "demo": DEMO})
