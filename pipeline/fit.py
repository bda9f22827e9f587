"""fit: fit the scorers of the table on the judge's labels and measure them on those held out.

python -m pipeline.fit
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.scoring.fit import fit_all, write_fit
from specs.params import Params


def main() -> None:
    """Fit each row whose key is not known yet; measure all."""
    StageParser("fit", __doc__).parse_args()
    params = Params.read("annotate", "fit", "scorers", "engines", "score")
    rule, share, seed = params.score.ensemble, params.fit.held_out_share, params.fit.seed
    labels = build("annotate")
    artifact(
        "fit",
        write_fit,
        made=fit_all(
            params.scorers,
            params.engines,
            labels,
            judge=params.annotate.judge,
            held_out_share=share,
            seed=seed,
        ),
        labels=labels,
        judge=params.annotate.judge,
        held_out_share=share,
        seed=seed,
        rule=rule.rule,
        of=rule.thresholds,
    )


if __name__ == "__main__":
    main()
