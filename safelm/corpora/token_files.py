"""Token files in DataTrove's format.

A token file holds the documents of a shard one after another, each followed by END. `<shard>.ds`
holds the tokens, 16 bits each (32 where the vocabulary needs them), and `<shard>.ds.index` the end
of each document, 64 bits each; both are little-endian. Neither torch nor transformers is imported
here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.tokens.tokenizer import TokenizedFile

from safelm.builder.blocks import Documents, Writer
from safelm.corpora.encoding import KERNEL, REFERENCE, Encoded, load_encoder
from safelm.documents.batches import batches
from specs.tokens import END, SPECIAL, TAG, token_bytes


class WriteTokens(Writer):
    """Token files from documents, each ended by END.

    In the manifest, the rows of `.ds` are tokens and those of `.ds.index` documents.

    Attributes:
        tokenizer: a tokenizer.json.
        backend: the library that encodes, KERNEL or REFERENCE.
        tagged: the documents may contain the harmfulness tag (paper §4). Other special tokens are
            an error in any document.
    """

    name = "tokens"
    libraries = (KERNEL, REFERENCE)
    tokenizer: Path
    backend: str
    tagged: bool

    def write(self, documents: Documents, folder: Path) -> None:
        """Write `.ds` and `.ds.index`; without documents they are empty."""
        encoder = load_encoder(self.tokenizer, self.backend)
        forbidden = {encoder.ids[token]: token for token in SPECIAL}
        if self.tagged:
            del forbidden[encoder.ids[TAG]]
        width = token_bytes(encoder.vocabulary)
        file = TokenizedFile(str(folder.absolute()), ".ds", token_size=width)
        for number, batch in enumerate(batches(documents)):
            _refuse_dialogues(batch)
            encoded = encoder.encode([document.text for document in batch])
            if number == 0 and self.backend != REFERENCE:
                encoder.check(batch, encoded)
            _refuse_special(batch, encoded, forbidden)
            tokens, ends = end_documents(encoded, encoder.ids[END])
            file.write_bytes(tokens.astype(f"<u{width}").tobytes(), ends.tolist())
        file.close()
        self.files |= {".ds": len(file), ".ds.index": len(file.doc_ends)}


def end_documents(encoded: Encoded, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of all documents, each ended by `end`, and their ends.

    Raises:
        ValueError: a document has an `end` of its own.
    """
    # np.insert counts positions before any insertion, so all ends go in at once.
    tokens = np.insert(encoded.ids, encoded.ends, end)
    ends = encoded.ends + np.arange(1, len(encoded.ends) + 1)
    # Counted on what is written: every document has one END, and it is the last token.
    if not np.array_equal(np.flatnonzero(tokens == end) + 1, ends):
        raise ValueError(f"expected {END} once in each of {len(ends)} documents, at the end")
    return tokens, ends


def _refuse_dialogues(documents: Sequence[Document]) -> None:
    for document in documents:
        if document.metadata.get("prompt") is not None:
            raise ValueError(
                f"document {document.id}: expected a page, got a dialogue; dialogues are for "
                "instruct and finetune, leave this corpus out of `corpora`"
            )


def _refuse_special(
    documents: Sequence[Document],
    encoded: Encoded,
    forbidden: dict[int, str],
) -> None:
    """Raise ValueError for the first document with a forbidden special token."""
    positions = np.flatnonzero(np.isin(encoded.ids, list(forbidden)))
    if not len(positions):
        return
    position = positions[0]
    document = documents[np.searchsorted(encoded.ends, position, side="right")]
    token = forbidden[int(encoded.ids[position])]
    raise ValueError(
        f"document {document.id}: contains the special token {token}, which this corpus must "
        "not have; strip the literal text where the document is made"
    )
