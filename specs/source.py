"""A source: where documents come from, and which of its fields hold what."""

from typing import Literal

from pydantic import Field

from specs.spec import Spec

READERS = ("demo", "jsonl", "parquet", "warc", "wet", "html", "huggingface")


class Source(Spec):
    """One row of `sources`. DVC watches `path`, so it is always a real file or folder.

    demo: a file of specs/demo/ (a part of the embedded world). huggingface: a YAML file that names a data set and
    pins its revision. Every other reader: a file, or a folder whose files match the pattern `files`.
    """

    reader: Literal["demo", "jsonl", "parquet", "warc", "wet", "html", "huggingface"]
    path: str = Field(min_length=1, description="a file or a folder; use `files` for a pattern")
    files: str = Field(min_length=1, description='which files of the folder, such as "*.jsonl.gz"; "*" for all')
    text: str = Field(min_length=1, description="the field that holds the text (jsonl, parquet, huggingface)")
    prompt: str | None = Field(description="the field that holds the request a dialogue's text answers; null for pages")
    license: str = Field(min_length=1, description="the licence of the texts, kept with every document")
