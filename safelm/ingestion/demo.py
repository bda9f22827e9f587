"""The embedded world as a source: a file of specs/demo/ is read by the grammar in safelm/demo."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Input, Task
from safelm.builder.digest import file_digest
from safelm.demo import documents
from safelm.demo.world import read_table
from safelm.ingestion.base import ReadFiles, files_of


@dataclass(kw_only=True, eq=False, repr=False)
class ReadDemo(ReadFiles):
    """The documents that a part of the embedded world writes; an offset is the number of the
    document, from 0.
    """

    name: ClassVar[str] = "demo"

    def tasks(self) -> list[Task]:
        """One per part; the world and the hazards it is written from count too."""
        tasks = []
        for number, part in enumerate(files_of(self.path, self.files)):
            world = part.parent / read_table(part)["world"]
            hazards = world.parent / read_table(world)["hazards"]
            inputs = tuple(Input(file, file_digest(file)) for file in (part, world, hazards))
            tasks.append(Task(f"{number:05d}", inputs, (self.name_of(part),)))
        return tasks

    def read(self, task: Task) -> Iterator[Document]:
        """Every document of the part."""
        yield from self.documents(task.inputs[0].path, task.values[0])

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """Every document of the part."""
        for number, row in enumerate(documents(path)):
            yield from self.keep(row, name, number)
