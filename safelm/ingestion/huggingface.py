"""A data set of the Hugging Face hub, or a local folder laid out like one, read through `datasets`
in a stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Input, Task
from safelm.builder.digest import file_digest
from safelm.ingestion.base import KNOWN, ReadSource, SourceError, files_of
from safelm.ingestion.dialogue import MESSAGES
from specs.source import HubDataset
from specs.yaml_source import validate


@dataclass(kw_only=True, eq=False, repr=False)
class ReadHuggingFace(ReadSource):
    """The rows of one split of a data set, one task per shard of it; an offset is the row's number
    in its shard.

    `path` is a YAML file of the grammar HubDataset: it pins the revision, so it stands for the
    content of the data set. The files of a local folder are inputs of the task themselves."""

    name: ClassVar[str] = "huggingface"
    libraries: ClassVar[tuple[str, ...]] = ("datasets",)

    def tasks(self) -> list[Task]:
        """One per shard of the data set; all of them read the file that names it."""
        spec = validate(HubDataset, self.path)
        inputs = (Input(self.path, file_digest(self.path)), *self._local_files(spec))
        count = self._open(spec).num_shards
        return [
            Task(f"{number:05d}", inputs, (self.path.name, number, count))
            for number in range(count)
        ]

    def read(self, task: Task) -> Iterator[Document]:
        """Every row of one shard of the data set."""
        name, number, count = task.values
        rows = self._open(validate(HubDataset, self.path)).shard(num_shards=count, index=number)
        for offset, row in enumerate(rows):
            yield from self.keep(row, f"{name}#{number}", offset)

    def _local_files(self, spec: HubDataset) -> list[Input]:
        if not spec.is_local:
            return []
        return [
            Input(file, file_digest(file))
            for file in files_of(self.path.parent / spec.dataset, "*")
        ]

    def _open(self, spec: HubDataset) -> Any:
        """The split as a stream. Raises SourceError for what cannot be reached or has no such
        column.
        """
        from datasets import load_dataset  # seconds of import, for this reader alone

        place = str(self.path.parent / spec.dataset) if spec.is_local else spec.dataset
        try:
            rows = load_dataset(
                place, spec.name, split=spec.split, revision=spec.revision, streaming=True
            )
            names = rows.column_names or list(next(iter(rows), {}))
        except Exception as error:  # the hub, the network and the formats each raise their own
            cause = f"{type(error).__name__}: {error}"[:300]
            raise SourceError(
                f"{self.path}: cannot read split {spec.split!r} of {spec.dataset!r} ({cause}); "
                "a data set of the hub needs the network"
            ) from error
        for field, column in (("text", self.text), ("prompt", self.prompt)):
            if column and column not in names and self.prompt != MESSAGES:
                there = ", ".join(names)
                raise SourceError(
                    f"{self.path}: no column {column!r}; there are {there}; name one of them as `{field}`"
                )
        return rows.select_columns([column for column in names if column in (*self.wanted, *KNOWN)])
