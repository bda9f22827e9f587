"""card: the Data Safety Report Card of one corpus.

python -m pipeline.card score_5
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.builder.run import make_shards
from safelm.corpora.report_card import WriteCounts, write_card
from safelm.documents.shards import ReadShards
from safelm.scoring.lexicon import LEXICON
from safelm.scoring.registry import SafetyScorer, graders
from specs.corpus import scores_of
from specs.params import Params


def main() -> None:
    """Count shard by shard and write build/card/<corpus>/card.json."""
    params = Params.read("card", "score", "scorers", "engines", "corpora")
    parser = StageParser("card", __doc__)
    parser.add_row("corpus", "corpora")
    name = parser.parse_args().corpus
    corpus, rule, ngrams = params.corpora[name], params.score.ensemble, Path(params.card.ngrams)
    scores = scores_of(corpus)
    beside = build("score") if scores else None
    columns = {} if beside else graders(params.score.scorers, params.scorers, params.engines)
    blocks = [  # what was not scored yet is scored now
        ReadShards(
            folder=build(*corpus.from_.split("/")), scores=beside, select=tuple(scores or ())
        ),
        *([] if beside else [SafetyScorer(graders=columns, rule=rule.rule, of=rule.thresholds)]),
        WriteCounts(ngrams=ngrams, hazards=LEXICON),
    ]
    counts = make_shards(f"card/{name}", blocks)
    artifact(f"card/{name}", write_card, corpus=name, counts=counts, ngrams=ngrams, hazards=LEXICON)


if __name__ == "__main__":
    main()
