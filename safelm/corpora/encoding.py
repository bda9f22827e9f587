"""Encoding of text to token ids, fast where a second library is known to give the same ids.

splintr-rs is many times as fast as Hugging Face's tokenizers (benchmarks/tokenizing.py), which
stays the reference: it encodes the first documents of every shard again. A faster encoder that
nobody compared once left out the first token of every document of a large cache
(marin-community/marin#5034).
"""

import json
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import splintr
from datatrove.data import Document
from tokenizers import Tokenizer

from safelm.builder.digest import cached_digest
from safelm.documents.batches import Size, batches

KERNEL = "splintr-rs"
REFERENCE = "tokenizers"
# The first documents of each shard, which both encode: some 20 ms of work.
CHECKED = Size(rows=16, characters=1 << 14)

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
# The values of a tokenizer.json with which splintr-rs 0.22 was compared: 5,546 web pages and 6,000
# random strings each. The other keys are the vocabulary and what only decoding reads.
KNOWN: dict[str, list[Any]] = {
    "normalizer": [None],
    "pre_tokenizer": [_BYTES, {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTES]}],
    "post_processor": [None],
    "truncation": [None],
    "padding": [None],
    "model.type": ["BPE"],
    "model.dropout": [None],
    "model.unk_token": [None],
    "model.continuing_subword_prefix": [None, ""],
    "model.end_of_word_suffix": [None, ""],
    "model.fuse_unk": [False],
    "model.byte_fallback": [False],
    "model.ignore_merges": [False],
}
OTHER_KEYS = {"version", "decoder", "added_tokens", "model", "model.vocab", "model.merges"}
# Any special token that is found wherever its characters stand.
KNOWN_TOKEN = {
    "special": True,
    "normalized": False,
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
}


class Encoded(NamedTuple):
    """The ids of several texts, one after another, and the end of each text among them."""

    ids: np.ndarray
    ends: np.ndarray

    def of(self, number: int) -> np.ndarray:
        """Return the ids of one text."""
        start = self.ends[number - 1] if number else 0
        return self.ids[start : self.ends[number]]


def unknown_part(file: Path) -> str | None:
    """Name the first part of a tokenizer.json that the kernel was not compared with, or None."""
    values = json.loads(file.read_bytes())
    values |= {f"model.{name}": value for name, value in values["model"].items()}
    for part in (*KNOWN, *values):
        if part not in OTHER_KEYS and values.get(part) not in KNOWN.get(part, ()):
            return f"{part} {json.dumps(values.get(part))[:80]}"
    for token in values["added_tokens"]:
        if not KNOWN_TOKEN.items() <= token.items():
            return f"added token {token['content']!r}, which is not an ordinary special token"
    return None


class Encoder:
    """A tokenizer.json with the library that encodes and the one that it is compared with."""

    def __init__(self, file: Path, backend: str) -> None:
        """Load the tokenizer; `backend` is KERNEL or REFERENCE."""
        self.reference = Tokenizer.from_file(str(file))
        self.kernel = splintr.from_json(str(file)) if backend == KERNEL else None
        self.ids = self.reference.get_vocab(with_added_tokens=True)
        # There may be gaps in the ids.
        self.vocabulary = 1 + max(self.ids.values())

    def encode(self, texts: list[str]) -> Encoded:
        """Encode texts; the literal text of a special token becomes that token."""
        if self.kernel is None:
            return self.encode_by_reference(texts)
        ids, offsets = self.kernel.encode_batch_flat(texts)
        # The offsets begin with 0.
        ends = np.frombuffer(offsets, "<u8")[1:]
        return Encoded(np.frombuffer(ids, "<u4"), ends.astype(np.int64))

    def encode_by_reference(self, texts: list[str]) -> Encoded:
        """Encode texts with Hugging Face's tokenizers."""
        # It uses its threads only on many texts at once.
        encodings = self.reference.encode_batch_fast(texts, add_special_tokens=False)
        rows = [np.array(encoding.ids, dtype="<u4") for encoding in encodings]
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return Encoded(np.concatenate(rows), ends)

    def check(self, documents: list[Document], encoded: Encoded) -> None:
        """Encode the first documents of a shard again, by the reference.

        Raises:
            ValueError: the kernel gave a document other ids.
        """
        first = next(batches(documents, CHECKED))
        expected = self.encode_by_reference([document.text for document in first])
        for number, document in enumerate(first):
            if not np.array_equal(encoded.of(number), expected.of(number)):
                raise ValueError(
                    f"document {document.id}: expected the tokens of {REFERENCE} "
                    f"{version(REFERENCE)} (got others from {KERNEL} {version(KERNEL)}); "
                    "install the versions in requirements.lock"
                )


# `digest` makes a tokenizer that changed in place another entry of the cache.
@lru_cache(maxsize=1)
def _load(file: Path, backend: str, digest: str) -> Encoder:
    return Encoder(file, backend)


def load_encoder(file: Path, backend: str) -> Encoder:
    """Load a tokenizer, once per process for all shards of a stage."""
    return _load(file.absolute(), backend, cached_digest(file))
