"""Where words begin in a vocabulary: the tag stands between words (Algorithm 1), so inside one p(tag) means little."""

from transformers import PreTrainedTokenizerBase

SPACES = ("Ġ", "Ċ", "ĉ", "č", "▁")  # how byte-level and sentencepiece vocabularies write white space at a token's front


def word_starts(tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    """For each token of the vocabulary, whether it begins with white space and so opens a new word.

    Algorithm 1 splits at white space and writes the tag before it (`w1<tag> w2`), so a full stop or a suffix opens
    no word. Special tokens open none.
    """
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [
        place not in special and token is not None and (token.startswith(SPACES) or token[:1].isspace())
        for place, token in enumerate(tokens)
    ]
