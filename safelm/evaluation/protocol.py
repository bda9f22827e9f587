"""What models are asked and who judges it: the same for `evaluate`, `compare`, `relearn` and
`attack`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.paths import build
from safelm.evaluation.judges.registry import Tables
from safelm.evaluation.results import Suites
from safelm.models.metadata import knows_tag
from specs.decoder import Decoder
from specs.engine import Engine
from specs.judge import JudgeRow, LlmJudge, ScorerJudge
from specs.scorer import ScorerRow
from specs.verdict import VERDICTS


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Suites, decoders, judges and sizes; `reads` are files that the suites are made of."""

    suites: Suites
    decoders: Mapping[str, Decoder]
    tagged_only: Collection[str]
    judges: Mapping[str, JudgeRow]
    scorers: Mapping[str, ScorerRow]
    engines: Mapping[str, Engine]
    reads: Sequence[Path]
    prompts: int
    tokens: int
    batch: int
    seed: int

    def decoders_of(self, model: Path, names: Iterable[str]) -> dict[str, Decoder]:
        """Those that a model is asked with: without those of `tagged_only` where it does not know
        the tag.

        SafeBeam is not among them by need: where the tag was never read, what it does is a control.
        """
        tagged = knows_tag(model)
        return {
            name: self.decoders[name] for name in names if tagged or name not in self.tagged_only
        }

    def judging(self, suites: Iterable[str], answers: str) -> dict[str, Any]:
        """What an artifact is told of the judges of some suites, and no others: a key must not know
        of more.

        `answers` names the file of what a language model says.
        """
        judges = {name: self.judges[name] for suite in suites for name in self.suites[suite].judges}
        return {
            "reads": [*self.reads, *_files(judges)],
            "judges": judges,
            "tables": self._tables(judges, answers),
        }

    def _tables(self, judges: Mapping[str, JudgeRow], answers: str) -> Tables:
        scored = {row.scorer for row in judges.values() if isinstance(row, ScorerJudge)}
        asked = {row.engine for row in judges.values() if isinstance(row, LlmJudge)}
        scorers = {name: self.scorers[name] for name in sorted(scored)}
        return Tables(scorers, {name: self.engines[name] for name in sorted(asked)}, answers)


def _files(judges: Mapping[str, JudgeRow]) -> list[Path]:
    """What judges read: the model of a scorer, the words of a language model's prompt."""
    fitted = [build("fit", row.scorer) for row in judges.values() if isinstance(row, ScorerJudge)]
    return fitted + [
        VERDICTS / f"{row.prompt}.yaml" for row in judges.values() if isinstance(row, LlmJudge)
    ]
