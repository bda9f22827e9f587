"""Replacement of documents by those written from them, matched by `parent`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from safelm.builder.shards import tables
from safelm.corpora.mixing.rows import INDEX, Tokens, part_name
from specs.corpus import Corpus, ScoredCorpus, scores_of


@dataclass(frozen=True)
class Replacement:
    """The documents that replace those of another corpus.

    Attributes:
        documents: their numbers, in the order of the documents that they replace.
        left_out: how many documents have no replacement.
    """

    documents: np.ndarray
    left_out: int

    def write(self, source: Tokens, target: Path) -> None:
        """Copy these documents of `source` into the token file `target` and its index."""
        begins = source.begins[self.documents]
        ends = source.ends[self.documents]
        # Python's integers, which are faster one by one than numpy's.
        spans = zip(begins.tolist(), ends.tolist(), strict=True)
        # One document at a time, because a corpus may not fit into memory.
        with target.open("wb") as file:
            for begin, end in spans:
                file.write(source.span(begin, end).data)
        # An index in DataTrove's format: the end of each document, in 64 bits.
        np.cumsum(ends - begins, dtype="<u8").tofile(f"{target}{INDEX}")


def replaced_slots(slots: Mapping[str, str]) -> dict[str, str]:
    """Return the slots of a mixture that read another corpus in place of their own."""
    return {slot: corpus for slot, corpus in slots.items() if slot != corpus}


def replacements(
    build: Path,
    slots: Mapping[str, str],
    corpora: Mapping[str, Corpus],
) -> dict[str, Replacement]:
    """Find the replacement of each replaced slot of a mixture.

    Args:
        build: the folder build/, with the documents and scores.
        slots: the corpus that each slot reads.
        corpora: rows of `corpora`.
    """
    found = {}
    for slot, corpus in replaced_slots(slots).items():
        replaced = corpora[part_name(slot)]
        ids = _column(build, replaced, "id")
        parents = _column(build, corpora[corpus], "parent")
        found[slot] = match_parents(ids, parents)
    return found


def replacement_inputs(
    build: Path,
    slots: Mapping[str, str],
    corpora: Mapping[str, Corpus],
) -> list[Path]:
    """List the folders that `replacements` reads."""
    folders: list[Path] = []
    for slot, corpus in replaced_slots(slots).items():
        for name in (part_name(slot), corpus):
            folders.append(_folder(build, corpora[name]))
    return folders


def match_parents(ids: Sequence[str], parents: Sequence[str | None]) -> Replacement:
    """Match documents to their parents.

    Args:
        ids: the ids of the original documents.
        parents: the parent of each document that replaces one of them.
    """
    # A document may have several replacements, or none.
    children: defaultdict[str | None, list[int]] = defaultdict(list)
    for number, parent in enumerate(parents):
        children[parent].append(number)
    matched = [children.get(id, []) for id in ids]
    numbers = np.fromiter(chain.from_iterable(matched), np.int64)
    return Replacement(numbers, left_out=matched.count([]))


def _column(build: Path, corpus: Corpus, column: str) -> list[Any]:
    """Read a column of the documents of a corpus, in the order in which they were tokenized."""
    scores = scores_of(corpus)
    columns = [column] if scores is None else [column, "score"]
    values: list[Any] = []
    for table in tables(_folder(build, corpus), columns):
        for row in table.to_pylist():
            if scores is None or row["score"] in scores:
                values.append(row[column])
    return values


def _folder(build: Path, corpus: Corpus) -> Path:
    """Return the folder whose rows are in the order in which a corpus was tokenized."""
    # A corpus that selects by score was tokenized in the order of the scores' shards.
    if isinstance(corpus, ScoredCorpus):
        return build / "score" / corpus.source
    return build / corpus.from_
