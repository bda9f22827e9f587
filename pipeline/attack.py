"""attack: look for suffixes of harmful requests that make our models answer them, and ask them with
and without.

python -m pipeline.attack
"""

from pipeline.arguments import StageParser
from pipeline.protocol import asked
from safelm.evaluation.attacks.suffixes import attack_models
from specs.params import Params


def main() -> None:
    """Run every row of `attacks`."""
    StageParser("attack", __doc__).parse_args()
    tables = Params.read("attacks", "evaluate", "scorers", "engines", "report")
    attack_models(
        "attack", attacks=tables.attacks, confidence=tables.report.confidence, asked=asked(tables)
    )


if __name__ == "__main__":
    main()
