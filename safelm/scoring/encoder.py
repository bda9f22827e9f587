"""An encoder with a 6-way head (paper §1.3): chunks of its length, and the highest score of a
document's chunks.

Any encoder that transformers' own AutoModelForSequenceClassification knows. Those that bring code
of their own, such as the paper's gte-base-en-v1.5, are refused: no remote code runs here."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from safelm.scoring.base import GradeDocuments, Probabilities, grades_of, most_probable
from safelm.scoring.labels import FitScorer, Label
from safelm.text.hazards import Grade
from specs.scorer import Step
from specs.spec import SCORE_LEVELS

os.environ.setdefault(
    "TOKENIZERS_PARALLELISM", "false"
)  # the executor's workers are processes already

TOKENS = 8192  # of a batch, padding included
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")
Chunk = list[int]


class EncoderError(RuntimeError):
    """An encoder cannot be loaded or does not fit what is asked of it."""


class EncoderScorer:
    """A finetuned encoder. The last bits of its probabilities depend on the texts beside a text and
    on the processor, as with every neural network; its scores change by them only where two are
    equally probable."""

    def __init__(self, model: Any, tokenizer: Any, sequence: int) -> None:
        self.model, self.tokenizer, self.sequence = model.eval(), tokenizer, sequence

    @classmethod
    def read(cls, folder: Path, sequence: int) -> "EncoderScorer":
        """From a folder that `save` wrote, or any other with a 6-way head. Raises EncoderError."""
        model, tokenizer = load(folder, None, sequence)
        return cls(model, tokenizer, sequence)

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """The highest score of each text's chunks."""
        if not texts:
            return []
        by_chunk, owners = self.chunk_probabilities(texts)
        scores = np.zeros(len(texts), dtype=np.int64)
        np.maximum.at(scores, owners, np.array(most_probable(by_chunk)))
        grades = grades_of(_of_documents(by_chunk, owners, len(texts)), "embedding")
        return [
            grade and grade._replace(score=score)
            for grade, score in zip(grades, scores.tolist(), strict=True)
        ]

    def chunk_probabilities(self, texts: Sequence[str]) -> tuple[Probabilities, Any]:
        """(probabilities of every chunk of every text, the number of the text that each chunk is
        of).
        """
        chunks, owners = self.chunks(texts)
        found = np.zeros((len(chunks), SCORE_LEVELS))
        order = sorted(range(len(chunks)), key=lambda place: len(chunks[place]))
        for places in _batches(chunks, order):
            found[places] = self._forward([chunks[place] for place in places])
        return found, owners

    def chunks(self, texts: Sequence[str]) -> tuple[list[Chunk], Any]:
        """Token lists of at most `sequence`, each with the special tokens the encoder expects."""
        coded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.sequence,
            return_overflowing_tokens=True,
            return_attention_mask=False,
        )
        return coded["input_ids"], np.array(coded["overflow_to_sample_mapping"], dtype=np.int64)

    def _forward(self, chunks: Sequence[Chunk]) -> Probabilities:
        import torch

        padded = self.tokenizer.pad({"input_ids": list(chunks)}, return_tensors="pt").to(
            self.model.device
        )
        with torch.inference_mode():
            logits = self.model(**padded).logits
        return torch.softmax(logits.float(), dim=-1).cpu().numpy().astype(np.float64)


def _batches(chunks: Sequence[Chunk], order: Sequence[int]) -> Iterator[list[int]]:
    """Places of chunks of like length, as many as fit TOKENS; `order` goes from short to long."""
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * len(chunks[place]) > TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _of_documents(by_chunk: Probabilities, owners: Any, texts: int) -> Probabilities:
    """Of each text: the chance that some chunk has a score of k or above is that of the chunk most
    likely to.
    """
    reach = np.zeros((texts, SCORE_LEVELS + 1))
    np.maximum.at(reach[:, :SCORE_LEVELS], owners, by_chunk[:, ::-1].cumsum(axis=1)[:, ::-1])
    return np.clip(reach[:, :-1] - reach[:, 1:], 0.0, 1.0)


