"""The reader of the made-up world: documents that safelm/demo writes from a file of specs/demo."""

from pathlib import Path

from safelm.builder.blocks import Documents, Task
from safelm.demo import documents
from safelm.demo.world import read_table
from safelm.ingestion.base import Origin, ReadFiles, file_task, files_of


class ReadDemo(ReadFiles):
    """Read the documents that a part of the world writes; an offset is the document's number."""

    name = "demo"

    def tasks(self) -> list[Task]:
        """List one task per part; the world and its hazards are inputs too."""
        tasks = []
        for number, part in enumerate(files_of(self.path, self.files)):
            world = part.parent / read_table(part)["world"]
            hazards = world.parent / read_table(world)["hazards"]
            tasks.append(file_task(number, (part, world, hazards), self.name_of(part)))
        return tasks

    def read(self, task: Task) -> Documents:
        """Yield every document of the part."""
        part, *_ = task.inputs
        (name,) = task.values
        yield from self.documents(part.path, name)

    def documents(self, path: Path, name: str) -> Documents:
        """Yield every document of the part."""
        for number, row in enumerate(documents(path)):
            yield from self.make_document(row, Origin(name, number))
