"""tokenizer: train a byte-level BPE on the ingested text, or take one; the harmfulness tag is one
token.

python -m pipeline.tokenizer
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.corpora.tokenization import CHAT, make_tokenizer
from specs.params import Params


def main() -> None:
    """Train on a sample of each source, or take what params.yaml names."""
    StageParser("tokenizer", __doc__).parse_args()
    blocks = Params.read("tokenizer", "sources")
    params = blocks.tokenizer
    artifact(
        "tokenizer",
        make_tokenizer,
        reads=[CHAT],
        sources=[build("ingest", name) for name in sorted(blocks.sources)],
        path=Path(params.path) if params.path else None,
        vocab_size=params.vocab_size,
        max_documents=params.max_documents,
        seed=params.seed,
    )


if __name__ == "__main__":
    main()
