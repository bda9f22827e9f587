"""Extraction of text from HTML pages that come in on standard input.

safelm/ingestion/extract.py runs this script. A page of one megabyte can keep lxml busy for minutes
in a call that no signal interrupts, or crash the process. The reader then starts another process.
The script imports nothing of the project.
"""

import json
import logging
import os
import re
import resource
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

Page = dict[str, Any]  # text, title and url, or error
# Bytes of address space; a page that needs more is an error of that page.
MEMORY = 4 << 30
# The most characters of a title.
TITLE = 300


def by_trafilatura(html: str, *, fast: bool = False) -> Page:
    """Return the main text of a page with its title and canonical address; {} if it has no tree.

    DataTrove's Trafilatura is not used, because it turns `deduplicate` on.
    """
    from trafilatura import baseline, extract
    from trafilatura.utils import load_html

    tree = load_html(html)
    if tree is None:
        return {}
    title = "".join(tree.xpath("(//title)[1]//text()"))
    addresses = tree.xpath("//link[@rel='canonical']/@href")
    for cell in tree.xpath("//*[@colspan]"):
        # trafilatura gives up a page over a span that is no whole number.
        span = cell.get("colspan").strip()
        cell.set("colspan", span if re.fullmatch("[1-9][0-9]{0,2}", span) else "1")
    # F1 is .964 with trafilatura 2.3.1 (benchmarks/extraction.py). `deduplicate` remembers texts
    # across pages: a page's text would depend on others.
    text = extract(tree, fast=fast, favor_precision=True, include_comments=False, deduplicate=False)
    if text is None:
        # trafilatura caught an error of its own; the plain paragraphs remain.
        text = baseline(load_html(html))[1]
    return {"text": text, "title": title, "url": next(iter(addresses), "")}


def by_resiliparse(html: str) -> Page:
    """Return the main text of a page by simple rules, many times faster and less exact."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    link = tree.head.query_selector("link[rel=canonical]") if tree.head else None
    text = extract_plain_text(tree, main_content=True, alt_texts=False)
    return {
        "text": text,
        "title": tree.title or "",
        "url": link.getattr("href", "") if link else "",
    }


EXTRACTORS: dict[str, Callable[[str], Page]] = {
    "trafilatura": by_trafilatura,
    "trafilatura_fast": partial(by_trafilatura, fast=True),
    "resiliparse": by_resiliparse,
}


def extract_page(extractor: str, html: str) -> Page:
    """Return `text`, `title` in one line and `url` of a page by one of EXTRACTORS."""
    page = EXTRACTORS[extractor](html)
    if page:
        page["title"] = " ".join(page["title"].split())[:TITLE]
        if not page["url"].startswith(("http://", "https://")):
            page["url"] = ""
    return page


def main() -> None:
    """Answer pages, each a line of JSON, until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb")
    # What a library prints must not be taken for an answer.
    os.dup2(2, 1)

    def answer(reply: Page) -> None:
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()

    logging.disable(logging.CRITICAL)
    # What libraries load on first use must not count as the time of a page.
    extractor = sys.argv[1]
    extract_page(extractor, "<html><body><p>Loads what is loaded on first use.</p></body></html>")
    # The reader waits for this line.
    answer({})
    for line in sys.stdin.buffer:
        try:
            reply = extract_page(extractor, json.loads(line))
        except Exception as error:
            # Any error of a library costs one page.
            reply = {"error": type(error).__name__}
        answer(reply)


if __name__ == "__main__":
    main()
