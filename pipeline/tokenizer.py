"""tokenizer: train a byte-level BPE on the ingested text, or take one; the harmfulness tag is one token.

python -m pipeline.tokenizer
"""

import argparse
from collections import Counter
from pathlib import Path

from safelm.executor import artifact, locked
from safelm.paths import build
from safelm.tokens import documents_of, save, size_of, take, texts_of, train
from specs.params import Params


def main() -> None:
    """Train on a sample of each source, or take what params.yaml names."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("tokenizer").tokenizer
    counts = Counter[str]()
    with locked("tokenizer"), artifact(build("tokenizer")) as folder:
        if params.path is None:
            documents = documents_of(build("ingest"), params.documents, params.seed)
            tokenizer = train(texts_of(documents, counts), params.vocabulary)
        else:
            tokenizer = take(Path(params.path), params.vocabulary)
        save(tokenizer, folder, counts)
    print(f"{'tokenizer':<18} {size_of(tokenizer):,} tokens from {counts.total():,} documents")


if __name__ == "__main__":
    main()
