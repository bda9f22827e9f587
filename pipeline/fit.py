"""fit: fit a classifier of scores on the judge's labels and measure it on those held out.

python -m pipeline.fit
"""

import argparse

from safelm.executor import artifact
from safelm.paths import build
from safelm.scoring.fitting import describe, evaluate, fit, read_labels, split, summary, write_metrics
from specs.params import Params


def main() -> None:
    """Fit, measure, and save both as one folder."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("fit", "score")
    labels = read_labels(build("annotate"))
    train, held_out = split(labels, params.fit.held_out, params.fit.seed)
    scorer = fit(train, params.fit.orders, params.fit.buckets, params.fit.unsafe_weight, params.fit.regularisation)
    measured = evaluate(scorer, train, held_out, params.score.scorers, params.score.ensemble)
    with artifact(build("fit")) as folder:
        scorer.save(folder / params.fit.scorer)
        write_metrics(folder, describe(labels), measured)
    print(f"{'fit':<18} {summary(measured)}")


if __name__ == "__main__":
    main()
