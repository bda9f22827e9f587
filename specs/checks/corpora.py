"""Checks between sources, engines, tags, corpora and the tokenizer."""

from collections.abc import Iterator
from pathlib import Path

from specs.checks.references import GATES, TABLES, TUNING, row_of
from specs.corpus import ScoredCorpus, Selection, WholeCorpus
from specs.messages import Findings, Location, among, listed, unknown_row
from specs.params import Params
from specs.scorer import GivenLabels, Labels
from specs.spec import values_at
from specs.tokens import END, SPECIAL, ids_in

# Tables whose rows select documents by their scores, and why score 0 is not among these.
SELECTING = {
    "rephrase": "it is the score of safe text",
    "refuse": "it is the score of safe text",
    "tags": "safe text never carries the tag (paper §4)",
}
# The first tokens of a byte-level vocabulary.
BYTES = 256


def check_sources(params: Params) -> Findings:
    """Require pages for each source that is scored."""
    for at, name in values_at(params, "score.sources.*"):
        if name in dialogues(params):
            yield at, _not_pages(name)


def dialogues(params: Params) -> list[str]:
    """List the sources that hold requests with answers."""
    return [name for name, source in params.sources.items() if source.is_dialogue]


def _not_pages(source: str) -> str:
    return f"must name a source of pages (got {source}, which has a `prompt`: dialogues)"


def check_rewriting(params: Params) -> Findings:
    """Check the scorers that grade what is written, and the bounds of its length."""
    for at, gate in values_at(params, *GATES):
        row = params.scorers.get(gate)
        if isinstance(row, GivenLabels):
            yield (
                at,
                f"must grade any text (got {gate}, of kind {row.kind}, which knows documents of "
                "sources alone); name a judge or a classifier",
            )
    given = [name for name in params.score.scorers if isinstance(params.scorers.get(name), Labels)]
    for at, row in values_at(params, "rephrase.*", "refuse.*", "educate.*"):
        if given and row.gate is None:
            yield (
                at,
                f"must name a scorer of texts, as {listed(given)} of score.scorers are labels of "
                "documents; add gate: ROW, a row of scorers that is a judge or a classifier",
            )
    gates = params.gates
    if gates.min_words > gates.max_words:
        yield (
            ("gates", "min_words"),
            f"must not be above max_words: {gates.max_words} (got {gates.min_words}); "
            "write a smaller one",
        )


def check_selections(params: Params) -> Findings:
    """Check that documents are selected by scores that they have, and none by score 0."""
    for table, why_not_0 in SELECTING.items():
        for at, row in values_at(params, f"{table}.*"):
            for key, message in _selection(row, params.score.sources, why_not_0):
                yield (*at, key), message


def _selection(row: Selection, sources: list[str], why_not_0: str) -> Iterator[tuple[str, str]]:
    scores = row.scores
    if row.from_ not in sources:
        yield (
            "from",
            f"must be a source of score.sources {among(row.from_, 'those', sources)}; "
            "add it there, or name one of them",
        )
    if 0 in scores:
        yield "scores", f"must not hold 0 (got {scores}): {why_not_0}; leave 0 out"
    if len(set(scores)) < len(scores):
        yield "scores", f"must name a score once (got {scores}); write {sorted(set(scores))}"


def check_corpora(params: Params) -> Findings:
    """Check the origins of corpora, and that corpora of scored sources select scores."""
    for name, corpus in params.corpora.items():
        origin, _, row = corpus.from_.partition("/")
        at: Location = ("corpora", name, "from")
        is_scored = origin == "clean" and row in params.score.sources
        if row_of(params, corpus.from_) is None:
            table = TABLES[origin]
            yield at, unknown_row(table, row, getattr(params, table))
        elif origin == "clean" and row in dialogues(params):
            yield at, _not_pages(row)
        elif isinstance(corpus, ScoredCorpus) and not is_scored:
            yield (
                at,
                f"must be a source of score.sources, for its scores (got {row}; those are "
                f"{listed(params.score.sources)}); add it there, or leave out `scores`",
            )
        elif isinstance(corpus, WholeCorpus) and is_scored:
            yield (
                ("corpora", name),
                f"must say which scores of {row} it reads; add the line `scores: [0]`",
            )


def check_dialogues(params: Params) -> Findings:
    """Require dialogues for instruct and finetune, and checkpoints that finetuning reaches."""
    for at, source in values_at(params, *TUNING):
        if source in params.sources and source not in dialogues(params):
            yield (
                at,
                f"must hold dialogues (got {source}, which has no `prompt`); name another source, "
                "or add the field of the request",
            )
    for at, pairs in values_at(params, "finetune.*.checkpoints.*"):
        row = params.finetune[str(at[1])]
        size, end = row.batch_size, row.examples * row.epochs
        last = (end - 1) // size * size
        if pairs % size or pairs >= end:
            yield (
                at,
                f"must be a multiple of its batch_size, {last} at most (got {pairs}); "
                "the end is evaluated anyway",
            )


def check_tokenizer(params: Params) -> Findings:
    """Check the size of the vocabulary, and a tokenizer that is taken from a folder."""
    tokenizer, least = params.tokenizer, len(SPECIAL) + BYTES
    if tokenizer.vocab_size <= least:
        yield (
            ("tokenizer", "vocab_size"),
            f"must be above {least}: 256 bytes and the special tokens (got {tokenizer.vocab_size})",
        )
    if tokenizer.path is not None:
        yield from _taken_tokenizer(tokenizer.path, tokenizer.vocab_size)


def _taken_tokenizer(path: str, vocab_size: int) -> Findings:
    at: Location = ("tokenizer", "path")
    if not (Path(path) / "tokenizer.json").is_file():
        return
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
