"""1:1 replacement: which documents of a corpus were made of which documents of another, found by
`parent`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safelm.builder.shards import tables
from safelm.corpora.mixing.rows import INDEX, Tokens, named
from specs.corpus import Corpus, scores_of


@dataclass(frozen=True)
class Replacement:
    """Which documents stand in for those of another corpus: their numbers, in the order of those
    they replace.
    """

    documents: np.ndarray
    left_out: int  # documents of which nothing was made

    def write(self, source: Tokens, target: Path) -> None:
        """Copy these documents of a corpus, in their order, into token files of their own:
        `target`, and its index.
        """
        begins = (
            np.concatenate([np.zeros(1, np.int64), source.ends[:-1]])
            if len(source.ends)
            else source.ends
        )
        spans = zip(
            begins[self.documents].tolist(), source.ends[self.documents].tolist(), strict=True
        )
        with target.open("wb") as file:
            for span in spans:
                file.write(source.span(*span).data)
        lengths = source.ends[self.documents] - begins[self.documents]
        np.cumsum(lengths, dtype="<u8").tofile(f"{target}{INDEX}")


def replacements(
    build: Path, slots: Mapping[str, str], corpora: Mapping[str, Corpus]
) -> dict[str, Replacement]:
    """Every part of a mixture that is replaced, by slot."""
    return {
        slot: replacement(build, corpora[named(slot)], corpora[made])
        for slot, made in slots.items()
        if slot != made
    }


def originals(build: Path, slots: Mapping[str, str], corpora: Mapping[str, Corpus]) -> list[Path]:
    """The folders that `replacements` reads."""
    pairs = [(corpora[named(slot)], corpora[made]) for slot, made in slots.items() if slot != made]
    return [build / corpus.from_ for pair in pairs for corpus in pair] + [build / "score"] * bool(
        pairs
    )


def replacement(build: Path, original: Corpus, made: Corpus) -> Replacement:
    """What stands in for a corpus, read from the documents and scores in `build`."""
    ids = [row["id"] for row in _documents(build, original, "id")]
    return match(ids, [row["parent"] for row in _documents(build, made, "parent")])


def match(originals: Sequence[str], parents: Sequence[str | None]) -> Replacement:
    """The numbers of the documents with these parents, in the order of the originals."""
    made_of: defaultdict[str | None, list[int]] = defaultdict(list)
    for number, parent in enumerate(parents):
        made_of[parent].append(number)
    found = [made_of.get(id, []) for id in originals]
    numbers = np.array([number for own in found for number in own], np.int64)
    return Replacement(numbers, sum(not own for own in found))


def _documents(build: Path, corpus: Corpus, column: str) -> Iterator[dict[str, Any]]:
    """A column of the documents of a corpus, in the order in which they were tokenized."""
    scores = scores_of(corpus)
    if scores is None:
        for table in tables(build / corpus.from_, [column]):
            yield from table.to_pylist()
        return
    for table in tables(build / "score", ["id", "score"]):
        yield from (row for row in table.to_pylist() if row["score"] in scores)
