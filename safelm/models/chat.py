"""Models and their chat format, as post-training and evaluation use them: loading, requests and
answers as tokens.

The template is the one in the model's folder. Literal special tokens are taken out of every text,
for in a request they would end its turn, or feign a tag."""

import ctypes
import re
from collections.abc import Mapping, Sequence
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

TODAY = date(
    2024, 7, 26
)  # where a template tells the model the day: the same on every day that one asks
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
SPECIALS = re.compile("|".join(map(re.escape, SPECIAL)))


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and the tokenizer of a Hugging Face folder, on a GPU if there is one.

    Attention is PyTorch's own where the architecture has it (GPT-J and GPT-Neo have not), else that
    of transformers. A sum over several threads is rounded in another order, so one thread
    (SAFELM_THREADS) is what makes equal bytes."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a model in Hugging Face's format (no config.json); build it first"
        )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(environment_number("SAFELM_THREADS") or 1)
    keep_buffers()
    tokenizer = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )  # None would ask, and wait
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="sdpa", trust_remote_code=False, local_files_only=True
        )
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", trust_remote_code=False, local_files_only=True
        )
    device: Any = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), tokenizer


def keep_buffers() -> None:
    """Keep freed memory in the process; else every step faults in its logits anew, a fifth of a
    small model's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, (2 << 30) - 1)


def plain(text: str) -> str:
    """The text without literal special tokens; also without those that appear when others are taken
    out.
    """
    return remove_matches(SPECIALS, text, " ")[0]  # none of them holds a space


def request_tokens(tokenizer: PreTrainedTokenizerBase, requests: Sequence[str]) -> list[list[int]]:
    """Each request as a user's turn, up to where the assistant's answer begins."""
    return dialogue_tokens(
        tokenizer, [[{"role": "user", "content": request}] for request in requests]
    )


def dialogue_tokens(
    tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Sequence[Mapping[str, str]]]
) -> list[list[int]]:
    """Each dialogue {role, content} in the chat format, up to where the assistant's answer begins."""
    turns = [
        [{**turn, "content": plain(turn["content"])} for turn in dialogue] for dialogue in dialogues
    ]
    texts = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=False, strftime_now=TODAY.strftime
    )
    return _tokens(tokenizer, texts)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answers: Sequence[str]) -> list[list[int]]:
    """Each answer with the end of its turn. Tags in it are tokens: `plain` is for the caller."""
    return _tokens(tokenizer, [f"{answer}{IM_END}" for answer in answers])


def page_tokens(tokenizer: PreTrainedTokenizerBase, beginnings: Sequence[str]) -> list[list[int]]:
    """Each text as the beginning of a document, as in pretraining: after the token that begins one."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [begin + tokens for tokens in _tokens(tokenizer, [plain(text) for text in beginnings])]


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Any) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
    """The id of a special token, or None of a tokenizer that has none such (a user's own model)."""
    return tokenizer.get_added_vocab().get(token)


def tag_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the harmfulness tag."""
    return token_id(tokenizer, TAG)


def end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> set[int]:
    """The tokens that end an answer: END, the end of a turn, and what the tokenizer and the model
    call their ends.

    Gemma's end of a turn and some of Llama 3's stand in the generation configuration of the model
    alone."""
    own = (
        model.generation_config.eos_token_id
        if model is not None and model.generation_config
        else None
    )
    found = {token_id(tokenizer, END), token_id(tokenizer, IM_END), tokenizer.eos_token_id}
    found |= set(own) if isinstance(own, list) else {own}
    return {token for token in found if isinstance(token, int)}
