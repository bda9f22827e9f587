"""Blocks of params.yaml that the report reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specs.attacks import Attack, Relearn
from specs.comparisons import Comparisons
from specs.corpus import Corpus, TagRow
from specs.decoder import DecoderRow
from specs.mixture import Mixture, Model
from specs.source import SourceRow


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Rows by their names; outputs of rows that are not declared are not read."""

    title: str
    confidence: float
    sources: Mapping[str, SourceRow]
    tags: Mapping[str, TagRow]
    corpora: Mapping[str, Corpus]
    mixtures: Mapping[str, Mixture]
    models: Mapping[str, Model]
    external_models: Sequence[str]
    comparisons: Comparisons
    decoders: Mapping[str, DecoderRow]
    relearn: Mapping[str, Relearn]
    attacks: Mapping[str, Attack]
    rephrased_scores: Sequence[int]
