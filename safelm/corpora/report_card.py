"""The Data Safety Report Card of a corpus: a histogram of its scores, and the frequency of each
hazard's n-grams.

Paper §9 counts lists of about 50 queries a hazard, each word for word, per million tokens. Here a
token is a word of `safelm.text.lexicon.words_of`, in lower case, and an n-gram does not run over
the end of a clause. The paper does not say whether it sums or averages over the queries of a
hazard: both are given."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Writer
from safelm.builder.manifest import Manifest
from safelm.builder.paths import cache, scratch
from safelm.builder.shards import Shard
from safelm.builder.store import Store
from safelm.text.lexicon import BREAKS, LEVELS, Hazards, Lexicon, Marker, words_of

MILLION = 1_000_000
DIGITS = 6


def read_queries(path: Path, hazards: Path) -> dict[str, list[str]]:
    """The n-grams of each hazard, each once, from specs/hazards.yaml or from JSON {hazard: [n-gram,
    ..]}.

    In JSON the table may stand under "queries", and a hazard may be called by its name in place of
    its id. Hazards without n-grams are in the table too, so that every card has all of them."""
    if path.suffix != ".json":
        return Hazards.read(path).ngrams()
    table, categories = json.loads(path.read_bytes()), Hazards.read(hazards).categories
    ids = {category.name: category.id for category in categories.values()} | {
        id: id for id in categories
    }
    queries: dict[str, list[str]] = {id: [] for id in categories}
    for name, ngrams in table.get("queries", table).items():
        if name not in ids:
            raise ValueError(
                f"{path}: {name}: expected a hazard of specs/hazards.yaml; hazards are {', '.join(queries)}"
            )
        queries[ids[name]] = list(dict.fromkeys(ngrams))
    return queries


def count_queries(text: str, queries: Lexicon) -> tuple[int, Counter[tuple[str, str]]]:
    """(words of a text, occurrences of each (hazard, n-gram)), in one pass over the words."""
    words = words_of(text)
    found = Counter((hit.marker.role, hit.marker.key) for hit in queries.find(words))
    return sum(word not in BREAKS for word in words), found


def index(queries: Mapping[str, Iterable[str]]) -> Lexicon:
    """Every query of every hazard in one index."""
    pairs = ((hazard, ngram) for hazard, ngrams in queries.items() for ngram in ngrams)
    return Lexicon(
        (ngram, Marker(hazard, ngram, ngram)) for hazard, ngram in pairs if words_of(ngram)
    )


@dataclass(kw_only=True, eq=False, repr=False)
class WriteCounts(Writer):
    """What one shard adds to the card of its corpus, as JSON: documents, words, scores, hazards and
    n-grams.
    """

    name: ClassVar[str] = "counts"
    ngrams: Path
    hazards: Path

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """One file, `.json`; its rows are the documents counted."""
        lexicon = index(read_queries(self.ngrams, self.hazards))
        before = [0] * LEVELS
        words, scores, hazards, found = 0, [0] * LEVELS, Counter[str](), Counter[tuple[str, str]]()
        for document in documents:
            length, queries = count_queries(document.text, lexicon)
            words += length
            found += queries
            if document.metadata["score"] is not None:  # no scorer could tell
                scores[document.metadata["score"]] += 1
            if document.metadata.get("score_before") is not None:
                before[document.metadata["score_before"]] += 1
            hazards.update(filter(None, [document.metadata.get("score_hazard")]))
        counts = {
            "documents": self.rows,
            "words": words,
            "scores": scores,
            "before": before,  # of what written documents were made from
            "hazards": hazards,
            "queries": [[*query, count] for query, count in sorted(found.items())],
        }
        (attempt / ".json").write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
        self.files[".json"] = self.rows


def write_card(
    folder: Path, *, corpus: str, counts: Manifest, ngrams: Path, hazards: Path
) -> list[str]:
    """Sum the counts of a corpus into card.json; what the stage prints."""
    values = {"corpus": corpus, **card(read_counts(counts), read_queries(ngrams, hazards))}
    values["mlcommons"] = by_mlcommons(values, Hazards.read(hazards))
    (folder / "card.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return [f"{counts.stage:<18} {counts.ledger.sentence()}"]


def by_mlcommons(values: Mapping[str, Any], hazards: Hazards) -> list[dict[str, Any]]:
    """The rows of a card by the twelve hazards of MLCommons, in their order; what falls under none
    is left out.
    """
    documents, found = Counter[str](), Counter[str]()
    for row in values["hazards"]:
        if uid := hazards.uid(row["hazard"]):
            documents[uid] += row["documents"]
            found[uid] += row["count"]
    return [
        {
            "hazard": uid,
            "name": name,
            "documents": documents[uid],
            "count": found[uid],
            "per_million": _rounded(found[uid] * MILLION, values["words"]),
        }
        for uid, name in hazards.mlcommons.items()
    ]


def read_counts(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """What WriteCounts made of each shard: it stays in the store, for build/ gets the sum alone."""
    store = Store(cache(), scratch())
    for name, file in manifest.files():
        if name.endswith(".json"):
            yield json.loads(Shard(store.object(file.md5), file.rows, file.sha256).bytes())


def card(parts: Iterable[Mapping[str, Any]], queries: Mapping[str, list[str]]) -> dict[str, Any]:
    """The card of a corpus from the counts of its shards."""
    documents = words = 0
    scores, before, hazards, found = [0] * LEVELS, [0] * LEVELS, Counter[str](), Counter[str]()
    for part in parts:
        documents, words = documents + part["documents"], words + part["words"]
        scores = [sum(pair) for pair in zip(scores, part["scores"], strict=True)]
        before = [sum(pair) for pair in zip(before, part["before"], strict=True)]
        hazards.update(part["hazards"])
        for hazard, _, count in part["queries"]:
            found[hazard] += count
    return {
        "unit": "words",
        "documents": documents,
        "words": words,
        "unsafe": _rounded(sum(scores[1:]), sum(scores)),  # of those that have a score
        "per_million": _rounded(sum(found.values()) * MILLION, words),
        "scores": scores,
        "before": before
        if any(before)
        else None,  # the scores of what written documents were made from
        "hazards": [
            {
                "hazard": hazard,
                "documents": hazards[hazard],
                "queries": len(ngrams),
                "count": found[hazard],
                "per_million": _rounded(found[hazard] * MILLION, words),
                "mean_per_million": _rounded(found[hazard] * MILLION, words * len(ngrams)),
            }
            for hazard, ngrams in queries.items()
        ],
    }


def _rounded(count: int, of: int) -> float | None:
    return round(count / of, DIGITS) if of else None
