"""The attacks of the table on our models, as the stage `attack` calls them: what is sought and asked, by key."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from safelm.artifact import Piece, artifact
from safelm.attack.asking import CONDITIONS, ask_attacked, attack
from safelm.attack.measure import Attacked, measure, replies_name, suffix_name
from safelm.demo.prompts import steps
from safelm.evaluation.model import Suites
from safelm.evaluation.stage import judge_files, tables_of
from safelm.evaluation.suites import CHAT_STAGES, Question, questions
from safelm.paths import build
from safelm.trained import knows_tag
from specs.attack import Attack
from specs.decoder import Decoder
from specs.engine import Engine
from specs.judge import JudgeRow
from specs.scorer import ScorerRow
from specs.suite import AnySuite, FileSuite


def attack_models(
    folder: str,
    *,
    attacks: Mapping[str, Attack],
    suites: Suites,
    decoders: Mapping[str, Decoder],
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
    """Build build/<folder>. Only what no earlier run has sought or asked of these very models is sought and asked.

    `prompts` and `seed` are those of `evaluate`, whose prompts an attack takes the first of: they were asked without a
    suffix too. Decoders of `tagged_only` are left out for a model that does not know the tag.
    """
    pieces: dict[str, Piece] = {}
    attacked = []
    for name, row in attacks.items():
        for model, stage in ((model, stage) for model in row.models for stage in row.stages):
            base, suite = build(stage, model), suites[row.suite]
            asked = questions(row.suite, suite, stage=stage, limit=min(prompts, row.prompts), seed=seed)
            left_out = () if knows_tag(base) else tagged_only
            chosen = {decoder: decoders[decoder] for decoder in row.decoders if decoder not in left_out}
            found = Attacked(name, row, model, stage, tuple(asked), tuple(chosen))
            chat = stage in CHAT_STAGES and not (isinstance(suite, FileSuite) and suite.asked_as == "beginning")
            pieces |= _pieces(found, suite, chosen, model=base, chat=chat, tokens=tokens, batch=batch, seed=seed)
            attacked.append(found)
    used = {one.row.suite: suites[one.row.suite] for one in attacked}
    wanted = {name: judges[name] for suite in used.values() for name in suite.judges}
    artifact(
        folder,
        measure,
        reads=[*reads, *judge_files(wanted)],
        pieces=pieces,
        attacked=attacked,
        suites=used,
        judges=wanted,
        tables=tables_of(wanted, scorers, engines, folder),
    )


def _pieces(
    found: Attacked,
    suite: AnySuite,
    decoders: Mapping[str, Decoder],
    *,
    model: Path,
    chat: bool,
    tokens: int,
    batch: int,
    seed: int,
) -> dict[str, Piece]:
    """A suffix for each prompt, and the replies to all of them under each condition and decoder."""
    row = found.row
    dials = row.model_dump(include={"tokens", "steps", "candidates", "top", "tag_weight", "seed"})
    asked = {"model": model, "chat": chat}
    suffixes = {
        suffix_name(found, place): Piece(
            attack,
            {**asked, "id": question.id, "text": question.text, "target": target(row, suite, question),
             "new_tokens": tokens, **dials},
        )
        for place, question in enumerate(found.asked)
    }  # fmt: skip
    replies = {
        replies_name(found, decoder, condition): Piece(
            ask_attacked,
            {**asked, "suffixes": list(suffixes.values()), "condition": condition, "decoder": dials_of,
             "tokens": tokens, "batch": batch, "seed": seed},
        )
        for decoder, dials_of in decoders.items()
        for condition in CONDITIONS
    }  # fmt: skip
    return suffixes | replies


def target(row: Attack, suite: AnySuite, question: Question) -> str:
    """How the answer to a question is to begin."""
    if row.target is not None:
        return row.target
    if question.prompt is None:
        raise ValueError(f"suite {row.suite}: knows no answer to its prompts; write attacks.….target: Sure, here is")
    return steps(question.prompt, str(suite.path))
