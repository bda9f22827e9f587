"""A source: where documents come from, and which of its fields hold what."""

from typing import Literal, Self

from pydantic import Field, model_validator

from specs.spec import Spec

READERS = ("demo", "jsonl", "parquet", "warc", "wet", "html", "huggingface")


class Source(Spec):
    """One row of `sources`. DVC watches `path`, so it is always a real file or folder.

    demo: a file of specs/demo/ (a part of the embedded world). huggingface: a YAML file that names
    a data set and pins its revision. Every other reader: a file, or a folder whose files match the
    pattern `files`."""

    reader: Literal["demo", "jsonl", "parquet", "warc", "wet", "html", "huggingface"]
    path: str = Field(min_length=1, description="a file or a folder; use `files` for a pattern")
    files: str = Field(
        min_length=1, description='which files of the folder, such as "*.jsonl.gz"; "*" for all'
    )
    text: str = Field(
        min_length=1, description="the field that holds the text (jsonl, parquet, huggingface)"
    )
    prompt: str | None = Field(
        description="the field of the request a dialogue's text answers; null for pages; `messages`, as `text` then, "
        "for dialogues in the form of UltraChat, WildGuardMix, WildJailbreak or GSM8K"
    )
    license: str = Field(
        min_length=1, description="the licence of the texts, kept with every document"
    )


class HubDataset(Spec):
    """The file that a source with `reader: huggingface` names: one split of a data set, at one
    revision.
    """

    dataset: str = Field(
        min_length=1, description="a name on the hub, or a folder beside this file: ./my-data"
    )
    name: str | None = Field(description="the configuration of the data set, or null")
    split: str = Field(min_length=1)
    revision: str | None = Field(
        pattern=r"^[0-9a-f]{40}$",
        description="the commit of the data set on the hub; null for a folder",
    )

    @property
    def is_local(self) -> bool:
        """Whether `dataset` is a folder: it begins with ./, ../ or /."""
        return self.dataset.startswith(("./", "../", "/"))

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if self.is_local == (self.revision is not None):
            raise ValueError(
                "a data set of the hub needs `revision`, a commit of 40 hexadecimal digits, for a branch moves; "
                "a folder, which has none, needs `revision: null`"
            )
        return self
