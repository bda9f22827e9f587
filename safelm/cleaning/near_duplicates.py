"""Near-duplicates by MinHash and locality-sensitive hashing, in tasks of bounded memory.

Each shard's documents are signed with a hash for every band (Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, §3.4). Each band is then a task, which pairs documents with equal hashes.
Pairs are joined into clusters; the first document of each cluster is kept.

Own code, because the result must not depend on order or workers, and each page is read once.
Libraries hash n-grams as Python strings, at a tenth of the speed.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.data import Document
from numpy.typing import NDArray

from safelm.builder.blocks import Block, Documents, Reader, Task, unkeyed
from safelm.builder.shards import Shard
from safelm.documents.shards import ReadRest, input_shards, shard_inputs
from safelm.seeding import generator
from safelm.text.word_hashes import Hashes, Integers, hash_ngrams, hash_words, scramble, with_prompt

# Documents in a task, at 40 bytes each for one band; a band of more is split into parts.
PART = 1 << 26
# N-grams hashed at a time; their arrays fit into the processor's cache.
CHUNK = 512
PAIRS = {"first": "int64", "other": "int64"}
Pairs = NDArray[np.int64]


def band_columns(bands: int) -> dict[str, str]:
    """Return the columns of a signature: a hash for each band; null for a text without words."""
    return {_column(band): "int64" for band in range(bands)}


def _column(band: int) -> str:
    return f"band_{band:03d}"


class MinHash:
    """Hash functions that give equal hashes to documents of equal n-grams.

    A random function takes the same minimum over the n-grams of two documents with a probability
    equal to their Jaccard similarity. A band hashes `rows` such minima into one number.
    """

    def __init__(self, bands: int, rows: int, seed: int) -> None:
        draw = generator("near_duplicates", seed)
        self.bands = bands
        # An odd factor and an offset permute the numbers of 32 bits.
        self.factors = draw.integers(0, 1 << 31, bands * rows, dtype=np.uint32) * np.uint32(2)
        self.factors += np.uint32(1)
        self.offsets = draw.integers(0, 1 << 32, bands * rows, dtype=np.uint32)
        self.weights = draw.integers(0, 1 << 63, rows, dtype=np.uint64) * np.uint64(2)
        # Odd too, so that a product modulo 2^64 loses no bits.
        self.weights += np.uint64(1)

    def band_hashes(self, ngrams: Hashes) -> Integers:
        """Return a hash for each band, from the hashes of a document's n-grams."""
        values = np.unique((ngrams >> np.uint64(32)).astype(np.uint32))
        lowest = np.full(len(self.factors), (1 << 32) - 1, dtype=np.uint32)
        for start in range(0, len(values), CHUNK):
            # Products wrap around at 2^32.
            permuted = values[start : start + CHUNK, np.newaxis] * self.factors + self.offsets
            np.minimum(lowest, permuted.min(axis=0), out=lowest)
        mixed = (lowest.reshape(self.bands, -1) * self.weights).sum(axis=1, dtype=np.uint64)
        return scramble(mixed).view(np.int64)


class SignDocuments(Block):
    """Add the hashes of all bands to the metadata of each document that has words."""

    name = "signatures"
    ngram: int
    bands: int
    rows: int
    seed: int

    @cached_property
    def minhash(self) -> MinHash:
        """The hash functions."""
        return MinHash(self.bands, self.rows, self.seed)

    def process(self, document: Document) -> Documents:
        """Yield the document with its hashes."""
        words = hash_words(with_prompt(document.metadata.get("prompt"), document.text))
        # A text without words keeps nulls, so it is paired with no other.
        if len(words):
            ngrams = hash_ngrams(words, min(self.ngram, len(words)))
            hashes = self.minhash.band_hashes(ngrams).tolist()
            document.metadata.update(zip(band_columns(self.bands), hashes, strict=True))
        yield document


