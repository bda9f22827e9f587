"""Weights of a row of `engines`: the folder of its model, and the digest that pins them.

python -m safelm.llm.weights org/name        print the digest, for params.yaml
"""

import argparse
import hashlib
from pathlib import Path

from huggingface_hub import snapshot_download

from safelm.builder.digest import file_digest
from safelm.llm.engine import EngineError, EngineRow

# Safetensors and configuration, but no file that can hold code.
FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "*.tiktoken",
    "merges.txt",
    "vocab.txt",
)


def folder_of(model: str, revision: str | None = None) -> Path:
    """Return a local folder as it is, or the snapshot of a model of the Hugging Face hub.

    Raises EngineError if it holds no safetensors.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    if not any(folder.glob("*.safetensors")):
        raise EngineError(
            f"{model}: expected weights in *.safetensors (got none); other formats are not loaded"
        )
    return folder


def digest_of(folder: Path) -> str:
    """Return the sha256 of the names and digests of the model's files, in order."""
    files: set[Path] = set()
    for pattern in FILES:
        files.update(folder.glob(pattern))
    lines = [f"{file_digest(path)}  {path.name}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def checked_folder(row: EngineRow) -> Path:
    """Return the folder of a row's model.

    Raises EngineError if its weights do not have the row's digest.
    """
    folder = folder_of(row["model"], row["revision"])
    digest = digest_of(folder)
    if digest != row["digest"]:
        raise EngineError(
            f"params.yaml: engines.{row['name']}.digest: expected the digest of {row['model']} "
            f"(got {row['digest']}); the weights here are digest: {digest}"
        )
    return folder


def main() -> None:
    """Print the digest of a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", help="a folder, or a name on the Hugging Face hub")
    parser.add_argument("--revision", help="a commit of the hub")
    options = parser.parse_args()
    print(digest_of(folder_of(options.model, options.revision)))


if __name__ == "__main__":
    main()
