"""Conversion between a Nanotron 0.4 checkpoint and a Hugging Face model, by numpy alone."""

import re
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np

from safelm.builder.files import Json, make_parent, write_json
from safelm.corpora.mixing.rows import END_ID
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ, RECORD
from safelm.pretraining.tensors import Tensor, read, write
from specs.shape import Shape

FILE = re.compile(
    r"model_(?P<leaf>weight|bias)(_pp-rank-\d+-of-\d+_tp-rank-\d+-of-\d+)?\.safetensors"
)
TEMPLATE = "chat_template.jinja"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    TEMPLATE,
)
# The files of a checkpoint that belong to the run and not to the model.
RUN_FILES = (RECORD, CURVE, HELD_OUT, READ)
# The tensors outside of the layers, by their names in transformers and in Nanotron.
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
OUTER = {
    EMBEDDING: "model.token_position_embeddings.pp_block.token_embedding.weight",
    "model.norm.weight": "model.final_layer_norm.pp_block.weight",
    HEAD: "model.lm_head.pp_block.weight",
}
Tensors = dict[str, Tensor]


def write_hugging_face(checkpoint: Path, shape: Shape, tokenizer: Path, folder: Path) -> int:
    """Write a folder that AutoModelForCausalLM loads.

    Args:
        checkpoint: a Nanotron checkpoint.
        shape: the model's architecture.
        tokenizer: a folder whose tokenizer files are copied.
        folder: gets the model.

    Returns:
        The number of parameters.
    """
    tensors = llama_tensors(read_nanotron(checkpoint / "model"), shape)
    write(folder / "model.safetensors", tensors, {"format": "pt"})
    generation = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END_ID)
    # Indented as transformers writes them.
    write_json(folder / "config.json", architecture(shape), indent=2, sort_keys=True)
    write_json(folder / "generation_config.json", generation, indent=2, sort_keys=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    return sum(tensor.values.size for tensor in tensors.values())


def architecture(shape: Shape) -> Json:
    """Return config.json of a Llama (transformers 5)."""
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
        # With END as the pad token, the embedding of END would get no gradient.
        "pad_token_id": None,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": shape.tied,
        "use_cache": True,
        "vocab_size": shape.vocab_size,
    }


def read_nanotron(folder: Path) -> Tensors:
    """Read every parameter of a checkpoint by its Nanotron name, merging tensor-parallel shards.

    Raises:
        ValueError: a safetensors file is not named as Nanotron 0.4 names a parameter.
    """
    shards: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.safetensors")):
        match = FILE.fullmatch(path.name)
        if not match:
            raise ValueError(
                f"{path}: expected a parameter of a Nanotron 0.4 checkpoint, "
                "model_weight….safetensors"
            )
        module = path.parent.relative_to(folder).parts
        shards[".".join([*module, match["leaf"]])].append(path)
    return {name: _merge(paths) for name, paths in shards.items()}


def _merge(paths: list[Path]) -> Tensor:
    """Merge the shards of a tensor; each file names its slices (serialize/metadata.py:28)."""
    tensors, metadata = read(paths[0])
    first = tensors["data"]
    if "unsharded_shape" not in metadata:
        return first
    whole = np.empty(parse_shape(metadata["unsharded_shape"]), first.values.dtype)
    for path in paths:
        tensors, metadata = read(path)
        for pair in metadata["local_global_slices_pairs"].split(";"):
            local_slices, global_slices = map(_parse_slices, pair.split("#"))
            whole[global_slices] = tensors["data"].values[local_slices]
    return Tensor(first.kind, whole)


def parse_shape(text: str) -> tuple[int, ...]:
    """Parse the shape in a file's metadata: "(384, 128)", or "(np.int64(384), 128)"."""
    # Nanotron writes the second form under numpy 2.
    return tuple(map(int, re.findall(r"\d+", text.replace("int64", ""))))


def _parse_slices(text: str) -> tuple[slice, ...]:
    """Parse slices as Nanotron writes them: "0,128,None|None,None,None"."""
    slices = []
    for part in text.split("|"):
        bounds = [None if word == "None" else int(word) for word in part.split(",")]
        slices.append(slice(*bounds))
    return tuple(slices)


