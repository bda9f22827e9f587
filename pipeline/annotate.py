"""annotate: label a pool of documents from 0 (harmless) to 5 (harmful), to fit the scorers on.

python -m pipeline.annotate
"""

from pipeline.arguments import StageParser
from safelm.builder.run import run
from safelm.scoring.pool import label_pool
from specs.params import Params


def main() -> None:
    """Draw and label the pool into build/annotate."""
    StageParser("annotate", __doc__).parse_args()
    params = Params.read("annotate", "scorers", "engines")
    run("annotate", label_pool(params.annotate, params.scorers, params.engines))


if __name__ == "__main__":
    main()
