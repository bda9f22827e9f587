"""words: count the words of the rewritten documents; a stage without shards."""

import json
from collections import Counter
from pathlib import Path

from safelm.artifact import artifact
from safelm.paths import build
from safelm.shards import tables


def count_words(folder: Path, *, rephrase: Path) -> list[str]:
    texts = [text for table in tables(rephrase, ["text"]) for text in table["text"].to_pylist()]
    counts = Counter(word for text in texts for word in text.split())
    (folder / "counts.json").write_text(json.dumps(dict(sorted(counts.items())), indent=1), encoding="utf-8")
    return [f"{'words':<18} {len(counts):,} words"]


if __name__ == "__main__":
    artifact("words", count_words, rephrase=build("rephrase"))
