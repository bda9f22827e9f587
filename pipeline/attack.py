"""attack: make models answer harmful requests, by every row of `attacks`, and measure them.

python -m pipeline.attack
"""

from pipeline.arguments import StageParser
from pipeline.protocol import evaluation_protocol
from safelm.evaluation.attacks.attack import attack_models
from specs.params import Params


def main() -> None:
    """Run every row of `attacks`."""
    StageParser("attack", __doc__).parse_args()
    params = Params.read("attacks", "evaluate", "scorers", "engines")
    attack_models("attack", attacks=params.attacks, protocol=evaluation_protocol(params))


if __name__ == "__main__":
    main()
