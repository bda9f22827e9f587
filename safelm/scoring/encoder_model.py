"""Loading and saving of encoders with a 6-way head.

Every encoder that AutoModelForSequenceClassification knows is accepted, if its weights and its
tokenizer fit. Encoders that bring code of their own, such as the paper's gte-base-en-v1.5, are
refused: no remote code runs here.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safelm.builder.files import Json
from safelm.builder.workers import worker_index
from specs.spec import SCORE_LEVELS

Losses = Sequence[tuple[str, int, float]]  # (what was trained, update, loss)


class EncoderError(RuntimeError):
    """An encoder cannot be loaded, or does not fit its row of params.yaml."""


def load_encoder(
    encoder: Path | str, revision: str | None, sequence_length: int, *, new_head: bool = False
) -> tuple[Any, Any]:
    """Load a model with a 6-way head and its tokenizer, on the accelerator if there is one.

    With `new_head`, an encoder with another head or none gets one with random weights; without it,
    such an encoder raises EncoderError.
    """
    import torch

    model, tokenizer, loaded = _from_pretrained(encoder, revision)
    _check_weights(encoder, model, loaded, new_head)
    for problem in _problems(model, tokenizer, sequence_length):
        raise EncoderError(f"{encoder}: {problem}")
    if _padding_index(model) is None:
        # The head of a decoder model reads the last token that is not padding.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32
        # Workers on a machine take its GPUs in turn.
        device = worker_index() % torch.cuda.device_count()
        return model.to(f"cuda:{device}"), tokenizer
    # One thread: the executor has a worker for each core, and sums do not depend on their number.
    torch.set_num_threads(1)
    return model, tokenizer


def _from_pretrained(encoder: Path | str, revision: str | None) -> tuple[Any, Any, Json]:
    """Load the model, its tokenizer, and what transformers reports on the weights."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    # The executor's workers are processes already.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers would warn that the weights of a new head are new.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    ids = {str(score): score for score in range(SCORE_LEVELS)}
    options: Json = {"trust_remote_code": False}
    if revision:
        options["revision"] = revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(encoder), **options)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            str(encoder),
            num_labels=SCORE_LEVELS,
            label2id=ids,
            id2label={score: name for name, score in ids.items()},
            dtype=torch.float32,
            # Reported, not raised: _check_weights() decides which weights may be new.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise EncoderError(_unreadable(encoder, revision, error)) from error
    return model, tokenizer, loaded


def save_encoder(model: Any, tokenizer: Any, losses: Losses, folder: Path) -> None:
    """Save the model as safetensors, its tokenizer, and loss.csv."""
    # Both would save the folder they were read from; an output must not hold a path.
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(folder)
    lines = [f"{trains},{step},{loss:.6g}\n" for trains, step, loss in losses]
    (folder / "loss.csv").write_text("".join(["trains,step,loss\n", *lines]), encoding="utf-8")


def _check_weights(encoder: Path | str, model: Any, loaded: Json, new_head: bool) -> None:
    """Raise EncoderError where weights are missing, or of other shapes than the model's.

    With `new_head`, only the weights below the head are checked.
    """
    shapes = {
        name: f"{list(there)} where {list(here)} is needed"
        for name, there, here in loaded["mismatched_keys"]
    }
    wanted = f"weights with a {SCORE_LEVELS}-way head"
    if new_head:
        body = f"{model.base_model_prefix}."
        shapes = {name: shape for name, shape in shapes.items() if name.startswith(body)}
        wanted = "weights of the shapes that its config.json gives"
    else:
        shapes |= dict.fromkeys(loaded["missing_keys"], "nothing")
    if shapes:
        name, shape = min(shapes.items())
        raise EncoderError(
            f"{encoder}: expected {wanted} (got {shape} for {name}); "
            "take an encoder whose files belong together, or fit it anew"
        )


def _problems(model: Any, tokenizer: Any, sequence_length: int) -> Iterator[str]:
    """Yield each reason why the model cannot read batches of chunks of `sequence_length` tokens."""
    positions = _positions(model)
    if positions is not None and sequence_length > positions:
        yield (
            f"expected a sequence_length of at most its {positions} positions "
            f"(got {sequence_length}); write a smaller one"
        )
    if tokenizer.pad_token_id is None:
        yield (
            "expected a tokenizer with a pad token (got none); "
            "name one of its tokens as pad_token in its files"
        )
        return
    known = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id >= known:
        yield (
            f"expected a pad token among the {known} of its model "
            f"(got {tokenizer.pad_token_id}); name another"
        )


def _positions(model: Any) -> int | None:
    """Return the number of positions of the model, if its config says so."""
    positions = getattr(model.config, "max_position_embeddings", None)
    padding = _padding_index(model)
    return positions if positions is None or padding is None else positions - (padding + 1)


def _padding_index(model: Any) -> int | None:
    """Return the position that RoBERTa-like models give to padding; None for other models."""
    # These models number the positions of all other tokens from the one after it.
    for name, module in model.named_modules():
        if name.endswith("embeddings.position_embeddings"):
            return getattr(module, "padding_idx", None)
    return None


def _unreadable(encoder: Path | str, revision: str | None, error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    got = f"(got {first_line[:200]})"
    if isinstance(encoder, Path):
        return f"{encoder}: expected a folder with an encoder that transformers can load {got}"
    return (
        f"{encoder} at {revision}: expected an encoder that transformers can load without code of "
        f"its own, in the cache of the Hugging Face hub or on the hub {got}; fetch it where there "
        f"is a network with `hf download {encoder} --revision {revision}`, or name a local folder"
    )
