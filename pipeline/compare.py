"""compare: ask a model of others what ours are asked, judge its answers, and measure its utility.

python -m pipeline.compare smollm2
"""

from dataclasses import replace

from pipeline.arguments import StageParser
from pipeline.asked import asked
from safelm.evaluation.others import checked
from safelm.evaluation.stage import evaluate_model
from specs.params import Params


def main() -> None:
    """Evaluate the row of `others` named on the command line."""
    parser = StageParser("compare", __doc__)
    parser.add_row("name", "others")
    name = parser.parse_args().name
    tables = Params.read("others", "evaluate", "scorers", "engines")
    row, common = tables.others[name], asked(tables)
    evaluate_model(
        f"compare/{name}",
        base=checked(name, row, common.decoders),
        model=name,
        stage="instruct" if row.chat else "pretrain",
        doses=[],
        asked=replace(common, decoders={one: common.decoders[one] for one in row.decoders}, tagged_only=[]),
    )


if __name__ == "__main__":
    main()
