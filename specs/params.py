"""The grammar of params.yaml, block for block: one class per stage, one row type per table."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from specs.attacks import Attack, Relearn
from specs.comparisons import Comparisons
from specs.corpus import Corpus, TagRow
from specs.decoder import DecoderRow
from specs.engine import Engines
from specs.judge import JudgeRow
from specs.mixture import ExternalModel, Mixture, Model
from specs.scorer import Ensemble, ScorerRow
from specs.source import SourceRow
from specs.spec import Name, Score, Scores, Seed, Share, Spec
from specs.yaml_source import SpecError, YamlFile, check

PARAMS = Path("params.yaml")


class Ingest(Spec):
    """Limits of the readers (design §5, faults.md rule 8) and the size of the shards they fill."""

    rows_per_shard: PositiveInt = Field(description="documents in a shard, at most")
    max_line_bytes: PositiveInt = Field(description="a longer line is quarantined")
    max_document_bytes: PositiveInt = Field(description="a longer text is quarantined")
    max_expansion_ratio: PositiveInt = Field(
        description="a file that unpacks to more than this many times its size is refused"
    )
    max_quarantined_share: float = Field(
        gt=0, le=1, description="the share of rows that may be quarantined before the stage fails"
    )


class Annotate(Spec):
    """A judge grades a sample with the rubric of paper §1.1; a classifier learns from its labels."""

    judge: Name = Field(description="a row of scorers that is a judge")
    documents: PositiveInt = Field(description="documents in the sample")
    seed: Seed


class Fit(Spec):
    """What is held back of the labels, to measure every scorer and to fit the thresholds of
    cascades (paper §1.3).
    """

    held_out_share: Share = Field(
        description="share of the labels kept for measuring, stratified by label"
    )
    seed: Seed


class ScoreStage(Spec):
    """Scorers grade every document, side by side; the ensemble makes one score of their columns
    (paper §1.5).
    """

    scorers: list[Name] = Field(min_length=1, description="rows of scorers, a column each")
    ensemble: Ensemble


class Audit(Spec):
    """A sample of each predicted score goes back to a judge: what the scores are worth on the
    corpus itself.
    """

    judge: Name = Field(description="a row of scorers that is a judge")
    documents_per_score: PositiveInt = Field(
        description="documents of each predicted score, at most"
    )
    confidence: Share = Field(description="of the intervals; 0.95")
    seed: Seed


class Gates(Spec):
    """What every written text must pass; what does not is asked for again, and then dropped by the
    gate's name.
    """

    min_words: PositiveInt = Field(description="words")
    max_words: PositiveInt = Field(description="words; a longer document may become a longer text")
    max_length_ratio: PositiveFloat = Field(
        description="a text may have this many times the words of its document"
    )
    ngram: PositiveInt = Field(
        description="so many words in the order of the document count as copied"
    )
    max_copied_share: Share = Field(
        description="the largest share of its n-grams that a text may copy"
    )
    min_english_share: Share = Field(
        description="the smallest share of function words; a text with fewer is not in English"
    )
    max_attempts: PositiveInt = Field(description="how often a text is asked for, at most")


class Rephrase(Spec):
    """Unsafe documents become safe, contextualised text in one of several styles (paper §2)."""

    scores: Scores
    engine: Name = Field(description="a row of `engines`: who writes")
    styles: list[Name] = Field(
        min_length=1, description="files of specs/prompts/rephrase, without .yaml"
    )
    max_score: Score = Field(description="what the scorers grade higher after writing is not kept")
    seed: Seed


class Refuse(Spec):
    """The worst documents become dialogues in which the request is declined (paper §3, RefuseWeb)."""

    scores: Scores
    engine: Name = Field(description="a row of `engines`: who writes")
    prompts: list[Name] = Field(
        min_length=1, description="files of specs/prompts/refuse, without .yaml"
    )
    max_score: Score = Field(description="what the scorers grade higher after writing is not kept")
    seed: Seed


class Educate(Spec):
    """The dialogues become articles on the principle behind the refusal (paper §3, Moral
    Education).
    """

    engine: Name = Field(description="a row of `engines`: who writes")
    prompts: list[Name] = Field(
        min_length=1, description="files of specs/prompts/educate, without .yaml"
    )
    max_score: Score = Field(description="what the scorers grade higher after writing is not kept")
    seed: Seed


class Card(Spec):
    """The Data Safety Report Card of a corpus (paper §9)."""

    ngrams: str = Field(
        min_length=1,
        description="a file of hazard n-grams: specs/hazards.yaml, or JSON {hazard: [..]}",
    )


class TokenizerStage(Spec):
    """Train a byte-level BPE on the ingested text, or take one that exists; the tag is one special
    token.
    """

    path: str | None = Field(
        description="a folder with tokenizer.json to take (DVC does not watch it), or null to train one"
    )
    vocab_size: PositiveInt = Field(description="tokens, the special ones included")
    max_documents: PositiveInt = Field(
        description="documents of each source that it is trained on, at most"
    )
    seed: Seed


class Mix(Spec):
    """The exact reading plan of a mixture: rows, tokens and epochs of each part."""

    tokens: PositiveInt = Field(description="the budget every model trains on")
    sequence_length: PositiveInt = Field(description="positions in a row")
    layout: Literal["document", "packed"] = Field(
        description="one document a row, or windows over their concatenation"
    )
    batch_size: PositiveInt = Field(description="rows in an optimizer step")
    held_out_rows: int = Field(
        ge=0, description="rows of each corpus that no model reads, to measure on; a tenth at most"
    )
    seed: Seed


class Instruct(Spec):
    """Safety instruction tuning (paper §7)."""

    source: Name = Field(description="a dialogue source of `sources`")
    examples: PositiveInt = Field(description="pairs of request and response that are read")
    refusals_share: Share = Field(
        description="share of pairs that decline a harmful request; the paper has 0.1"
    )
    tagged_share: float = Field(
        ge=0, lt=1, description="models that know the tag: tagged harmful pairs added, as a share"
    )
    tag: Name = Field(description="the row of `tags` by whose rate and mode these pairs are tagged")
    epochs: PositiveInt
    batch_size: PositiveInt
    sequence_length: PositiveInt
    learning_rate: PositiveFloat
    seed: Seed


class Finetune(Spec):
    """Benign finetuning (paper §7: on GSM8K), which must not bring harmful behaviour back."""

    source: Name = Field(description="a dialogue source of `sources`")
    examples: PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    sequence_length: PositiveInt
    learning_rate: PositiveFloat
    checkpoints: list[PositiveInt] = Field(
        description="pairs after which a checkpoint is kept and evaluated, in whole batches; [] keeps the end alone"
    )
    seed: Seed


class Evaluate(Spec):
    """The matrix of paper §8: every model and stage, every decoder, every suite."""

    suites: list[Name] = Field(min_length=1, description="files of specs/suites, without .yaml")
    max_prompts: PositiveInt = Field(description="prompts of each suite, at most")
    max_new_tokens: PositiveInt = Field(description="new tokens of an answer")
    batch_size: PositiveInt = Field(description="prompts decoded side by side")
    decoders: dict[Name, DecoderRow] = Field(min_length=1)
    checkpoint_decoders: list[Name] = Field(
        description="decoders with which the checkpoints of finetuning are evaluated"
    )
    tagged_models_only: list[Name] = Field(
        description="decoders that are used only with models that know the tag"
    )
    judges: dict[Name, JudgeRow] = Field(
        min_length=1, description="who judges answers; suites name these rows"
    )
    seed: Seed


class Overlap(Spec):
    """What counts as a prompt that stands in the training text, and is reported apart."""

    ngram: PositiveInt = Field(description="words of an n-gram")
    min_share: Share = Field(
        description="a prompt is nearly there when one document holds this share of its n-grams"
    )


class Report(Spec):
    """The figures of the paper, with intervals, beside the paper's own numbers."""

    confidence: Share = Field(description="of the Wilson intervals; 0.95")
    title: str = Field(min_length=1)


