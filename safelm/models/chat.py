"""Loading of models, and tokenization of requests and answers in the model's chat format.

The chat template is the one in the model's folder. Literal special tokens are removed from every
text, because in a request they could end its turn or pass for a tag.
"""

import ctypes
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from safelm.builder.environment import environment_number
from safelm.text.sanitize import remove_matches
from specs.tokens import END, IM_END, SPECIAL, TAG

# The date for templates that print one; with today's, tokens would change every day.
TODAY = date(2024, 7, 26)
# Settings of mallopt (malloc.h).
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
TokenLists = list[list[int]]  # the tokens of each of several texts
SPECIALS = re.compile("|".join(map(re.escape, SPECIAL)))


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model and the tokenizer of a Hugging Face folder, onto a GPU if there is one.

    It computes with SAFELM_THREADS threads, by default one.

    Raises:
        FileNotFoundError: the folder has no config.json.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a model in Hugging Face's format (no config.json); build it first"
        )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # More threads round sums in another order, so bytes may differ.
    torch.set_num_threads(environment_number("SAFELM_THREADS") or 1)
    keep_buffers()
    # If trust_remote_code were left out, transformers would ask in the terminal, and wait.
    options = {"trust_remote_code": False, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        # GPT-J and GPT-Neo do not support PyTorch's attention.
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options)
    device: Any = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), tokenizer


def keep_buffers() -> None:
    """Make malloc keep freed memory in the process.

    Otherwise every step allocates its logits again, a fifth of a small model's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        # The largest values: glibc refuses a higher mmap threshold, and mallopt takes an int.
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, (2 << 30) - 1)


def strip_special_tokens(text: str) -> str:
    """Remove literal special tokens, also those that appear when others are removed."""
    # No special token contains a space, so none can appear around one.
    return remove_matches(SPECIALS, text, " ")[0]


def request_tokens(tokenizer: PreTrainedTokenizerBase, requests: Iterable[str]) -> TokenLists:
    """Tokenize each request as a user's turn, up to the beginning of the assistant's answer."""
    dialogues = [[{"role": "user", "content": request}] for request in requests]
    return dialogue_tokens(tokenizer, dialogues)


def dialogue_tokens(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Mapping[str, str]]]
) -> TokenLists:
    """Tokenize dialogues in the chat format, as `dialogue_texts` writes them."""
    return tokenize(tokenizer, dialogue_texts(tokenizer, dialogues))


def dialogue_texts(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Mapping[str, str]]]
) -> list[str]:
    """Write dialogues in the chat format, up to the beginning of the assistant's answer.

    Args:
        tokenizer: a tokenizer with a chat template.
        dialogues: turns {role, content}.
    """
    stripped = []
    for dialogue in dialogues:
        turns = [{**turn, "content": strip_special_tokens(turn["content"])} for turn in dialogue]
        stripped.append(turns)
    texts: Any = tokenizer.apply_chat_template(
        stripped,
        add_generation_prompt=True,
        tokenize=False,
        strftime_now=TODAY.strftime,
    )
    return list(texts)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answers: Iterable[str]) -> TokenLists:
    """Tokenize each answer with the end of its turn.

    Literal tags become tokens; the caller strips special tokens that must not.
    """
    return tokenize(tokenizer, [f"{answer}{IM_END}" for answer in answers])


def page_tokens(tokenizer: PreTrainedTokenizerBase, beginnings: Iterable[str]) -> TokenLists:
    """Tokenize each text as the beginning of a document, as in pretraining."""
    # A tokenizer that has the tag has END before every document, whatever begins its chats.
    begin = tokenizer.bos_token_id if tag_id(tokenizer) is None else token_id(tokenizer, END)
    first = [] if begin is None else [begin]
    texts = [strip_special_tokens(text) for text in beginnings]
    return [first + tokens for tokens in tokenize(tokenizer, texts)]


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Any) -> TokenLists:
    """Tokenize texts as they are: special tokens are read, and none is added."""
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
    """Return the id of a special token, or None if the tokenizer does not have it."""
    return tokenizer.get_added_vocab().get(token)


def tag_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the harmfulness tag, or None if the tokenizer does not have it."""
    return token_id(tokenizer, TAG)


def end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> set[int]:
    """Return the tokens that end an answer: END, IM_END, and those of tokenizer and model."""
    ends: list[Any] = [token_id(tokenizer, END), token_id(tokenizer, IM_END)]
    ends.append(tokenizer.eos_token_id)
    # Gemma and some Llama 3 models list the end of a turn only here.
    if model is not None and model.generation_config:
        own = model.generation_config.eos_token_id
        ends += own if isinstance(own, list) else [own]
    return {token for token in ends if isinstance(token, int)}
