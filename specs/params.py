"""Grammar of params.yaml, block by block: a class for each stage, a row type for each table."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from specs.attacks import AttackRow, Relearn
from specs.comparisons import Comparisons
from specs.corpus import Corpus, Educate, Gates, Rewrite, TagRow
from specs.decoder import DecoderRow
from specs.engine import Engines
from specs.estimate import Estimate
from specs.filter import FilterRow
from specs.judge import JudgeRow
from specs.mixture import Budget, ExternalModel, Mixture, Model
from specs.scorer import Ensemble, JudgeName, MaxShift, OperatingPoint, PoolRow, ScorerRow
from specs.source import SourceRow
from specs.spec import Name, Names, Rows, Seed, Share, Spec, Text
from specs.suite import Calibration
from specs.yaml_source import SpecError, YamlFile, check

PARAMS = Path("params.yaml")

DialogueSource = Annotated[Name, Field(description="a dialogue source of `sources`")]


class Ingest(Spec):
    """Limits of the readers, and the size of the shards they fill."""

    rows_per_shard: PositiveInt = Field(description="documents in a shard, at most")
    max_line_bytes: PositiveInt = Field(description="a longer line is quarantined")
    max_document_bytes: PositiveInt = Field(description="a longer text is quarantined")
    max_expansion_ratio: PositiveInt = Field(
        description="a file that unpacks to more than this many times its size is refused"
    )
    max_quarantined_share: float = Field(
        gt=0, le=1, description="the share of rows in quarantine above which the stage fails"
    )


class Annotate(Spec):
    """The label pool that classifiers are fitted on, and its labeller (paper §1.1, §1.2)."""

    judge: JudgeName
    pool: Rows[PoolRow]
    seed: Seed


class Fit(Spec):
    """Labels that are held out for measuring scorers and for fitting cascades (paper §1.3)."""

    held_out_share: Share = Field(
        description="share of the labels kept for measuring, stratified by label"
    )
    operating_point: OperatingPoint | None = Field(
        description="of the fitted scorers; null for the most probable score"
    )
    seed: Seed


class ScoreStage(Spec):
    """Scorers that grade every document of some sources, and their ensemble (paper §1.5)."""

    sources: Names = Field(description="rows of sources that hold pages, each scored by itself")
    scorers: Names = Field(description="rows of scorers, a column each")
    ensemble: Ensemble
    max_shift: MaxShift | None = Field(description="null to warn, and never fail")


class Audit(Spec):
    """A sample of each predicted score that a judge grades again, to measure the scorers."""

    judge: JudgeName
    documents_per_score: PositiveInt = Field(
        description="documents of each predicted score, at most"
    )
    confidence: Share = Field(description="of the intervals; 0.95")
    seed: Seed


class Card(Spec):
    """The Data Safety Report Card of a corpus (paper §9)."""

    ngrams: Text = Field(
        description="a file of hazard n-grams: specs/hazards.yaml, or JSON {hazard: [..]}",
    )


class TokenizerStage(Spec):
    """A byte-level BPE with the tag as a special token: trained on ingested text, or given."""

    path: str | None = Field(
        description="the folder of a tokenizer.json to use, which DVC does not watch; null to "
        "train one"
    )
    vocab_size: PositiveInt = Field(description="tokens, the special ones included")
    max_documents: PositiveInt = Field(
        description="documents of each source that it is trained on, at most"
    )
    seed: Seed


class Mix(Spec):
    """The rows of every mixture; its plan lists the rows that a model reads."""

    held_out_rows: int = Field(
        ge=0, description="rows of each corpus for measuring, which no model reads; a tenth at most"
    )
    seed: Seed


class Tuning(Spec):
    """The keys of every row that tunes a model on dialogues. Only answers carry loss."""

    max_exchanges: PositiveInt = Field(
        default=1,
        description="requests with answers of a dialogue, at most; leave it out for the first one",
    )
    epochs: PositiveInt
    batch_size: PositiveInt
    sequence_length: PositiveInt
    learning_rate: PositiveFloat
    seed: Seed


class Instruct(Tuning):
    """A row of `instruct`: safety instruction tuning (paper §7)."""

    source: DialogueSource
    examples: PositiveInt = Field(description="pairs of request and response that are read")
    refusals_share: Share = Field(
        description="share of pairs that decline a harmful request; the paper has 0.1"
    )
    tagged_share: float = Field(
        ge=0, lt=1, description="tagged harmful pairs added, for models that know the tag"
    )
    tag: Name = Field(description="the row of `tags` whose rate and mode these pairs have")


class Finetune(Tuning):
    """A row of `finetune`: benign finetuning (paper §7: on GSM8K).

    After it, harmful behaviour may come back.
    """

    source: DialogueSource
    examples: PositiveInt
    checkpoints: list[PositiveInt] = Field(
        description="pairs after which a checkpoint is kept and evaluated, in whole batches; "
        "[] keeps only the end"
    )


class Evaluate(Spec):
    """The evaluations of paper §8: every model at every stage, with every decoder and suite."""

    suites: Names = Field(description="files of specs/suites, without .yaml")
    max_prompts: PositiveInt = Field(description="prompts of each suite, at most")
    max_new_tokens: PositiveInt = Field(description="new tokens of a completion")
    batch_size: PositiveInt = Field(description="prompts decoded at a time")
    decoders: Rows[DecoderRow]
    checkpoint_decoders: list[Name] = Field(
        description="decoders with which the checkpoints of finetuning are evaluated"
    )
    tagged_models_only: list[Name] = Field(
        description="decoders that are used only with models that know the tag"
    )
    calibration: Calibration | None = Field(
        default=None, description="needed by decoders with max_false_refusals"
    )
    judges: dict[Name, JudgeRow] = Field(
        min_length=1, description="judges of completions; suites name these rows"
    )
    seed: Seed


class Overlap(Spec):
    """The search for prompts in the training text; prompts found there are reported separately."""

    ngram: PositiveInt = Field(description="words of an n-gram")
    min_share: Share = Field(
        description="a prompt is nearly found if one document has this share of its n-grams"
    )


class Report(Spec):
    """The figures of the paper, with intervals, beside the paper's own numbers."""

    confidence: Share = Field(description="of the Wilson intervals; 0.95")
    title: Text


