"""Random DAGs of small stages, and a model of what must be made of them and what comes out."""

import json
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

from datatrove.data import Document

from safelm.builder import run as executor
from safelm.builder.blocks import Block, Input, Reader, Task
from safelm.builder.digest import file_digest
from safelm.builder.paths import build
from safelm.builder.shards import Shard, shards, tables
from safelm.documents.shards import WriteDocuments, text_digest

NODES = Path("nodes.json")


class Beside(Reader):
    """A reader of lines from files and from the shards of other stages, side by side by name."""

    lines: str | None = field(default=None, metadata={"key": False})
    parents: tuple[str, ...] = field(default=(), metadata={"key": False})

    def tasks(self) -> list[Task]:
        found: dict[str, list[Input]] = {}
        for path in sorted(Path(self.lines).iterdir()) if self.lines else ():
            found.setdefault(path.stem, []).append(Input(path, file_digest(path)))
        for parent in self.parents:
            for shard in shards(build(parent)):
                found.setdefault(shard.name, []).append(Input(shard.path, shard.sha256))
        return [Task(name, tuple(inputs)) for name, inputs in sorted(found.items())]

    def read(self, task: Task) -> Iterator[Document]:
        for item in task.inputs:
            if item.path.suffix == ".txt":
                texts = item.path.read_text().splitlines()
            else:
                texts = Shard(item.path, 0, item.sha256).table(["text"])["text"].to_pylist()
            for text in texts:
                yield Document(text=text, id=text_digest(None, text))


def changed(text: str, value: int, kind: str) -> str | None:
    """Apply a stage's rule to a text; values are halved, so that some edits alter no byte."""
    if kind == "keep":
        return text if (len(text) + value // 2) % 3 else None
    return f"{text} {value // 2}" if kind == "append" else text.replace("a", "bc"[value // 2 % 2])


class Change(Block):
    """A stage's rule. It notes each document, so that the test counts how often a shard is made."""

    value: int
    kind: str
    seen: str = field(metadata={"key": False})

    def begin(self, task: Task, attempt: Path) -> None:
        super().begin(task, attempt)
        with Path(self.seen).open("a") as file:
            file.write(f"{task.name}\n")

    def process(self, document: Document) -> Iterator[Document]:
        text = changed(document.text, self.value, self.kind)
        if text is None:
            return self.drop("not kept")
        yield Document(text=text, id=text_digest(None, text))


@dataclass
class Node:
    """A stage of a random DAG, which reads lines of its own or earlier stages."""

    value: int
    kind: str
    lines: dict[str, list[str]] = field(default_factory=dict)
    parents: tuple[int, ...] = ()


def random_nodes(draw: random.Random) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw.randrange(2, 13)):
        node = Node(draw.randrange(8), draw.choice(["append", "replace", "keep"]))
        if number < 2 or draw.random() < 0.2:
            node.lines = {name: random_lines(draw) for name in "xyz"[: draw.randrange(1, 4)]}
        else:
            node.parents = random_parents(number, draw)
        nodes.append(node)
    return nodes


def random_parents(number: int, draw: random.Random) -> tuple[int, ...]:
    count = draw.randrange(1, min(number, 3) + 1)
    return tuple(sorted(draw.sample(range(number), count)))


def random_lines(draw: random.Random) -> list[str]:
    return [random_word(draw) for _ in range(draw.randrange(1, 4))]


def random_word(draw: random.Random) -> str:
    return "".join(draw.choice("abc") for _ in range(draw.randrange(1, 6)))


def edit(nodes: list[Node], draw: random.Random) -> None:
    """Make one edit: a value, a kind, a line, a file more or less, a parent more or less."""
    node = draw.choice(nodes)
    what = draw.choice(["value", "value", "kind", "lines", "file", "parents"])
    if what == "value":
        node.value = draw.randrange(8)
    elif what == "kind":
        node.kind = draw.choice(["append", "replace", "keep"])
    elif node.lines and what == "file" and len(node.lines) > 1:
        del node.lines[draw.choice(sorted(node.lines))]
    elif node.lines:
        node.lines[draw.choice("xyz")] = random_lines(draw)
    elif what == "parents":
        node.parents = random_parents(nodes.index(node), draw)


class Model:
    """A model of a build: a shard is made once for each stage, rule and content of its inputs."""

    def __init__(self) -> None:
        self.known: set[tuple] = set()

    def build(self, nodes: list[Node]) -> tuple[list[list[str]], list[dict[str, list[str]]]]:
        """Return the shards that each stage makes, and the texts of every shard."""
        made: list[list[str]] = []
        texts: list[dict[str, list[str]]] = []
        for number, node in enumerate(nodes):
            inputs: dict[str, list[list[str]]] = {}
            own = [node.lines] if node.lines else []
            for source in own + [texts[parent] for parent in node.parents]:
                for name, lines in source.items():
                    inputs.setdefault(name, []).append(lines)
            made.append([])
            texts.append({})
            for name, parts in sorted(inputs.items()):
                key = (number, node.value, node.kind, bool(node.lines), str(parts))
                if key not in self.known:
                    made[-1].append(name)
                self.known.add(key)
                own_lines = chain.from_iterable(parts)
                outcomes = [changed(line, node.value, node.kind) for line in own_lines]
                texts[-1][name] = [line for line in outcomes if line is not None]
        return made, texts


def write(nodes: Sequence[Node]) -> None:
    """Write the DAG to disk: the lines that stages read, and the values that DVC watches."""
    for number, node in enumerate(nodes):
        folder = Path(f"lines-{number}")
        shutil.rmtree(folder, ignore_errors=True)
        for name, lines in node.lines.items():
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    NODES.write_text(json.dumps({f"n{number}": asdict(node) for number, node in enumerate(nodes)}))


def run_node(number: int) -> None:
    """Run one stage, as `python -m tests.faults.dags NUMBER` does under DVC."""
    node = Node(**json.loads(NODES.read_text())[f"n{number}"])
    lines = f"lines-{number}" if node.lines else None
    reader = Beside(lines=lines, parents=tuple(f"n{parent}" for parent in node.parents))
    executor._refuse_empty = lambda *_: None  # a random rule may keep nothing
    change = Change(value=node.value, kind=node.kind, seen=f"seen-{number}")
    executor.run(f"n{number}", [reader, change, WriteDocuments()])


def outcome(nodes: Sequence[Node]) -> tuple[list[list[str]], list[dict[str, list[str]]]]:
    """Return what the executor made since the last time, and all texts, as Model.build does."""
    made: list[list[str]] = []
    texts: list[dict[str, list[str]]] = []
    for number in range(len(nodes)):
        seen, folder = Path(f"seen-{number}"), build(f"n{number}")
        made.append(sorted(seen.read_text().splitlines()) if seen.exists() else [])
        seen.unlink(missing_ok=True)
        content = [table["text"].to_pylist() for table in tables(folder)]
        texts.append(dict(zip((shard.name for shard in shards(folder)), content, strict=True)))
    return made, texts


if __name__ == "__main__":
    run_node(int(sys.argv[1]))
