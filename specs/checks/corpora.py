"""Check sources, engines, tags, corpora and the tokenizer of params.yaml against each other."""

from collections.abc import Iterator
from pathlib import Path

from specs.checks.evaluation import Finding, words
from specs.corpus import WholeCorpus
from specs.params import Params, TokenizerStage
from specs.tokens import END, SPECIAL, ids_in
from specs.yaml_source import Location


def _scores(params: Params) -> Iterator[Finding]:
    for block, scores in [("rephrase", params.rephrase.scores), ("refuse", params.refuse.scores)]:
        yield from _unsafe_only((block,), scores)
    both = sorted(set(params.rephrase.scores) & set(params.refuse.scores))
    if both:
        yield (
            ("refuse", "scores"),
            f"must not claim what rephrase claims (both have {words(both)}): a document is rewritten once; "
            f"write scores: {[score for score in params.refuse.scores if score not in both]}",
        )


def _engines(params: Params) -> Iterator[Finding]:
    for block in ("rephrase", "refuse", "educate"):
        engine = getattr(params, block).engine
        if engine not in params.engines:
            message = f"must be a row of engines (got {engine}; rows are {words(params.engines)}); add it there"
            yield (block, "engine"), message
    if params.gates.min_words > params.gates.max_words:
        least, most = params.gates.min_words, params.gates.max_words
        yield (
            ("gates", "min_words"),
            f"must not be above max_words (got {least}, and max_words: {most}); write a smaller one",
        )


def _unsafe_only(at: Location, scores: list[int]) -> Iterator[Finding]:
    if 0 in scores:
        yield (
            (*at, "scores"),
            f"must not hold 0, the score of safe text (got {scores}); leave 0 out",
        )
    if len(set(scores)) < len(scores):
        yield (*at, "scores"), f"must name a score once (got {scores}); write {sorted(set(scores))}"


def _tags(params: Params) -> Iterator[Finding]:
    for name, row in params.tags.items():
        if row.from_ != "ingest/web":
            yield (
                ("tags", name, "from"),
                f"must be ingest/web (got {row.from_}): only raw scored text is tagged, never safe or synthetic text "
                "(paper §4); write from: ingest/web",
            )
        if 0 in row.scores:
            yield (
                ("tags", name, "scores"),
                f"must not hold 0 (got {row.scores}): safe text never carries the tag (paper §4); leave 0 out",
            )
        else:
            yield from _unsafe_only(("tags", name), row.scores)
    if params.instruct.tag not in params.tags:
        yield (
            ("instruct", "tag"),
            f"must be a row of tags (got {params.instruct.tag}; rows are {words(params.tags)})",
        )


def _corpora(params: Params) -> Iterator[Finding]:
    for name, corpus in params.corpora.items():
        origin, _, source = corpus.from_.partition("/")
        at: Location = ("corpora", name, "from")
        if origin == "ingest" and source not in params.sources:
            yield at, f"must name a row of sources (got {source}; rows are {words(params.sources)})"
        elif origin == "ingest" and params.sources[source].is_dialogue:
            yield (
                at,
                f"must name a source of pages ({source} holds dialogues, as its `prompt` says)",
            )
        elif origin == "tag" and source not in params.tags:
            yield at, f"must name a row of tags (got {source}; rows are {words(params.tags)})"
        if isinstance(corpus, WholeCorpus) and corpus.from_ == "ingest/web":
            yield (
                ("corpora", name),
                "must say which scores of the web it reads; add the line `scores: [0]`",
            )


def _dialogues(params: Params) -> Iterator[Finding]:
    for block, source in [
        ("instruct", params.instruct.source),
        ("finetune", params.finetune.source),
    ]:
        if source not in params.sources:
            yield (
                (block, "source"),
                f"must be a row of sources (got {source}; rows are {words(params.sources)})",
            )
        elif not params.sources[source].is_dialogue:
            yield (
                (block, "source"),
                f"must hold dialogues (source {source} has no `prompt`); name another source, or add the field of the request",
            )
    tuning = params.finetune
    for place, pairs in enumerate(tuning.checkpoints):
        if pairs % tuning.batch_size or pairs >= tuning.examples * tuning.epochs:
            most = (tuning.examples * tuning.epochs - 1) // tuning.batch_size * tuning.batch_size
            yield (
                ("finetune", "checkpoints", place),
                f"must be a multiple of finetune.batch_size, {most} at most (got {pairs}); the end is evaluated anyway",
            )
    if "web" not in params.sources:
        yield ("sources",), "must have a row `web`: the documents that are scored"


def _tokenizer(asked: TokenizerStage) -> Iterator[Finding]:
    """What a tokenizer must have room for; and what one that is taken must have."""
    if asked.vocab_size <= len(SPECIAL) + 256:
        yield (
            ("tokenizer", "vocab_size"),
            f"must be above {len(SPECIAL) + 256}: 256 bytes and the special tokens (got {asked.vocab_size})",
        )
    if asked.path is None:
        return
    at: Location = ("tokenizer", "path")
    try:
        ids = ids_in(Path(asked.path) / "tokenizer.json")
    except (OSError, ValueError):
        yield at, f"must be a folder with tokenizer.json, or null to train one (got {asked.path})"
        return
    if ids.get(END) != 0:
        yield (
            at,
            f"must have {END} as token 0, as SmolLM2 has (got {ids.get(END)} in {asked.path}); take another",
        )
    elif (
        size := 1 + max(ids.values()) + sum(token not in ids for token in SPECIAL)
    ) > asked.vocab_size:
        yield (
            ("tokenizer", "vocab_size"),
            f"must have room for the {size:,} tokens of {asked.path}, {words(SPECIAL)} included "
            f"(got {asked.vocab_size:,}); write {size}, and take shapes that have room for it",
        )
