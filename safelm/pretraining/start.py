"""Training from existing weights: a Llama in Hugging Face's format.

The model keeps its tokenizer, chat template and generation config. Special tokens that its
tokenizer lacks get new rows of the embedding, and of the head if it is not tied: the mean of the
other rows and a little noise. With the mean, the probabilities of the other tokens change by a
bounded amount (Hewitt 2021, Initializing New Word Embeddings for Pretrained Language Models).
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from safelm.builder.files import Json, write_json
from safelm.models.weights import Weights
from safelm.pretraining.convert import (
    EMBEDDING,
    HEAD,
    TEMPLATE,
    TOKENIZER_FILES,
    Tensors,
    llama_shapes,
    write_nanotron,
)
from safelm.pretraining.tensors import Tensor
from safelm.seeding import generator
from specs.llama import CONFIG, StartError, read_architecture
from specs.shape import Shape
from specs.tokens import TOKENIZER, ids_in

# The noise of a new row as a share of each dimension's standard deviation. New rows differ from
# each other, but hardly from the mean.
NOISE = 0.01
# The parts of a tokenizer.json, beside its tokens, that decide how a text is encoded.
ENCODING = ("normalizer", "pre_tokenizer", "model")
GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Start:
    """Existing weights with their tokenizer.

    Attributes:
        folder: the model in Hugging Face's format.
        digest: the hash that its files must have.
        tokenizer: the tokenizer of the build, which has the special tokens of SafeLM too.
    """

    folder: Path
    digest: str
    tokenizer: Path

    @classmethod
    def open(cls, weights: Weights, tokenizer: Path) -> "Start":
        """Fetch weights and check them.

        Raises:
            WeightsError: the weights are missing, or their digest differs.
            StartError: the build has another tokenizer.
        """
        folder = weights.folder()
        check_tokenizer(folder, tokenizer)
        return cls(folder, str(weights.digest), tokenizer)

    def write_checkpoint(self, shape: Shape, seed: int, folder: Path) -> None:
        """Write the weights as a Nanotron checkpoint, with embedding rows for new tokens.

        Args:
            shape: the shape of the weights.
            seed: seeds the new rows.
            folder: gets the checkpoint.

        Raises:
            StartError: a tensor is missing, has another shape, or numbers that are not finite.
        """
        # Imported here, because it imports torch, which other runs of the stage do not need.
        from safetensors.torch import load_file

        found: dict[str, Any] = {}
        for path in sorted(self.folder.glob("model*.safetensors")):
            found |= load_file(path)
        own = ids_in(self.folder / TOKENIZER)
        tokens = ids_in(self.tokenizer / TOKENIZER)
        new = [id for token, id in tokens.items() if token not in own]
        vocabulary = read_architecture(self.folder)["vocab_size"]
        tensors: Tensors = {}
        for name, expected in llama_shapes(shape, vocabulary).items():
            # float32 holds every bfloat16 and float16 exactly.
            values = found[name].float().numpy() if name in found else np.empty(0)
            if values.shape != expected or not np.isfinite(values).all():
                raise StartError(
                    f"{self.folder}: {name}: expected finite numbers of shape {expected} "
                    f"(got {values.shape}); choose weights that fit their config.json"
                )
            if name in (EMBEDDING, HEAD):
                draw = generator("new rows", seed, name)
                values = add_rows(values, shape.vocab_size, new, draw)
            # Nanotron rounds them to the type of the model.
            tensors[name] = Tensor("F32", values)
        write_nanotron(tensors, shape, folder)

    def write_files(self, folder: Path) -> None:
        """Copy the tokenizer, chat template and generation config of the weights to a model.

        Special tokens of the build are added. Weights without a chat template get the build's.
        """
        for name in (*TOKENIZER_FILES, GENERATION):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        settings = _json(folder / "tokenizer_config.json")
        if "chat_template" in settings and not (self.folder / TEMPLATE).is_file():
            # transformers prefers a template file (here the build's) to one in the configuration.
            (folder / TEMPLATE).unlink(missing_ok=True)
        tokenizer = _json(folder / TOKENIZER)
        known = {token["content"] for token in tokenizer["added_tokens"]}
        for token in _json(self.tokenizer / TOKENIZER)["added_tokens"]:
            if token["content"] not in known:
                tokenizer["added_tokens"].append(token)
        write_json(folder / TOKENIZER, tokenizer)
        given = _json(self.folder / CONFIG)
        values = _json(folder / CONFIG)
        values |= {name: given.get(name) for name in ("bos_token_id", "eos_token_id")}
        write_json(folder / CONFIG, values, indent=2, sort_keys=True)


def _json(path: Path) -> Json:
    values: Json = json.loads(path.read_bytes())
    return values


def check_tokenizer(folder: Path, tokenizer: Path) -> None:
    """Raise StartError unless the build's tokenizer encodes text as that of the weights does."""
    files = [folder / TOKENIZER, tokenizer / TOKENIZER]
    # Parsed by the library, because its earlier versions spell the same values differently.
    own, ours = (json.loads(Tokenizer.from_file(str(file)).to_str()) for file in files)
    own_ids, our_ids = (ids_in(file).items() for file in files)
    if own_ids <= our_ids and all(own[part] == ours[part] for part in ENCODING):
        return
    raise StartError(
        f"{tokenizer}: expected the tokenizer of {folder}, whose weights are trained further (got "
        f"another); write tokenizer.path: {folder}"
    )


def add_rows(
    rows: np.ndarray,
    size: int,
    new: list[int],
    draw: np.random.Generator,
) -> np.ndarray:
    """Extend an embedding to `size` rows; new tokens get the mean row and a little noise.

    Args:
        rows: the embedding of the weights, shape (vocabulary, hidden), float32.
        size: the number of rows to return; rows added at the end are new too.
        new: tokens that have no trained row.
        draw: draws the noise.
    """
    is_new = np.arange(size) >= len(rows)
    is_new[new] = True
    extended = np.zeros((size, rows.shape[1]), np.float32)
    extended[: len(rows)] = rows
    trained = extended[~is_new]
    mean = trained.mean(0, dtype=np.float64)
    spread = trained.std(0, dtype=np.float64)
    extended[is_new] = mean + NOISE * spread * draw.normal(size=(is_new.sum(), rows.shape[1]))
    return extended
