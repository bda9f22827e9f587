"""Sources: the origins of documents, and the fields in which their text is."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from specs.filter import FilterNames
from specs.spec import Spec, Text

FOLDER = "folder"  # as in `label: folder`
TextField = Annotated[str, Field(min_length=1, description="the field that holds the text")]
FilePattern = Annotated[
    str | None,
    Field(
        min_length=1,
        description='a pattern for the files of a folder, such as "*.jsonl.gz"; leave it out for '
        "every file",
    ),
]
PromptField = Annotated[
    str | None,
    Field(
        min_length=1,
        description="the field of the request that the text answers; leave it out for pages; "
        "write `messages`, for `text` too, for dialogues in the form of UltraChat, WildGuardMix, "
        "WildJailbreak or GSM8K",
    ),
]


class Source(Spec):
    """The keys of every row of `sources`. DVC watches `path`, which is a real file or folder."""

    path: Text = Field(description="a file or a folder; use `files` for a pattern")
    license: Text = Field(description="the license of the texts, kept with every document")
    origin: Text | None = Field(
        default=None, description="how to fetch it, for the list of what a build needs"
    )
    filters: FilterNames = Field(default=[])
    usage: Literal["training", "evaluation_only"] = Field(
        default="training",
        description="evaluation_only: only attacks may train on it; leave it out for training",
    )

    @property
    def is_dialogue(self) -> bool:
        """Whether its documents are dialogues: requests with answers."""
        return getattr(self, "prompt", None) is not None


class DemoSource(Source):
    """A part of the demo world: a file of specs/demo, or a folder of them."""

    reader: Literal["demo"]
    prompt: Literal["prompt"] | None = Field(
        default=None, description="`prompt: prompt` marks dialogues; leave it out for pages"
    )


def _messages_in_both(source: Any) -> Any:
    if (source.text == "messages") != (source.prompt == "messages"):
        raise PydanticCustomError(
            "messages",
            "`text` and `prompt` must both be messages, or neither (got text: {text}, prompt: "
            "{prompt}); write messages for both, or the fields of request and answer",
            {"text": source.text, "prompt": source.prompt or "none"},
        )
    return source


class TableSource(Source):
    """Rows with named fields: JSON lines or Parquet files."""

    reader: Literal["jsonl", "parquet"]
    files: FilePattern = None
    label: Literal["folder"] | None = Field(
        default=None,
        description="folder: a row has the score that its folder is named for, such as score_4, as "
        "in the data sets released with the paper; leave it out for the column `label`",
    )
    text: TextField
    prompt: PromptField = None

    _check_messages = model_validator(mode="after")(_messages_in_both)


class PageSource(Source):
    """Web pages: WARC archives or HTML files."""

    reader: Literal["warc", "html"]
    files: FilePattern = None
    extractor: Literal["trafilatura", "trafilatura_fast", "resiliparse"] = Field(
        description="the library that finds the main text: trafilatura; trafilatura_fast, without "
        "its second opinions; resiliparse, ten times as fast and less exact"
    )


class TextArchiveSource(Source):
    """Texts of web pages: WET archives."""

    reader: Literal["wet"]
    files: FilePattern = None


class HubSource(Source):
    """A data set of the Hugging Face hub; `path` is a YAML file with the keys of HubDataset."""

    reader: Literal["huggingface"]
    text: TextField
    prompt: PromptField = None

    _check_messages = model_validator(mode="after")(_messages_in_both)


SourceRow = Annotated[
    DemoSource | TableSource | PageSource | TextArchiveSource | HubSource,
    Field(discriminator="reader"),
]


class HubDataset(Spec):
    """The file that a source with `reader: huggingface` names: one split at one revision."""

    dataset: Text = Field(description="a name on the hub, or a folder beside this file: ./my-data")
    name: str | None = Field(description="the configuration of the data set, or null")
    split: Text
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
                "a data set of the hub needs `revision`, a commit of 40 hexadecimal digits, "
                "because a branch moves; a folder, which has none, needs `revision: null`"
            )
        return self
