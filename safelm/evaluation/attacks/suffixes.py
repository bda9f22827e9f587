"""Suffix attacks: does a suffix after a request make a model answer it? (the stage `attack`)

The suffix is found by greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from safelm.builder.artifact import Part, artifact
from safelm.builder.paths import build
from safelm.builder.shards import Shard, write_table
from safelm.demo.prompts import write_steps
from safelm.evaluation.attacks.suffix_completions import (
    CONDITIONS,
    write_attacked_completions,
    write_suffixes,
)
from safelm.evaluation.measurements import (
    MEASUREMENTS_FILE,
    Measurement,
    number,
    write_measurements,
)
from safelm.evaluation.metrics import completions_of, judge_completions, suite_rates
from safelm.evaluation.prompts import PromptSet, SuitePrompt, prompt_set
from safelm.evaluation.protocol import EvaluationProtocol
from safelm.evaluation.summary import rate_table
from safelm.stats.rates import mean
from specs.attacks import Attack
from specs.document import ATTACKED
from specs.suite import AnySuite

Columns = dict[str, Any]
SAMPLES_FILE = "answers.parquet"
# Columns of SUFFIXES with the likelihood of the target, whose means are measured.
LIKELIHOODS = ("opening", "log_likelihood", "tag_probability")


@dataclass(frozen=True)
class AttackedModel:
    """One attack on one model at one stage, with its prompts and decoders.

    `attack` is the name of `row`.
    """

    attack: str
    row: Attack
    model: str
    stage: str
    prompts: PromptSet
    decoders: list[str]

    @property
    def _name(self) -> str:
        return f"{self.attack}/{self.model}-{self.stage}"

    def suffix_part(self, index: int) -> str:
        """The path of a prompt's suffixes in the folder of attacks."""
        return f"suffixes/{self._name}/{index:05d}"

    def completions_part(self, decoder: str, condition: str) -> str:
        """The path of completions under a condition in the folder of attacks."""
        return f"completions/{self._name}/{decoder}/{condition}"

    def columns(self) -> Columns:
        """The columns of MEASUREMENTS that name the attacked model."""
        return {"row": self.attack, "model": self.model, "stage": self.stage}


def attack_models(
    folder: str,
    *,
    attacks: Mapping[str, Attack],
    protocol: EvaluationProtocol,
) -> None:
    """Build build/<folder>: answers.parquet, measurements.parquet and the parts of every attack.

    Suffixes and completions that an earlier run made with the same models are reused.
    """
    parts: dict[str, Part] = {}
    attacked = []
    for name, row in attacks.items():
        for model in row.models:
            for stage in row.stages:
                found = _attacked(name, row, model, stage, protocol)
                parts |= _parts(found, protocol)
                attacked.append(found)
    suites = dict.fromkeys(row.suite for row in attacks.values())
    decoders = dict.fromkeys(chain(*(found.decoders for found in attacked)))
    artifact(
        folder,
        measure_attacks,
        reads=protocol.reads(suites),
        parts=parts,
        attacked=attacked,
        protocol=protocol.only(suites, decoders),
    )


def _attacked(
    name: str,
    row: Attack,
    model: str,
    stage: str,
    protocol: EvaluationProtocol,
) -> AttackedModel:
    """Choose the first prompts of `evaluate`, which also measures them without a suffix."""
    limit = min(protocol.max_prompts, row.max_prompts)
    suite = protocol.suites[row.suite]
    prompts = prompt_set(row.suite, suite, stage=stage, limit=limit, seed=protocol.seed)
    decoders = protocol.decoders_for(build(stage, model), row.decoders)
    return AttackedModel(name, row, model, stage, prompts, decoders)


def _parts(attacked: AttackedModel, protocol: EvaluationProtocol) -> dict[str, Part]:
    """List the parts: suffixes of each prompt, and completions by decoder and condition."""
    row = attacked.row
    suite = protocol.suites[row.suite]
    model: Columns = {
        "weights": build(attacked.stage, attacked.model),
        "is_chat": attacked.prompts.is_chat,
    }
    search = {"suffix_tokens", "steps", "candidates", "top_k", "tag_weight", "seed"}
    settings = {**model, **row.model_dump(include=search)}
    parts = {}
    for index, prompt in enumerate(attacked.prompts.prompts):
        values = {**settings, "id": prompt.id, "text": prompt.text}
        values["target"] = target(row, suite, prompt)
        values["max_new_tokens"] = protocol.max_new_tokens
        parts[attacked.suffix_part(index)] = Part(write_suffixes, values)
    suffixes = list(parts.values())
    for decoder in attacked.decoders:
        for condition in CONDITIONS:
            values = {**model, "suffixes": suffixes, "condition": condition}
            values["settings"] = protocol.settings(decoder, model["weights"], attacked.stage)
            part = Part(write_attacked_completions, values)
            parts[attacked.completions_part(decoder, condition)] = part
    return parts


def target(row: Attack, suite: AnySuite, prompt: SuitePrompt) -> str:
    """Return the beginning of the answer that is sought, from the row or from the demo world."""
    if row.target is not None:
        return row.target
    if prompt.demo_prompt is None:
        raise ValueError(
            f"suite {row.suite}: expected a target, because only the demo world knows answers to "
            "its prompts; write attacks.….target: Sure, here is"
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
    samples: list[Columns] = []
    for found in attacked:
        suite_name = found.row.suite
        suite = protocol.suites[suite_name]
        columns = found.columns()
        suffixes = _read_suffixes(found, parts)
        prompts = [prompt for prompt in found.prompts.prompts if prompt.id in suffixes]
        about = {**columns, "suite": suite_name, "suite_kind": suite.kind}
        rows += found.prompts.facts(len(prompts), **about)
        rows += [replace(row, **about) for row in _likelihoods(suffixes)]
        for decoder in found.decoders:
            for condition in CONDITIONS:
                completed = parts[found.completions_part(decoder, condition)].table().to_pylist()
                completions = completions_of(completed, prompts, decoder)
                judged = judge_completions(completions, suite, judges)
                cell = {**columns, "decoder": decoder, "condition": condition}
                rows += suite_rates(judged, suite_name, suite, protocol.judges, **cell)
                names = {**columns, "attack": found.attack, "condition": condition}
                samples += [{**names, **completion.sample()} for completion in judged]
    write_table(samples, ATTACKED, folder / SAMPLES_FILE)
    write_measurements(rows, folder / MEASUREMENTS_FILE)
    if not attacked:
        return ["attack: the table `attacks` has no rows, nothing was attacked"]
    # Suffixes are untrusted data, so they are not printed.
    return rate_table(rows, "row", "model", "stage", "decoder", "condition", "judge")


def _read_suffixes(attacked: AttackedModel, parts: Mapping[str, Shard]) -> dict[str, list[Columns]]:
    """Read the rows of SUFFIXES by prompt id, for prompts that have some."""
    suffixes = {}
    for index, prompt in enumerate(attacked.prompts.prompts):
        rows = parts[attacked.suffix_part(index)].table().to_pylist()
        if rows:
            suffixes[prompt.id] = rows
    return suffixes


def _likelihoods(suffixes: Mapping[str, list[Columns]]) -> Iterator[Measurement]:
    """Average the likelihood of the target over prompts, under each condition."""
    for condition in CONDITIONS:
        own = [row for row in chain(*suffixes.values()) if row["condition"] == condition]
        for name in LIKELIHOODS:
            values = [row[name] for row in own if row[name] is not None]
            yield number(f"target_{name}", mean(values), condition=condition)
