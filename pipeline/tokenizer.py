"""tokenizer: train a byte-level BPE on the ingested text, or take one; the tag is one token.

python -m pipeline.tokenizer
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.corpora.tokenization import CHAT, make_tokenizer
from specs.params import Params


def main() -> None:
    """Train on a sample of each source, or take the tokenizer that params.yaml names."""
    StageParser("tokenizer", __doc__).parse_args()
    params = Params.read("tokenizer", "sources")
    settings = params.tokenizer
    # Sources of usage `evaluation_only` are for attacks alone.
    trained_on = [name for name, row in params.sources.items() if row.usage == "training"]
    artifact(
        "tokenizer",
        make_tokenizer,
        reads=[CHAT],
        sources=[build("clean", source) for source in sorted(trained_on)],
        path=Path(settings.path) if settings.path else None,
        vocab_size=settings.vocab_size,
        max_documents=settings.max_documents,
        seed=settings.seed,
    )


if __name__ == "__main__":
    main()
