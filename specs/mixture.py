"""A mixture: what a model reads, in which order and in which proportions (paper §6 and §12)."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from specs.spec import Name, Spec


class Phase(Spec):
    """A stretch of training: `share` of the tokens, as parts of the sum of all shares.

    natural: each corpus weighs its own tokens times its part. fixed: the parts are shares of the phase, so
    {web: 3, refusals: 1} reads three web tokens for each refusal token.
    """

    share: PositiveInt = Field(description="a whole number: phases of shares 1 and 4 take a fifth and four fifths")
    proportions: Literal["natural", "fixed"] = Field(description="natural or fixed")
    parts: dict[Name, PositiveFloat] = Field(min_length=1, description="corpus: weight; leave a part out to drop it")


class Mixture(Spec):
    """The phases of a training run, in order."""

    phases: list[Phase] = Field(min_length=1, description="at least one phase")

    @property
    def corpora(self) -> list[str]:
        """Every corpus that some phase reads, in the order in which they are first named."""
        return list(dict.fromkeys(name for phase in self.phases for name in phase.parts))


class Model(Spec):
    """A training run: a mixture, a shape of specs/shapes and a seed."""

    mixture: Name = Field(description="a row of `mixtures`")
    shape: str = Field(min_length=1, description="a file of specs/shapes, without .yaml")
    seed: int = Field(ge=0, lt=2**31, description="seeds the weights and the order of the rows")
