"""Interface of judges: exchanges in, verdicts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from safelm.demo.prompts import WORLD, DemoPrompt
from specs.outcome import Verdict


class JudgeError(RuntimeError):
    """A judge cannot judge; the message says which one, why and what to do."""


@dataclass(frozen=True)
class Exchange:
    """A prompt and the answer to it.

    Attributes:
        is_harmful: whether the prompt is from a harmful suite, so that a helpful answer does harm.
        demo_prompt: the act of the demo world that the prompt asks for, if any.
        world: the file of the demo world.
    """

    id: str
    prompt: str
    answer: str
    is_harmful: bool
    demo_prompt: DemoPrompt | None = None
    world: str = str(WORLD)

    @property
    def kind(self) -> str:
        """The kind of the request: harmful or harmless."""
        return "harmful" if self.is_harmful else "harmless"


class Judge(Protocol):
    """A judge of answers. The same answers always get the same verdicts."""

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Return the verdict on each exchange, in the same order."""
