"""relearn: tune models on harmful pairs, and on harmless ones, until their safety is undone.

python -m pipeline.relearn
"""

from pipeline.arguments import StageParser
from pipeline.protocol import evaluation_protocol
from safelm.evaluation.attacks.relearning import relearn_models
from specs.params import Params


def main() -> None:
    """Tune and measure the models of every row of `relearn`."""
    StageParser("relearn", __doc__).parse_args()
    params = Params.read("relearn", "evaluate", "scorers", "engines")
    relearn_models("relearn", rows=params.relearn, protocol=evaluation_protocol(params))


if __name__ == "__main__":
    main()
