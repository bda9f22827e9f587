"""educate: turn the refusals into articles on the principle behind them.

python -m pipeline.educate
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import ReadShards, WriteDocuments
from safelm.scoring.registry import SafetyScorer, graders
from safelm.synthesis.writer import Write
from specs.engine import row
from specs.params import Params
from specs.prompt import PROMPTS


def main() -> None:
    """Write an article for each dialogue of build/refuse."""
    StageParser("educate", __doc__).parse_args()
    values = Params.read("educate", "gates", "engines", "score", "scorers")
    params, rule = values.educate, values.score.ensemble
    columns = graders(values.score.scorers, values.scorers, values.engines)
    run(
        "educate",
        [
            ReadShards(folder=build("refuse")),
            Write(
                prompts=tuple(PROMPTS / "educate" / f"{name}.yaml" for name in params.prompts),
                engine=row(values.engines, params.engine),
                gates=values.gates.model_dump(),
                scorer=SafetyScorer(graders=columns, rule=rule.rule, of=rule.thresholds),
                max_score=params.max_score,
                seed=params.seed,
            ),
            WriteDocuments(),
        ],
    )


if __name__ == "__main__":
    main()