class Params(Spec):
    """params.yaml."""

    sources: Rows[SourceRow]
    ingest: Ingest
    filters: dict[Name, FilterRow]
    annotate: Annotate
    scorers: Rows[ScorerRow]
    fit: Fit
    score: ScoreStage
    audit: Audit
    engines: Engines
    gates: Gates
    rephrase: dict[Name, Rewrite]
    refuse: dict[Name, Rewrite]
    educate: dict[Name, Educate]
    tags: Rows[TagRow]
    corpora: Rows[Corpus]
    card: Card
    tokenizer: TokenizerStage
    budgets: Rows[Budget]
    mix: Mix
    mixtures: Rows[Mixture]
    models: Rows[Model]
    external_models: dict[Name, ExternalModel]
    instruct: Rows[Instruct]
    finetune: Rows[Finetune]
    relearn: dict[Name, Relearn]
    overlap: Overlap
    evaluate: Evaluate
    attacks: dict[Name, AttackRow]
    comparisons: Comparisons
    report: Report
    estimate: Estimate | None = Field(
        default=None, description="sizes and machines for `safelm estimate`; no stage reads them"
    )

    @classmethod
    def read(cls, *blocks: str, path: Path = PARAMS) -> "Params":
        """Read the named blocks of params.yaml, and no other.

        Any other block raises AttributeError when it is accessed, so a stage cannot depend on a
        block that DVC does not watch for it. Raises SpecError with file and line of every mistake.
        """
        file = YamlFile(path)
        values: dict[str, Any] = {}
        problems = []
        for block in blocks:
            try:
                values[block] = _read_block(block, file)
            except SpecError as error:
                problems += error.problems
        file.refuse(problems)
        # Without validation, which would miss the blocks that are not read.
        return cls.model_construct(**values)


def _read_block(block: str, file: YamlFile) -> Any:
    if not isinstance(file.values, dict) or block not in file.values:
        raise file.error_at((block,), f"is missing; add the block `{block}:`")
    return check(Params.model_fields[block].annotation, file, at=(block,))