def llama_tensors(tensors: Tensors, shape: Shape) -> Tensors:
    """Rename Nanotron's tensors and split its fused projections, as in transformers' Llama."""
    renamed = {name: tensors[OUTER[name]] for name in _outer(shape)}
    for fused, pieces in _fused(shape).items():
        tensor = tensors[fused]
        begin = 0
        for name, rows in pieces.items():
            renamed[name] = Tensor(tensor.kind, tensor.values[begin : begin + rows])
            begin += rows
    return renamed


def nanotron_tensors(tensors: Tensors, shape: Shape) -> Tensors:
    """Rename the tensors of transformers' Llama and fuse projections, as in Nanotron."""
    renamed = {OUTER[name]: tensors[name] for name in _outer(shape)}
    for fused, pieces in _fused(shape).items():
        parts = [tensors[name] for name in pieces]
        renamed[fused] = Tensor(parts[0].kind, np.concatenate([part.values for part in parts]))
    return renamed


def _outer(shape: Shape) -> list[str]:
    """Return the names of transformers outside of the layers; a tied head is the embedding."""
    return [name for name in OUTER if name != HEAD or not shape.tied]


def _fused(shape: Shape) -> dict[str, dict[str, int]]:
    """Return Nanotron's tensors in the layers, with their parts in transformers and their rows."""
    key_width = shape.kv_heads * (shape.hidden // shape.heads)
    # Nanotron fuses gate and up (models/llama.py:160), and queries, keys and values (:305).
    projections = {
        "attn.qkv_proj": {
            "self_attn.q_proj": shape.hidden,
            "self_attn.k_proj": key_width,
            "self_attn.v_proj": key_width,
        },
        "attn.o_proj": {"self_attn.o_proj": shape.hidden},
        "mlp.gate_up_proj": {"mlp.gate_proj": shape.ffn, "mlp.up_proj": shape.ffn},
        "mlp.down_proj": {"mlp.down_proj": shape.hidden},
        "input_layernorm": {"input_layernorm": shape.hidden},
        "post_attention_layernorm": {"post_attention_layernorm": shape.hidden},
    }
    fused = {}
    for layer in range(shape.layers):
        for name, pieces in projections.items():
            inner = {f"model.layers.{layer}.{part}.weight": rows for part, rows in pieces.items()}
            fused[f"model.decoder.{layer}.pp_block.{name}.weight"] = inner
    return fused


def llama_shapes(shape: Shape, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of transformers' Llama, with a vocabulary."""
    rows = dict.fromkeys(_outer(shape), vocabulary)
    rows["model.norm.weight"] = shape.hidden
    for pieces in _fused(shape).values():
        rows |= pieces
    shapes: dict[str, tuple[int, ...]] = {}
    for name, count in rows.items():
        # Every matrix reads the hidden width, except the one that leads back from the feed-forward.
        columns = shape.ffn if "down_proj" in name else shape.hidden
        shapes[name] = (count,) if "norm" in name else (count, columns)
    return shapes


def write_nanotron(tensors: Tensors, shape: Shape, folder: Path) -> None:
    """Write the weights of transformers' Llama as those of a Nanotron checkpoint.

    It has one tensor-parallel rank. Where there are more, each takes its slice of a tensor when
    Nanotron loads it (serialize/weights.py:149).
    """
    for name, tensor in nanotron_tensors(tensors, shape).items():
        *modules, leaf = name.split(".")
        file = f"model_{leaf}"
        metadata = {}
        # Norms are whole in every rank. The other tensors are matrices.
        if tensor.values.ndim > 1:
            file += "_pp-rank-0-of-1_tp-rank-0-of-1"
            whole = "None,None,None|None,None,None"
            metadata = {
                "version": "1.2",
                "local_global_slices_pairs": f"{whole}#{whole}",
                "unsharded_shape": str(tensor.values.shape),
            }
        path = folder.joinpath("model", *modules, f"{file}.safetensors")
        make_parent(path)
        write(path, {"data": tensor}, metadata)


def publish_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Copy the files that Nanotron needs, with canonical safetensors headers.

    Equal checkpoints give equal bytes.
    """
    for path in sorted(checkpoint.rglob("*")):
        if not path.is_file() or path.name in RUN_FILES:
            continue
        target = folder / path.relative_to(checkpoint)
        make_parent(target)
        if path.suffix == ".safetensors":
            write(target, *read(path))
        else:
            shutil.copyfile(path, target)
