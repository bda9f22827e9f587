"""fit: fit the scorers of the table on the judge's labels and measure them on those held out.

python -m pipeline.fit
"""

import argparse

from safelm.executor import artifact, lay, locked
from safelm.paths import build
from safelm.scoring.fitting import describe, fit_all, measure, summary, write_metrics
from safelm.scoring.labels import read_labels, split
from specs.params import Params


def main() -> None:
    """Fit each row whose key is not known yet; measure all."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("annotate", "fit", "scorers", "score")
    rule, share, seed = params.score.ensemble, params.fit.held_out, params.fit.seed
    with locked("fit"):
        made = fit_all(params.scorers, build("annotate"), held_out=share, seed=seed)
        labels = read_labels(build("annotate"))
        held = split(labels, share, seed)
        held_out = measure(*held, made, judge=params.annotate.judge, rule=rule.rule, of=rule.thresholds)
        with artifact(build("fit")) as folder:
            for name, manifest in made.items():
                lay(manifest, folder / name)
            write_metrics(folder, describe(labels), held_out)
    for line in summary(held_out):
        print(f"{'fit':<18} {line}", flush=True)


if __name__ == "__main__":
    main()
