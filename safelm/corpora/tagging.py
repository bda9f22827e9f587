"""Insertion of the harmfulness tag into raw unsafe documents (paper §4, Algorithm 1)."""

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents
from safelm.documents.shards import text_digest
from safelm.seeding import stream
from safelm.text.tags import Mode, insert_tags
from specs.tokens import TAG


class InsertTags(Block):
    """Tag documents by Algorithm 1 of paper §4.

    The unit is the word, as in the paper; safelm/text/tags.py finds it in scripts without spaces
    too. Documents that contain the literal tag are dropped as spells_the_tag.

    Attributes:
        rate: the probability of a tag before each word but the first.
        mode: "bernoulli" draws for each word; "exact" tags the rounded share of the words.
        seed: with the document's id, it decides all draws.
    """

    name = "tags"
    rate: float
    mode: Mode
    seed: int

    def process(self, document: Document) -> Documents:
        """Yield the tagged document, with the raw one as its parent."""
        # Literal text must not pass for the token.
        if TAG in document.text:
            return self.drop("spells_the_tag")
        draw = stream(self.seed, "tag", document.id)
        text = insert_tags(document.text, TAG, self.rate, draw, self.mode)
        self.stat_update("tags", value=text.count(TAG), unit="document")
        metadata = {**document.metadata, "parent": document.id, "seed": self.seed}
        # The hazard that the source names comes before the scorers'.
        metadata["hazard"] = metadata.get("hazard") or metadata.get("score_hazard")
        yield Document(text=text, id=text_digest(metadata.get("prompt"), text), metadata=metadata)
