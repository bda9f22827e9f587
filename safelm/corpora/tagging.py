"""The block that inserts the harmfulness tag into raw unsafe documents (paper §4, Algorithm 1)."""

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
    """Tagged copies of documents, by Algorithm 1 of paper §4.

    As in the paper the unit is the word, so text in a script without spaces counts as one word and
    gets no tag. A document that contains the literal tag is dropped, because literal text must not
    pass for the token.

    Attributes:
        rate: the probability of a tag before each word but the first.
        mode: "bernoulli" draws for each word; "exact" tags the rounded share of the words.
        seed: draws depend on this and on the document's id alone, never on shard or order.
    """

    name: ClassVar[str] = "tags"
    rate: float
    mode: Mode
    seed: int

    def process(self, document: Document) -> Iterator[Document]:
        """Yield the tagged document, with the raw one as its parent."""
        if TAG in document.text:
            return self.drop("spells_the_tag")
        draw = stream(self.seed, "tag", document.id)
        text = insert_tags(document.text, TAG, self.rate, draw, self.mode)
        self.stat_update("tags", value=text.count(TAG), unit="document")
        metadata = {**document.metadata, "parent": document.id, "seed": self.seed}
        # The hazard of the source, or else the one that the scorers named.
        metadata["hazard"] = metadata.get("hazard") or metadata.get("score_hazard")
        yield Document(text=text, id=text_digest(metadata.get("prompt"), text), metadata=metadata)
