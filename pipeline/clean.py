"""clean: pass the documents of a source through the filters that it names.

python -m pipeline.clean web
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.cleaning.clean import clean
from safelm.evaluation.prompts import every_prompt
from specs.filter import OverlapFilter
from specs.params import Params
from specs.suite import Suite


def main() -> None:
    """Read build/ingest/<source>, and write what its filters keep into build/clean/<source>."""
    name = StageParser("clean", __doc__).parse_row("source", "sources")
    params = Params.read("sources", "filters")
    filters = {row: params.filters[row] for row in params.sources[name].filters}
    prompts: dict[str, list[str]] = {}
    for row in filters.values():
        if isinstance(row, OverlapFilter):
            prompts |= {suite: every_prompt(suite, Suite.read(suite)) for suite in row.suites}
    clean(f"clean/{name}", build("ingest", name), filters, prompts)


if __name__ == "__main__":
    main()
