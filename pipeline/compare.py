"""compare: ask a model of others what ours are asked, judge its answers, and measure its utility.

python -m pipeline.compare smollm2
"""

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
    row, dials = tables.others[name], tables.evaluate
    evaluate_model(
        f"compare/{name}",
        base=checked(name, row, dials.decoders),
        model=name,
        stage="instruct" if row.chat else "pretrain",
        decoders={decoder: dials.decoders[decoder] for decoder in row.decoders},
        doses=[],
        tagged_only=[],
        **asked(tables),
    )


if __name__ == "__main__":
    main()