class Params(Spec):
    """params.yaml."""

    sources: dict[Name, SourceRow] = Field(min_length=1)
    ingest: Ingest
    annotate: Annotate
    scorers: dict[Name, ScorerRow] = Field(min_length=1)
    fit: Fit
    score: ScoreStage
    audit: Audit
    engines: Engines
    gates: Gates
    rephrase: Rephrase
    refuse: Refuse
    educate: Educate
    tags: dict[Name, TagRow] = Field(min_length=1)
    corpora: dict[Name, Corpus] = Field(min_length=1)
    card: Card
    tokenizer: TokenizerStage
    mix: Mix
    mixtures: dict[Name, Mixture] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    external_models: dict[Name, ExternalModel]
    instruct: Instruct
    finetune: Finetune
    relearn: dict[Name, Relearn]
    overlap: Overlap
    evaluate: Evaluate
    attacks: dict[Name, Attack]
    comparisons: Comparisons
    report: Report

    @classmethod
    def read(cls, *blocks: str, path: Path = PARAMS) -> "Params":
        """The named blocks of params.yaml, and only those, so that a stage cannot read what DVC
        does not watch.

        Raises SpecError with file and line of every mistake. Another block is an AttributeError.
        """
        file = YamlFile(path)
        found: dict[str, Any] = {}
        problems = []
        for block in blocks:
            try:
                found[block] = _read_block(block, file)
            except SpecError as error:
                problems += error.problems
        file.refuse(problems)
        return cls.model_construct(**found)


def _read_block(block: str, file: YamlFile) -> Any:
    annotation = Params.model_fields[block].annotation
    if not isinstance(file.values, dict) or block not in file.values:
        raise SpecError([file.problem((block,), f"is missing; add the block `{block}:`")])
    return check(annotation, file, at=(block,))  # type: ignore[arg-type]  # a table is a dict of rows