class PairDocuments(Reader):
    """Pair each document with the first one that has the same hash of a band.

    A task is a band, or a part of its hashes. A document's position counts the rows of all shards.
    """

    name = "pairs"
    # Not in the key, because the files are inputs of the tasks.
    signatures: list[Shard] = unkeyed()
    bands: int

    def tasks(self) -> list[Task]:
        """List the bands, split into parts so that the memory of a task is bounded."""
        inputs = shard_inputs(self.signatures)
        parts = 1 + sum(shard.rows for shard in self.signatures) // PART
        tasks = []
        for band in range(self.bands):
            for part in range(parts):
                tasks.append(Task(f"{band:03d}-{part:03d}", inputs, (band, part, parts)))
        return tasks

    def read(self, task: Task) -> Documents:
        """Yield a document for each pair: the positions `first` and `other` in its metadata."""
        hashes, positions = self._hashes(task)
        # The sort is stable, so of equal hashes the first of the source comes first.
        order = np.argsort(hashes, kind="stable")
        hashes, positions = hashes[order], positions[order]
        others = 1 + np.flatnonzero(hashes[1:] == hashes[:-1])
        firsts = np.searchsorted(hashes, hashes[others])
        pairs = zip(positions[firsts].tolist(), positions[others].tolist(), strict=True)
        for first, other in pairs:
            yield Document(text="", id="", metadata={"first": first, "other": other})

    def _hashes(self, task: Task) -> tuple[Integers, Integers]:
        """Return the hashes of a task, and the position of the document of each hash."""
        band, part, parts = task.values
        found = [np.zeros(0, dtype=np.int64)]
        places = found[:]
        rows = 0
        for shard in input_shards(task):
            column = shard.table([_column(band)])[_column(band)]
            has_words = np.flatnonzero(column.is_valid().to_numpy())
            hashes = column.drop_null().to_numpy()
            is_own = hashes.view(np.uint64) % np.uint64(parts) == part
            found.append(hashes[is_own])
            places.append(rows + has_words[is_own])
            rows += len(column)
        return np.concatenate(found), np.concatenate(places)


def later_of_clusters(pairs: Sequence[Shard]) -> Integers:
    """Return the sorted positions of all documents in clusters, except the first of each.

    The files of the bands are read one after another, so that memory grows with the number of
    near-duplicates alone.
    """
    stars = np.zeros((0, 2), dtype=np.int64)
    for shard in pairs:
        table = shard.table(list(PAIRS))
        columns = [table[name].to_numpy() for name in PAIRS]
        stars = _joined(np.concatenate([stars, np.stack(columns, axis=1)]))
    return np.sort(stars[:, 1])


def _joined(pairs: Pairs) -> Pairs:
    """Join pairs into clusters; return each as pairs of its first document and another one."""
    # Here because it takes half a second to import.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    documents, index = np.unique(pairs, return_inverse=True)
    # Releases of NumPy differ in the shape of the inverse.
    index = index.reshape(pairs.shape)
    shape = (len(documents), len(documents))
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (index[:, 0], index[:, 1])), shape)
    _, clusters = connected_components(graph, directed=False)
    # `documents` is sorted, so the first index in a cluster is that of its first document.
    _, first_index = np.unique(clusters, return_index=True)
    firsts = documents[first_index[clusters]]
    is_other = firsts != documents
    return np.stack([firsts[is_other], documents[is_other]], axis=1)


def without_rows(tasks: Sequence[Task], positions: Integers) -> list[Task]:
    """Return tasks for DropRows, each with the numbers of its rows that `positions` contains."""
    marked = []
    begin = 0
    for task in tasks:
        assert task.rows is not None
        low, high = np.searchsorted(positions, [begin, begin + task.rows])
        marked.append(replace(task, values=tuple((positions[low:high] - begin).tolist())))
        begin += task.rows
    return marked


class DropRows(ReadRest):
    """Read shards again, without the rows whose numbers are the values of a task."""

    name = "other rows"

    def is_dropped(self, batch: pa.Table, begin: int, values: tuple[Any, ...]) -> Any:
        """Return whether the number of each row is listed."""
        numbers = np.arange(begin, begin + batch.num_rows)
        return pa.array(np.isin(numbers, np.array(values, dtype=np.int64)))
