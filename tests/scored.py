"""Scores for tests of stages that select by score: each is the label of its document."""

from collections.abc import Iterator

from datatrove.data import Document

from safelm.builder.blocks import Block
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import ReadShards, WriteColumns
from specs.document import scores_of_all


class ScoreByLabel(Block):
    """Score a document by its label."""

    def process(self, document: Document) -> Iterator[Document]:
        label = document.metadata["label"]
        document.metadata |= {"lexicon": label, "ngrams": label, "score": label}
        yield document


def scored() -> None:
    """Build build/score/web from the labels of build/clean/web."""
    run(
        "score/web",
        [
            ReadShards(folder=build("clean", "web")),
            ScoreByLabel(),
            WriteColumns(columns=scores_of_all(["lexicon", "ngrams"])),
        ],
    )
