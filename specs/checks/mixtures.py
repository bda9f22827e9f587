"""Checks between mixtures, corpora and models."""

from specs.checks.references import row_of
from specs.checks.start import batch_of, recipe_of, shape_of
from specs.corpus import Educate, Pages, ScoredCorpus, Selection, tags_of
from specs.messages import Findings, Location, listed, unknown_row
from specs.mixture import Budget, Mixture, Model, Phase, Replaced, Weights
from specs.params import Params
from specs.shape import Shape
from specs.spec import values_at


def check_mixtures(params: Params) -> Findings:
    """Check the parts of every phase, and that none rounds to nothing."""
    for at, phase in values_at(params, "mixtures.*.phases.*"):
        yield from _parts((*at, "parts"), params, phase)
    # Models of one mixture may differ in their budget, and in the batch of their shape.
    read = {}
    for model in params.models.values():
        batch = batch_of(params, model)
        if batch and model.mixture in params.mixtures:
            read[model.mixture, model.budget, batch] = params.budgets[model.budget]
    for (name, row, batch), budget in read.items():
        yield from _sizes(params.mixtures[name], name, budget, row, batch)


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


def _sizes(mixture: Mixture, name: str, budget: Budget, row: str, batch: int) -> Findings:
    """Refuse phases and parts that are too small for a single row or step.

    The stage `mix` checks natural proportions, when the sizes of corpora are known.
    """
    shares = sum(phase.share for phase in mixture.phases)
    length = budget.sequence_length
    for index, phase in enumerate(mixture.phases):
        at: Location = ("mixtures", name, "phases", index)
        tokens = budget.tokens * phase.share / shares
        reserved = sum(phase.budget_shares.values()) * budget.tokens
        if tokens < batch * length:
            yield (
                (*at, "share"),
                f"must be a step of {batch} rows of {length} at least (got {tokens:.0f} tokens); "
                f"write a larger share, or budgets.{row}.tokens: "
                f"{int(batch * length * shares / phase.share) + 1}",
            )
        if reserved >= tokens:
            yield (
                (*at, "parts", next(iter(phase.budget_shares))),
                "must leave room for the parts with a weight (the budget shares of this phase take "
                f"{reserved:,.0f} of its {tokens:,.0f} tokens); write a budget_share below "
                f"{phase.share / shares:.3g}, or a larger share",
            )
        for part, rows in _rows(phase, tokens - reserved, budget).items():
            if round(rows) < 1:
                yield (
                    (*at, "parts", part.partition("-")[0]),
                    f"must be a sequence of {length} tokens at least (got {rows:.2f} "
                    "of one); write a larger weight or budget_share, or leave the part out",
                )


def _rows(phase: Phase, left: float, budget: Budget) -> Weights:
    """Return the rows of each part whose size does not depend on the corpora."""
    length = budget.sequence_length
    rows: Weights = {}
    if phase.proportions == "fixed" and left > 0:
        weights = sum(phase.weights.values())
        for part, weight in phase.weights.items():
            rows[part] = left * weight / weights / length
    for part, share in phase.budget_shares.items():
        rows[part] = share * budget.tokens / length
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
    """Check that each model's shape has room, and that its steps have one size."""
    for name, model in params.models.items():
        budget, recipe = params.budgets.get(model.budget), recipe_of(model)
        try:
            if budget and recipe:
                recipe.batch(budget)
        except ValueError as error:
            yield ("models", name, "shape"), str(error)
        shape = shape_of(params, model)
        if shape:
            yield from _fits(params, name, model, shape)


def _fits(params: Params, name: str, model: Model, shape: Shape) -> Findings:
    at: Location = ("models", name, "shape")
    budget, vocab_size = params.budgets.get(model.budget), params.tokenizer.vocab_size
    if vocab_size > shape.vocab_size:
        yield (
            at,
            f"must have room for tokenizer.vocab_size (got {shape.vocab_size} in specs/shapes, the "
            f"tokenizer has {vocab_size}); write tokenizer.vocab_size: {shape.vocab_size} or use a "
            "larger shape",
        )
    for table in ("budgets", "instruct", "finetune"):
        row = getattr(model, table.rstrip("s"))
        lengths = getattr(params, table).get(row)
        if lengths and lengths.sequence_length > shape.positions:
            yield (
                (table, row, "sequence_length"),
                f"must be at most the {shape.positions} positions of shape {model.shape} "
                f"(got {lengths.sequence_length})",
            )
    batch = batch_of(params, model)
    if budget is None or batch is None:
        return
    # Where rows are documents, the number of steps is not known yet.
    message = shape.short_of_warmup(budget) if budget.layout == "packed" else None
    if message:
        yield at, message
    micro_batch = shape.recipe.micro_batch
    if batch % micro_batch:
        yield (
            ("budgets", model.budget, "batch_size"),
            f"must be a multiple of the shape's micro_batch {micro_batch} (got {batch})",
        )
