"""report: the paper's figures from our measurements, on one page, beside the paper's own numbers.

python -m pipeline.report
"""

import argparse

from safelm.paths import build
from safelm.report.build import bind, build_report, screen, statement
from specs.params import Params


def main() -> None:
    """Read what was measured, judge the claims and write the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("report", "sources", "rephrase", "corpora", "mixtures", "models", "evaluate")
    book, claims = bind(
        build(),
        title=params.report.title,
        confidence=params.report.confidence,
        sources=params.sources,
        corpora=params.corpora,
        mixtures=params.mixtures,
        models=params.models,
        decoders=params.evaluate.decoders,
        rephrased_scores=params.rephrase.scores,
    )
    build_report(
        build("report"),
        book,
        claims,
        statement=statement(book.inputs, params.sources, params.rephrase.engine),
        params=params.model_dump(mode="json", by_alias=True),
    )
    print(*screen(book, claims), f"report: {build('report', 'index.html')}", sep="\n", flush=True)


if __name__ == "__main__":
    main()
