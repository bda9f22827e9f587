"""audit: a sample of each predicted score goes back to a judge; how many does it confirm, and what was missed?

python -m pipeline.audit
"""

import argparse

from safelm.blocks import WriteColumns
from safelm.executor import run
from safelm.paths import build
from safelm.scoring.audit import ReadStratified, sentences, write_audit
from safelm.scoring.scorer import KeepGraded
from safelm.scoring.scorers import grader
from specs.document import AUDIT
from specs.params import Params


def main() -> None:
    """Grade the sample, and compare."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    tables = Params.read("audit", "scorers")
    params, web, scores = tables.audit, build("ingest", "web"), build("score")
    reader = ReadStratified(folder=web, scores=scores, documents=params.documents, seed=params.seed)
    run("audit", [reader, grader(params.judge, tables.scorers), KeepGraded(), WriteColumns(columns=dict(AUDIT))])
    for line in sentences(write_audit(build("audit"), scores, params.confidence)):
        print(f"{'audit':<18} {line}", flush=True)


if __name__ == "__main__":
    main()
