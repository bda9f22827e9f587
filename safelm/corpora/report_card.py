"""The Data Safety Report Card of a corpus: its score histogram and counts of hazard n-grams.

Paper §9 counts lists of about 50 n-grams per hazard, as frequencies per million tokens. Here a
token is a word: letters and digits, with single hyphens and apostrophes among them, in any case. An
n-gram never crosses the end of a clause (. ! ? : line break).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from ahocorasick_rs import AhoCorasick

from safelm.builder.blocks import Documents, Writer
from safelm.builder.files import Json, write_json
from safelm.builder.manifest import Manifest
from safelm.builder.store import project_store
from safelm.documents.batches import batches
from safelm.text.hazards import Hazards
from specs.spec import SCORE_LEVELS

MILLION = 1_000_000
# The metadata by which a shard's documents are counted.
GROUP = ("score", "score_before", "score_hazard")
Group = tuple[Any, ...]
# Digits of a rate in card.json.
DIGITS = 6


# Applied in turn to a text in lower case with a space at both ends.
NORMALISATION = (
    ("\u2019", "'"),
    # A mark that ends a clause, with all but letters and digits around it.
    (r"[^\p{L}\p{N}]*[.!?:\n][^\p{L}\p{N}]*", " . "),
    # What stands between two words: a single hyphen or apostrophe is part of the word.
    (r"[^\p{L}\p{N}.]{2,}|[^\p{L}\p{N}.'-]", " "),
)
WORD = "[^ .]+"


def read_queries(path: Path, hazards: Path) -> dict[str, list[str]]:
    """Read the n-grams of each hazard, without duplicates.

    A YAML or JSON file maps hazards, by id or full name, to lists of n-grams, at the top level or
    under the key "queries". A file with the key "categories" is specs/hazards.yaml, whose acts and
    phrases are those of the demo world.

    Args:
        path: the n-grams.
        hazards: specs/hazards.yaml.

    Raises:
        ValueError: the file names an unknown hazard.
    """
    if path.suffix == ".json":
        table = json.loads(path.read_bytes())
    else:
        table = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    if "categories" in table:
        return Hazards.read(path).ngrams()
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


def normalise(texts: Sequence[str]) -> pl.Series:
    """Write texts in lower case, with one space between words and " . " between clauses."""
    series = pl.Series([f" {text} " for text in texts], dtype=pl.String).str.to_lowercase()
    for pattern, replacement in NORMALISATION:
        series = series.str.replace_all(pattern, replacement)
    return series


class NgramIndex:
    """The n-grams of all hazards, found in one pass over a text."""

    def __init__(self, queries: Mapping[str, Iterable[str]]) -> None:
        """Index the n-grams of each hazard; one without a word is never found."""
        rows = [(hazard, ngram) for hazard in queries for ngram in queries[hazard]]
        patterns = normalise([ngram for _, ngram in rows])
        has_word = patterns.str.contains(WORD)
        self.ngrams = [row for row, is_kept in zip(rows, has_word, strict=True) if is_kept]
        # With the space on both sides, which a match has too, only whole words match.
        self.index = AhoCorasick(patterns.filter(has_word))

    def count(self, texts: Sequence[str]) -> Iterator[tuple[int, Counter[tuple[str, str]]]]:
        """Yield the words of each text and how often it has each (hazard, n-gram)."""
        normalised = normalise(texts)
        words = normalised.str.count_matches(WORD)
        for text, size in zip(normalised, words, strict=True):
            # Overlapping, because neighbouring n-grams share the space between them.
            matches = self.index.find_matches_as_indexes(text, overlapping=True)
            yield size, Counter(self.ngrams[number] for number, _, _ in matches)


class WriteCounts(Writer):
    """Write the counts of one shard, from which the card of its corpus is summed, as JSON.

    Attributes:
        ngrams: the file that `read_queries` reads.
        hazards: specs/hazards.yaml.
    """

    name = "counts"
    ngrams: Path
    hazards: Path

    def write(self, documents: Documents, folder: Path) -> None:
        """Write one file, `.json`; its rows are the documents counted."""
        index = NgramIndex(read_queries(self.ngrams, self.hazards))
        sizes: defaultdict[Group, Counter[str]] = defaultdict(Counter)
        matches: defaultdict[Group, Counter[str]] = defaultdict(Counter)
        for batch in batches(documents):
            counted = index.count([document.text for document in batch])
            for document, (words, found) in zip(batch, counted, strict=True):
                group = tuple(map(document.metadata.get, GROUP))
                sizes[group].update(documents=1, words=words)
                for (hazard, _), count in found.items():
                    matches[group][hazard] += count
        rows = []
        # By text, because null and numbers have no common order.
        for group in sorted(sizes, key=str):
            keys = dict(zip(GROUP, group, strict=True))
            rows.append({**keys, **sizes[group], "matches": matches[group]})
        (folder / ".json").write_text(json.dumps(rows, sort_keys=True), encoding="utf-8")
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


def read_counts(manifest: Manifest) -> Iterator[Json]:
    """Yield the rows of counts that WriteCounts made of all shards."""
    # From the store, because only their sum is installed into build/.
    store = project_store()
    for name, file in manifest.files():
        if name.endswith(".json"):
            yield from json.loads(store.shard(file).bytes())


def card(counts: Iterable[Json], queries: Mapping[str, list[str]]) -> Json:
    """Build the card of a corpus from its rows of counts and the n-grams of each hazard.

    `by_score` counts the n-grams again by the score of the source, so that the documents of a score
    can be compared with what was written from them (paper §9). A score of null is "None".
    """
    # By the values of each name of GROUP, null among them.
    documents: dict[str, Counter[Any]] = {name: Counter() for name in GROUP}
    sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    matches: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in counts:
        for name, counter in documents.items():
            counter[row[name]] += row["documents"]
        # By the score of the source: of the document, or of the one it was written from.
        before = row["score_before"]
        source = str(row["score"] if before is None else before)
        sizes[source].update(documents=row["documents"], words=row["words"])
        matches[source].update(row["matches"])
    # A score is null where no scorer could judge the document.
    scores = [documents["score"][level] for level in range(SCORE_LEVELS)]
    scores_before = [documents["score_before"][level] for level in range(SCORE_LEVELS)]
    size = sum(sizes.values(), Counter[str]())
    words = size["words"]
    total = sum(matches.values(), Counter[str]())
    rows = [
        {"hazard": hazard, "documents": documents["score_hazard"][hazard], **frequency}
        for hazard, frequency in _frequencies(total, words, queries).items()
    ]
    by_score = {}
    for score, of_score in sorted(sizes.items()):
        frequencies = _frequencies(matches[score], of_score["words"], queries)
        by_score[score] = {**of_score, "hazards": frequencies}
    return {
        "unit": "words",
        "documents": size["documents"],
        "words": words,
        # The share of the documents that have a score.
        "unsafe": _ratio(sum(scores[1:]), sum(scores)),
        "per_million": _ratio(total.total() * MILLION, words),
        "scores": scores,
        "before": scores_before if any(scores_before) else None,
        "hazards": rows,
        "by_score": by_score,
    }


def _frequencies(
    matches: Mapping[str, int],
    words: int,
    queries: Mapping[str, Sequence[str]],
) -> dict[str, Json]:
    """Return the count of each hazard's n-grams, and its rates per million words.

    Paper §9 does not say whether it sums or averages over the n-grams of a hazard, so both are
    given: `per_million` is the sum, `mean_per_million` the mean of an n-gram.
    """
    frequencies = {}
    for hazard, ngrams in queries.items():
        count = matches[hazard]
        frequencies[hazard] = {
            "queries": len(ngrams),
            "count": count,
            "per_million": _ratio(count * MILLION, words),
            "mean_per_million": _ratio(count * MILLION, words * len(ngrams)),
        }
    return frequencies


def by_mlcommons(values: Json, hazards: Hazards) -> list[Json]:
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
