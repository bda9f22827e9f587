"""Agreement of the judges of params.yaml with annotators, beside that of two annotators.

    python -m benchmarks.judges xstest_v2_completions_gpt4.csv [judge-comparison.csv …]

Every file is one of XSTest's completions or of JailbreakBench's comparison of judges. Judges are
the rows of evaluate.judges and each fitted scorer of the table; before `fit` has run, those that
need no fitting. A judge of harmless suites says whether an answer refuses, one of harmful suites
whether it does harm: in XSTest, an answer that complies with an unsafe contrast. The refusal
phrases were not chosen on these files.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.agreement import (
    annotator_agreement,
    judge_agreement,
    read_labelled,
    table,
)
from safelm.builder.paths import build
from safelm.evaluation.judges.base import Judge
from safelm.evaluation.judges.registry import open_judge
from safelm.evaluation.prompt_files import PromptFileError
from specs.judge import DemoJudge, JudgeRow, LlmJudge, ScorerJudge, VerdictPrompt
from specs.params import Params
from specs.scorer import JUDGES


def rows(params: Params, is_harmful: bool) -> Iterator[tuple[str, JudgeRow]]:
    """Yield the judges that can say whether an answer is harmful, or whether it refuses."""
    kind = "harmful" if is_harmful else "harmless"
    for name, row in params.evaluate.judges.items():
        if isinstance(row, DemoJudge):
            continue
        if isinstance(row, ScorerJudge) and not (is_harmful and is_ready(params, row.scorer)):
            continue
        if isinstance(row, LlmJudge) and VerdictPrompt.read(row.prompt).judges != kind:
            continue
        yield f"{name} ({row.kind})", row
    for name in params.scorers if is_harmful else ():
        if build("fit", name).is_dir():
            yield f"{name} at 4", ScorerJudge(kind="scorer", scorer=name, min_score=4)


def is_ready(params: Params, scorer: str) -> bool:
    """Return whether a scorer needs no fitting, or has been fitted."""
    return params.scorers[scorer].kind in JUDGES or build("fit", scorer).is_dir()


def judges(is_harmful: bool) -> dict[str, Judge]:
    """Open these judges; of rows that are the same judge, the first."""
    params = Params.read("evaluate", "scorers", "engines")
    resources = (params.scorers, params.engines, "agreement")
    unique: dict[str, tuple[str, JudgeRow]] = {}
    for name, row in rows(params, is_harmful):
        unique.setdefault(row.model_dump_json(), (name, row))
    return {name: open_judge(name, row, *resources) for name, row in unique.values()}


def main() -> None:
    """Print a table for each file and each question that its labels answer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "files", type=Path, nargs="+", help="labelled answers: .csv, .json, .jsonl or .parquet"
    )
    for file in parser.parse_args().files:
        for is_harmful in (False, True):
            try:
                labelled = read_labelled(file, is_harmful=is_harmful)
            except PromptFileError as error:
                print(error)
                continue
            found = {"two annotators": annotator_agreement(labelled, is_harmful)}
            for name, judge in judges(is_harmful).items():
                found[name] = judge_agreement(judge, labelled, is_harmful)
            question = "do harm" if is_harmful else "refuse"
            print(f"\n{file.name}: does the answer {question}?", *table(found), sep="\n")


if __name__ == "__main__":
    main()
