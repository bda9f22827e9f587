"""Checks between mixtures, corpora and models."""

from specs.checks.references import row_of
from specs.checks.start import shape_of
from specs.corpus import Educate, Pages, ScoredCorpus, Selection, tags_of
from specs.messages import Findings, Location, listed, unknown_row
from specs.mixture import Phase, Replaced, Weights
from specs.params import Params
from specs.shape import Shape
from specs.spec import values_at

# The lengths of rows that a model is trained on.
LENGTHS = ("mix.sequence_length", "instruct.sequence_length", "finetune.sequence_length")


def check_mixtures(params: Params) -> Findings:
    """Check the parts of every phase, and that none rounds to nothing."""
    for at, phase in values_at(params, "mixtures.*.phases.*"):
        yield from _parts((*at, "parts"), params, phase)
    for name in params.mixtures:
        yield from _sizes(params, name)


def _parts(at: Location, params: Params, phase: Phase) -> Findings:
    read: list[str] = []
    for part, amount in phase.parts.items():
        if part not in params.corpora:
            yield (*at, part), unknown_row("corpora", part, params.corpora)
        elif isinstance(amount, Replaced):
            yield from _replaced((*at, part, "replaced_by"), params, part, amount, phase)
        else:
            for earlier in read:
                yield from _overlap((*at, part), params, part, earlier)
            read.append(part)


def _overlap(at: Location, params: Params, part: str, earlier: str) -> Findings:
    """Refuse two corpora of one phase with the same raw pages, tagged or not."""
    both = _raw_pages(params, part) & _raw_pages(params, earlier)
    if both:
        yield (
            at,
            f"must not read what {earlier} reads (both hold {_described(both)}); leave one of them "
            "out, or change corpora so that each score is in one",
        )


def _replaced(at: Location, params: Params, part: str, amount: Replaced, phase: Phase) -> Findings:
    """Require a corpus that is made of what it replaces, and is not read in addition."""
    made = amount.replaced_by
    if made not in params.corpora:
        yield at, unknown_row("corpora", made, params.corpora)
        return
    if made in phase.parts:
        yield at, beside_replaced(made)
    replaced, writer = params.corpora[part], params.corpora[made].from_
    # Nothing is written from tagged documents.
    pages = replaced.pages if isinstance(replaced, ScoredCorpus) else set()
    read, row = _pages(params, made), row_of(params, writer)
    refusals = f"refuse/{row.from_}" if isinstance(row, Educate) else None
    if not pages & read and replaced.from_ != refusals:
        yield (
            at,
            f"must be made of documents of {part} (got {made}, which {writer} makes of "
            f"{_described(read)}); name another corpus",
        )


def beside_replaced(made: str) -> str:
    """Return the message that a corpus is read in addition to what it replaces."""
    return (
        f"must not be read beside what it replaces (got {made}, which is a part too); "
        "leave one of them out"
    )


def _sizes(params: Params, name: str) -> Findings:
    """Refuse phases and parts that are too small for a single row or step.

    The stage `mix` checks natural proportions, when the sizes of corpora are known.
    """
    mixture, mix = params.mixtures[name], params.mix
    shares = sum(phase.share for phase in mixture.phases)
    step = mix.batch_size * mix.sequence_length
    for index, phase in enumerate(mixture.phases):
        at: Location = ("mixtures", name, "phases", index)
        tokens = mix.tokens * phase.share / shares
        reserved = sum(phase.budget_shares.values()) * mix.tokens
        if tokens < step:
            yield (
                (*at, "share"),
                f"must be a step of {mix.batch_size} rows of {mix.sequence_length} at least (got "
                f"{tokens:.0f} tokens); write a larger share, or mix.tokens: "
                f"{int(step * shares / phase.share) + 1}",
            )
        if reserved >= tokens:
            yield (
                (*at, "parts", next(iter(phase.budget_shares))),
                "must leave room for the parts with a weight (the budget shares of this phase take "
                f"{reserved:,.0f} of its {tokens:,.0f} tokens); write a budget_share below "
                f"{phase.share / shares:.3g}, or a larger share",
            )
        for part, rows in _rows(phase, tokens - reserved, params).items():
            if round(rows) < 1:
                yield (
                    (*at, "parts", part.partition("-")[0]),
                    f"must be a sequence of {mix.sequence_length} tokens at least (got {rows:.2f} "
                    "of one); write a larger weight or budget_share, or leave the part out",
                )


def _rows(phase: Phase, left: float, params: Params) -> Weights:
    """Return the rows of each part whose size does not depend on the corpora."""
    length = params.mix.sequence_length
    rows: Weights = {}
    if phase.proportions == "fixed" and left > 0:
        weights = sum(phase.weights.values())
        for part, weight in phase.weights.items():
            rows[part] = left * weight / weights / length
    for part, share in phase.budget_shares.items():
        rows[part] = share * params.mix.tokens / length
    return rows


def _raw_pages(params: Params, part: str) -> Pages:
    """Return the raw pages of a corpus, tagged or not."""
    corpus = params.corpora[part]
    is_raw = isinstance(corpus, ScoredCorpus) or tags_of(corpus)
    return _pages(params, part) if is_raw else set()


def _pages(params: Params, part: str) -> Pages:
    """Return the scored pages that a corpus holds, or is made of."""
    corpus = params.corpora[part]
    if isinstance(corpus, ScoredCorpus):
        return corpus.pages
    row = row_of(params, corpus.from_)
    return row.pages if isinstance(row, Selection) else set()


def _described(pages: Pages) -> str:
    """Name the scores of some pages, source by source."""
    if not pages:
        return "other documents"
    by_source: dict[str, list[int]] = {}
    for source, score in sorted(pages):
        by_source.setdefault(source, []).append(score)
    return " and ".join(f"score {listed(scores)} of {name}" for name, scores in by_source.items())


def check_models(params: Params) -> Findings:
    """Check that each model's shape has room."""
    for name, model in params.models.items():
        shape = shape_of(params, model)
        if shape:
            yield from _fits(params, name, shape)


def _fits(params: Params, name: str, shape: Shape) -> Findings:
    at: Location = ("models", name, "shape")
    mix, vocab_size = params.mix, params.tokenizer.vocab_size
    if vocab_size > shape.vocab_size:
        yield (
            at,
            f"must have room for tokenizer.vocab_size (got {shape.vocab_size} in specs/shapes, the "
            f"tokenizer has {vocab_size}); write tokenizer.vocab_size: {shape.vocab_size} or use a "
            "larger shape",
        )
    # Where rows are documents, the number of steps is not known yet.
    if mix.layout == "packed":
        message = shape.short_of_warmup(mix.tokens, mix.batch_size, mix.sequence_length)
        if message:
            yield at, message
    for where, length in values_at(params, *LENGTHS):
        if length > shape.positions:
            yield (
                where,
                f"must be at most the {shape.positions} positions of shape "
                f"{params.models[name].shape} (got {length})",
            )
    micro_batch = shape.recipe.micro_batch
    if mix.batch_size % micro_batch:
        yield (
            ("mix", "batch_size"),
            f"must be a multiple of the shape's micro_batch {micro_batch} (got {mix.batch_size})",
        )
