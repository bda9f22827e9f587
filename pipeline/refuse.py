"""refuse: turn the worst documents into dialogues in which the request is declined.

python -m pipeline.refuse
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
    """Write a refusal for each document of the scores that params.yaml names."""
    StageParser("refuse", __doc__).parse_args()
    values = Params.read("refuse", "gates", "engines", "score", "scorers")
    params, rule = values.refuse, values.score.ensemble
    columns = graders(values.score.scorers, values.scorers, values.engines)
    run(
        "refuse",
        [
            ReadShards(
                folder=build("ingest", "web"), scores=build("score"), select=tuple(params.scores)
            ),
            Write(
                prompts=tuple(PROMPTS / "refuse" / f"{name}.yaml" for name in params.prompts),
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
