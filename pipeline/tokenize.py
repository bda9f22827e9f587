"""tokenize: turn the documents of one corpus into token files.

python -m pipeline.tokenize score_0
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.corpora.encoding import KERNEL, REFERENCE, unknown_part
from safelm.corpora.token_files import WriteTokens
from safelm.documents.shards import read_documents
from specs.corpus import scores_of, tags_of
from specs.params import Params
from specs.tokens import TOKENIZER


def main() -> None:
    """Encode the documents that a corpus selects into build/tokenize/<corpus>."""
    name = StageParser("tokenize", __doc__).parse_row("corpus", "corpora")
    corpus = Params.read("corpora").corpora[name]
    read = read_documents(corpus.from_, scores_of(corpus))
    tokenizer = build("tokenizer") / TOKENIZER
    unknown = unknown_part(tokenizer)
    if unknown:
        print(f"tokenize/{name}: encoding with {REFERENCE}: {KERNEL} was not tested with {unknown}")
    backend = REFERENCE if unknown else KERNEL
    write = WriteTokens(tokenizer=tokenizer, backend=backend, tagged=tags_of(corpus) is not None)
    run(f"tokenize/{name}", [read, write])


if __name__ == "__main__":
    main()
