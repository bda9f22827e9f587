"""Small outputs of other kinds: a plain file, weights with a chat template, and a page of them all.

python -m pipeline.small page
"""

import hashlib
import sys
from pathlib import Path

from safelm.builder.artifact import artifact
from safelm.builder.paths import build

VERSION = 1


def write_weights(folder: Path, *, tokenizer: Path) -> list[str]:
    """Write two files that depend on the tokenizer."""
    (folder / "model.safetensors").write_text(f"weights {VERSION} {_digest(tokenizer)}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return [f"weights {VERSION}"]


def write_page(folder: Path, *, paths: list[Path]) -> list[str]:
    """Write a page that depends on every byte that it reads."""
    rows = [f"<li>{VERSION} {path} {_digest(path)}</li>" for path in paths]
    (folder / "index.html").write_text("\n".join(rows))
    return [f"page {VERSION}"]


def _digest(path: Path) -> str:
    files = sorted(path.rglob("*")) or [path]
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    name = sys.argv[1]
    if name == "plain":
        build().mkdir(exist_ok=True)
        build("plain.txt").write_text(f"plain {VERSION}")
    elif name == "weights":
        artifact("weights", write_weights, tokenizer=build("tokenizer"))
    else:
        paths = [build("weights"), build("score", "web"), build("plain.txt")]
        artifact("page", write_page, paths=paths)


if __name__ == "__main__":
    main()
