"""card: write the Data Safety Report Card of one corpus.

python -m pipeline.card score_5
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.blocks import Block
from safelm.builder.run import make_shards
from safelm.corpora.report_card import WriteCounts, write_card
from safelm.documents.shards import read_documents
from safelm.scoring.lexicon import LEXICON
from safelm.scoring.registry import safety_scorer
from specs.corpus import scores_of
from specs.params import Params


def main() -> None:
    """Count shard by shard, and write build/card/<corpus>/card.json."""
    name = StageParser("card", __doc__).parse_row("corpus", "corpora")
    params = Params.read("card", "score", "scorers", "engines", "corpora")
    corpus, ngrams = params.corpora[name], Path(params.card.ngrams)
    scores = scores_of(corpus)
    blocks: list[Block] = [read_documents(corpus.from_, scores)]
    if scores is None:
        # Documents that the stage `score` does not read, such as refusals, are scored here.
        blocks.append(safety_scorer(params.score, params.scorers, params.engines))
    counts = make_shards(f"card/{name}", [*blocks, WriteCounts(ngrams=ngrams, hazards=LEXICON)])
    artifact(f"card/{name}", write_card, corpus=name, counts=counts, ngrams=ngrams, hazards=LEXICON)


if __name__ == "__main__":
    main()
