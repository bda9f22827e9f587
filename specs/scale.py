"""Training runs at full size, before any corpus is built: the files of `safelm estimate`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, Tag

from specs.checks.files import stems
from specs.checks.mixtures import beside_replaced
from specs.checks.references import check_references
from specs.messages import Findings, Location, listed, unknown_row
from specs.mixture import Budget, Mixture, Model, Phase, Replaced
from specs.shape import SHAPES, Continued, Shape, read_shape
from specs.spec import Name, Rows, Share, Spec, by_key, values_at


class Size(Spec):
    """A corpus of which only the size is known."""

    tokens: PositiveInt = Field(description="tokens that it will hold")
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")


class Made(Spec):
    """A corpus of known size that is written from others, and may replace their documents."""

    made_of: dict[Name, PositiveInt] = Field(
        min_length=1, description="corpus: tokens that are made of it"
    )
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")

    @property
    def tokens(self) -> int:
        """Tokens that it will hold."""
        return sum(self.made_of.values())


SizeRow = Annotated[
    Annotated[Size, Tag("a size")] | Annotated[Made, Tag("made")],
    by_key("made_of", "made", "a size"),
]


class Packed(Budget):
    """The block `mix` of params.yaml with packed rows, for which no document's length is needed."""

    layout: Literal["packed"] = Field(
        description="packed: the lengths of documents are not known before they are built"
    )


class Cluster(Spec):
    """The machines. GPUs divided by `tp` are the data parallel ranks."""

    gpu: Literal["a100", "h100", "h200"]
    gpus: PositiveInt
    tp: PositiveInt = Field(description="ranks of tensor parallelism")
    mfu: Share = Field(description="the share of the GPUs' arithmetic that training uses")


class Scale(Spec):
    """A file such as specs/setups/full_size.yaml.

    Rows of `mixtures` and `models` are those of params.yaml.
    """

    mix: Packed
    corpora: Rows[SizeRow]
    mixtures: Rows[Mixture]
    models: Rows[Model]
    cluster: Cluster


def findings(scale: Scale) -> Findings:
    """Yield every contradiction between blocks as (location, message)."""
    yield from check_references(scale)
    for at, phase in values_at(scale, "mixtures.*.phases.*"):
        yield from _parts((*at, "parts"), scale, phase)
    shapes = stems(SHAPES)
    for name, model in scale.models.items():
        if model.shape in shapes:
            shape, mix = read_shape(model.shape), scale.mix
            if isinstance(shape, Continued):
                yield (
                    ("models", name, "shape"),
                    f"must have an architecture, to estimate its cost (got {model.shape}, a recipe "
                    "alone); name the shape of the weights",
                )
                continue
            yield from _machines(scale, shape, model.shape)
            message = shape.short_of_warmup(mix.tokens, mix.batch_size, mix.sequence_length)
            if message:
                yield ("models", name, "shape"), message


def _parts(at: Location, scale: Scale, phase: Phase) -> Findings:
    for name, part in phase.parts.items():
        if isinstance(part, Replaced):
            yield from _replaced((*at, name, "replaced_by"), scale, phase, name, part.replaced_by)
        elif name not in scale.corpora:
            yield (*at, name), unknown_row("corpora", name, scale.corpora)


def _replaced(at: Location, scale: Scale, phase: Phase, part: str, made: str) -> Findings:
    """Require a corpus that is made of `part`. The part itself is not read and needs no row."""
    made_of = {name: row.made_of for name, row in scale.corpora.items() if isinstance(row, Made)}
    if part not in made_of.get(made, {}):
        fitting = [name for name, sources in made_of.items() if part in sources]
        yield (
            at,
            f"must be a row of corpora with `made_of: {{{part}: …}}`, the tokens that are made of "
            f"it (got {made}; such rows are {listed(fitting)})",
        )
    elif made in phase.parts:
        yield at, beside_replaced(made)


def _machines(scale: Scale, shape: Shape, name: str) -> Findings:
    mix, cluster = scale.mix, scale.cluster
    if mix.sequence_length > shape.positions:
        yield (
            ("mix", "sequence_length"),
            f"must be at most the {shape.positions} positions of {name} "
            f"(got {mix.sequence_length})",
        )
    if cluster.gpus % cluster.tp:
        yield ("cluster", "tp"), f"must divide gpus (got {cluster.gpus} gpus, tp {cluster.tp})"
        return
    divided = (shape.heads, shape.kv_heads, shape.vocab_size)
    if any(size % cluster.tp for size in divided):
        yield (
            ("cluster", "tp"),
            f"must divide the heads, key-value heads and vocabulary of {name} "
            f"({listed(divided)}; got {cluster.tp})",
        )
    ranks = cluster.gpus // cluster.tp
    if mix.batch_size % ranks:
        yield (
            ("mix", "batch_size"),
            f"must be a multiple of the {ranks} data parallel ranks (got {mix.batch_size})",
        )
