"""Overlap of prompts with the training text, where a completion may come from memory.

The paper did not check this, although its synthetic requests and the benchmarks share categories.
The overlap of a prompt is exact if one document has all of its words in a row, and near if one
document has at least `min_share` of its n-grams. Case and punctuation do not count. A prompt of
fewer words than `ngram` is one n-gram.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.files import write_json
from safelm.builder.shards import tables, write_table
from safelm.evaluation.prompts import SuitePrompt, prompt_set
from safelm.stats.rates import DIGITS
from specs.document import OVERLAP
from specs.suite import AnySuite

WORD = re.compile(r"\w+")
SUMMARY_FILE, PROMPTS_FILE = "overlap.json", "prompts.parquet"
KINDS = ("exact", "near", "none")
# The demo world has other prompts for each of these stages.
STAGES = ("pretrain", "instruct")
# For each n-gram: the prompts that have it, each with its position there.
Occurrences = dict[tuple[str, ...], list[tuple[str, int]]]


@dataclass(frozen=True)
class Overlap:
    """The largest overlap of a prompt with one document: all of it, or a share of its n-grams."""

    is_exact: bool = False
    share: float = 0.0
    source: str | None = None

    def kind(self, min_share: float) -> str:
        """Return exact, near or none."""
        if self.is_exact:
            return "exact"
        return "near" if self.share >= min_share else "none"


class OverlapIndex:
    """Index of the prompts' n-grams, with the largest overlap of each prompt so far."""

    def __init__(self, prompts: Iterable[tuple[str, str]], ngram: int) -> None:
        self.overlaps: dict[str, Overlap] = {}
        # The number of n-grams of each prompt.
        self.sizes: dict[str, int] = {}
        # By the length of n-grams, because short prompts have shorter ones.
        self.occurrences: dict[int, Occurrences] = {}
        for id, text in prompts:
            words = _words(text)
            if words and id not in self.overlaps:
                self._add_prompt(id, words, min(ngram, len(words)))

    def _add_prompt(self, id: str, words: Sequence[str], length: int) -> None:
        self.overlaps[id] = Overlap()
        self.sizes[id] = len(words) - length + 1
        occurrences = self.occurrences.setdefault(length, defaultdict(list))
        for position, gram in enumerate(_ngrams(words, length)):
            occurrences[gram].append((id, position))

    def add_document(self, text: str, source: str) -> None:
        """Record the overlap of a document with each prompt, if no earlier one has as much."""
        words = _words(text)
        # The n-grams of each prompt that the document has, by their position in the prompt.
        positions: dict[str, set[int]] = defaultdict(set)
        # The same, counted by the place in the document at which the prompt would begin.
        aligned: Counter[tuple[str, int]] = Counter()
        for length, occurrences in self.occurrences.items():
            for start, gram in enumerate(_ngrams(words, length)):
                for id, position in occurrences.get(gram, ()):
                    positions[id].add(position)
                    aligned[id, start - position] += 1
        # All n-grams at one place are the whole prompt.
        exact = {id for (id, _), count in aligned.items() if count == self.sizes[id]}
        for id, found in positions.items():
            is_exact = id in exact
            share = len(found) / self.sizes[id]
            best = self.overlaps[id]
            # Strictly greater, so that the first of equal sources is named.
            if (is_exact, share) > (best.is_exact, best.share):
                self.overlaps[id] = Overlap(is_exact, share, source)


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _ngrams(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    tails = [words[start:] for start in range(length)]
    return zip(*tails, strict=False)


def find_overlap(
    folder: Path,
    *,
    suites: Mapping[str, AnySuite],
    texts: Mapping[str, Path],
    max_prompts: int,
    seed: int,
    ngram: int,
    min_share: float,
) -> list[str]:
    """Look for every prompt in every document of `texts`; write prompts.parquet and overlap.json.

    One process reads each text once, at some ten million words a minute. Returns a summary.
    """
    prompts = list(_prompts(suites, max_prompts, seed))
    index = OverlapIndex([(prompt.id, prompt.text) for prompt in prompts], ngram)
    for source, path in texts.items():
        for text in _documents(path):
            index.add_document(text, source)
    rows = []
    counts: dict[str, Counter[str]] = {}
    for prompt in prompts:
        # A prompt without a word is not in the index.
        found = index.overlaps.get(prompt.id, Overlap())
        kind = found.kind(min_share)
        rows.append(
            {
                "suite": prompt.suite,
                "id": prompt.id,
                "overlap": kind,
                "share": round(found.share, DIGITS),
                "source": found.source,
            }
        )
        # Every kind is counted, even one that no prompt has.
        of_suite = counts.setdefault(prompt.suite, Counter(dict.fromkeys(KINDS, 0)))
        of_suite[kind] += 1
    write_table(rows, OVERLAP, folder / PROMPTS_FILE)
    summary = {"ngram": ngram, "share": min_share, "texts": sorted(texts), "suites": counts}
    write_json(folder / SUMMARY_FILE, summary, sort_keys=True)
    return [_line(name, count) for name, count in counts.items()]


def _prompts(suites: Mapping[str, AnySuite], limit: int, seed: int) -> Iterator[SuitePrompt]:
    """Yield every prompt that some model is given, once."""
    seen: set[tuple[str, str]] = set()
    for name, suite in suites.items():
        if suite.kind == "utility":
            continue
        for stage in STAGES:
            chosen = prompt_set(name, suite, stage=stage, limit=limit, seed=seed)
            for prompt in chosen.prompts:
                if (name, prompt.id) not in seen:
                    seen.add((name, prompt.id))
                    yield prompt


def _documents(path: Path) -> Iterator[str]:
    for table in tables(path, ["text", "prompt"]):
        for row in table.to_pylist():
            # The prompt of a dialogue comes before its answer; a page has none.
            parts = [part for part in (row["prompt"], row["text"]) if part is not None]
            yield "\n".join(parts)


def _line(name: str, count: Mapping[str, int]) -> str:
    total = sum(count.values())
    kinds = f"{count['exact']:,} exact, {count['near']:,} near"
    return f"overlap {name:<24} {total:>6,} prompts: {kinds}"
