"""How far the judges of params.yaml agree with people, beside how far people agree with each other.

    python -m benchmarks.judges xstest_v2_completions_gpt4.csv [judge-comparison.csv …]

Every file is one of XSTest's completions or of JailbreakBench's comparison of judges. Judges are
the rows of evaluate.judges and each fitted scorer of the table; before `fit` has run, those that
need no fitting. A judge of harmless suites is asked whether an answer declines, one of harmful
suites whether it does harm: of XSTest, an answer that complies with an unsafe contrast. The phrases
were not chosen on these files."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from safelm.builder.paths import build
from safelm.evaluation.judges.agreement import (
    Labelled,
    between_people,
    measured,
    read_labelled,
    table,
)
from safelm.evaluation.judges.registry import Judge, Tables, open_judge
from safelm.evaluation.prompt_files import PromptFileError
from specs.judge import DemoJudge, JudgeRow, LlmJudge, ScorerJudge
from specs.params import Params
from specs.scorer import JUDGES
from specs.verdict import VerdictPrompt


def rows(params: Params, harmful: bool) -> Iterator[tuple[str, JudgeRow]]:
    """The judges that can say whether an answer is harmful, or whether it declines."""
    for name, row in params.evaluate.judges.items():
        asks = VerdictPrompt.read(row.prompt).judges if isinstance(row, LlmJudge) else None
        if isinstance(row, DemoJudge):
            continue
        if isinstance(row, ScorerJudge) and not (harmful and is_ready(params, row.scorer)):
            continue
        if asks in (None, "harmful" if harmful else "harmless"):
            yield f"{name} ({row.kind})", row
    for name in params.scorers if harmful else ():
        if build("fit", name).is_dir():
            yield f"{name} at 4", ScorerJudge(kind="scorer", scorer=name, min_score=4)


def is_ready(params: Params, scorer: str) -> bool:
    """Whether a scorer needs no fitting, or has been fitted."""
    return params.scorers[scorer].kind in JUDGES or build("fit", scorer).is_dir()


def judges(harmful: bool) -> dict[str, Judge]:
    """The same, opened; of judges that are the same rule, one."""
    params = Params.read("evaluate", "scorers", "engines")
    tables = Tables(params.scorers, params.engines, "agreement")
    found = {
        row.model_dump_json(): (name, row) for name, row in reversed(list(rows(params, harmful)))
    }
    return {name: open_judge(name, row, tables) for name, row in reversed(found.values())}


def main() -> None:
    """Print a table for each file and each question that its labels answer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "files", type=Path, nargs="+", help="labelled answers: .csv, .json, .jsonl or .parquet"
    )
    for file in parser.parse_args().files:
        for harmful in (False, True):
            try:
                labelled: list[Labelled] = read_labelled(file, harmful=harmful)
            except PromptFileError as error:
                print(error)
                continue
            found = {"one person, another": between_people(labelled, harmful)}
            found |= {
                name: measured(judge, labelled, harmful) for name, judge in judges(harmful).items()
            }
            print(
                f"\n{file.name}: does the answer {'do harm' if harmful else 'decline'}?",
                *table(found),
                sep="\n",
            )


if __name__ == "__main__":
    main()
