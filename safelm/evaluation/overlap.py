"""Overlap of prompts with the training text, where a completion may come from memory.

The paper did not check this, although its synthetic requests and the benchmarks share categories.
The overlap of a prompt is exact if one document has all of its words in a row, and near if one
document has at least `min_share` of its n-grams. Case and punctuation do not count. A prompt of
fewer words than `ngram` is one n-gram.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.files import write_json
from safelm.builder.shards import tables, write_table
from safelm.evaluation.prompts import SuitePrompt, prompt_set
from safelm.stats.rates import DIGITS
from safelm.text.prompt_index import PromptIndex
from safelm.text.word_hashes import with_prompt
from specs.document import OVERLAP
from specs.suite import AnySuite

SUMMARY_FILE, PROMPTS_FILE = "overlap.json", "prompts.parquet"
KINDS = ("exact", "near", "none")
# The demo world has other prompts for each of these stages.
STAGES = ("pretrain", "instruct")


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
    """The largest overlap of each prompt with the documents so far."""

    def __init__(self, prompts: Iterable[tuple[str, str]], ngram: int) -> None:
        self.index = PromptIndex(prompts, ngram)
        self.overlaps = {id: Overlap() for id in self.index.sizes}

    def add_document(self, text: str, source: str) -> None:
        """Record the overlap of a document with each prompt, if no earlier one has as much."""
        for id, is_exact, share in self.index.find(text):
            best = self.overlaps[id]
            # Strictly greater, so that the first of equal sources is named.
            if (is_exact, share) > (best.is_exact, best.share):
                self.overlaps[id] = Overlap(is_exact, share, source)


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

    One process reads each text once. Returns a summary.
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
        row = {"suite": prompt.suite, "id": prompt.id, "source": found.source}
        rows.append({**row, "overlap": kind, "share": round(found.share, DIGITS)})
        # Every kind is counted, even one that no prompt has.
        of_suite = counts.setdefault(prompt.suite, Counter(dict.fromkeys(KINDS, 0)))
        of_suite[kind] += 1
    write_table(rows, OVERLAP, folder / PROMPTS_FILE)
    summary = {"ngram": ngram, "share": min_share, "texts": sorted(texts), "suites": counts}
    write_json(folder / SUMMARY_FILE, summary, sort_keys=True)
    return [_line(name, count) for name, count in counts.items()]


def _prompts(suites: Mapping[str, AnySuite], limit: int, seed: int) -> Iterator[SuitePrompt]:
    """Yield every prompt that some model may be given, once."""
    seen: set[tuple[str, str]] = set()
    for name, suite in suites.items():
        if suite.kind == "utility":
            continue
        for stage in STAGES:
            chosen = prompt_set(name, suite, stage=stage, limit=limit, seed=seed)
            for prompt in chosen.candidates:
                if (name, prompt.id) not in seen:
                    seen.add((name, prompt.id))
                    yield prompt


def _documents(path: Path) -> Iterator[str]:
    for table in tables(path, ["text", "prompt"]):
        for row in table.to_pylist():
            yield with_prompt(row["prompt"], row["text"])


def _line(name: str, count: Mapping[str, int]) -> str:
    total = sum(count.values())
    kinds = f"{count['exact']:,} exact, {count['near']:,} near"
    return f"overlap {name:<24} {total:>6,} prompts: {kinds}"
