"""Prompts that stand in the training text, word for word or nearly: what such a suite measures is
memory, too.

The paper did not check; its synthetic requests and the benchmarks share categories. A prompt is
found exactly where all of its words stand in one document in their order, and nearly where one
document holds at least `share` of its n-grams. Letters of another case and marks between words do
not count. Prompts shorter than `ngram` are one n-gram."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.shards import tables, write_table
from safelm.evaluation.prompts import Question, stock
from safelm.stats.rates import DIGITS
from specs.document import OVERLAP
from specs.suite import AnySuite

WORD = re.compile(r"\w+")
FILE, PROMPTS = "overlap.json", "prompts.parquet"
STAGES = ("pretrain", "instruct")  # the embedded world has other prompts for each


@dataclass
class Found:
    """The most that one document holds of a prompt: `exact`, or a share of its n-grams, and where."""

    exact: bool = False
    share: float = 0.0
    source: str | None = None


class Index:
    """The n-grams of prompts; `see` looks for them in a document."""

    def __init__(self, prompts: Iterable[tuple[str, str]], ngram: int) -> None:
        self.found: dict[str, Found] = {}
        self.sizes: dict[str, int] = {}  # n-grams of each prompt
        self.places: dict[int, dict[tuple[str, ...], list[tuple[str, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for id, text in prompts:
            words = WORD.findall(text.casefold())
            if not words or id in self.found:
                continue
            length = min(ngram, len(words))
            self.found[id], self.sizes[id] = Found(), len(words) - length + 1
            for place, gram in enumerate(_grams(words, length)):
                self.places[length][gram].append((id, place))

    def see(self, text: str, source: str) -> None:
        """Remember what a document holds of each prompt, if no document held more."""
        words = WORD.findall(text.casefold())
        places: dict[str, set[int]] = defaultdict(set)
        runs: Counter[tuple[str, int]] = (
            Counter()
        )  # n-grams of a prompt that follow one another from here on
        for length, index in self.places.items():
            for at, gram in enumerate(_grams(words, length)):
                for id, place in index.get(gram, ()):
                    places[id].add(place)
                    runs[id, at - place] += 1
        whole = {id for (id, _), count in runs.items() if count == self.sizes[id]}
        for id, held in places.items():
            share, exact = len(held) / self.sizes[id], id in whole
            if (exact, share) > (self.found[id].exact, self.found[id].share):
                self.found[id] = Found(exact, share, source)


def _grams(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def kind_of(found: Found, share: float) -> str:
    """exact, near or none."""
    return "exact" if found.exact else "near" if found.share >= share else "none"


def find_overlap(
    folder: Path,
    *,
    suites: Mapping[str, AnySuite],
    texts: Mapping[str, Path],
    prompts: int,
    seed: int,
    ngram: int,
    share: float,
) -> list[str]:
    """Look for every prompt that is asked in every document of `texts`; prompts.parquet and
    overlap.json.

    One process reads each text once: some ten million words a minute. Returns what the stage
    prints."""
    asked = list(_asked(suites, prompts, seed))
    index = Index(((one.id, one.text) for one in asked), ngram)
    for source, path in texts.items():
        for table in tables(path, ["text", "prompt"]):
            for row in table.to_pylist():
                index.see(
                    row["text"] if row["prompt"] is None else f"{row['prompt']}\n{row['text']}",
                    source,
                )
    rows = [_row(one, index, share) for one in asked]
    write_table(rows, OVERLAP, folder / PROMPTS)
    counts = {
        name: Counter(row["overlap"] for row in rows if row["suite"] == name) for name in suites
    }
    found = {
        name: {**dict.fromkeys(("exact", "near", "none"), 0), **count}
        for name, count in counts.items()
        if count
    }
    values = {"ngram": ngram, "share": share, "texts": sorted(texts), "suites": found}
    (folder / FILE).write_text(
        json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return [_line(name, count) for name, count in found.items()]


def _asked(suites: Mapping[str, AnySuite], limit: int, seed: int) -> Iterator[Question]:
    """Every prompt that some model is asked, once."""
    seen: set[tuple[str, str]] = set()
    for name, suite in suites.items():
        for stage in STAGES if suite.kind != "utility" else ():
            for question in stock(name, suite, stage=stage, limit=limit, seed=seed).asked:
                if (name, question.id) not in seen:
                    seen.add((name, question.id))
                    yield question


def _row(question: Question, index: Index, share: float) -> dict[str, Any]:
    found = index.found.get(question.id, Found())
    kind = kind_of(found, share)
    return {
        "suite": question.suite,
        "id": question.id,
        "overlap": kind,
        "share": round(found.share, DIGITS),
        "source": found.source,
    }


def _line(name: str, count: Mapping[str, int]) -> str:
    return f"overlap {name:<24} {sum(count.values()):>6,} prompts: {count['exact']:,} exact, {count['near']:,} near"
