"""The reader of data sets on the Hugging Face hub, or in local folders of the same layout."""

from typing import Any

from safelm.builder.blocks import Documents, Task
from safelm.ingestion.base import Origin, ReadSource, file_task, files_of
from safelm.ingestion.errors import SourceError
from specs.source import HubDataset
from specs.yaml_source import validate


class ReadHuggingFace(ReadSource):
    """Read the rows of one split of a data set; an offset is the row's number in its shard.

    `path` is a YAML file of the grammar HubDataset.
    """

    name = "huggingface"
    libraries = ("datasets",)

    def tasks(self) -> list[Task]:
        """List one task per shard of the data set; each reads the file that names the data set."""
        spec = validate(HubDataset, self.path)
        # The file pins the revision, so its digest stands for a data set of the hub.
        files = [self.path]
        if spec.is_local:
            files += files_of(self.path.parent / spec.dataset, "*")
        name = self.path.name
        count = self._open(spec).num_shards
        return [file_task(number, files, name, number, count) for number in range(count)]

    def read(self, task: Task) -> Documents:
        """Yield the document of every row of one shard of the data set."""
        name, number, count = task.values
        spec = validate(HubDataset, self.path)
        rows = self._open(spec).shard(num_shards=count, index=number)
        for offset, row in enumerate(rows):
            yield from self.make_document(row, Origin(f"{name}#{number}", offset))

    def _open(self, spec: HubDataset) -> Any:
        """Open the split as a stream of the columns that a document can have.

        Raises SourceError if it cannot be reached or lacks a column.
        """
        # Imported here: it takes seconds, and other readers do not need it.
        from datasets import load_dataset

        dataset = str(self.path.parent / spec.dataset) if spec.is_local else spec.dataset
        try:
            rows = load_dataset(
                dataset, spec.name, split=spec.split, revision=spec.revision, streaming=True
            )
            # A stream may know its columns only from its first row.
            names = rows.column_names or list(next(iter(rows), {}))
        except Exception as error:
            # The hub, the network and the file formats raise exceptions of many kinds.
            cause = f"{type(error).__name__}: {error}"[:300]
            raise SourceError(
                f"{self.path}: cannot read split {spec.split!r} of {spec.dataset!r} ({cause}); "
                "a data set of the hub needs the network"
            ) from error
        return rows.select_columns(self.choose_columns(self.path, names))
