"""The Data Safety Report Card of a corpus: its score histogram and counts of hazard n-grams.

Paper §9 counts lists of about 50 n-grams per hazard, as frequencies per million tokens. Here a
token is a lower-case word as `safelm.text.lexicon.words_of` splits it, and an n-gram never crosses
the end of a clause.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Writer
from safelm.builder.files import write_json
from safelm.builder.manifest import Manifest
from safelm.builder.paths import cache, scratch
from safelm.builder.shards import Shard
from safelm.builder.store import Store
from safelm.text.hazards import Hazards
from safelm.text.lexicon import BREAKS, Lexicon, Marker, words_of
from specs.spec import SCORE_LEVELS

MILLION = 1_000_000
# Digits of a rate in card.json.
DIGITS = 6


def read_queries(path: Path, hazards: Path) -> dict[str, list[str]]:
    """Read the n-grams of each hazard, without duplicates.

    A JSON file maps hazards, by id or full name, to lists of n-grams, at the top level or under the
    key "queries".

    Args:
        path: the n-grams: a file like specs/hazards.yaml, or JSON.
        hazards: specs/hazards.yaml.

    Raises:
        ValueError: the JSON file names an unknown hazard.
    """
    if path.suffix != ".json":
        return Hazards.read(path).ngrams()
    table = json.loads(path.read_bytes())
    categories = Hazards.read(hazards).categories
    ids = {category.name: category.id for category in categories.values()}
    # The paper's lists have full names, ours have ids.
    ids.update(zip(categories, categories, strict=True))
    # Every card has a row for each hazard, also for one without n-grams.
    queries: dict[str, list[str]] = {id: [] for id in categories}
    for name, ngrams in table.get("queries", table).items():
        if name not in ids:
            raise ValueError(
                f"{path}: {name}: expected a hazard of specs/hazards.yaml; "
                f"hazards are {', '.join(queries)}"
            )
        # The paper prints two lists with a duplicate, which would be counted twice.
        queries[ids[name]] = list(dict.fromkeys(ngrams))
    return queries


def index_queries(queries: Mapping[str, Iterable[str]]) -> Lexicon:
    """Build one index over the queries of all hazards."""
    terms = []
    for hazard, ngrams in queries.items():
        terms += [(ngram, Marker(hazard, ngram, ngram)) for ngram in ngrams if words_of(ngram)]
    return Lexicon(terms)


def count_queries(text: str, queries: Lexicon) -> tuple[int, Counter[tuple[str, str]]]:
    """Count the words of a text and each (hazard, n-gram) in it, in one pass over the words."""
    words = words_of(text)
    markers = [hit.marker for hit in queries.find(words)]
    counts = Counter((marker.role, marker.key) for marker in markers)
    # `words` also has the marks that end a clause.
    return sum(word not in BREAKS for word in words), counts


@dataclass(kw_only=True, eq=False, repr=False)
class WriteCounts(Writer):
    """Write the counts of one shard, from which the card of its corpus is summed, as JSON.

    Attributes:
        ngrams: the file that `read_queries` reads.
        hazards: specs/hazards.yaml.
    """

    name: ClassVar[str] = "counts"
    ngrams: Path
    hazards: Path

    def write(self, documents: Iterator[Document], folder: Path) -> None:
        """Write one file, `.json`; its rows are the documents counted."""
        lexicon = index_queries(read_queries(self.ngrams, self.hazards))
        words = 0
        scores = [0] * SCORE_LEVELS
        scores_before = [0] * SCORE_LEVELS
        hazards: Counter[str] = Counter()
        queries: Counter[tuple[str, str]] = Counter()
        for document in documents:
            metadata = document.metadata
            document_words, document_queries = count_queries(document.text, lexicon)
            words += document_words
            queries += document_queries
            # A score is null where no scorer could judge the document.
            if metadata["score"] is not None:
                scores[metadata["score"]] += 1
            if metadata.get("score_before") is not None:
                scores_before[metadata["score_before"]] += 1
            if metadata.get("score_hazard"):
                hazards[metadata["score_hazard"]] += 1
        counts = {
            "documents": self.rows,
            "words": words,
            "scores": scores,
            # The scores of the documents that synthetic ones were written from.
            "before": scores_before,
            "hazards": hazards,
            "queries": [[*query, count] for query, count in sorted(queries.items())],
        }
        (folder / ".json").write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
        self.files[".json"] = self.rows


def write_card(
    folder: Path,
    *,
    corpus: str,
    counts: Manifest,
    ngrams: Path,
    hazards: Path,
) -> list[str]:
    """Sum the shards' counts into card.json and return the lines that the stage prints."""
    values = {"corpus": corpus, **card(read_counts(counts), read_queries(ngrams, hazards))}
    values["mlcommons"] = by_mlcommons(values, Hazards.read(hazards))
    write_json(folder / "card.json", values)
    return [f"{counts.stage:<18} {counts.ledger.summary()}"]


def read_counts(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the counts that WriteCounts made of each shard."""
    # From the store, because only their sum is installed into build/.
    store = Store(cache(), scratch())
    for name, file in manifest.files():
        if name.endswith(".json"):
            shard = Shard(store.object(file.md5), file.rows, file.sha256)
            yield json.loads(shard.bytes())


def card(parts: Iterable[Mapping[str, Any]], queries: Mapping[str, list[str]]) -> dict[str, Any]:
    """Build the card of a corpus from the counts of its shards and the n-grams of each hazard."""
    documents = words = 0
    scores = [0] * SCORE_LEVELS
    scores_before = [0] * SCORE_LEVELS
    hazards: Counter[str] = Counter()
    matches: Counter[str] = Counter()
    for part in parts:
        documents += part["documents"]
        words += part["words"]
        scores = [sum(pair) for pair in zip(scores, part["scores"], strict=True)]
        scores_before = [sum(pair) for pair in zip(scores_before, part["before"], strict=True)]
        hazards.update(part["hazards"])
        for hazard, _, count in part["queries"]:
            matches[hazard] += count
    rows = [
        {
            "hazard": hazard,
            "documents": hazards[hazard],
            "queries": len(ngrams),
            "count": matches[hazard],
            # Paper §9 does not say whether it sums or averages over the n-grams of a hazard.
            "per_million": _ratio(matches[hazard] * MILLION, words),
            "mean_per_million": _ratio(matches[hazard] * MILLION, words * len(ngrams)),
        }
        for hazard, ngrams in queries.items()
    ]
    return {
        "unit": "words",
        "documents": documents,
        "words": words,
        # The share of the documents that have a score.
        "unsafe": _ratio(sum(scores[1:]), sum(scores)),
        "per_million": _ratio(matches.total() * MILLION, words),
        "scores": scores,
        "before": scores_before if any(scores_before) else None,
        "hazards": rows,
    }


def by_mlcommons(values: Mapping[str, Any], hazards: Hazards) -> list[dict[str, Any]]:
    """Regroup the rows of a card by the twelve hazards of MLCommons, in their order.

    A hazard that belongs to none of the twelve is left out.
    """
    documents: Counter[str] = Counter()
    matches: Counter[str] = Counter()
    for row in values["hazards"]:
        if uid := hazards.uid(row["hazard"]):
            documents[uid] += row["documents"]
            matches[uid] += row["count"]
    return [
        {
            "hazard": uid,
            "name": name,
            "documents": documents[uid],
            "count": matches[uid],
            "per_million": _ratio(matches[uid] * MILLION, values["words"]),
        }
        for uid, name in hazards.mlcommons.items()
    ]


def _ratio(count: int, of: int) -> float | None:
    return round(count / of, DIGITS) if of else None
