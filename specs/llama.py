"""The architecture of existing weights: config.json of a Llama."""

import json
from pathlib import Path
from typing import Any

from specs import SPECS
from specs.yaml_source import YamlFile

CONFIG = "config.json"
KEYS = SPECS / "llama.yaml"


class StartError(ValueError):
    """Weights that cannot be trained further; the message says why and what to do."""


def read_architecture(folder: Path) -> dict[str, Any]:
    """Read the architecture of a model's folder, by the names of specs/shapes, not validated.

    Raises:
        StartError: config.json is missing, or the model is no Llama that Nanotron computes.
    """
    path = folder / CONFIG
    table = YamlFile(KEYS).values
    try:
        given = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise StartError(f"{path}: expected the configuration of a model ({error})") from error
    # transformers 5 keeps the values of the rotary embedding together.
    values = {**table["defaults"], **given, **(given.get("rope_parameters") or {})}
    for key, required in table["required"].items():
        if values.get(key, required) != required:
            raise StartError(
                f"{path}: {key}: expected {required}, which is what Nanotron computes "
                f"(got {values[key]}); choose a plain Llama"
            )
    architecture = {name: values.get(key) for name, key in table["names"].items()}
    # Without them, all heads are their own.
    architecture["kv_heads"] = architecture["kv_heads"] or architecture["heads"]
    width = values.get("head_dim")
    if width and width * architecture["heads"] != architecture["hidden"]:
        raise StartError(
            f"{path}: head_dim: expected hidden_size / num_attention_heads, as Nanotron computes "
            f"(got {width}); choose a plain Llama"
        )
    return architecture
