"""Measure the extraction of text from web pages beside the bare libraries and DataTrove.

    python -m benchmarks.extraction HTML.tar.gz GROUND-TRUTH.json

The two files are those of scrapinghub/article-extraction-benchmark on GitHub: pages as
<id>.html.gz, and {id: {"articleBody": text}}. Its score is used: precision and recall of runs of
four words, each the mean over pages. Every side reads the same pages in one process at a time, in
turn. Pages a second are by CPU seconds, with those of child processes and of their start; compare
ratios to the library, because a busy machine slows all sides.
"""

import argparse
import gzip
import json
import multiprocessing
import re
import resource
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from datatrove.data import Document

from safelm.ingestion.extract_worker import EXTRACTORS, extract_page
from safelm.ingestion.html import ReadHtml
from safelm.ingestion.http_page import decode_page

# Words of a run, as in evaluate.py of the benchmark.
WORDS = 4
LIMITS: dict[str, Any] = {
    "max_line_bytes": 1 << 24,
    "max_document_bytes": 10 << 20,
    "max_expansion_ratio": 200,
}
Texts = dict[str, str]


def pages_of(folder: Path) -> Texts:
    """Read and decode every page by its id."""
    pages = {}
    for path in sorted(folder.rglob("*.html.gz")):
        content = gzip.decompress(path.read_bytes())
        pages[path.name.partition(".")[0]] = decode_page(content) or ""
    return pages


def by_library(folder: Path, extractor: str) -> Texts:
    """Call the library on every page, as its documentation says."""
    import trafilatura
    from resiliparse.extract.html2text import extract_plain_text

    def extract(html: str) -> str | None:
        if extractor == "resiliparse":
            return extract_plain_text(html, main_content=True, alt_texts=False)
        is_fast = extractor == "trafilatura_fast"
        return trafilatura.extract(html, fast=is_fast, favor_precision=True, include_comments=False)

    return {name: extract(html) or "" for name, html in pages_of(folder).items()}


def by_call(folder: Path, extractor: str) -> Texts:
    """Call our function on every page, without the stage."""
    pages = pages_of(folder)
    return {name: extract_page(extractor, html).get("text") or "" for name, html in pages.items()}


def by_safelm(folder: Path, extractor: str) -> Texts:
    """Read the pages as the stage does: in a child that can be stopped, with limits and counts."""
    reader = ReadHtml(path=folder, source="web", license="none", extractor=extractor, **LIMITS)
    texts = {}
    # File by file, because a document does not name its file.
    with reader.extract:
        for path in sorted(folder.rglob("*.html.gz")):
            documents = reader.documents(path, path.name)
            texts[path.name.partition(".")[0]] = "".join(item.text for item in documents)
    return texts


def by_datatrove(folder: Path, extractor: str) -> Texts:
    """Run DataTrove's extractor, which keeps pages in a sandbox with a limit on time."""
    from datatrove.pipeline.extractors import Trafilatura

    pages = pages_of(folder)
    documents = (Document(text=html, id=name) for name, html in pages.items())
    found = {item.id: item.text for item in Trafilatura(timeout=60).run(documents)}
    return {name: found.get(name, "") for name in pages}


SIDES: dict[str, Callable[[Path, str], Texts]] = {
    "library": by_library,
    "our function": by_call,
    "our reader": by_safelm,
    "DataTrove": by_datatrove,
}


def runs_of_words(text: str) -> Counter[tuple[str, ...]]:
    """Count the runs of WORDS words of a text."""
    words = re.findall(r"\w+", text)
    starts = range(max(1, len(words) - WORDS + 1)) if words else ()
    return Counter(tuple(words[start : start + WORDS]) for start in starts)


def f1(texts: Texts, truth: Texts) -> float:
    """Return F1 of texts as the benchmark computes it."""
    precisions = []
    recalls = []
    for name, expected in truth.items():
        right = runs_of_words(expected)
        found = runs_of_words(texts.get(name, ""))
        common = (right & found).total()
        if found:
            precisions.append(common / found.total())
        if right:
            recalls.append(common / right.total())
    precision = mean(precisions)
    recall = mean(recalls)
    return 2 * precision * recall / (precision + recall)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(side: str, extractor: str, folder: Path, rounds: int) -> tuple[float, Texts]:
    """Return the CPU seconds of the fastest round, and the texts; the first round only warms up."""
    texts: Texts = {}
    times = []
    for _ in range(rounds + 1):
        began = cpu_seconds()
        texts = SIDES[side](folder, extractor)
        times.append(cpu_seconds() - began)
    return min(times[1:]), texts


def main() -> None:
    """Print a table of pages a second and F1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pages", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rows = json.loads(options.truth.read_text(encoding="utf-8"))
    truth = {name: row["articleBody"] for name, row in rows.items()}
    cells = [(side, name) for name in EXTRACTORS for side in SIDES if side != "DataTrove"]
    cells.insert(len(SIDES) - 1, ("DataTrove", "trafilatura"))
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        with tarfile.open(options.pages) as archive:
            archive.extractall(folder, filter="data")
        print(f"{'extractor':18}{'side':14}{'pages/s':>9}{'/ library':>11}{'F1':>8}")
        library = 0.0
        for side, extractor in cells:
            # A process of its own: what one side loaded must not speed up another.
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                result = pool.submit(measure, side, extractor, folder, options.rounds)
                seconds, texts = result.result()
            speed = len(truth) / seconds
            library = speed if side == "library" else library
            print(
                f"{extractor:18}{side:14}{speed:9.1f}{speed / library:11.2f}"
                f"{f1(texts, truth):8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
