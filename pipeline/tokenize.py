"""tokenize: turn the documents of one corpus into token files.

python -m pipeline.tokenize score_0
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.corpora.tokenization import TOKENIZER, WriteTokens
from safelm.documents.shards import ReadShards
from specs.corpus import scores_of, tags_of
from specs.params import Params


def main() -> None:
    """Encode what the corpus selects."""
    params = Params.read("corpora")
    parser = StageParser("tokenize", __doc__)
    parser.add_row("corpus", "corpora")
    name = parser.parse_args().corpus
    corpus = params.corpora[name]
    folder, scores = build(*corpus.from_.split("/")), scores_of(corpus)
    beside = build("score") if scores else None
    run(
        f"tokenize/{name}",
        [
            ReadShards(folder=folder, scores=beside, select=tuple(scores or ())),
            WriteTokens(
                tokenizer=build("tokenizer") / TOKENIZER, tagged=tags_of(corpus) is not None
            ),
        ],
    )


if __name__ == "__main__":
    main()
