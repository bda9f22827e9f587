"""Overlap of prompts with the training text: what such a prompt measures is memory, too.

The paper did not check this; its synthetic requests and the benchmarks share categories. A prompt
overlaps exactly where all of its words are in one document in their order, and nearly where one
document has at least `min_share` of its n-grams. Case and the marks between words do not count. A
prompt shorter than `ngram` is one n-gram.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.shards import tables, write_table
from safelm.evaluation.prompts import Prompt, prompt_set
from safelm.stats.rates import DIGITS
from specs.document import OVERLAP
from specs.suite import AnySuite

WORD = re.compile(r"\w+")
SUMMARY_FILE, PROMPTS_FILE = "overlap.json", "prompts.parquet"
KINDS = ("exact", "near", "none")
# The demo world has other prompts for each of these stages.
STAGES = ("pretrain", "instruct")
# N-gram: prompts that have it, and where in them.
Occurrences = dict[tuple[str, ...], list[tuple[str, int]]]


@dataclass(frozen=True)
class Overlap:
    """The most that one document has of a prompt: all, or a share of its n-grams."""

    is_exact: bool = False
    share: float = 0.0
    source: str | None = None

    def kind(self, min_share: float) -> str:
        """Return exact, near or none."""
        if self.is_exact:
            return "exact"
        return "near" if self.share >= min_share else "none"


class OverlapIndex:
    """N-grams of prompts, and the most that a document seen so far has of each prompt."""

    def __init__(self, prompts: Iterable[tuple[str, str]], ngram: int) -> None:
        self.overlaps: dict[str, Overlap] = {}
        # N-grams of each prompt.
        self.sizes: dict[str, int] = {}
        # By the length of n-grams, for prompts may have fewer words.
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
        """Record what a document has of each prompt, unless an earlier one has as much."""
        words = _words(text)
        positions: dict[str, set[int]] = defaultdict(set)
        # By (prompt, where it would begin): its n-grams that follow one another in the document.
        runs: Counter[tuple[str, int]] = Counter()
        for length, occurrences in self.occurrences.items():
            for start, gram in enumerate(_ngrams(words, length)):
                for id, position in occurrences.get(gram, ()):
                    positions[id].add(position)
                    runs[id, start - position] += 1
        exact = set()
        for (id, _), count in runs.items():
            if count == self.sizes[id]:
                exact.add(id)
        for id, found in positions.items():
            is_exact = id in exact
            share = len(found) / self.sizes[id]
            best = self.overlaps[id]
            # Strictly more, so that the first of equal sources is named.
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

    One process reads each text once: some ten million words a minute. Returns a summary.
    """
    prompts = list(_prompts(suites, max_prompts, seed))
    index = OverlapIndex([(prompt.id, prompt.text) for prompt in prompts], ngram)
    for source, path in texts.items():
        for table in tables(path, ["text", "prompt"]):
            for row in table.to_pylist():
                # The prompt of a dialogue is read before its answer; a page has none.
                parts = [part for part in (row["prompt"], row["text"]) if part is not None]
                index.add_document("\n".join(parts), source)
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
        # Every kind is listed, also one that no prompt is of.
        of_suite = counts.setdefault(prompt.suite, Counter(dict.fromkeys(KINDS, 0)))
        of_suite[kind] += 1
    write_table(rows, OVERLAP, folder / PROMPTS_FILE)
    summary = {"ngram": ngram, "share": min_share, "texts": sorted(texts), "suites": counts}
    text = json.dumps(summary, indent=1, sort_keys=True)
    (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
    return [_line(name, count) for name, count in counts.items()]


def _prompts(suites: Mapping[str, AnySuite], limit: int, seed: int) -> Iterator[Prompt]:
    """Yield every prompt that some model is given, once."""
    seen: set[tuple[str, str]] = set()
    for name, suite in suites.items():
        for stage in STAGES if suite.kind != "utility" else ():
            for prompt in prompt_set(name, suite, stage=stage, limit=limit, seed=seed).prompts:
                if (name, prompt.id) not in seen:
                    seen.add((name, prompt.id))
                    yield prompt


def _line(name: str, count: Mapping[str, int]) -> str:
    total = sum(count.values())
    kinds = f"{count['exact']:,} exact, {count['near']:,} near"
    return f"overlap {name:<24} {total:>6,} prompts: {kinds}"
