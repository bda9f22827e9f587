"""overlap: find the prompts of the suites that are in the training text, exactly or nearly.

python -m pipeline.overlap
"""

from pipeline.arguments import StageParser
from pipeline.dependencies import read_stages
from pipeline.rows import body
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.evaluation.overlap import find_overlap
from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def main() -> None:
    """Search for every prompt in everything that a model may read."""
    StageParser("overlap", __doc__).parse_args()
    params = Params.read("overlap", "evaluate")
    # From dvc.yaml, because only the names of the rows matter here, and DVC watches whole tables.
    inputs = [path.split("/") for path in body(read_stages()["overlap"])["deps"]]
    texts = {"/".join(row): build(*row) for first, *row in inputs if first == "build"}
    artifact(
        "overlap",
        find_overlap,
        # Suites of the made-up world read these files, although no row names them.
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
