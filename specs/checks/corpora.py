"""Checks between sources, engines, tags, corpora and the tokenizer."""

from collections.abc import Iterator
from pathlib import Path

from specs.corpus import WholeCorpus
from specs.messages import Finding, Location, listed, unknown_row
from specs.params import Finetune, Params, TokenizerStage
from specs.tokens import END, SPECIAL, ids_in

# The first tokens of a byte-level vocabulary.
BYTES = 256


def check_sources(params: Params) -> Iterator[Finding]:
    """Require a source `web`, and a file or folder for each source."""
    if "web" not in params.sources:
        yield ("sources",), "must have a row `web`: the documents that are scored; add it"
    for name, source in params.sources.items():
        if not Path(source.path).exists():
            yield (
                ("sources", name, "path"),
                f"must be a file or folder that exists (got {source.path})"
                f"{_pattern_hint(source.path)}",
            )


def _pattern_hint(path: str) -> str:
    """Return what to write instead of a pattern, because DVC watches files and folders."""
    if "*" not in path:
        return ""
    folder, _, pattern = path.rpartition("/")
    return f"; write path: {folder or '.'} and files: '{pattern}'"


def check_rewriting(params: Params) -> Iterator[Finding]:
    """Check the scores and engines of the writers, and the bounds of written text."""
    rephrase, refuse, gates = params.rephrase, params.refuse, params.gates
    for block, scores in (("rephrase", rephrase.scores), ("refuse", refuse.scores)):
        yield from _unsafe_only((block,), scores)
    both = sorted(set(rephrase.scores) & set(refuse.scores))
    if both:
        rest = [score for score in refuse.scores if score not in both]
        yield (
            ("refuse", "scores"),
            f"must not claim what rephrase claims (both have {listed(both)}): a document is "
            f"rewritten once; write scores: {rest}",
        )
    for block in ("rephrase", "refuse", "educate"):
        engine = getattr(params, block).engine
        if engine not in params.engines:
            yield (block, "engine"), unknown_row("engines", engine, params.engines)
    if gates.min_words > gates.max_words:
        yield (
            ("gates", "min_words"),
            f"must not be above max_words: {gates.max_words} (got {gates.min_words}); "
            "write a smaller one",
        )


def _unsafe_only(at: Location, scores: list[int]) -> Iterator[Finding]:
    if 0 in scores:
        yield (
            (*at, "scores"),
            f"must not hold 0, the score of safe text (got {scores}); leave 0 out",
        )
    if len(set(scores)) < len(scores):
        yield (*at, "scores"), f"must name a score once (got {scores}); write {sorted(set(scores))}"


def check_tags(params: Params) -> Iterator[Finding]:
    """Require that only raw unsafe text of the web is tagged (paper §4)."""
    for name, row in params.tags.items():
        if row.from_ != "clean/web":
            yield (
                ("tags", name, "from"),
                f"must be clean/web (got {row.from_}): only raw scored text is tagged, never safe "
                "or synthetic text (paper §4); write from: clean/web",
            )
        if 0 in row.scores:
            yield (
                ("tags", name, "scores"),
                f"must not hold 0 (got {row.scores}): safe text never carries the tag (paper §4); "
                "leave 0 out",
            )
        else:
            yield from _unsafe_only(("tags", name), row.scores)
    if params.instruct.tag not in params.tags:
        yield ("instruct", "tag"), unknown_row("tags", params.instruct.tag, params.tags)


def check_corpora(params: Params) -> Iterator[Finding]:
    """Check the origins of corpora, and that corpora of the web select scores."""
    for name, corpus in params.corpora.items():
        origin, _, row = corpus.from_.partition("/")
        at: Location = ("corpora", name, "from")
        if origin == "clean" and row not in params.sources:
            yield at, unknown_row("sources", row, params.sources)
        elif origin == "clean" and params.sources[row].is_dialogue:
            yield at, f"must name a source of pages (got {row}, which has a `prompt`: dialogues)"
        elif origin == "tag" and row not in params.tags:
            yield at, unknown_row("tags", row, params.tags)
        if isinstance(corpus, WholeCorpus) and corpus.from_ == "clean/web":
            yield (
                ("corpora", name),
                "must say which scores of the web it reads; add the line `scores: [0]`",
            )


def check_dialogues(params: Params) -> Iterator[Finding]:
    """Require dialogues for instruct and finetune, and checkpoints that finetuning reaches."""
    for block in ("instruct", "finetune"):
        source = getattr(params, block).source
        if source not in params.sources:
            yield (block, "source"), unknown_row("sources", source, params.sources)
        elif not params.sources[source].is_dialogue:
            yield (
                (block, "source"),
                f"must hold dialogues (got {source}, which has no `prompt`); name another source, "
                "or add the field of the request",
            )
    yield from _checkpoints(params.finetune)


def _checkpoints(finetune: Finetune) -> Iterator[Finding]:
    size, end = finetune.batch_size, finetune.examples * finetune.epochs
    last = (end - 1) // size * size
    for index, pairs in enumerate(finetune.checkpoints):
        if pairs % size or pairs >= end:
            yield (
                ("finetune", "checkpoints", index),
                f"must be a multiple of finetune.batch_size, {last} at most (got {pairs}); "
                "the end is evaluated anyway",
            )


def check_tokenizer(tokenizer: TokenizerStage) -> Iterator[Finding]:
    """Check the size of the vocabulary, and a tokenizer that is taken from a folder."""
    least = len(SPECIAL) + BYTES
    if tokenizer.vocab_size <= least:
        yield (
            ("tokenizer", "vocab_size"),
            f"must be above {least}: 256 bytes and the special tokens (got {tokenizer.vocab_size})",
        )
    if tokenizer.path is not None:
        yield from _taken_tokenizer(tokenizer.path, tokenizer.vocab_size)


def _taken_tokenizer(path: str, vocab_size: int) -> Iterator[Finding]:
    at: Location = ("tokenizer", "path")
    try:
        ids = ids_in(Path(path) / "tokenizer.json")
    except (OSError, ValueError):
        yield at, f"must be a folder with tokenizer.json, or null to train one (got {path})"
        return
    missing = [token for token in SPECIAL if token not in ids]
    size = 1 + max(ids.values()) + len(missing)
    if ids.get(END) != 0:
        yield (
            at,
            f"must have {END} as token 0, as SmolLM2 has (got {ids.get(END)} in {path}); "
            "use another tokenizer",
        )
    elif size > vocab_size:
        yield (
            ("tokenizer", "vocab_size"),
            f"must have room for the {size:,} tokens of {path}, {listed(SPECIAL)} included "
            f"(got {vocab_size:,}); write {size}, and use shapes that have room for it",
        )