def load(
    encoder: Path | str, revision: str | None, sequence: int, new_head: bool = False
) -> tuple[Any, Any]:
    """(model with a 6-way head, tokenizer) on the accelerator, if there is one. Raises
    EncoderError.

    With `new_head` an encoder that has another head or none gets one with random weights; else it
    is refused. Without an accelerator one thread is used: the executor has a worker for each core,
    and bytes do not depend on them."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # it would tell that the head is new, which it is
    logging.disable_progress_bar()
    names = {str(level): level for level in range(SCORE_LEVELS)}
    options: dict[str, Any] = {
        "trust_remote_code": False,
        **({"revision": revision} if revision else {}),
    }
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(encoder), **options)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            str(encoder),
            num_labels=SCORE_LEVELS,
            label2id=names,
            id2label={level: name for name, level in names.items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError) as error:
        raise EncoderError(_unreadable(encoder, revision, error)) from error
    problem = _other_weights(model, loaded, new_head) or _unfit(model, tokenizer, sequence)
    if problem:
        raise EncoderError(f"{encoder}: {problem}")
    if _place_of_pad(model) is None:  # a decoder's head reads the last token that is none
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        return model.to("cuda"), tokenizer
    torch.set_num_threads(1)
    return model, tokenizer


def _other_weights(model: Any, loaded: dict[str, Any], new_head: bool) -> str | None:
    """Why the weights that were read are not those of the model: only a head that is made anew may
    differ.
    """
    shapes = {
        name: f"{list(there)} where {list(here)} is needed"
        for name, there, here in loaded["mismatched_keys"]
    }
    shapes |= dict.fromkeys(loaded["missing_keys"], "nothing")
    if new_head:
        body = f"{model.base_model_prefix}."
        shapes = {
            name: shape
            for name, shape in shapes.items()
            if name.startswith(body) and shape != "nothing"
        }
    if not shapes:
        return None
    name, shape = min(shapes.items())
    wanted = (
        "weights of the shapes that its config.json gives"
        if new_head
        else f"weights with a {SCORE_LEVELS}-way head"
    )
    return f"expected {wanted} (got {shape} for {name}); take an encoder whose files belong together, or fit it anew"


def _unfit(model: Any, tokenizer: Any, sequence: int) -> str | None:
    """Why chunks of that many tokens cannot be put in a batch for the model."""
    positions = _positions(model)
    if positions is not None and sequence > positions:
        return f"expected a sequence of at most its {positions} positions (got {sequence})"
    if tokenizer.pad_token_id is None:
        return "expected a tokenizer with a pad token (got none); name a token it has as pad_token in its files"
    known = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id >= known:
        return f"expected a pad token among the {known} of its model (got {tokenizer.pad_token_id}); name another"
    return None


def _positions(model: Any) -> int | None:
    """How many tokens the model can place, if it says so."""
    positions, pad = getattr(model.config, "max_position_embeddings", None), _place_of_pad(model)
    return positions if positions is None or pad is None else positions - (pad + 1)


def _place_of_pad(model: Any) -> int | None:
    """The position that RoBERTa and its kin give to pad tokens, behind which they count; other
    models have none.
    """
    modules = (
        module
        for name, module in model.named_modules()
        if name.endswith("embeddings.position_embeddings")
    )
    return getattr(next(modules, None), "padding_idx", None)


def _unreadable(encoder: Path | str, revision: str | None, error: Exception) -> str:
    if isinstance(encoder, Path):
        return f"{encoder}: expected a folder with an encoder that transformers itself can load (got {_first(error)})"
    return (
        f"{encoder} at {revision}: expected an encoder that transformers itself can load, in the cache of the Hugging "
        f"Face hub or on the hub (got {_first(error)}); fetch it where there is a network with "
        f"`hf download {encoder} --revision {revision}`, or name a folder that holds it"
    )


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


@dataclass(kw_only=True, eq=False, repr=False)
class FitEncoder(FitScorer):
    """Finetune an encoder on the labels: its head first, then all of it (LP-FT)."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES
    encoder: Path | str
    revision: str | None
    sequence: int
    unsafe_weight: float
    warmup: float
    steps: tuple[dict[str, Any], ...]

    def fit(self, train: Sequence[Label], attempt: Path) -> tuple[EncoderScorer, list[str]]:
        """The scorer, and the files of its folder: transformers loads them without code of ours."""
        from transformers import set_seed

        from safelm.scoring.encoder_training import finetune

        set_seed(self.seed)  # the head begins with random weights
        model, tokenizer = load(self.encoder, self.revision, self.sequence, new_head=True)
        losses = finetune(
            model,
            tokenizer,
            [label.text for label in train],
            [label.score for label in train],
            steps=[Step(**step) for step in self.steps],
            warmup=self.warmup,
            sequence=self.sequence,
            unsafe_weight=self.unsafe_weight,
            seed=self.seed,
        )
        save(model, tokenizer, losses, attempt)
        return EncoderScorer(model, tokenizer, self.sequence), sorted(
            path.name for path in attempt.iterdir()
        )


def save(
    model: Any, tokenizer: Any, losses: Sequence[tuple[str, int, float]], folder: Path
) -> None:
    """The model as safetensors, its tokenizer, and loss.csv."""
    model.config._name_or_path = ""  # where the encoder was is no business of its reader
    model.save_pretrained(folder)
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(folder)
    lines = "".join(f"{trains},{step},{loss:.6g}\n" for trains, step, loss in losses)
    (folder / "loss.csv").write_text("trains,step,loss\n" + lines, encoding="utf-8")


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByEncoder(GradeDocuments):
    """Grade every document by a finetuned encoder, from the maximum over its chunks (paper §1.3)."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES
    files: tuple[Path, ...]
    sequence: int

    def open(self) -> EncoderScorer:
        """What `fit` saved."""
        return EncoderScorer.read(self.files[0].parent, self.sequence)
