"""words: count the words of the rewritten documents; a stage without shards."""

import json
from collections import Counter

from safelm.executor import artifact
from safelm.paths import build
from safelm.shards import tables


def main() -> None:
    texts = [text for table in tables(build("rephrase"), ["text"]) for text in table["text"].to_pylist()]
    counts = Counter(word for text in texts for word in text.split())
    with artifact(build("words")) as folder:
        (folder / "counts.json").write_text(json.dumps(dict(sorted(counts.items())), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
