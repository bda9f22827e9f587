"""The tokenizer, trained or taken, and token files in DataTrove's format: documents one after
another, each with END.

`<shard>.ds` holds the tokens, 16 bits each (32 where the vocabulary needs them), and
`<shard>.ds.index` the end of each document, 64 bits each, both little-endian. Neither torch nor
transformers is imported here."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.trainers import BpeTrainer

import specs
from safelm.builder.blocks import Writer
from safelm.documents.batches import batches
from safelm.documents.sample import ReadSample
from specs.tokens import END, IM_END, IM_START, SPECIAL, TAG

CHAT = Path(specs.__file__).parent / "prompts" / "chat.jinja"
TOKENIZER = "tokenizer.json"
RAREST = 2  # a pair of symbols seen less often is not merged


def make_tokenizer(
    folder: Path,
    *,
    sources: list[Path],
    path: Path | None,
    vocabulary: int,
    documents: int,
    seed: int,
) -> list[str]:
    """Train a tokenizer on a sample of each source, or take that of `path`, and save it; what the
    stage prints.
    """
    counts = Counter[str]()
    if path is None:
        tokenizer = train(texts_of(documents_of(sources, documents, seed), counts), vocabulary)
    else:
        tokenizer = take(path, vocabulary)
    save(tokenizer, folder, counts)
    return [f"{'tokenizer':<18} {size_of(tokenizer):,} tokens from {counts.total():,} documents"]


def documents_of(sources: Iterable[Path], documents: int, seed: int) -> Iterator[Document]:
    """At most `documents` of each ingested source, chosen by id."""
    for folder in sources:
        reader = ReadSample(folder=folder, purpose="tokenizer", documents=documents, seed=seed)
        for task in reader.tasks():
            yield from reader.read(task)


def texts_of(documents: Iterable[Document], counts: Counter[str]) -> Iterator[str]:
    """The texts of documents, and the requests that dialogues answer; counts the documents of each
    source.
    """
    for document in documents:
        counts[document.metadata.get("source", "")] += 1
        if prompt := document.metadata.get("prompt"):
            yield prompt
        yield document.text


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE with each digit a token of its own, as in SmolLM2. SPECIAL have the first
    ids.

    Few texts give fewer tokens than asked for. The same texts, in any order and on any number of
    threads, give the same tokenizer."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=RAREST,
        special_tokens=[_special(token) for token in SPECIAL],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def take(path: Path, vocabulary: int) -> Tokenizer:
    """An existing tokenizer, with those of SPECIAL added that it lacks.

    Its post-processor, which may begin a text with a token of its own, is dropped: END alone
    divides documents here."""
    file = path / TOKENIZER
    if not file.is_file():
        raise FileNotFoundError(
            f"params.yaml tokenizer.path: {path}: expected a folder with {TOKENIZER}"
        )
    values = json.loads(file.read_bytes()) | {
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.add_special_tokens([_special(token) for token in SPECIAL])
    if (end := tokenizer.token_to_id(END)) != 0:
        raise ValueError(
            f"{file}: expected {END} to be token 0, as in SmolLM2 (got {end}); take another tokenizer"
        )
    if (size := size_of(tokenizer)) > vocabulary:
        raise ValueError(
            f"params.yaml tokenizer.vocabulary: {file} has {size} tokens with {', '.join(SPECIAL)} (got {vocabulary}); "
            f"write vocabulary: {size}, and take shapes that have room for it"
        )
    return tokenizer


def _special(token: str) -> AddedToken:
    """A token that is never split, never part of a word, and keeps the white space around it."""
    return AddedToken(
        token, special=True, normalized=False, lstrip=False, rstrip=False, single_word=False
    )


def size_of(tokenizer: Tokenizer) -> int:
    """The vocabulary: one more than the highest id."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def save(tokenizer: Tokenizer, folder: Path, counts: Counter[str]) -> None:
    """What AutoTokenizer.from_pretrained(folder) reads, and tokens.json, which says how large the
    vocabulary is.
    """
    tokenizer.save(str(folder / TOKENIZER))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "additional_special_tokens": [IM_START, IM_END, TAG],
        "clean_up_tokenization_spaces": False,
    }
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    tokens = {
        "vocabulary": size_of(tokenizer),
        "special": ids,
        "documents": dict(sorted(counts.items())),
    }
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "tokens.json", tokens)
    (folder / "chat_template.jinja").write_bytes(CHAT.read_bytes())


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@dataclass(kw_only=True, eq=False, repr=False)
class WriteTokens(Writer):
    """Documents to token files, each ended by END. `tagged` documents alone may hold the tag (paper
    §4).

    `tokenizer` is a tokenizer.json. In the manifest, the rows of `.ds` are tokens and those of
    `.ds.index` documents."""

    name: ClassVar[str] = "tokens"
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers",)
    tokenizer: Path
    tagged: bool

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Files `.ds` and `.ds.index`; without documents they are empty."""
        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        width = 2 if size_of(tokenizer) <= 1 << 16 else 4
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        forbidden = [vocabulary[token] for token in SPECIAL if not (self.tagged and token == TAG)]
        file = TokenizedFile(str(attempt.absolute()), ".ds", token_size=width)
        for batch in batches(documents):
            encodings = tokenizer.encode_batch_fast(
                [document.text for document in batch], add_special_tokens=False
            )
            for document, encoding in zip(batch, encodings, strict=True):
                ids = np.array([*encoding.ids, vocabulary[END]], dtype=f"<u{width}")
                _refuse(document, ids[:-1], forbidden, tokenizer)
                file.write_bytes(ids.tobytes())
        file.close()
        self.files |= {".ds": len(file), ".ds.index": len(file.doc_ends)}


def _refuse(
    document: Document, ids: np.ndarray, forbidden: list[int], tokenizer: Tokenizer
) -> None:
    """Raise for a dialogue, which is no running text, and for a special token that a document must
    not hold.
    """
    if document.metadata.get("prompt") is not None:
        raise ValueError(
            f"document {document.id}: expected a page, got a dialogue; dialogues are for instruct and finetune, "
            "leave this corpus out of `corpora`"
        )
    found = np.isin(ids, forbidden)
    if found.any():
        token = tokenizer.id_to_token(int(ids[found][0]))
        raise ValueError(
            f"document {document.id}: holds the special token {token}, which must not be in this corpus; "
            "strip the literal where the document is made"
        )
