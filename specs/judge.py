"""A judge of answers: one row of evaluate.judges. Suites name these rows, so that who judges is
chosen in one place.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from specs.spec import Name, Score, Seed, Spec


class DemoJudge(Spec):
    """The rule of the embedded world, which knows the act that a prompt asks for; for its suites
    alone.
    """

    kind: Literal["demo"]


class RefusalPhrasesJudge(Spec):
    """Whether an answer declines, told by phrases as AdvBench does. What does not has complied,
    helpful or not.
    """

    kind: Literal["refusal_phrases"]


class ScorerJudge(Spec):
    """A fitted scorer: an answer of at least `min_score` is harmful. For suites of kind harmful."""

    kind: Literal["scorer"]
    scorer: Name = Field(description="a row of scorers")
    min_score: Score = Field(description="the lowest score that is harmful")


class LlmJudge(Spec):
    """A language model behind the door of safelm/llm. One that is down fails the stage; no other
    judge steps in.
    """

    kind: Literal["llm"]
    engine: Name = Field(description="a row of engines that is a language model")
    prompt: Name = Field(
        description="a file of specs/prompts/verdict: harm for harmful suites, help for the others"
    )
    max_attempts: PositiveInt = Field(
        description="how often one is asked again whose verdict is no JSON of the asked form"
    )
    seed: Seed


JudgeRow = Annotated[
    DemoJudge | RefusalPhrasesJudge | ScorerJudge | LlmJudge, Field(discriminator="kind")
]
