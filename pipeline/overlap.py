"""overlap: find the prompts of the suites that are in the training text, exactly or nearly.

python -m pipeline.overlap
"""

from collections.abc import Iterable

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.evaluation.overlap import find_overlap
from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def main() -> None:
    """Search for every prompt in everything that a model may read."""
    StageParser("overlap", __doc__).parse_args()
    params = Params.read("overlap", "evaluate", "sources", "rephrase", "refuse", "educate")
    tables: dict[str, Iterable[str]] = {
        "clean": params.sources,
        "rephrase": params.rephrase,
        "refuse": params.refuse,
        "educate": params.educate,
    }
    texts = {f"{stage}/{row}": build(stage, row) for stage, rows in tables.items() for row in rows}
    artifact(
        "overlap",
        find_overlap,
        reads=[SPECS / "demo", SPECS / "hazards.yaml"],
        suites={name: Suite.read(name) for name in params.evaluate.suites},
        texts=texts,
        max_prompts=params.evaluate.max_prompts,
        seed=params.evaluate.seed,
        ngram=params.overlap.ngram,
        min_share=params.overlap.min_share,
    )


if __name__ == "__main__":
    main()
