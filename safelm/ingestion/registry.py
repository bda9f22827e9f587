"""The readers by their names in params.yaml (`reader` of a row of `sources`)."""

from collections.abc import Callable

from safelm.ingestion.base import ReadSource
from safelm.ingestion.demo import ReadDemo
from safelm.ingestion.html import ReadHtml
from safelm.ingestion.huggingface import ReadHuggingFace
from safelm.ingestion.jsonl import ReadJsonl
from safelm.ingestion.parquet import ReadParquet
from safelm.ingestion.warc import ReadWarc, ReadWet

READERS: dict[str, Callable[..., ReadSource]] = {
    "demo": ReadDemo,
    "jsonl": ReadJsonl,
    "parquet": ReadParquet,
    "warc": ReadWarc,
    "wet": ReadWet,
    "html": ReadHtml,
    "huggingface": ReadHuggingFace,
}
