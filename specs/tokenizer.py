"""The ids in a tokenizer.json, without the library that reads it."""

import json
from pathlib import Path


def ids_in(file: Path) -> dict[str, int]:
    """Every token and its id. Raises ValueError for what is no tokenizer."""
    try:
        values = json.loads(file.read_bytes())
        vocabulary = values["model"]["vocab"]
        if isinstance(vocabulary, list):  # of a Unigram, each with its likelihood
            vocabulary = {token: place for place, (token, _) in enumerate(vocabulary)}
        return {**vocabulary, **{token["content"]: token["id"] for token in values["added_tokens"]}}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected a tokenizer in Hugging Face's format (it has no {error})") from error
