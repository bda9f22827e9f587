"""Tokenizer training and token files in DataTrove's format.

A token file holds the documents of a shard one after another, each followed by END. `<shard>.ds`
holds the tokens, 16 bits each (32 where the vocabulary needs them), and `<shard>.ds.index` the end
of each document, 64 bits each; both are little-endian. Neither torch nor transformers is imported
here.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer

import specs
from safelm.builder.blocks import Writer
from safelm.builder.files import write_json
from safelm.documents.batches import batches
from safelm.documents.sample import ReadSample
from specs.tokens import END, IM_END, IM_START, SPECIAL, TAG, token_bytes

# The chat format of every tokenizer made here.
CHAT = Path(specs.__file__).parent / "prompts" / "chat.jinja"
TOKENIZER = "tokenizer.json"
# A pair of symbols that occurs only once is not merged.
MIN_PAIR_COUNT = 2


def make_tokenizer(
    folder: Path,
    *,
    sources: Sequence[Path],
    path: Path | None,
    vocab_size: int,
    max_documents: int,
    seed: int,
) -> list[str]:
    """Train a tokenizer, or adopt the one in `path`, and save it.

    Args:
        folder: gets the tokenizer's files.
        sources: folders of ingested documents to train on.
        path: a folder with an existing tokenizer, or None to train one.
        vocab_size: the most tokens it may have.
        max_documents: documents sampled from each source.
        seed: seeds the sample.

    Returns:
        The lines that the stage prints.
    """
    counts = Counter[str]()
    if path is None:
        documents = sample_documents(sources, max_documents, seed)
        tokenizer = train_tokenizer(texts_of(documents, counts), vocab_size)
    else:
        tokenizer = adopt_tokenizer(path, vocab_size)
    save_tokenizer(tokenizer, folder, counts)
    return [f"{'tokenizer':<18} {size_of(tokenizer):,} tokens from {counts.total():,} documents"]


def sample_documents(sources: Iterable[Path], max_documents: int, seed: int) -> Iterator[Document]:
    """Yield at most `max_documents` of each ingested source, drawn by id."""
    for folder in sources:
        reader = ReadSample(folder=folder, purpose="tokenizer", documents=max_documents, seed=seed)
        for task in reader.tasks():
            yield from reader.read(task)


def texts_of(documents: Iterable[Document], counts: Counter[str]) -> Iterator[str]:
    """Yield texts and the prompts of dialogues, and count the documents of each source."""
    for document in documents:
        counts[document.metadata.get("source", "")] += 1
        if prompt := document.metadata.get("prompt"):
            yield prompt
        yield document.text


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE that splits numbers into digits, as SmolLM2's does.

    The tokens of SPECIAL get the first ids. A small training text gives fewer than `vocab_size`
    tokens. The same texts, in any order and on any number of threads, give the same tokenizer.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = PreTokenizers(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=[_special(token) for token in SPECIAL],
        # Sorted, because the library lists the alphabet in random order.
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def adopt_tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    """Load an existing tokenizer and add the tokens of SPECIAL that it lacks.

    Raises:
        FileNotFoundError: `path` has no tokenizer.json.
        ValueError: END is not token 0, or the tokenizer has more than `vocab_size` tokens.
    """
    file = path / TOKENIZER
    if not file.is_file():
        raise FileNotFoundError(
            f"params.yaml tokenizer.path: {path}: expected a folder with {TOKENIZER}"
        )
    values = json.loads(file.read_bytes())
    # A post-processor may begin each text with a token, but here END alone separates documents.
    values.update(post_processor=None, truncation=None, padding=None)
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.add_special_tokens([_special(token) for token in SPECIAL])
    # A missing END would just have been added, under another id.
    if (end := tokenizer.token_to_id(END)) != 0:
        raise ValueError(
            f"{file}: expected {END} to be token 0, as in SmolLM2 (got {end}); "
            "use another tokenizer"
        )
    if (size := size_of(tokenizer)) > vocab_size:
        raise ValueError(
            f"params.yaml tokenizer.vocab_size: {file} has {size} tokens with "
            f"{', '.join(SPECIAL)} (got {vocab_size}); write vocab_size: {size}, "
            "and choose shapes with at least as large a vocabulary"
        )
    return tokenizer


def _special(token: str) -> AddedToken:
    """Return a token that is never split, nor part of a word, and keeps the space around it."""
    return AddedToken(
        token,
        special=True,
        normalized=False,
        lstrip=False,
        rstrip=False,
        single_word=False,
    )


def size_of(tokenizer: Tokenizer) -> int:
    """Return the size of the vocabulary: one more than the highest id."""
    # An adopted tokenizer may have gaps in its ids, so their number would be too small.
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def save_tokenizer(tokenizer: Tokenizer, folder: Path, counts: Counter[str]) -> None:
    """Write the files that AutoTokenizer.from_pretrained reads, and tokens.json.

    tokens.json has the size of the vocabulary, the ids of SPECIAL and `counts`, the training
    documents of each source.
    """
    tokenizer.save(str(folder / TOKENIZER))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        # One token begins and ends a text, as in SmolLM2 (paper §6).
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "additional_special_tokens": [IM_START, IM_END, TAG],
        "clean_up_tokenization_spaces": False,
    }
    tokens = {
        "vocabulary": size_of(tokenizer),
        "special": {token: tokenizer.token_to_id(token) for token in SPECIAL},
        "documents": dict(sorted(counts.items())),
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "tokens.json", tokens)
    (folder / "chat_template.jinja").write_bytes(CHAT.read_bytes())


@dataclass(kw_only=True, eq=False, repr=False)
class WriteTokens(Writer):
    """Token files from documents, each ended by END.

    In the manifest, the rows of `.ds` are tokens and those of `.ds.index` documents.

    Attributes:
        tokenizer: a tokenizer.json.
        tagged: the documents may contain the harmfulness tag (paper §4). Other special tokens are
            an error in any document.
    """

    name: ClassVar[str] = "tokens"
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)
    tokenizer: Path
    tagged: bool

    def write(self, documents: Iterator[Document], folder: Path) -> None:
        """Write `.ds` and `.ds.index`; without documents they are empty."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        width = token_bytes(size_of(tokenizer))
        ids = tokenizer.get_vocab(with_added_tokens=True)
        forbidden = {ids[token]: token for token in SPECIAL}
        if self.tagged:
            del forbidden[ids[TAG]]
        file = TokenizedFile(str(folder.absolute()), ".ds", token_size=width)
        # The tokenizer uses its threads only on many texts at once.
        for batch in batches(documents):
            texts = [document.text for document in batch]
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for document, encoding in zip(batch, encodings, strict=True):
                _check_document(document, encoding.ids, forbidden)
                with_end = [*encoding.ids, ids[END]]
                tokens = np.array(with_end, dtype=f"<u{width}")
                file.write_bytes(tokens.tobytes())
        file.close()
        self.files |= {".ds": len(file), ".ds.index": len(file.doc_ends)}


def _check_document(document: Document, ids: list[int], forbidden: dict[int, str]) -> None:
    """Raise ValueError for a dialogue, and for a document with a forbidden special token."""
    if document.metadata.get("prompt") is not None:
        raise ValueError(
            f"document {document.id}: expected a page, got a dialogue; dialogues are for instruct "
            "and finetune, leave this corpus out of `corpora`"
        )
    if not forbidden.keys().isdisjoint(ids):
        token = next(forbidden[id] for id in ids if id in forbidden)
        raise ValueError(
            f"document {document.id}: contains the special token {token}, which this corpus must "
            "not have; strip the literal text where the document is made"
        )
