"""The special tokens of every SafeLM tokenizer, in the order of their ids."""

import json
from pathlib import Path

# 0: begins and ends every document, as in SmolLM2 (bos = eos = 0).
END = "<|endoftext|>"
IM_START = "<|im_start|>"  # 1
IM_END = "<|im_end|>"  # 2
# 3: the harmfulness tag, paper §4.
TAG = "<potentially_unsafe_content>"

SPECIAL = (END, IM_START, IM_END, TAG)

# The file of a tokenizer, in its folder.
TOKENIZER = "tokenizer.json"


def ids_in(file: Path) -> dict[str, int]:
    """Read every token and its id. Raises ValueError for a file that is no tokenizer."""
    try:
        values = json.loads(file.read_bytes())
        vocabulary = values["model"]["vocab"]
        # A Unigram has a list of tokens, each with its likelihood.
        if isinstance(vocabulary, list):
            vocabulary = {token: id for id, (token, _) in enumerate(vocabulary)}
        return vocabulary | {token["content"]: token["id"] for token in values["added_tokens"]}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected a tokenizer in Hugging Face's format (it has no {error})"
        ) from error


def token_bytes(vocabulary: int) -> int:
    """Return the bytes of a stored token.

    DataTrove stores 16 bits where the vocabulary allows it (utils/tokenization.py).
    """
    return 2 if vocabulary <= 1 << 16 else 4
