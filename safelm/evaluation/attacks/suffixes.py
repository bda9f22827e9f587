"""The attacks of the table on our models, as the stage `attack` calls them: what is sought and
asked, by key.
"""

from collections.abc import Mapping
from typing import Any

from safelm.builder.artifact import Part, artifact
from safelm.builder.paths import build
from safelm.demo.prompts import write_steps
from safelm.evaluation.attacks.suffix_completions import CONDITIONS, ask_attacked, attack
from safelm.evaluation.attacks.suffix_results import Attacked, measure, replies_name, suffix_name
from safelm.evaluation.prompts import Question, in_chat, questions
from safelm.evaluation.protocol import Asked
from specs.attacks import Attack
from specs.decoder import Decoder
from specs.suite import AnySuite


def attack_models(
    folder: str, *, attacks: Mapping[str, Attack], confidence: float, asked: Asked
) -> None:
    """Build build/<folder>. Only what no earlier run has sought or asked of these very models is
    sought and asked.

    An attack takes the first of the prompts of `evaluate`: they were asked without a suffix too.
    """
    sizes = {"tokens": asked.tokens, "batch": asked.batch, "seed": asked.seed}
    pieces: dict[str, Part] = {}
    attacked = []
    for name, row in attacks.items():
        for model, stage in ((model, stage) for model in row.models for stage in row.stages):
            base, suite = build(stage, model), asked.suites[row.suite]
            limit, chosen = (
                min(asked.prompts, row.max_prompts),
                asked.decoders_of(base, row.decoders),
            )
            first = questions(row.suite, suite, stage=stage, limit=limit, seed=asked.seed)
            found = Attacked(name, row, model, stage, tuple(first), tuple(chosen))
            pieces |= _pieces(
                found, suite, chosen, {"model": base, "chat": in_chat(suite, stage)}, sizes
            )
            attacked.append(found)
    used = {one.row.suite: asked.suites[one.row.suite] for one in attacked}
    artifact(
        folder,
        measure,
        pieces=pieces,
        attacked=attacked,
        suites=used,
        confidence=confidence,
        **asked.judging(used, folder),
    )


def _pieces(
    found: Attacked,
    suite: AnySuite,
    decoders: Mapping[str, Decoder],
    model: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> dict[str, Part]:
    """A suffix for each prompt, and the replies to all of them under each condition and decoder."""
    row = found.row
    dials = {
        "tokens": row.suffix_tokens,
        "top": row.top_k,
        **row.model_dump(include={"steps", "candidates", "tag_weight", "seed"}),
    }
    suffixes = {
        suffix_name(found, place): Part(
            attack,
            {
                **model,
                "id": question.id,
                "text": question.text,
                "target": target(row, suite, question),
                "new_tokens": sizes["tokens"],
                **dials,
            },
        )
        for place, question in enumerate(found.asked)
    }
    replies = {
        replies_name(found, decoder, condition): Part(
            ask_attacked,
            {
                **model,
                "suffixes": list(suffixes.values()),
                "condition": condition,
                "decoder": dials_of,
                **sizes,
            },
        )
        for decoder, dials_of in decoders.items()
        for condition in CONDITIONS
    }
    return suffixes | replies


def target(row: Attack, suite: AnySuite, question: Question) -> str:
    """How the answer to a question is to begin."""
    if row.target is not None:
        return row.target
    if question.prompt is None:
        raise ValueError(
            f"suite {row.suite}: knows no answer to its prompts; write attacks.….target: Sure, here is"
        )
    return write_steps(question.prompt, str(suite.path))
