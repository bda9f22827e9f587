"""The block of rephrase, refuse and educate: ask an engine, pass the gates, keep the chain back to the document."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.batches import batches
from safelm.blocks import Block
from safelm.grammar import pick, stream
from safelm.hazards import Hazards
from safelm.llm import Engine, Request, as_data, open_engine
from safelm.shards import text_digest
from safelm.writing.gates import fault
from specs.prompt import PROMPTS, SHARED, Prompt

HAZARDS = PROMPTS.parent / "hazards.yaml"
INHERITED = ("source", "url", "crawl", "license")
GUARDED = frozenset({"child_exploitation"})  # such documents go to no writer and no prompt


@dataclass(kw_only=True, eq=False, repr=False)
class Write(Block):
    """Each document becomes one text, by one of the prompts, drawn by its id (paper §2: uniformly at random).

    A text is a new document with the chain to the one it was made from. Left out of the paper: the sampling of a
    language model, and its 8B writer; the engine is a row of safelm/llm.py. What fails a gate is dropped by its name.
    """

    name: ClassVar[str] = "writer"
    prompts: tuple[Path, ...]
    engine: str
    max_score: int
    seed: int
    shared: Path = SHARED
    hazards: Path = HAZARDS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.written: set[str] = set()  # of this shard: the executor gives every shard a block of its own

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Ask about documents in batches, and yield in their order."""
        for batch in batches(data or ()):
            asked = [(document, self.request(document)) for document in batch if self.is_allowed(document)]
            texts = self.opened.write([request for _, request in asked])
            for (document, request), text in zip(asked, texts, strict=True):
                yield from self.passed(document, request, text)

    @cached_property
    def opened(self) -> Engine:
        """The engine, opened when the first document comes."""
        return open_engine(self.engine, self.shared, self.hazards)

    @cached_property
    def judge(self) -> Hazards:
        """What re-grades the written text."""
        return Hazards.read(self.hazards)

    @cached_property
    def choice(self) -> list[Prompt]:
        """The prompts, of which each document gets one."""
        return [Prompt.read(path) for path in self.prompts]

    def passed(self, document: Document, request: Request, text: str) -> Iterator[Document]:
        """The written text as a new document, unless a gate holds it back."""
        id, reason = text_digest(None, text), fault(text, document.text, self.judge, self.max_score)
        if reason or id in self.written:
            return self.drop(reason or "duplicate")
        self.written.add(id)
        self.stat_update(request.prompt.style)
        yield Document(text=text, id=id, metadata=chain(document, request, self.opened.name))

    def is_allowed(self, document: Document) -> bool:
        """Whether a writer may see a document; one that may not is dropped."""
        if hazard_of(document) in GUARDED:
            self.drop("kept_from_writers")
            return False
        return True

    def request(self, document: Document) -> Request:
        """What the engine is asked about a document."""
        prompt = pick(self.choice, stream(self.seed, "style", document.id))
        return Request(str(document.id), as_data(document.text), prompt, self.seed, hazard_of(document))


def hazard_of(document: Document) -> str | None:
    """The hazard that the source or the scorers name."""
    return document.metadata.get("hazard") or document.metadata.get("score_hazard")


def chain(document: Document, request: Request, writer: str) -> dict[str, Any]:
    """The metadata of a written document: where its parent came from, and how it was made (design §4)."""
    return {
        **{name: document.metadata.get(name) for name in INHERITED},
        "hazard": hazard_of(document),
        "parent": document.id,
        "writer": writer,
        "prompt_id": request.prompt.id,
        "prompt_version": str(request.prompt.version),
        "style": request.prompt.style,
        "seed": request.seed,
    }
