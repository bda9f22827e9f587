"""Checks of the sizes and machines of `safelm estimate`."""

from specs.checks.start import batch_of, shape_of
from specs.estimate import Estimate
from specs.messages import Findings, Location, listed, unknown_row
from specs.mixture import Model, Replaced
from specs.params import Params
from specs.shape import Shape
from specs.spec import values_at


def check_estimate(params: Params) -> Findings:
    """Check that every corpus that is read has a size, and that the machines fit the models."""
    estimate = params.estimate
    if estimate is None:
        return
    for name in estimate.tokens:
        if name not in params.corpora:
            yield ("estimate", "tokens", name), unknown_row("corpora", name, params.corpora)
    for name, mixture in params.mixtures.items():
        for corpus in mixture.corpora:
            if corpus not in estimate.tokens:
                yield (
                    ("estimate", "tokens"),
                    f"must have the tokens of {corpus}, which {name} reads; add {corpus}: …",
                )
    for at, part in values_at(params, "mixtures.*.phases.*.parts.*"):
        tokens = estimate.tokens.get(part.replaced_by) if isinstance(part, Replaced) else None
        if tokens is not None and at[-1] not in (tokens if isinstance(tokens, dict) else ()):
            yield (
                ("estimate", "tokens", part.replaced_by),
                f"must say how many tokens are made of {at[-1]}, which it replaces; write "
                f"{part.replaced_by}: {{{at[-1]}: …}}",
            )
    for model in params.models.values():
        shape = shape_of(params, model)
        if shape:
            yield from _machines(params, estimate, model, shape)


def _machines(params: Params, estimate: Estimate, model: Model, shape: Shape) -> Findings:
    gpus, tp, name = estimate.gpus, estimate.tp, model.shape
    at: Location = ("estimate", "tp")
    divided = (shape.heads, shape.kv_heads, shape.vocab_size)
    if gpus % tp:
        yield at, f"must divide gpus (got {gpus} gpus, tp {tp})"
        return
    if any(size % tp for size in divided):
        yield (
            at,
            f"must divide the heads, key-value heads and vocabulary of {name} "
            f"({listed(divided)}; got {tp})",
        )
    batch = batch_of(params, model)
    if batch and batch % (gpus // tp):
        yield (
            ("estimate", "gpus"),
            f"must divide the batch of {name} into equal parts: {batch} rows, for "
            f"{gpus // tp} data parallel ranks; write fewer gpus",
        )
