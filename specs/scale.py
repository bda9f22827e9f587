"""A training run at its full size, before any of its corpora is built: what `python -m
pipeline.estimate` validates.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag

from specs.messages import Location
from specs.mixture import Mixture, Model, Phase, Replaced
from specs.shape import SHAPES, Shape
from specs.spec import Name, Share, Spec


class Size(Spec):
    """A corpus by its size alone."""

    tokens: PositiveInt = Field(description="how many tokens it will hold")
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")


class Made(Spec):
    """A corpus that is written from others, by what is made of each; so it may replace them,
    document by document.
    """

    made_of: dict[Name, PositiveInt] = Field(
        min_length=1, description="corpus: tokens that are made of it"
    )
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")

    @property
    def tokens(self) -> int:
        """How many tokens it will hold."""
        return sum(self.made_of.values())


def _kind(row: object) -> str:
    return (
        "made"
        if isinstance(row, Made) or (isinstance(row, dict) and "made_of" in row)
        else "a size"
    )


SizeRow = Annotated[
    Annotated[Size, Tag("a size")] | Annotated[Made, Tag("made")], Discriminator(_kind)
]


class Packed(Spec):
    """The block `mix` of params.yaml; rows are packed, for the lengths of documents that are not
    there are unknown.
    """

    tokens: PositiveInt = Field(description="the budget every model trains on")
    sequence_length: PositiveInt = Field(description="positions in a row")
    layout: Literal["packed"] = Field(
        description="packed: the lengths of documents are known only when they are there"
    )
    batch_size: PositiveInt = Field(description="rows in an optimizer step")


class Cluster(Spec):
    """The machines: data parallel ranks are the GPUs divided by `tp`."""

    gpu: Literal["a100", "h100", "h200"]
    gpus: PositiveInt
    tp: PositiveInt = Field(description="ranks of tensor parallelism")
    mfu: Share = Field(description="the share of the GPUs' arithmetic that training uses")


class Scale(Spec):
    """A file such as specs/setups/full_size.yaml; `mixtures` and `models` are rows as in
    params.yaml.
    """

    mix: Packed
    corpora: dict[Name, SizeRow] = Field(min_length=1)
    mixtures: dict[Name, Mixture] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    cluster: Cluster


def findings(scale: Scale) -> Iterator[tuple[Location, str]]:
    """Every contradiction between the blocks, as (place, message)."""
    yield from _parts(scale)
    for name, model in scale.models.items():
        if model.mixture not in scale.mixtures:
            rows = ", ".join(scale.mixtures)
            yield (
                ("models", name, "mixture"),
                f"must be a row of mixtures (got {model.mixture}; rows are {rows})",
            )
        if not (SHAPES / f"{model.shape}.yaml").is_file():
            files = ", ".join(sorted(path.stem for path in SHAPES.glob("*.yaml")))
            yield (
                ("models", name, "shape"),
                f"must be a file of specs/shapes (got {model.shape}; files are {files})",
            )
        else:
            shape, mix = Shape.read(model.shape), scale.mix
            yield from _machines(scale, shape, model.shape)
            if wrong := shape.short_of_warmup(mix.tokens, mix.batch_size, mix.sequence_length):
                yield ("models", name, "shape"), wrong


def _parts(scale: Scale) -> Iterator[tuple[Location, str]]:
    for mixture, row in scale.mixtures.items():
        for index, phase in enumerate(row.phases):
            at: Location = ("mixtures", mixture, "phases", index, "parts")
            for name, part in phase.parts.items():
                if isinstance(part, Replaced):
                    yield from _replaced(
                        (*at, name, "replaced_by"), scale, phase, name, part.replaced_by
                    )
                elif name not in scale.corpora:
                    yield (
                        (*at, name),
                        f"must be a row of corpora (rows are {', '.join(scale.corpora)}); add it there",
                    )


def _replaced(
    at: Location, scale: Scale, phase: Phase, part: str, made: str
) -> Iterator[tuple[Location, str]]:
    """The corpus that is replaced needs no row of its own, for it is not read."""
    row = scale.corpora.get(made)
    if not isinstance(row, Made) or part not in row.made_of:
        sizes = [
            name
            for name, size in scale.corpora.items()
            if isinstance(size, Made) and part in size.made_of
        ]
        yield (
            at,
            f"must be a row of corpora with `made_of: {{{part}: …}}`, the tokens that are made of it "
            f"(got {made}; such rows are {', '.join(sizes) or 'none'})",
        )
    elif made in phase.parts:
        yield (
            at,
            f"must not be read beside what it replaces (got {made}, which is a part too); leave one of them out",
        )


def _machines(scale: Scale, shape: Shape, name: str) -> Iterator[tuple[Location, str]]:
    mix, cluster = scale.mix, scale.cluster
    if mix.sequence_length > shape.positions:
        yield (
            ("mix", "sequence_length"),
            f"must be at most the {shape.positions} positions of {name} (got {mix.sequence_length})",
        )
    if cluster.gpus % cluster.tp:
        yield ("cluster", "tp"), f"must divide gpus (got {cluster.gpus} gpus, tp {cluster.tp})"
        return
    if shape.heads % cluster.tp or shape.kv_heads % cluster.tp or shape.vocabulary % cluster.tp:
        yield (
            ("cluster", "tp"),
            f"must divide the heads, key-value heads and vocabulary of {name} ({shape.heads}, {shape.kv_heads}, "
            f"{shape.vocabulary}; got {cluster.tp})",
        )
    ranks = cluster.gpus // cluster.tp
    if mix.batch_size % ranks:
        yield (
            ("mix", "batch_size"),
            f"must be a multiple of the {ranks} data parallel ranks (got {mix.batch_size})",
        )
