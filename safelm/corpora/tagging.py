"""The harmfulness tag, put between the words of raw unsafe documents (paper §4, Algorithm 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Block
from safelm.documents.shards import text_digest
from safelm.seeding import stream
from safelm.text.tags import Mode, insert_tags
from specs.tokens import TAG


@dataclass(kw_only=True, eq=False, repr=False)
class InsertTags(Block):
    """Tag each document by Algorithm 1 of paper §4; the draws depend on the seed and its id alone.

    The unit is the word, as the algorithm prints it; a script without spaces is one word and gets
    no tag. A document that spells the tag out is dropped: the literal text must not pass for the
    token."""

    name: ClassVar[str] = "tags"
    rate: float
    mode: Mode
    seed: int

    def process(self, document: Document) -> Iterator[Document]:
        """The tagged document; its parent is the raw one."""
        if TAG in document.text:
            return self.drop("spells_the_tag")
        text = insert_tags(
            document.text, TAG, self.rate, stream(self.seed, "tag", document.id), self.mode
        )
        self.stat_update("tags", value=text.count(TAG), unit="document")
        metadata = {**document.metadata, "parent": document.id, "seed": self.seed}
        metadata["hazard"] = metadata.get("hazard") or metadata.get("score_hazard")
        yield Document(text=text, id=text_digest(metadata.get("prompt"), text), metadata=metadata)
