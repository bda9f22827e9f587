"""Writer of synthetic documents: the block of the stages rephrase, refuse and educate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice, product, starmap
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents, Reader, Task, unkeyed
from safelm.documents.batches import SHARD, BatchBlock
from safelm.documents.shards import WriteDocuments, text_digest
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
from safelm.llm.templates.text import draw_people
from safelm.scoring.registry import SafetyScorer, grader, safety_scorer
from safelm.seeding import pick, stream
from safelm.synthesis.gates import WrittenText, dialogue_turns, failed_gate
from specs.corpus import Gates, Writer
from specs.engine import row as engine_row
from specs.prompt import PROMPTS, SHARED, Prompt, Shared

INHERITED = ("source", "url", "crawl", "license")


def synthesis_blocks(stage: str, reader: Reader, row: Writer, params: Any) -> list[Block]:
    """Return the blocks of rephrase, refuse or educate: the reader, the writer, and the storage.

    `row` is a row of the stage's table, whose prompts are files of specs/prompts/<stage>. `params`
    holds the blocks gates, engines, score and scorers of params.yaml.
    """
    write = WriteSynthetic(
        prompts=tuple(PROMPTS / stage / f"{name}.yaml" for name in row.prompts),
        engine=engine_row(params.engines, row.engine),
        gates=params.gates,
        scorer=gate_scorer(row.gate, params),
        max_score=row.max_score,
        seed=row.seed,
    )
    return [reader, write, WriteDocuments()]


def gate_scorer(gate: str | None, params: Any) -> SafetyScorer:
    """Return the scorer of written texts: a row of `scorers`, or None for the ensemble of `score`.

    A gate means more if it is no part of the ensemble that selected the page.
    """
    if gate is None:
        return safety_scorer(params.score, params.scorers, params.engines)
    graders = {gate: grader(gate, params.scorers, params.engines)}
    return SafetyScorer(graders=graders, rule="max", thresholds={gate: 0})


@dataclass
class Draft:
    """A document, the prompt drawn for it, and the result of the latest attempt."""

    document: Document
    prompt: Prompt
    parts: list[str]
    written: WrittenText | None = None
    score: int | None = None
    failed: str | None = None  # the name of the gate that the text failed
    problem: str | None = None  # why the engine's provider refuses the document

    @property
    def is_refusal(self) -> bool:
        """Whether the prompt wants a dialogue in which a request is declined."""
        return self.prompt.writes == "refusal"


class WriteSynthetic(BatchBlock):
    """Write one text for each document, with one of the prompts.

    A text that fails a gate, or that the scorer grades above `max_score`, is generated again, at
    most `gates.max_attempts` times in all. After that it is dropped under the gate's name. A
    document that the engine's provider refuses is quarantined under the refusal's name. A document
    that is too long for one request is written in parts, which are joined.
    """

    name = "writer"
    batch = SHARD  # so that the server gets all its requests together
    prompts: tuple[Path, ...]
    engine: Mapping[str, Any]
    gates: Gates
    scorer: SafetyScorer = unkeyed()
    max_score: int
    seed: int
    shared: Path = field(default=SHARED)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Ids of this shard's texts. The executor gives every shard a block of its own.
        self.written_ids: set[str] = set()
        self.seen = 0
        self.task = Task("alone", ())  # replaced when the executor calls begin()

    def begin(self, task: Task, folder: Path) -> None:
        """Start a task, with another one for the scorers."""
        super().begin(task, folder)
        # A judge stores its answers by task: those on texts must not go into the file of those on
        # the shard's pages.
        shard = task.inputs[0].sha256 if task.inputs else task.name
        self.scorer.begin(Task(text_digest(self.stage, shard), ()), folder)

    def process_batch(self, documents: list[Document]) -> Documents:
        """Write the texts of a shard, and yield them in the order of documents."""
        drafts = [self.draft(document) for document in documents]
        self.write(drafts)
        for draft in drafts:
            yield from self.output(draft)

    def declared(self) -> list[Any]:
        """Return the block's own values and those of the scorers."""
        return [*super().declared(), self.scorer.declared()]

    @cached_property
    def opened_engine(self) -> Engine:
        """The engine, opened for the first document."""
        return open_engine(self.engine, answers_file(self.engine, self.stage, self.task))

    @property
    def stage(self) -> str:
        """The stage that the prompts belong to: rephrase, refuse or educate."""
        return self.choices[0].id.partition("/")[0]

    @cached_property
    def shared_prompt(self) -> Shared:
        """The parts that all prompts share (specs/prompts/shared.yaml)."""
        return Shared.read(self.shared)

    @cached_property
    def choices(self) -> list[Prompt]:
        """The prompts; one is drawn for each document."""
        return [Prompt.read(path) for path in self.prompts]

    def draft(self, document: Document) -> Draft:
        """Draw the prompt of a document and split its text."""
        # Uniformly, as in paper §2, but by the document's id, so that no other draw depends on it.
        prompt = pick(self.choices, stream(self.seed, "style", document.id))
        limit = self.opened_engine.characters
        parts = split_document(document.text, limit) if limit else [document.text]
        # A refusal answers one request, so the first part is enough.
        return Draft(document, prompt, parts[:1] if prompt.writes == "refusal" else parts)

    def write(self, drafts: Sequence[Draft]) -> None:
        """Generate a text for every draft, and again for those that fail."""
        waiting = list(drafts)
        for attempt in range(self.gates.max_attempts):
            requests = chain.from_iterable(self.requests(draft, attempt) for draft in waiting)
            answers = iter(self.opened_engine.generate(list(requests)))
            for draft in waiting:
                self.check(draft, list(islice(answers, len(draft.parts))))
            # Scorers cost more than gates, so they grade only what passed.
            self.rescore([draft for draft in waiting if not (draft.problem or draft.failed)])
            waiting = [draft for draft in waiting if draft.failed]
            for draft in waiting:
                self.stat_update(f"attempt {attempt + 1} {draft.failed}")
        self.opened_engine.reject(self.all_requests(waiting))

    def requests(self, draft: Draft, attempt: int) -> list[Request]:
        """Build the requests for all parts of a document."""
        return [self.request(draft, part, attempt) for part in draft.parts]

    def all_requests(self, drafts: Sequence[Draft]) -> list[Request]:
        """Build every request that was made for some documents."""
        attempts = product(drafts, range(self.gates.max_attempts))
        return list(chain.from_iterable(starmap(self.requests, attempts)))

    def request(self, draft: Draft, part: str, attempt: int) -> Request:
        """Build the request for one part of a document."""
        # The text stands in the user's message alone, fenced: a page must not give instructions.
        prompt = draft.prompt
        instruction = self.shared_prompt.instructions[self.stage].strip()
        message = fence_document(self.shared_prompt.frame, prompt.instruction, part)
        return Request(
            id=str(draft.document.id),
            prompt=prompt.id,
            version=prompt.version,
            messages=(("system", instruction), ("user", message)),
            seed=self.seed,
            attempt=attempt,
            template=TemplateInput(strip_control_tokens(part), prompt, hazard_of(draft.document)),
        )

    def check(self, draft: Draft, answers: Sequence[Answer]) -> None:
        """Join the parts of a text and run the gates on it."""
        draft.problem = next((answer.problem for answer in answers if answer.problem), None)
        if draft.problem:
            draft.failed = None
            return
        parts = (answer.text.strip() for answer in answers)
        joined = "\n\n".join(filter(None, parts))
        # A text is cut off where any of its parts is.
        finish = next((answer.finish for answer in answers if answer.finish != "stop"), "stop")
        answer = Answer(self.with_names(draft, joined), finish)
        draft.written = WrittenText(answer, draft.document.text, draft.is_refusal)
        draft.failed = failed_gate(draft.written, self.gates)

    def with_names(self, draft: Draft, text: str) -> str:
        """Replace User and Assistant by names or roles, drawn for the document (paper §3)."""
        turns = dialogue_turns(text) if draft.is_refusal else None
        if turns is None or {speaker.lower() for speaker, _ in turns} != {"user", "assistant"}:
            return text
        draw = stream(self.seed, "speakers", draft.document.id)
        people = draw_people(self.shared_prompt.names, draft.prompt.templates.speakers, draw)
        names = {"user": people["asker"], "assistant": people["answerer"]}
        lines = [f"{names[speaker.lower()]}: {words}" for speaker, words in turns]
        return "\n".join(lines)

    def rescore(self, drafts: Sequence[Draft]) -> None:
        """Grade texts with the gate's scorer; those above `max_score` fail."""
        texts = (
            Document(text=draft.written.text, id=str(index))
            for index, draft in enumerate(drafts)
            if draft.written
        )
        # Only the id leads from a scored text back to its draft.
        for scored in self.scorer.run(texts):
            draft = drafts[int(scored.id)]
            draft.score = scored.metadata["score"]
            if draft.score is None:
                draft.failed = "ungraded"
            elif draft.score > self.max_score:
                draft.failed = "unsafe_after_writing"

    def output(self, draft: Draft) -> Documents:
        """Yield the text as a new document; drop it or quarantine its source if it failed."""
        self.seen += 1
        if draft.problem:
            self.quarantine(
                draft.problem,
                file=self.task.name,
                offset=self.seen,  # counts selected documents, not rows of the shard
                content=draft.document.text.encode("utf-8", "replace"),
            )
            return
        assert draft.written is not None, "write() makes a text of every answer"
        text = draft.written.text
        id = text_digest(None, text)
        if draft.failed or id in self.written_ids:
            return self.drop(draft.failed or "duplicate")
        self.written_ids.add(id)
        self.stat_update(draft.prompt.style)
        yield Document(text=text, id=id, metadata=self.provenance(draft))

    def provenance(self, draft: Draft) -> dict[str, Any]:
        """Return the metadata of a synthetic document: its origin, and how it was made."""
        metadata = draft.document.metadata
        return {
            **{name: metadata.get(name) for name in INHERITED},
            "hazard": hazard_of(draft.document),
            "parent": draft.document.id,
            "writer": self.opened_engine.name,
            "sampling": self.opened_engine.sampling,
            "prompt_id": draft.prompt.id,
            "prompt_version": str(draft.prompt.version),
            "style": draft.prompt.style,
            "seed": self.seed,
            # The stage educate reads the output of refuse, whose score is `score_after`.
            "score_before": metadata.get("score", metadata.get("score_after")),
            "score_after": draft.score,
        }


def hazard_of(document: Document) -> str | None:
    """Return the hazard that the source names, else the scorers'."""
    return document.metadata.get("hazard") or document.metadata.get("score_hazard")
