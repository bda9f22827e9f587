"""The evaluation of one model at one stage, as `evaluate` calls it: what is asked, by key, and what is made of it."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safelm.artifact import Piece, artifact
from safelm.demo.prompts import SPECS as DEMO
from safelm.evaluation.asking import ask, solve, usefulness
from safelm.evaluation.judges import Tables
from safelm.evaluation.model import PROBE, UTILITY, Suites, evaluate, piece_name, stocks_of
from safelm.evaluation.probe import probe
from safelm.evaluation.prompt_files import PromptFileError
from safelm.evaluation.suites import CHAT_STAGES, Stock
from safelm.paths import build
from safelm.trained import DOSES, knows_tag
from specs.decoder import Decoder
from specs.engine import Engine
from specs.judge import JudgeRow, LlmJudge, ScorerJudge
from specs.scorer import ScorerRow
from specs.suite import AnySuite, DemoSuite, FileSuite, HarnessSuite
from specs.verdict import VERDICTS


def evaluate_model(
    folder: str,
    *,
    base: Path,
    model: str,
    stage: str,
    suites: Suites,
    decoders: Mapping[str, Decoder],
    doses: Collection[str],
    tagged_only: Collection[str],
    judges: Mapping[str, JudgeRow],
    scorers: Mapping[str, ScorerRow],
    engines: Mapping[str, Engine],
    reads: Sequence[Path],
    prompts: int,
    tokens: int,
    batch: int,
    seed: int,
) -> None:
    """Build build/<folder>. Only what no earlier run has asked of this very model is asked.

    Decoders of `tagged_only` are left out for a model that does not know the tag. SafeBeam is not among them by need:
    where the tag was never read, what it does is a control. What finetuning kept on its way is asked with the decoders
    of `doses`.
    """
    stocks = stocks_of(suites, stage=stage, limit=prompts, seed=seed)
    tagged = knows_tag(base)
    chosen = {name: row for name, row in decoders.items() if tagged or name not in tagged_only}
    few = [name for name in chosen if name in doses]
    kept = sorted((base / DOSES).glob("*"), key=lambda path: int(path.name)) if few else []
    asked = {"": (base, list(chosen)), **{path.name: (path, few) for path in kept}}
    pieces = {
        piece_name(decoder, suite, dose): _asked(
            place, stage, suites[suite], found, chosen[decoder], tokens, batch, seed
        )
        for dose, (place, names) in asked.items()
        for decoder in names
        for suite, found in stocks.items()
    }
    pieces |= {
        f"{UTILITY}/{name}": _measured(name, base, suite, prompts, batch, seed)
        for name, suite in suites.items()
        if suite.kind == "utility"
    }
    pieces |= {
        f"{PROBE}/{name}": Piece(probe, {"model": base, "demo": DEMO, "batch": batch, "seed": seed})
        for name, suite in suites.items()
        if isinstance(suite, DemoSuite) and suite.kind == "utility"
    }
    wanted = {name: judges[name] for suite in stocks for name in suites[suite].judges}
    artifact(
        folder,
        evaluate,
        reads=[*reads, *judge_files(wanted)],
        pieces=pieces,
        model=base,
        name=model,
        stage=stage,
        suites=dict(suites),
        decoders=list(chosen),
        doses={path.name: few for path in kept},
        judges=wanted,
        tables=tables_of(wanted, scorers, engines, f"{model}-{stage}"),
        prompts=prompts,
        seed=seed,
    )


def _asked(
    model: Path,
    stage: str,
    suite: AnySuite,
    found: Stock,
    decoder: Decoder,
    tokens: int,
    batch: int,
    seed: int,
) -> Piece:
    """The replies to one suite with one decoder. Neither's name is in their key, only what they stand for."""
    continues = isinstance(suite, FileSuite) and suite.asked_as == "beginning"
    prompts = [(question.id, question.text) for question in found.asked]
    values = {"chat": stage in CHAT_STAGES and not continues, "prompts": prompts, "decoder": decoder}
    return Piece(ask, {"model": model, **values, "tokens": tokens, "batch": batch, "seed": seed})


def _measured(name: str, model: Path, suite: AnySuite, limit: int, batch: int, seed: int) -> Piece:
    """What a model knows beside safety, by one suite."""
    values = {"model": model, "suite": suite, "limit": limit, "batch": batch, "seed": seed}
    if isinstance(suite, HarnessSuite):
        if mistake := suite.mistake():
            raise PromptFileError(f"specs/suites/{name}.yaml {mistake[0]}: {mistake[1]}")
        return Piece(solve, {**values, "files": [Path(file) for file in (suite.path, suite.shots) if file]})
    return Piece(usefulness, {**values, "demo": DEMO})


def tables_of(
    judges: Mapping[str, JudgeRow], scorers: Mapping[str, ScorerRow], engines: Mapping[str, Engine], answers: str
) -> Tables:
    """The rows that these judges name, and no others: a key must not know of more."""
    scored = {row.scorer for row in judges.values() if isinstance(row, ScorerJudge)}
    asked = {row.engine for row in judges.values() if isinstance(row, LlmJudge)}
    return Tables(
        {name: scorers[name] for name in sorted(scored)}, {name: engines[name] for name in sorted(asked)}, answers
    )


def judge_files(judges: Mapping[str, JudgeRow]) -> list[Path]:
    """What judges read: the model of a scorer, the words of a language model's prompt."""
    fitted = [build("fit", row.scorer) for row in judges.values() if isinstance(row, ScorerJudge)]
    return fitted + [VERDICTS / f"{row.prompt}.yaml" for row in judges.values() if isinstance(row, LlmJudge)]
