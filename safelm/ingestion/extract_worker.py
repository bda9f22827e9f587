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
from typing import Any, BinaryIO

# Bytes of address space; a page that needs more is an error of that page.
MEMORY = 4 << 30
# The most characters of a title.
TITLE = 300


def extract_page(html: str) -> dict[str, Any]:
    """Return the main text of a page with its title and canonical address; {} if it has no tree.

    DataTrove's Trafilatura is not used, because it turns `deduplicate` on.
    """
    from trafilatura import baseline, extract
    from trafilatura.utils import load_html

    tree = load_html(html)
    if tree is None:
        return {}
    title = " ".join("".join(tree.xpath("(//title)[1]//text()")).split())
    addresses = tree.xpath("//link[@rel='canonical']/@href")
    url = next(iter(addresses), "")
    for cell in tree.xpath("//*[@colspan]"):
        # main_extractor.py:357 gives up a page over a span that is no whole number.
        span = cell.get("colspan").strip()
        cell.set("colspan", span if re.fullmatch("[1-9][0-9]{0,2}", span) else "1")
    # On the article extraction benchmark F1 is .961, against .954 with the defaults. `deduplicate`
    # remembers texts across pages (deduplication.py:231): a page's text would depend on others.
    text = extract(tree, favor_precision=True, include_comments=False, deduplicate=False)
    if text is None:
        # trafilatura caught an error of its own (core.py:245); the plain paragraphs remain.
        text = baseline(load_html(html))[1]
    return {
        "text": text,
        "title": title[:TITLE],
        "url": url if url.startswith(("http://", "https://")) else "",
    }


def read_message(stream: BinaryIO) -> bytes | None:
    """Read one message: its size in eight bytes, then its bytes. Return None at the end."""
    size = stream.read(8)
    return stream.read(int.from_bytes(size, "big")) if len(size) == 8 else None


def main() -> None:
    """Answer pages until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb")
    # What a library prints must not be taken for an answer.
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    # What libraries load on first use must not count as the time of a page.
    extract_page("<html><body><p>Loads what is loaded on first use.</p></body></html>")
    # The empty message answers the reader that waits for the start.
    message: bytes | None = b""
    while message is not None:
        try:
            reply = extract_page(message.decode()) if message else {}
        except Exception as error:
            # Any error of a library costs one page.
            reply = {"error": type(error).__name__}
        data = json.dumps(reply).encode("utf-8", "replace")
        out.write(len(data).to_bytes(8, "big") + data)
        out.flush()
        message = read_message(sys.stdin.buffer)


if __name__ == "__main__":
    main()
