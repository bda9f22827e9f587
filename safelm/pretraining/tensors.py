"""Safetensors files without torch, written in a canonical form.

The safetensors library writes metadata in random order, so equal tensors give unequal bytes. Here
all names are sorted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The numpy type of each safetensors type; bfloat16, which numpy lacks, is kept as its 16 bits.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
    "BOOL": "u1",
}


@dataclass(frozen=True)
class Tensor:
    """An array and the name of its type in safetensors, a key of DTYPES."""

    kind: str
    values: np.ndarray


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the memory-mapped tensors of a file by name, and its metadata."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    # The length of the header takes 8 bytes, the header follows, then the data.
    data = np.memmap(path, np.uint8, "r", offset=8 + size)
    tensors = {}
    for name, entry in header.items():
        kind = entry["dtype"]
        start, stop = entry["data_offsets"]
        values = data[start:stop].view(DTYPES[kind]).reshape(entry["shape"])
        tensors[name] = Tensor(kind, values)
    return tensors, metadata


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file with the tensors in the order of their names."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    begin = 0
    for name, tensor in sorted(tensors.items()):
        end = begin + tensor.values.nbytes
        header[name] = {
            "dtype": tensor.kind,
            "shape": list(tensor.values.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    # The format asks that the data begin at a multiple of 8 bytes.
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            file.write(np.ascontiguousarray(tensor.values).data)
