"""The readers by the name that a source gives."""

from collections.abc import Callable

from safelm.reading.demo import ReadDemo
from safelm.reading.html import ReadHtml
from safelm.reading.huggingface import ReadHuggingFace
from safelm.reading.jsonl import ReadJsonl
from safelm.reading.parquet import ReadParquet
from safelm.reading.source import ReadSource
from safelm.reading.warc import ReadWarc, ReadWet

READERS: dict[str, Callable[..., ReadSource]] = {
    "demo": ReadDemo,
    "jsonl": ReadJsonl,
    "parquet": ReadParquet,
    "warc": ReadWarc,
    "wet": ReadWet,
    "html": ReadHtml,
    "huggingface": ReadHuggingFace,
}
