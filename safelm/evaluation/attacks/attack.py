"""Attacks on harmful prompts, measured beside their controls (the stage `attack`)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from safelm.builder.artifact import Part, artifact
from safelm.builder.paths import build
from safelm.builder.shards import Shard, write_table
from safelm.demo.prompts import write_steps
from safelm.evaluation.attacks.attempts import Attempt, write_attempts
from safelm.evaluation.attacks.suffixes import write_suffixes
from safelm.evaluation.measurements import (
    MEASUREMENTS_FILE,
    Measurement,
    number,
    write_measurements,
)
from safelm.evaluation.metrics import (
    completions_of,
    judge_completions,
    suite_rates,
    worst_of,
)
from safelm.evaluation.prompts import PromptSet, SuitePrompt, prompt_set
from safelm.evaluation.protocol import EvaluationProtocol
from safelm.evaluation.summary import rate_table
from safelm.stats.rates import mean
from specs.attacks import Abliteration, Attack, AttackRow, Suffix, TargetedAttack
from specs.document import ATTACKED
from specs.suite import AnySuite

# Columns of ATTEMPTS whose means over prompts are measured.
NUMBERS = ("target_opening", "target_log_likelihood", "target_tag_probability", "kl")


class AttackedModel(NamedTuple):
    """One attack on one model at one stage, with its prompts.

    `columns` name it in MEASUREMENTS; `completions` are the paths of its parts by decoder.
    """

    columns: dict[str, Any]
    suite: str
    prompts: PromptSet
    completions: dict[str, str]


def attack_models(
    folder: str,
    *,
    attacks: Mapping[str, AttackRow],
    protocol: EvaluationProtocol,
) -> None:
    """Build build/<folder>: answers.parquet, measurements.parquet and the parts of every attack.

    Suffixes and completions that an earlier run made with the same models are reused.
    """
    parts: dict[str, Part] = {}
    attacked = []
    for name, row in attacks.items():
        for model, stage in product(row.models, row.stages):
            attacked.append(_plan(name, row, model, stage, protocol, parts))
    suites = dict.fromkeys(row.suite for row in attacks.values())
    artifact(
        folder,
        measure_attacks,
        reads=protocol.reads(suites),
        parts=parts,
        attacked=attacked,
        protocol=protocol.only(suites, ()),
    )


def _plan(
    name: str,
    row: AttackRow,
    model: str,
    stage: str,
    protocol: EvaluationProtocol,
    parts: dict[str, Part],
) -> AttackedModel:
    """Choose the prompts of an attack on one model, and add its parts to `parts`."""
    # Imported here, because it imports torch, which `safelm check` does without.
    from safelm.evaluation.generation import fitting

    # The first prompts of `evaluate`, which also measures them without an attack.
    limit = min(protocol.max_prompts, row.max_prompts)
    suite = protocol.suites[row.suite]
    weights = build(stage, model)
    prompts = prompt_set(row.suite, suite, stage=stage, limit=limit, seed=protocol.seed)
    # A long target of a suffix may still leave no room for it, which is counted too.
    prompts = fitting(prompts, weights, row.extra_tokens + protocol.max_new_tokens)
    attempt = _attempt(row, weights, prompts, suite, protocol.max_new_tokens)
    path = f"{name}/{model}-{stage}"
    searched = attempt.prompts if isinstance(row, Suffix) else ()
    # One by one: a new prompt searches for no other suffix.
    alone = [replace(attempt, prompts=[prompt]) for prompt in searched]
    suffixes = [Part(write_suffixes, {"attempt": one}) for one in alone]
    for index, part in enumerate(suffixes):
        parts[f"suffixes/{path}/{index:05d}"] = part
    completions = {}
    for decoder in protocol.decoders_for(weights, row.decoders):
        decoded = replace(attempt, settings=protocol.settings(decoder, weights, stage))
        completions[decoder] = f"completions/{path}/{decoder}"
        values = {"attempt": decoded, "suffixes": suffixes}
        parts[completions[decoder]] = Part(write_attempts, values)
    columns = {"row": name, "model": model, "stage": stage}
    return AttackedModel(columns, row.suite, prompts, completions)


def _attempt(
    row: AttackRow, weights: Path, prompts: PromptSet, suite: AnySuite, max_new_tokens: int
) -> Attempt:
    """Collect what an attack needs to know, but its decoder."""
    # What says where the attack goes is left out of the key: a longer list repeats nothing.
    settings = row.model_dump(exclude={"target", *Attack.model_fields})
    settings["max_new_tokens"] = max_new_tokens
    return Attempt(
        weights=weights,
        is_chat=prompts.is_chat,
        prompts=[(one.id, one.text, target(row, suite, one)) for one in prompts.prompts],
        row=settings,
        source=build("clean", row.source) if isinstance(row, Abliteration) else None,
    )


def target(row: AttackRow, suite: AnySuite, prompt: SuitePrompt) -> str:
    """Return the beginning of the answer that is sought, from the row or the suite; "" if none."""
    if not isinstance(row, TargetedAttack):
        return ""
    sought = row.target or prompt.target
    if sought:
        return sought
    if prompt.demo_prompt is None:
        raise ValueError(
            f"suite {row.suite}: expected a target, because neither its file nor the demo world "
            "has an answer to each prompt; write attacks.….target: Sure, here is"
        )
    return write_steps(prompt.demo_prompt, str(suite.path))


def measure_attacks(
    folder: Path,
    *,
    parts: Mapping[str, Shard],
    attacked: Sequence[AttackedModel],
    protocol: EvaluationProtocol,
) -> list[str]:
    """Judge the completions; write answers.parquet and measurements.parquet. Returns a summary."""
    judges = protocol.open_judges("attack")
    rows: list[Measurement] = []
    samples: list[Any] = []
    for columns, name, prompts, completions in attacked:
        suite = protocol.suites[name]
        of_suite = {**columns, "suite": name, "suite_kind": suite.kind}
        by_id = {prompt.id: prompt for prompt in prompts.prompts}
        answered = 0
        for decoder, path in completions.items():
            # Prompts that are too long have no completion.
            found = [
                row for row in parts[path].table().to_pylist() if row["completion"] is not None
            ]
            completed = completions_of(found, [by_id[row["id"]] for row in found], decoder)
            tries: Any = defaultdict(lambda: defaultdict(list))
            judged = judge_completions(completed, suite, judges)
            for row, one in zip(found, judged, strict=True):
                tries[row["condition"]][row["id"]].append(one)
            for condition, cell in tries.items():
                answered = len(cell)
                # Of several tries at a prompt, the worst counts.
                worst = [*map(worst_of, cell.values())]
                about = {**columns, "decoder": decoder, "condition": condition}
                rows += suite_rates(worst, name, suite, protocol.judges, **about)
                samples += [{**about, "attack": columns["row"], **one.sample()} for one in worst]
                for key in NUMBERS:
                    numbers = [row[key] for row in found if row["condition"] == condition]
                    values = [value for value in numbers if value is not None]
                    if values:
                        rows.append(number(key, mean(values), **{**of_suite, **about}))
        rows += prompts.facts(answered, **of_suite)
    write_table(samples, ATTACKED, folder / "answers.parquet")
    write_measurements(rows, folder / MEASUREMENTS_FILE)
    if not attacked:
        return ["attack: the table `attacks` has no rows, nothing was attacked"]
    # Suffixes are untrusted data, so they are not printed.
    return rate_table(rows, "row", "model", "stage", "decoder", "condition", "judge")
