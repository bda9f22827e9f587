"""Extract the text of HTML pages in a process of its own; pages come in on the standard input.

A page of one megabyte can hold lxml for minutes inside one call that no signal interrupts, or end
the process. The reader that started this process then stops it and starts another. This is the
script that safelm/ingestion/extract.py runs; it imports nothing of the project.
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

    Precision goes before recall, and comments are left out (F1 .961 against .954 on the pages of
    the article extraction benchmark). `deduplicate` stays off: trafilatura remembers texts across
    pages (deduplication.py:231), and a page's text would depend on the pages before it. DataTrove's
    Trafilatura turns it on, so it is not used.
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
    text = extract(tree, favor_precision=True, include_comments=False, deduplicate=False)
    if text is None:
        # An error that trafilatura does not raise (core.py:245); the plain paragraphs are left.
        text = baseline(load_html(html))[1]
    return {
        "text": text,
        "title": title[:TITLE],
        "url": url if url.startswith(("http://", "https://")) else "",
    }


def read_message(stream: BinaryIO) -> bytes | None:
    """Read one message, its size in eight bytes and its bytes; None at the end of the input."""
    size = stream.read(8)
    return stream.read(int.from_bytes(size, "big")) if len(size) == 8 else None


def main() -> None:
    """Answer pages until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = os.fdopen(os.dup(1), "wb")
    # The output of a library must not be taken for an answer.
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    # The first page loads what libraries load on first use.
    extract_page("<html><body><p>Loads what is loaded on first use.</p></body></html>")
    # The empty message answers the reader that waits for the start.
    message: bytes | None = b""
    while message is not None:
        try:
            reply = extract_page(message.decode()) if message else {}
        except Exception as error:
            reply = {"error": type(error).__name__}
        data = json.dumps(reply).encode("utf-8", "replace")
        out.write(len(data).to_bytes(8, "big") + data)
        out.flush()
        message = read_message(sys.stdin.buffer)


if __name__ == "__main__":
    main()
