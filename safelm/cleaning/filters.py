"""Blocks that drop documents one by one: DataTrove's filters, language, overlap with suites."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import datatrove.pipeline.filters
import eldc
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.word_tokenizers import WordTokenizer
from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer

from safelm.builder.blocks import Block, Documents, Task
from safelm.documents.shards import text_digest
from safelm.text.prompt_index import PromptIndex
from safelm.text.word_hashes import with_prompt

# eldc looks at no more than the first 1,000 bytes.
MAX_CHARACTERS = 1000


class DropDocuments(Block):
    """The base of blocks that drop documents: `row` is the filter's name in the ledger."""

    type = "filter"
    row: str

    def drop_for(self, reason: str) -> None:
        """Count a document as dropped by this row, for a reason of its own."""
        self.drop(f"{self.row}/{reason}")


class OfflineWords(WordTokenizer):
    """English words and sentences as NLTK splits them without its data, which is a download.

    DataTrove itself uses spaCy, a third as fast; FineWeb was made with NLTK. Of 600 pages, the two
    lead to another result of GopherRepetitionFilter for 18, of GopherQualityFilter for 48, of
    FineWebQualityFilter for none and of C4QualityFilter for 8.
    """

    words = NLTKWordTokenizer()
    sentences = PunktSentenceTokenizer()

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return self.words.tokenize(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the sentences of a text."""
        return self.sentences.tokenize(text)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the bounds of the sentences of a text."""
        return list(self.sentences.span_tokenize(text))


# One for all blocks, because DataTrove remembers the words of the last texts by this object.
WORDS = OfflineWords()


class DropByDatatrove(DropDocuments):
    """Drop what a filter block of DataTrove drops, for the reason that it gives.

    Some blocks edit the text; the document then has the id of its new text. One at which the block
    fails is quarantined.
    """

    name = "datatrove"
    libraries = ("regex", "spacy")
    block: str
    arguments: dict[str, Any]

    @cached_property
    def filter(self) -> BaseFilter:
        """The block, created when it is first used."""
        kind = getattr(datatrove.pipeline.filters, self.block)
        arguments = {name: _in_tuples(value) for name, value in self.arguments.items()}
        # Blocks that split words; a row may still name a language of DataTrove's.
        if "language" in kind.__init__.__code__.co_varnames:
            arguments.setdefault("language", WORDS)
        block: BaseFilter = kind(**arguments)
        return block

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Yield the documents that the block keeps."""
        for number, document in enumerate(data or ()):
            text = document.text
            try:
                is_kept, reason = get_filter_result(self.filter.filter(document))
            except Exception as error:
                # What a page can do to a block must not stop the stage.
                reason = f"{self.row}/{type(error).__name__}"
                content = text.encode()
                self.quarantine(reason, file=self.task.name, offset=number, content=content)
                continue
            if not is_kept:
                self.drop_for(reason or self.block)
                continue
            if document.text != text:
                document.id = text_digest(document.metadata.get("prompt"), document.text)
            yield document

    def begin(self, task: Task, folder: Any) -> None:
        """Prepare for a task; fail for arguments that no text can pass."""
        super().begin(task, folder)
        # Otherwise `run` would quarantine every document, one by one.
        self.filter.filter(Document(text=f"{SENTENCE} {SENTENCE}", id=""))


# Shows before the first document whether a block works at all.
SENTENCE = "The rose in the garden is red, and the tree beside it is tall."


def _in_tuples(value: Any) -> Any:
    """Return lists as tuples, which some blocks insist on."""
    return tuple(map(_in_tuples, value)) if isinstance(value, list) else value


class DropByLanguage(DropDocuments):
    """Drop documents in other languages, by the code of their language.

    Texts too short for a language are dropped as short; those of which eldc is less sure than
    `min_score`, as uncertain.
    """

    name = "language"
    languages: list[str]
    min_score: float
    min_characters: int

    @cached_property
    def detect(self) -> Any:
        """eldc's function that returns the language of a text and its score."""
        eldc.init()
        detector = eldc.instance()
        detector.set_scores(1)
        return detector.detect_details

    def process(self, document: Document) -> Documents:
        """Yield a document in one of the languages."""
        if len(document.text) < self.min_characters:
            return self.drop_for("short")
        # It takes NUL for the end of the text.
        found = self.detect(document.text[:MAX_CHARACTERS].replace("\0", " "))
        if found.scores.get(found.language, 0) < self.min_score:
            return self.drop_for("uncertain")
        if found.language not in self.languages:
            return self.drop_for(found.language)
        yield document


class DropOverlap(DropDocuments):
    """Drop documents that hold a prompt, by the suite of the prompt.

    Attributes:
        prompts: the texts of each suite's prompts.
        ngram: words of an n-gram; a prompt of fewer words is one n-gram.
        min_share: the share of its n-grams that a document must have.
    """

    name = "overlap"
    prompts: dict[str, list[str]]
    ngram: int
    min_share: float

    @cached_property
    def index(self) -> PromptIndex:
        """The prompts, each with its suite as part of its id."""
        prompts = []
        for suite, texts in self.prompts.items():
            prompts += [(f"{suite}/{number}", text) for number, text in enumerate(texts)]
        return PromptIndex(prompts, self.ngram)

    def process(self, document: Document) -> Documents:
        """Yield a document that holds no prompt."""
        text = with_prompt(document.metadata.get("prompt"), document.text)
        suites = {
            prompt.id.partition("/")[0]
            for prompt in self.index.find(text)
            if prompt.is_exact or prompt.share >= self.min_share
        }
        if not suites:
            yield document
            return
        # One of several suites is named: the first of the row.
        self.drop_for(next(suite for suite in self.prompts if suite in suites))
