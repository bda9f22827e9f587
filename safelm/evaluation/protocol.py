"""Evaluation protocol that the stages evaluate, compare, relearn and attack share."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

from loguru import logger

from safelm.builder.artifact import Part
from safelm.builder.paths import build, scratch
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.completions import write_bound
from safelm.evaluation.judges.base import Judge
from safelm.evaluation.judges.registry import open_judge
from safelm.evaluation.prompts import PromptSet, prompt_set
from safelm.models import knows_tag
from specs.decoder import Decoder
from specs.engine import Engine
from specs.judge import JUDGES, JudgeRow, LlmJudge, ScorerJudge
from specs.scorer import ScorerRow
from specs.suite import AnySuite, Calibration, Suite


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """Suites, decoders, judges and limits that every model is measured with.

    Attributes:
        suites, decoders, judges, scorers, engines: rows of params.yaml, by name.
        checkpoint_decoders: the decoders for checkpoints of finetuning.
        tagged_models_only: the decoders that only models that know the tag are measured with.
        calibration: the prompts for the bounds of decoders.
        files: files and folders that suites and judges read, although no row names them.
        max_prompts: prompts of a suite, at most.
    """

    suites: Mapping[str, AnySuite]
    decoders: Mapping[str, Decoder]
    checkpoint_decoders: Collection[str]
    tagged_models_only: Collection[str]
    calibration: Calibration | None = None
    judges: Mapping[str, JudgeRow]
    scorers: Mapping[str, ScorerRow]
    engines: Mapping[str, Engine]
    files: Sequence[Path]
    max_prompts: int
    max_new_tokens: int
    batch_size: int
    seed: int

    def only(self, suites: Iterable[str], decoders: Iterable[str]) -> Self:
        """Keep some suites and decoders, with the judges, scorers and engines that these use.

        Cache keys made of the result do not change with the other rows. `files` are left out,
        because they enter a key as `reads`.
        """
        kept = {name: self.suites[name] for name in suites}
        judges: dict[str, JudgeRow] = {}
        for suite in kept.values():
            judges |= {name: self.judges[name] for name in suite.judges}
        scorers = {row.scorer for row in judges.values() if isinstance(row, ScorerJudge)}
        engines = {row.engine for row in judges.values() if isinstance(row, LlmJudge)}
        return replace(
            self,
            suites=kept,
            decoders={name: self.decoders[name] for name in decoders},
            judges=judges,
            # Sorted, because the order of a set differs from run to run.
            scorers={name: self.scorers[name] for name in sorted(scorers)},
            engines={name: self.engines[name] for name in sorted(engines)},
            files=(),
        )

    def reads(self, suites: Iterable[str]) -> list[Path]:
        """List the files that judges of some suites read: fitted scorers and prompts."""
        files = list(self.files)
        for judge in self.only(suites, ()).judges.values():
            if isinstance(judge, ScorerJudge):
                files.append(build("fit", judge.scorer))
            elif isinstance(judge, LlmJudge):
                files.append(JUDGES / f"{judge.prompt}.yaml")
        return files

    def prompt_sets(self, stage: str) -> dict[str, PromptSet]:
        """Choose the prompts of every suite but those of utility, for models of a stage."""
        return {
            name: prompt_set(name, suite, stage=stage, limit=self.max_prompts, seed=self.seed)
            for name, suite in self.suites.items()
            if suite.kind != "utility"
        }

    def decoders_for(self, weights: Path, names: Iterable[str]) -> list[str]:
        """Choose the decoders for a model, without `tagged_models_only` if it knows no tag.

        SafeBeam may be left out of `tagged_models_only`: for a model without the tag it is a
        control.
        """
        is_tagged = knows_tag(weights)
        return [name for name in names if is_tagged or name not in self.tagged_models_only]

    def settings(self, decoder: str, weights: Path, stage: str) -> GenerationSettings:
        """Return the settings of a decoder for a model of a stage.

        Its bound, if it needs one, is chosen on the prompts of `calibration` but no reported ones.
        """
        settings = GenerationSettings(
            decoder=self.decoders[decoder],
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        if not settings.decoder.is_calibrated:
            return settings
        assert self.calibration  # safelm check requires it
        suite, limit = Suite.read(self.calibration.suite), self.calibration.max_prompts
        found = prompt_set("calibration", suite, stage=stage, limit=limit, seed=self.seed)
        others = [other.candidates for other in self.prompt_sets(stage).values()]
        reported = {prompt.text for prompt in chain(*others)}
        prompts = [(one.id, one.text) for one in found.prompts if one.text not in reported]
        values = {"weights": weights, "is_chat": found.is_chat, "prompts": prompts}
        return replace(settings, bound=Part(write_bound, {**values, "settings": settings}))

    def open_judges(self, answers: str) -> dict[str, Judge]:
        """Open every judge; `answers` names the file that saves the answers of language models.

        Their log goes to a file, not to the screen.
        """
        if self.engines:
            logger.remove()
            log = scratch("logs", "evaluate", f"{answers}.log")
            # With diagnose, tracebacks would show variables, and so untrusted text.
            logger.add(log, level="DEBUG", diagnose=False)
        rows = (self.scorers, self.engines, answers)
        return {name: open_judge(name, row, *rows) for name, row in self.judges.items()}
