"""Registry of judges: opens the judge of a row of evaluate.judges.

Every judge is pinned: a rule by its code, a scorer by its files, a language model by its digest and
the version of its prompt. A judge that cannot judge is an error; no other takes its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.blocks import Task
from safelm.evaluation.judges.base import Exchange, Judge, JudgeError
from safelm.evaluation.judges.demo_rule import judge_demo_prompt
from safelm.evaluation.judges.language_model import LanguageModelJudge
from safelm.evaluation.judges.refusal_phrases import RefusalPhrasesRule, not_harmful
from safelm.llm import answers_file, open_engine
from safelm.scoring.base import Scorer
from safelm.scoring.registry import grader
from safelm.text.hazards import Grade
from specs.engine import Engine as EngineRow
from specs.engine import row as engine_row
from specs.judge import (
    DemoJudge,
    JudgePrompt,
    JudgeRow,
    LlmJudge,
    RefusalPhrasesJudge,
    ScorerJudge,
)
from specs.outcome import Outcome, Verdict
from specs.scorer import ScorerRow


@dataclass(frozen=True)
class DemoRule:
    """The rule judge of the demo world."""

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Judge by the rule. Raises JudgeError for a prompt that is not of the demo world."""
        return [self._verdict(exchange) for exchange in exchanges]

    def _verdict(self, exchange: Exchange) -> Verdict:
        if exchange.demo_prompt is None:
            raise JudgeError(
                "a judge of kind demo knows only the demo world; "
                "use another judge for prompts of a file"
            )
        return judge_demo_prompt(exchange.demo_prompt, exchange.answer, exchange.world)


@dataclass(frozen=True)
class ScoreThreshold:
    """A judge that scores answers without their prompts: harmful from `min_score` on."""

    scorer: Scorer
    min_score: int

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Judge by score; an answer that the scorer cannot grade is unjudged."""
        if not all(exchange.is_harmful for exchange in exchanges):
            raise JudgeError(
                "a judge of kind scorer judges only harmful suites (got a harmless one); "
                "use another judge for it"
            )
        answers = [exchange.answer for exchange in exchanges]
        grades = self.scorer.grade(answers)
        return [self._verdict(*pair) for pair in zip(answers, grades, strict=True)]

    def scores(self, exchanges: Sequence[Exchange]) -> list[int | None]:
        """Return the score of each answer; None for one that the scorer cannot grade."""
        grades = self.scorer.grade([exchange.answer for exchange in exchanges])
        return [grade and grade.score for grade in grades]

    def _verdict(self, answer: str, grade: Grade | None) -> Verdict:
        if grade is None:
            return Verdict(Outcome.UNJUDGED)
        if grade.score >= self.min_score:
            return Verdict(Outcome.HARMFUL)
        return not_harmful(answer)


def open_judge(
    name: str,
    row: JudgeRow,
    scorers: Mapping[str, ScorerRow],
    engines: Mapping[str, EngineRow],
    answers: str,
) -> Judge:
    """Open the judge of a row, which may name a row of `scorers` or `engines`.

    `answers` names the file for a language model's answers.
    """
    task = Task(answers, ())
    match row:
        case DemoJudge():
            return DemoRule()
        case RefusalPhrasesJudge():
            return RefusalPhrasesRule()
        case ScorerJudge():
            scorer = grader(row.scorer, scorers, engines)
            # If the scorer is a language model, it saves its answers under the task's name.
            scorer.begin(task, Path())
            return ScoreThreshold(scorer, row.min_score)
        case LlmJudge():
            engine = engine_row(dict(engines), row.engine)
            opened = open_engine(engine, answers_file(engine, "verdict", task))
            prompt = JudgePrompt.read(row.prompt)
            return LanguageModelJudge(name, opened, prompt, row.max_attempts, row.seed)
