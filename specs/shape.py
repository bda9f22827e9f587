"""Shapes: architectures with their training recipes, one YAML file each in specs/shapes."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs import SPECS
from specs.spec import Share, Spec
from specs.yaml_source import NamedFile

SHAPES = SPECS / "shapes"


class TrainingRecipe(Spec):
    """The training of the weights: AdamW with a warm-up, stable, decay schedule."""

    learning_rate: PositiveFloat
    warmup: Share | PositiveInt = Field(
        description="steps over which the learning rate rises, or their share of all steps"
    )
    decay: float = Field(
        gt=0, le=1, description="share of the steps, at the end, over which it falls"
    )
    decay_style: Literal["linear", "cosine", "1-sqrt"]
    min_learning_rate: NonNegativeFloat
    weight_decay: NonNegativeFloat
    beta1: Share
    beta2: Share
    epsilon: PositiveFloat
    clip: PositiveFloat = Field(description="largest norm of the gradient")
    batch_size: PositiveInt = Field(
        description="rows in a step in the source of the recipe; mix.batch_size is used instead"
    )
    micro_batch: PositiveInt = Field(
        description="sequences a device takes at once; divides mix.batch_size"
    )


class Shape(NamedFile):
    """A Llama architecture. Heads divide the width, key-value heads divide the heads."""

    folder = SHAPES
    hidden: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    ffn: PositiveInt
    vocab_size: PositiveInt
    tokenizer: str | None = Field(
        description="the tokenizer it was made for, a name on the hub; null for any"
    )
    positions: PositiveInt
    rope_theta: PositiveFloat
    norm_eps: PositiveFloat
    tied: bool
    init_std: PositiveFloat
    dtype: Literal["float32", "bfloat16"]
    recipe: TrainingRecipe

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        """Require heads of an even width, hidden / heads, for rotary embeddings."""
        if self.hidden % (2 * self.heads):
            raise PydanticCustomError(
                "heads",
                "heads must divide hidden into an even width (got hidden {hidden}, heads {heads}); "
                "write heads that divide {half}",
                {"hidden": self.hidden, "heads": self.heads, "half": self.hidden // 2},
            )
        if self.heads % self.kv_heads:
            raise PydanticCustomError(
                "heads",
                "kv_heads must divide heads (got heads {heads}, kv_heads {kv}); "
                "write a divisor of {heads}",
                {"heads": self.heads, "kv": self.kv_heads},
            )
        return self

    def short_of_warmup(self, tokens: int, batch_size: int, sequence_length: int) -> str | None:
        """Return what is wrong if training ends before the warm-up; rows must be full."""
        warmup = self.recipe.warmup
        if not isinstance(warmup, int):
            return None
        step = batch_size * sequence_length
        # Two steps more, because phases of whole steps may read half a step less.
        min_tokens = (warmup + 2) * step
        if tokens >= min_tokens:
            return None
        return (
            f"must warm up in fewer steps than there are (got recipe.warmup {warmup:,}, and "
            f"{tokens:,} tokens are {tokens / step:,.0f} steps); "
            f"write mix.tokens: {min_tokens}, or another warmup in specs/shapes"
        )
