"""Speed of language identification, near-duplicates and a Gopher filter beside the bare libraries.

    OMP_NUM_THREADS=1 python -m benchmarks.cleaning documents.jsonl.gz

Rows have a `text`. Each side runs over the same documents in turn; figures are CPU seconds of the
fastest round, so that a busy machine counts less. DataTrove's signatures get the words of NLTK, as
its blocks do in `clean`, because its own splitter (spaCy) is not installed.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import eldc
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherRepetitionFilter

from benchmarks.labels import read_json_lines
from benchmarks.scoring import seconds
from safelm.builder.blocks import Block, Task
from safelm.cleaning.filters import WORDS, DropByDatatrove, DropByLanguage
from safelm.cleaning.near_duplicates import SignDocuments

# DataTrove's own numbers; `clean` needs more to be right at .5 (specs/filter.py).
BANDS, ROWS, NGRAM = 14, 8, 5


def documents(texts: Sequence[str]) -> Iterator[Document]:
    """Yield fresh documents."""
    for number, text in enumerate(texts):
        yield Document(text=text, id=str(number))


def run_block(block: Block, texts: Sequence[str]) -> Callable[[], Any]:
    """Run a block of ours over documents, as the stage does."""
    block.begin(Task("task", ()), Path())
    return lambda: list(block.run(documents(texts)))


def sign_with_datatrove(texts: Sequence[str]) -> None:
    """Run the first step of DataTrove's MinHash, which also sorts and writes its signatures."""
    config = MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)
    with tempfile.TemporaryDirectory() as folder:
        list(MinhashDedupSignature(folder, config, language=WORDS).run(documents(texts)) or ())


def detect_with_eldc(texts: Sequence[str]) -> None:
    """Detect the language of every text."""
    for text in texts:
        eldc.detect_details(text)


def filter_with_datatrove(texts: Sequence[str]) -> None:
    """Run DataTrove's block for repetitions."""
    list(GopherRepetitionFilter(language=WORDS).run(documents(texts)))


def compare(
    name: str, block: Block, other: Callable[[Sequence[str]], None], texts: Sequence[str]
) -> None:
    """Print the speed of a block of ours and of its library, and their ratio."""
    ours, bare = run_block(block, texts), partial(other, texts)
    pairs = [(seconds(ours), seconds(bare)) for _ in range(3)]
    own_time, bare_time = (min(times) for times in zip(*pairs, strict=True))
    rate, bare_rate = len(texts) / own_time, len(texts) / bare_time
    ratio = own_time / bare_time
    print(f"{name:<36} {rate:9,.0f} documents/s  bare {bare_rate:9,.0f}  ratio {ratio:.2f}")


def main() -> None:
    """Compare each filter with its library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("--few", type=int, default=300, help="documents for the slow blocks")
    options = parser.parse_args()
    texts = [row["text"] for row in read_json_lines(options.documents)]
    few = texts[: options.few]
    eldc.init()
    language = DropByLanguage(row="own", languages=["en"], min_score=0.5, min_characters=20)
    compare("language, beside eldc", language, detect_with_eldc, texts)
    sign = SignDocuments(ngram=NGRAM, bands=BANDS, rows=ROWS, seed=1)
    compare("signatures 14 x 8, beside DataTrove", sign, sign_with_datatrove, few)
    sign = SignDocuments(ngram=NGRAM, bands=28, rows=16, seed=1)
    compare("signatures 28 x 16, beside DataTrove", sign, sign_with_datatrove, few)
    gopher = DropByDatatrove(row="own", block="GopherRepetitionFilter", arguments={})
    compare("GopherRepetition, beside DataTrove", gopher, filter_with_datatrove, few)


if __name__ == "__main__":
    main()
