"""The special tokens of every SafeLM tokenizer, in the order of their ids."""

import json
from pathlib import Path

END = "<|endoftext|>"  # 0: begins and ends every document, as in SmolLM2 (bos = eos = 0)
IM_START = "<|im_start|>"  # 1
IM_END = "<|im_end|>"  # 2
TAG = "<potentially_unsafe_content>"  # 3: the harmfulness tag, paper §4

SPECIAL = (END, IM_START, IM_END, TAG)


def ids_in(file: Path) -> dict[str, int]:
    """Every token and its id. Raises ValueError for what is no tokenizer."""
    try:
        values = json.loads(file.read_bytes())
        vocabulary = values["model"]["vocab"]
        if isinstance(vocabulary, list):  # of a Unigram, each with its likelihood
            vocabulary = {token: place for place, (token, _) in enumerate(vocabulary)}
        return {**vocabulary, **{token["content"]: token["id"] for token in values["added_tokens"]}}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: expected a tokenizer in Hugging Face's format (it has no {error})"
        ) from error
