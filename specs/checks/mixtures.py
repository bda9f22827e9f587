"""Check mixtures and models of params.yaml against each other."""

from collections.abc import Iterator

from specs.checks.evaluation import Finding, words
from specs.corpus import ScoredCorpus, WholeCorpus, scores_of, tags_of
from specs.mixture import Phase, Replaced
from specs.params import Params
from specs.shape import SHAPES, Shape
from specs.yaml_source import Location


def _mixtures(params: Params) -> Iterator[Finding]:
    for name, mixture in params.mixtures.items():
        for index, phase in enumerate(mixture.phases):
            at: Location = ("mixtures", name, "phases", index, "parts")
            known = [part for part in phase.parts if part in params.corpora]
            for part in phase.parts:
                if part not in params.corpora:
                    yield (
                        (*at, part),
                        f"must be a row of corpora (rows are {words(params.corpora)}); add it there",
                    )
            yield from _overlaps(
                params, at, [part for part in known if not isinstance(phase.parts[part], Replaced)]
            )
            for part in known:
                if isinstance(made := phase.parts[part], Replaced):
                    yield from _replaced((*at, part), params, part, made.replaced_by, phase)
        yield from _sizes(params, name)


def _replaced(
    at: Location, params: Params, part: str, made: str, phase: Phase
) -> Iterator[Finding]:
    """What stands in for a corpus was made of its documents, and is not read a second time under
    its own name.
    """
    if made not in params.corpora:
        yield (
            (*at, "replaced_by"),
            f"must be a row of corpora (got {made}; rows are {words(params.corpora)})",
        )
        return
    if made in phase.parts:
        yield (
            (*at, "replaced_by"),
            f"must not be read beside what it replaces (got {made}, which is a part too); leave one of them out",
        )
    writer, scores = (
        params.corpora[made].from_,
        set(scores_of(params.corpora[part]) or []),
    )  # not of what has tags
    wanted = {
        "rephrase": set(params.rephrase.scores),
        "refuse": set(params.refuse.scores),
        "tag": _raw_scores(params, made),
    }.get(writer.partition("/")[0], set())
    if not (scores & wanted or (writer == "educate" and params.corpora[part].from_ == "refuse")):
        yield (
            (*at, "replaced_by"),
            f"must be made of documents of {part} (got {made}, which {writer} makes of "
            f"{f'the scores {words(sorted(wanted))}' if wanted else 'others'}); name another corpus",
        )


def _overlaps(params: Params, at: Location, parts: list[str]) -> Iterator[Finding]:
    """A page must not be read twice in one phase under two names, tagged pages included."""
    for index, part in enumerate(parts):
        for earlier in parts[:index]:
            both = sorted(_raw_scores(params, part) & _raw_scores(params, earlier))
            if both:
                yield (
                    (*at, part),
                    f"must not read what {earlier} reads (both hold the web's score {words(both)}); "
                    "leave one of them out, or change corpora so that each score is in one",
                )


def _sizes(params: Params, name: str) -> Iterator[Finding]:
    """What rounds to nothing whatever the corpora hold; `mix` checks natural proportions, when
    sizes are known.
    """
    mixture, mix = params.mixtures[name], params.mix
    shares = sum(phase.share for phase in mixture.phases)
    for index, phase in enumerate(mixture.phases):
        tokens = mix.tokens * phase.share / shares
        reserved = sum(phase.budget_shares.values()) * mix.tokens
        at: Location = ("mixtures", name, "phases", index)
        if tokens < mix.batch_size * mix.sequence_length:
            yield (
                (*at, "share"),
                f"must be a step of {mix.batch_size} rows of {mix.sequence_length} at least (got {tokens:.0f} tokens); "
                f"write a larger share, or mix.tokens: {int(mix.batch_size * mix.sequence_length * shares / phase.share) + 1}",
            )
        if reserved >= tokens:
            yield (
                (*at, "parts", next(iter(phase.budget_shares))),
                f"must leave room for the parts with a weight (the budget shares of this phase take {reserved:,.0f} of its "
                f"{tokens:,.0f} tokens); write a budget_share below {phase.share / shares:.3g}, or a larger share",
            )
        fixed = phase.weights if phase.proportions == "fixed" and reserved < tokens else {}
        rows = {
            part: (tokens - reserved) * weight / sum(fixed.values()) / mix.sequence_length
            for part, weight in fixed.items()
        }
        rows |= {
            part: share * mix.tokens / mix.sequence_length
            for part, share in phase.budget_shares.items()
        }
        for part, count in rows.items():
            if round(count) < 1:
                yield (
                    (*at, "parts", part.partition("-")[0]),
                    f"must be a sequence of {mix.sequence_length} tokens at least (got {count:.2f} of one); "
                    "write a larger weight or budget_share, or leave the part out",
                )


def _raw_scores(params: Params, part: str) -> set[int]:
    corpus: ScoredCorpus | WholeCorpus = params.corpora[part]
    row = tags_of(corpus)
    if row in params.tags:
        return set(params.tags[row].scores)
    return set(scores_of(corpus) or [])


def _models(params: Params) -> Iterator[Finding]:
    shapes = sorted(path.stem for path in SHAPES.glob("*.yaml"))
    for name, model in params.models.items():
        if model.mixture not in params.mixtures:
            yield (
                ("models", name, "mixture"),
                f"must be a row of mixtures (got {model.mixture}; rows are {words(params.mixtures)})",
            )
        if model.shape not in shapes:
            yield (
                ("models", name, "shape"),
                f"must be a file of specs/shapes (got {model.shape}; files are {words(shapes)})",
            )
        else:
            yield from _fits(params, name, Shape.read(model.shape))


def _fits(params: Params, name: str, shape: Shape) -> Iterator[Finding]:
    at: Location = ("models", name, "shape")
    if params.tokenizer.vocab_size > shape.vocabulary:
        yield (
            at,
            f"must have room for tokenizer.vocab_size (got {shape.vocabulary} in specs/shapes, the tokenizer has "
            f"{params.tokenizer.vocab_size}); write tokenizer.vocab_size: {shape.vocabulary} or take a larger shape",
        )
    mix = params.mix
    if mix.layout == "packed" and (
        wrong := shape.short_of_warmup(mix.tokens, mix.batch_size, mix.sequence_length)
    ):
        yield at, wrong
    for block, sequence in [
        ("mix", params.mix.sequence_length),
        ("instruct", params.instruct.sequence_length),
        ("finetune", params.finetune.sequence_length),
    ]:
        if sequence > shape.positions:
            yield (
                (block, "sequence_length"),
                f"must be at most the {shape.positions} positions of shape "
                f"{params.models[name].shape} (got {sequence})",
            )
    if params.mix.batch_size % shape.recipe.micro_batch:
        yield (
            ("mix", "batch_size"),
            f"must be a multiple of the shape's micro_batch {shape.recipe.micro_batch} (got {params.mix.batch_size})",
        )
