"""The command `safelm judges`: how far the judges of params.yaml agree with people."""

from collections.abc import Iterator
from pathlib import Path

import pipeline.offline  # noqa: F401  (before transformers)
from safelm.evaluation.agreement import annotator_agreement, judge_agreement, read_labelled, table
from safelm.evaluation.judges.base import JudgeError
from safelm.evaluation.judges.registry import open_judge
from safelm.evaluation.prompt_files import PromptFileError
from specs.params import Params


def lines(path: Path) -> Iterator[str]:
    """Yield a table for each question that the labels of a file answer.

    A judge that cannot answer it, or is not fitted, has a line that says so. Raises PromptFileError
    if the labels answer no question.
    """
    params = Params.read("evaluate", "scorers", "engines")
    problems: list[PromptFileError] = []
    for is_harmful, question in enumerate(("decline", "do harm")):
        try:
            labelled = read_labelled(path, is_harmful=bool(is_harmful))
        except PromptFileError as error:
            problems.append(error)
            continue
        found = [annotator_agreement(labelled)]
        unmeasured = []
        for name, row in params.evaluate.judges.items():
            try:
                judge = open_judge(name, row, params.scorers, params.engines, "agreement")
                found += judge_agreement(name, judge, labelled)
            except (JudgeError, FileNotFoundError) as error:
                unmeasured.append(f"{name} is not measured: {error}")
        yield from (f"{path.name}: does the answer {question}?", *table(found), *unmeasured, "")
    if len(problems) > 1:
        raise problems[-1]
