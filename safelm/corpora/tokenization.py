"""Tokenizer training, and adoption of an existing one, without torch or transformers."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datatrove.data import Document
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer

import specs
from safelm.builder.blocks import Documents
from safelm.builder.files import write_json
from safelm.documents.sample import ReadSample
from specs.tokens import END, IM_END, IM_START, SPECIAL, TAG, TOKENIZER

# The chat format of every tokenizer made here.
CHAT = Path(specs.__file__).parent / "prompts" / "chat.jinja"
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
    # `counts` is complete only now: the training has read every text.
    save_tokenizer(tokenizer, folder, counts)
    return [f"{'tokenizer':<18} {size_of(tokenizer):,} tokens from {counts.total():,} documents"]


def sample_documents(sources: Iterable[Path], max_documents: int, seed: int) -> Documents:
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
