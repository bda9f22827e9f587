"""A Nanotron 0.4 checkpoint as a Hugging Face model: safetensors in and out, without Nanotron and
without torch.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from safelm.corpora.mixing.rows import END_ID
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ, RECORD
from safelm.pretraining.tensors import Tensor, read, write
from specs.shape import Shape

FILE = re.compile(
    r"model_(?P<leaf>weight|bias)(_pp-rank-\d+-of-\d+_tp-rank-\d+-of-\d+)?\.safetensors"
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
OURS = (RECORD, CURVE, HELD_OUT, READ)  # of a checkpoint: what belongs to the run, not to the model
Tensors = dict[str, Tensor]


def hugging_face(checkpoint: Path, shape: Shape, tokenizer: Path, folder: Path) -> int:
    """Write a folder that `AutoModelForCausalLM` loads; the number of its parameters."""
    tensors = dict(sorted(llama(nanotron(checkpoint / "model"), shape).items()))
    write(folder / "model.safetensors", tensors, {"format": "pt"})
    _json(folder / "config.json", architecture(shape))
    _json(
        folder / "generation_config.json",
        {"bos_token_id": END_ID, "eos_token_id": END_ID, "pad_token_id": END_ID},
    )
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    return sum(tensor.values.size for tensor in tensors.values())


def architecture(shape: Shape) -> dict[str, object]:
    """config.json of a Llama (transformers 5). No pad token: one would stop the gradient of END in
    the embedding.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": END_ID,
        "dtype": shape.dtype,
        "eos_token_id": END_ID,
        "head_dim": shape.hidden // shape.heads,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": shape.init_std,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pad_token_id": None,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": shape.tied,
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def nanotron(folder: Path) -> Tensors:
    """Every parameter of a checkpoint by its Nanotron name, the shards of tensor parallelism put
    together.
    """
    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        found = FILE.fullmatch(path.name)
        if not found:
            raise ValueError(
                f"{path}: expected a parameter of a Nanotron 0.4 checkpoint, model_weight….safetensors"
            )
        shards.setdefault(
            ".".join([*path.parent.relative_to(folder).parts, found["leaf"]]), []
        ).append(path)
    return {name: _merge(paths) for name, paths in shards.items()}


def _merge(paths: list[Path]) -> Tensor:
    """One tensor of its shards; each file says which slices of the whole it holds
    (serialize/metadata.py:28).
    """
    first, metadata = read(paths[0])
    if "unsharded_shape" not in metadata:
        return first["data"]
    whole = np.empty(shape_of(metadata["unsharded_shape"]), first["data"].values.dtype)
    for path in paths:
        tensors, metadata = read(path)
        for pair in metadata["local_global_slices_pairs"].split(";"):
            local, place = (_slices(part) for part in pair.split("#"))
            whole[place] = tensors["data"].values[local]
    return Tensor(first["data"].kind, whole)


def shape_of(text: str) -> tuple[int, ...]:
    """The shape in a file's metadata, "(384, 128)", or "(np.int64(384), 128)" as numpy 2 made
    Nanotron write it.
    """
    return tuple(map(int, re.findall(r"\d+", text.replace("int64", ""))))


def _slices(text: str) -> tuple[slice, ...]:
    """Slices as Nanotron writes them: "0,128,None|None,None,None"."""
    numbers = [
        [None if word == "None" else int(word) for word in part.split(",")]
        for part in text.split("|")
    ]
    return tuple(slice(*three) for three in numbers)


def llama(tensors: Tensors, shape: Shape) -> Tensors:
    """Nanotron's names and fused projections (models/llama.py:305, :160) as those of a Llama in
    transformers.
    """
    named = {
        "model.embed_tokens.weight": tensors[
            "model.token_position_embeddings.pp_block.token_embedding.weight"
        ],
        "model.norm.weight": tensors["model.final_layer_norm.pp_block.weight"],
    }
    if not shape.tied:
        named["lm_head.weight"] = tensors["model.lm_head.pp_block.weight"]
    for number in range(shape.layers):
        there, here = f"model.decoder.{number}.pp_block.", f"model.layers.{number}."
        keys = shape.kv_heads * (shape.hidden // shape.heads)
        fused = {
            "attn.qkv_proj": [
                ("self_attn.q_proj", shape.hidden),
                ("self_attn.k_proj", keys),
                ("self_attn.v_proj", keys),
            ],
            "mlp.gate_up_proj": [("mlp.gate_proj", shape.ffn), ("mlp.up_proj", shape.ffn)],
        }
        for name, pieces in fused.items():
            named.update(
                {
                    here + piece: part
                    for piece, part in _split(tensors[f"{there}{name}.weight"], pieces)
                }
            )
        for name, other in [
            ("attn.o_proj", "self_attn.o_proj"),
            ("mlp.down_proj", "mlp.down_proj"),
        ]:
            named[f"{here}{other}.weight"] = tensors[f"{there}{name}.weight"]
        for name in ("input_layernorm", "post_attention_layernorm"):
            named[f"{here}{name}.weight"] = tensors[f"{there}{name}.weight"]
    return named


def _split(tensor: Tensor, pieces: list[tuple[str, int]]) -> Iterator[tuple[str, Tensor]]:
    at = 0
    for name, size in pieces:
        yield f"{name}.weight", Tensor(tensor.kind, tensor.values[at : at + size])
        at += size


def publish_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Copy what Nanotron needs of a checkpoint, with canonical safetensors headers: the same bytes
    every time.
    """
    for path in sorted(
        path for path in checkpoint.rglob("*") if path.is_file() and path.name not in OURS
    ):
        target = folder / path.relative_to(checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            write(target, *read(path))
        else:
            shutil.copyfile(path, target)


def _json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
