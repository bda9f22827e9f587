"""fit: fit the scorers on the judge's labels, and measure them on held-out labels.

python -m pipeline.fit
"""

from typing import Any

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.scoring.fit import fit_all, write_fit
from specs.params import Params


def main() -> None:
    """Fit every row of `scorers` into build/fit/<row>; rows whose key is known are not fitted."""
    StageParser("fit", __doc__).parse_args()
    params = Params.read("annotate", "fit", "scorers", "engines", "score")
    labels, ensemble = build("annotate"), params.score.ensemble
    split: dict[str, Any] = {
        "judge": params.annotate.judge,
        "held_out_share": params.fit.held_out_share,
        "seed": params.fit.seed,
    }
    point = params.fit.operating_point
    harmless = build("clean", point.source) if point else None
    manifests = fit_all(
        params.scorers, params.engines, labels, operating_point=point, harmless=harmless, **split
    )
    artifact(
        "fit",
        write_fit,
        manifests=manifests,
        labels=labels,
        rule=ensemble.rule,
        thresholds=ensemble.thresholds,
        **split,
    )


if __name__ == "__main__":
    main()
