"""Shapes: architectures with their training recipes, one YAML file each in specs/shapes."""

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from specs import SPECS
from specs.llama import CONFIG, StartError, read_architecture
from specs.messages import describe
from specs.mixture import Budget
from specs.spec import Share, Spec, by_key
from specs.yaml_source import NamedFile, YamlFile, check

SHAPES = SPECS / "shapes"
# The values of a shape that decide what given weights compute.
COMPUTED = ("hidden", "layers", "heads", "kv_heads", "ffn", "rope_theta", "norm_eps", "tied")
Dtype = Literal["float32", "bfloat16"]


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
    batch_size: PositiveInt | None = Field(
        default=None, description="rows in a step; leave it out for that of the model's budget"
    )
    micro_batch: PositiveInt = Field(
        description="sequences a device takes at once; divides the batch"
    )

    def batch(self, budget: Budget) -> int:
        """Return the rows in a step: those of the recipe or of the budget, which may not differ.

        Raises ValueError if both have a batch size, or neither.
        """
        sizes = {self.batch_size, budget.batch_size} - {None}
        if len(sizes) != 1:
            raise ValueError(
                "must have one batch size, in its recipe or in its budget (got "
                f"{self.batch_size or 'none'} in specs/shapes, {budget.batch_size or 'none'} in "
                "budgets); leave one out, or name another shape or budget"
            )
        return sizes.pop() or 0


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
    dtype: Dtype
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

    def short_of_warmup(self, budget: Budget) -> str | None:
        """Return what is wrong if training ends before the warm-up; rows must be full."""
        warmup, tokens = self.recipe.warmup, budget.tokens
        if not isinstance(warmup, int):
            return None
        step = self.recipe.batch(budget) * budget.sequence_length
        # Two steps more, because phases of whole steps may read half a step less.
        min_tokens = (warmup + 2) * step
        if tokens >= min_tokens:
            return None
        return (
            f"must warm up in fewer steps than there are (got recipe.warmup {warmup:,}, and "
            f"{tokens:,} tokens are {tokens / step:,.0f} steps); "
            f"write tokens: {min_tokens} in its budget, or another warmup in specs/shapes"
        )


class Continued(NamedFile):
    """A recipe to train existing weights further; their config.json has the architecture."""

    folder = SHAPES
    dtype: Dtype
    recipe: TrainingRecipe


ShapeFile = Annotated[
    Annotated[Shape, Tag("an architecture")] | Annotated[Continued, Tag("a recipe alone")],
    by_key("hidden", "an architecture", "a recipe alone"),
]


def read_shape(name: str) -> Shape | Continued:
    """Read a file of specs/shapes, with or without an architecture. Raises SpecError."""
    shape: Shape | Continued = check(ShapeFile, YamlFile(SHAPES / f"{name}.yaml"))
    return shape


def shape_of_weights(file: Shape | Continued, folder: Path, vocabulary: int) -> Shape:
    """Return the shape of existing weights: their architecture, with the recipe of a file.

    Args:
        file: a file of specs/shapes. If it has an architecture, it must be that of the weights;
            its vocabulary may be larger, and its positions may be fewer.
        folder: the weights in Hugging Face's format.
        vocabulary: the tokens for which a file without an architecture makes room.

    Raises:
        StartError: the weights are no plain Llama, or the file has another architecture.
    """
    own = read_architecture(folder)
    largest = max(own["vocab_size"], vocabulary)
    rest = {"vocab_size": largest, "tokenizer": None, "dtype": file.dtype, "recipe": file.recipe}
    try:
        shape = Shape.model_validate({**own, **rest})
    except ValidationError as error:
        _, message = describe(Shape, own, error.errors(include_url=False)[0])
        raise StartError(f"{folder / CONFIG}: {message}") from error
    if isinstance(file, Continued):
        return shape
    for name in COMPUTED:
        ours, theirs = getattr(file, name), getattr(shape, name)
        # Formats with 32 bits round numbers such as 1e-5.
        if not math.isclose(ours, theirs, rel_tol=1.0e-6):
            raise StartError(
                f"must be the architecture of the weights (got {name}: {ours} in specs/shapes, "
                f"and {folder} has {theirs}); name another shape, or one without an architecture, "
                "such as continued"
            )
    if file.vocab_size < own["vocab_size"]:
        raise StartError(
            f"must have room for the {own['vocab_size']:,} tokens of {folder} (got vocab_size "
            f"{file.vocab_size:,} in specs/shapes); name another shape"
        )
    # Exactly that of the weights: the comparison above allows another last digit.
    return file.model_copy(update={"norm_eps": shape.norm_eps})
