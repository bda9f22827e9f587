"""The block of rephrase, refuse and educate: ask an engine, pass the gates, keep the chain back to
the document.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Block, Task
from safelm.documents.batches import SHARD, batches
from safelm.documents.shards import text_digest
from safelm.llm import (
    Answer,
    Engine,
    Request,
    TemplateInput,
    answers_file,
    fence_document,
    open_engine,
    split_document,
    strip_control_tokens,
)
from safelm.llm.templates.text import people
from safelm.scoring.registry import SafetyScorer
from safelm.seeding import pick, stream
from safelm.synthesis.gates import Bounds, WrittenText, failed_gate, turns
from specs.prompt import SHARED, Prompt, Shared

INHERITED = ("source", "url", "crawl", "license")


@dataclass
class Draft:
    """A document, the prompt that its id draws, and what an engine has made of it so far."""

    document: Document
    prompt: Prompt
    parts: list[str]  # the pieces that are asked about
    text: WrittenText | None = None
    score: int | None = None  # of the written text
    reason: str | None = None  # why it is dropped, if nothing better comes
    problem: str | None = None  # why there is no answer

    @property
    def is_refusal(self) -> bool:
        """Whether a dialogue is asked for in which a request is declined."""
        return self.prompt.writes == "refusal"


@dataclass(kw_only=True, eq=False, repr=False)
class WriteSynthetic(Block):
    """Each document becomes one text, by one of the prompts, drawn by its id (paper §2: uniformly
    at random).

    A text is a new document with the chain to the one it was made from. What fails a gate, or is
    scored above `max_score` by the scorers of the web, is asked for again, `gates.max_attempts` times in
    all, and then dropped by the name of the gate. What an engine does not answer goes into the
    quarantine. A document longer than the engine reads at a time is written in pieces and joined;
    of one that is refused, the first piece is asked about."""

    name: ClassVar[str] = "writer"
    prompts: tuple[Path, ...]
    engine: Mapping[str, Any]
    gates: Mapping[str, Any]
    scorer: SafetyScorer = field(metadata={"key": False})
    max_score: int
    seed: int
    shared: Path = field(default=SHARED)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.written: set[str] = (
            set()
        )  # of this shard: the executor gives every shard a block of its own
        self.seen = 0
        self.task = Task("alone", ())  # until the executor gives one

    def begin(self, task: Task, attempt: Path) -> None:
        """The scorers too get a task: not this one, whose answers are those of the judge that
        scores the pages.
        """
        super().begin(task, attempt)
        shard = task.inputs[0].sha256 if task.inputs else task.name
        self.scorer.begin(Task(text_digest(self.stage, shard), ()), attempt)

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Ask about a shard's documents together, and yield in their order."""
        for batch in batches(data or (), SHARD):
            drafts = [self.draft(document) for document in batch]
            self.write(drafts)
            for draft in drafts:
                yield from self.passed(draft)

    def declared(self) -> list[Any]:
        """Its own values and those of the scorers."""
        return [*super().declared(), self.scorer.declared()]

    @cached_property
    def opened(self) -> Engine:
        """The engine, opened when the first document comes."""
        return open_engine(self.engine, answers_file(self.engine, self.stage, self.task))

    @property
    def stage(self) -> str:
        """rephrase, refuse or educate: whose prompts these are."""
        return self.choice[0].id.partition("/")[0]

    @cached_property
    def words(self) -> Shared:
        """What all prompts share."""
        return Shared.read(self.shared)

    @cached_property
    def choice(self) -> list[Prompt]:
        """The prompts, of which each document gets one."""
        return [Prompt.read(path) for path in self.prompts]

    @cached_property
    def bounds(self) -> Bounds:
        """The bounds of the gates."""
        return Bounds(**self.gates)

    @cached_property
    def common(self) -> frozenset[str]:
        """The function words of English."""
        return frozenset(self.words.common.split())

    def draft(self, document: Document) -> Draft:
        """What will be asked about a document."""
        prompt = pick(self.choice, stream(self.seed, "style", document.id))
        limit = self.opened.characters
        parts = split_document(document.text, limit) if limit else [document.text]
        return Draft(document, prompt, parts[:1] if prompt.writes == "refusal" else parts)

    def write(self, drafts: Sequence[Draft]) -> None:
        """Ask, check, and ask again about what did not pass."""
        waiting = list(drafts)
        for attempt in range(self.bounds.max_attempts):
            requests = [
                self.request(draft, part, attempt) for draft in waiting for part in draft.parts
            ]
            answers = iter(self.opened.generate(requests))
            for draft in waiting:
                self.take(draft, [next(answers) for _ in draft.parts])
            self.rescore([draft for draft in waiting if not draft.problem and not draft.reason])
            waiting = [draft for draft in waiting if draft.reason]
            for draft in waiting:
                self.stat_update(f"round {attempt + 1} {draft.reason}")

    def request(self, draft: Draft, part: str, attempt: int) -> Request:
        """One question about one piece of a document, whose text stands fenced in the user's
        message alone.
        """
        prompt, stage = draft.prompt, draft.prompt.id.partition("/")[0]
        return Request(
            id=str(draft.document.id),
            prompt=prompt.id,
            version=prompt.version,
            messages=(
                ("system", self.words.instructions[stage].strip()),
                ("user", fence_document(self.words.frame, prompt.instruction, part)),
            ),
            seed=self.seed,
            attempt=attempt,
            page=TemplateInput(strip_control_tokens(part), prompt, hazard_of(draft.document)),
        )

    def take(self, draft: Draft, answers: Sequence[Answer]) -> None:
        """Join the pieces of a text and hold them to the gates."""
        draft.problem = next((answer.problem for answer in answers if answer.problem), None)
        if draft.problem:
            draft.reason = None
            return
        whole = "\n\n".join(filter(None, (answer.text.strip() for answer in answers)))
        finish = next((answer.finish for answer in answers if answer.finish != "stop"), "stop")
        draft.text = WrittenText(
            Answer(self.named(draft, whole), finish), draft.document.text, draft.is_refusal
        )
        draft.reason = failed_gate(draft.text, self.bounds, self.common)

    def named(self, draft: Draft, text: str) -> str:
        """A dialogue of User and Assistant with two people, drawn by the document's id, in their
        places (paper §3).
        """
        said = turns(text) if draft.is_refusal else None
        if said is None or {speaker.lower() for speaker, _ in said} != {"user", "assistant"}:
            return text
        draw = stream(self.seed, "speakers", draft.document.id)
        drawn = people(self.words.names, draft.prompt.templates.speakers, draw)
        names = {"user": drawn["asker"], "assistant": drawn["answerer"]}
        return "\n".join(f"{names[speaker.lower()]}: {words}" for speaker, words in said)

    def rescore(self, drafts: Sequence[Draft]) -> None:
        """Score what passed the gates as the web is scored; what is above the bound is not kept."""
        texts = (
            Document(text=draft.text.text, id=str(place))
            for place, draft in enumerate(drafts)
            if draft.text
        )
        for scored in self.scorer.run(texts):
            draft = drafts[int(scored.id)]
            draft.score = scored.metadata["score"]
            if draft.score is None or draft.score > self.max_score:
                draft.reason = "ungraded" if draft.score is None else "unsafe_after_writing"

    def passed(self, draft: Draft) -> Iterator[Document]:
        """The written text as a new document, unless something holds it back."""
        self.seen += 1
        if draft.problem or draft.text is None:
            self.quarantine(
                draft.problem or "unanswered",
                file=self.task.name,
                offset=self.seen,  # which of the documents that were asked about
                content=draft.document.text.encode("utf-8", "replace"),
            )
            return
        text = draft.text.text
        id = text_digest(None, text)
        if draft.reason or id in self.written:
            return self.drop(draft.reason or "duplicate")
        self.written.add(id)
        self.stat_update(draft.prompt.style)
        yield Document(text=text, id=id, metadata=self.chain(draft))

    def chain(self, draft: Draft) -> dict[str, Any]:
        """The metadata of a written document: where its parent came from, and how it was made
        (design §4).
        """
        document = draft.document
        return {
            **{name: document.metadata.get(name) for name in INHERITED},
            "hazard": hazard_of(document),
            "parent": document.id,
            "writer": self.opened.name,
            "sampling": self.opened.sampling,
            "prompt_id": draft.prompt.id,
            "prompt_version": str(draft.prompt.version),
            "style": draft.prompt.style,
            "seed": self.seed,
            "score_before": document.metadata.get("score", document.metadata.get("score_after")),
            "score_after": draft.score,
        }


def hazard_of(document: Document) -> str | None:
    """The hazard that the source or the scorers name."""
    return document.metadata.get("hazard") or document.metadata.get("score_hazard")
