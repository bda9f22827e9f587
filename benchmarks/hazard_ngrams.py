"""Speed of counting hazard n-grams for the report card, beside its library alone.

    python -m benchmarks.hazard_ngrams PATH.jsonl.gz [--ngrams FILE]

PATH has JSON lines with a `text`. "Alone" is ahocorasick-rs over texts that are in lower case
already: it neither counts words nor knows where one ends. Seconds are CPU seconds of this process,
of the fastest round.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from ahocorasick_rs import AhoCorasick

from benchmarks.labels import read_json_lines
from safelm.corpora.report_card import NgramIndex, normalise, read_queries
from safelm.documents.batches import BATCH
from safelm.scoring.lexicon import LEXICON


def main() -> None:
    """Print a line for each way, and what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--ngrams", type=Path, default=LEXICON.with_name("hazard_ngrams.yaml"))
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    queries = read_queries(options.ngrams, LEXICON)
    texts = [row["text"] for row in read_json_lines(options.path)[: options.documents]]
    lower = [text.lower() for text in texts]
    batches = [texts[start : start + BATCH.rows] for start in range(0, len(texts), BATCH.rows)]
    index = NgramIndex(queries)
    alone = AhoCorasick([ngram for ngrams in queries.values() for ngram in ngrams])
    seconds: dict[str, list[float]] = {"ahocorasick-rs alone": [], "normalised": [], "counted": []}
    for _ in range(options.rounds):
        found: Counter[str] = Counter()
        words = 0
        began = time.process_time()
        for text in lower:
            alone.find_matches_as_indexes(text, overlapping=True)
        searched = time.process_time()
        for batch in batches:
            normalise(batch)
        normalised = time.process_time()
        for batch in batches:
            for size, matches in index.count(batch):
                words += size
                for (hazard, _), count in matches.items():
                    found[hazard] += count
        counted = time.process_time()
        seconds["ahocorasick-rs alone"].append(searched - began)
        seconds["normalised"].append(normalised - searched)
        seconds["counted"].append(counted - normalised)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    fastest = min(seconds["ahocorasick-rs alone"])
    for name, rounds in seconds.items():
        share = min(rounds) / fastest
        print(
            f"{name:<22}{megabytes / min(rounds):8.1f} MB/s {share:6.2f} x the time of the library"
        )
    print(f"{found.total():,} n-grams in {words:,} words: {dict(found.most_common())}")


if __name__ == "__main__":
    main()
