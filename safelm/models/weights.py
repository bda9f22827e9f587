"""Weights from elsewhere: the folder of a model, and the digest that pins them."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from safelm.builder.digest import file_digest

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


class WeightsError(RuntimeError):
    """Weights that are not there, or not those that params.yaml pins."""


@dataclass(frozen=True)
class Weights:
    """Weights that a row of params.yaml pins. In a key their digest counts, not where they lie.

    Attributes:
        row: the location of the row, for messages.
        model: a folder, or a name on the Hugging Face hub.
        revision: a commit of the hub.
    """

    digest: str | None
    row: str = field(compare=False)
    model: str = field(compare=False)
    revision: str | None = field(compare=False)

    def folder(self) -> Path:
        """Return the folder of the weights, fetched if they lie on the hub.

        Raises:
            WeightsError: they do not have the digest; the message says which they have.
        """
        folder = folder_of(self.model, self.revision)
        digest = digest_of(folder)
        if digest != self.digest:
            state = f"are not those of {self.digest}" if self.digest else "are not pinned yet"
            raise WeightsError(
                f"{self.row}.digest: the weights of {self.model} {state}; write digest: {digest}"
            )
        return folder


def folder_of(model: str, revision: str | None = None) -> Path:
    """Return a local folder as it is, or the snapshot of a model of the Hugging Face hub.

    Raises:
        WeightsError: it holds no safetensors, or cannot be fetched.
    """
    folder = Path(model)
    if not folder.is_dir():
        # Imported here, because it takes longer than a stage with weights in a folder may.
        from huggingface_hub import snapshot_download

        try:
            snapshot = snapshot_download(model, revision=revision, allow_patterns=list(FILES))
        # Errors of the hub's client are OSErrors; of a name that it cannot have, a ValueError.
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{model}: expected a folder, or a model of the Hugging Face hub that can be "
                f"fetched ({type(error).__name__}); check the name, the network and HF_HUB_OFFLINE"
            ) from error
        folder = Path(snapshot)
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"{model}: expected weights in *.safetensors (got none); other formats are not loaded"
        )
    return folder


def digest_of(folder: Path) -> str:
    """Return the sha256 of the names and digests of the model's files, in order."""
    files: set[Path] = set()
    for pattern in FILES:
        files.update(folder.glob(pattern))
    # Names without folders: it must not count where the weights lie.
    lines = [f"{file_digest(path)}  {path.name}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
