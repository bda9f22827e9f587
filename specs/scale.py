"""A training run at its full size, before any of its corpora is built: what `python -m pipeline.plan` validates."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from specs.mixture import Mixture, Model
from specs.shape import SHAPES, Shape
from specs.spec import Name, Share, Spec
from specs.yaml_file import Location


class Size(Spec):
    """A corpus by its size alone."""

    tokens: PositiveInt = Field(description="how many tokens it will hold")
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")


class Packed(Spec):
    """The block `mix` of params.yaml; rows are packed, for the lengths of documents that are not there are unknown."""

    tokens: PositiveInt = Field(description="the budget every model trains on")
    sequence: PositiveInt = Field(description="positions in a row")
    layout: Literal["packed"] = Field(description="packed: the lengths of documents are known only when they are there")
    batch: PositiveInt = Field(description="rows in an optimizer step")


class Cluster(Spec):
    """The machines: data parallel ranks are the GPUs divided by `tp`."""

    gpu: Literal["a100", "h100", "h200"]
    gpus: PositiveInt
    tp: PositiveInt = Field(description="ranks of tensor parallelism")
    mfu: Share = Field(description="the share of the GPUs' arithmetic that training uses")


class Scale(Spec):
    """A file such as specs/full_size.yaml; `mixtures` and `models` are rows as in params.yaml."""

    mix: Packed
    corpora: dict[Name, Size] = Field(min_length=1)
    mixtures: dict[Name, Mixture] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    cluster: Cluster


def findings(scale: Scale) -> Iterator[tuple[Location, str]]:
    """Every contradiction between the blocks, as (place, message)."""
    yield from _parts(scale)
    for name, model in scale.models.items():
        if model.mixture not in scale.mixtures:
            rows = ", ".join(scale.mixtures)
            yield ("models", name, "mixture"), f"must be a row of mixtures (got {model.mixture}; rows are {rows})"
        if not (SHAPES / f"{model.shape}.yaml").is_file():
            files = ", ".join(sorted(path.stem for path in SHAPES.glob("*.yaml")))
            yield ("models", name, "shape"), f"must be a file of specs/shapes (got {model.shape}; files are {files})"
        else:
            yield from _machines(scale, Shape.read(model.shape), model.shape)


def _parts(scale: Scale) -> Iterator[tuple[Location, str]]:
    for name, mixture in scale.mixtures.items():
        for index, phase in enumerate(mixture.phases):
            for part, corpus in phase.slots.items():
                at: Location = ("mixtures", name, "phases", index, "parts", part.partition("-")[0])
                if part != corpus:
                    yield at, "must not be replaced here, where rows are packed; write the weight alone"
                elif corpus not in scale.corpora:
                    yield at, f"must be a row of corpora (rows are {', '.join(scale.corpora)}); add it there"


def _machines(scale: Scale, shape: Shape, name: str) -> Iterator[tuple[Location, str]]:
    mix, cluster = scale.mix, scale.cluster
    if mix.sequence > shape.positions:
        yield ("mix", "sequence"), f"must be at most the {shape.positions} positions of {name} (got {mix.sequence})"
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
    if mix.batch % ranks:
        yield ("mix", "batch"), f"must be a multiple of the {ranks} data parallel ranks (got {mix.batch})"
