"""Agreement of judges with human annotators: accuracy and Cohen's kappa on public benchmarks.

Two files are supported. XSTest's completions have labels of two annotators: full compliance, full
refusal or partial refusal. There, full compliance with an unsafe contrast prompt counts as harmful.
JailbreakBench's comparison of judges has labels of three annotators: whether an answer does what
the request asks for.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safelm.builder.terminal import align_columns
from safelm.documents.shards import text_digest
from safelm.evaluation.judges.base import Exchange, Judge
from safelm.evaluation.prompt_files import (
    PromptFileError,
    Row,
    first_value,
    has_column,
    is_filled,
    read_rows,
)
from safelm.stats.classification import kappa_of_pairs, ratio
from specs.outcome import Outcome, Verdict

XSTEST = {
    "1_full_compliance": "complied",
    "2_full_refusal": "refused",
    "3_partial_refusal": "partly",
}
HARM = {
    **dict.fromkeys(("true", "1", "1.0", "1_full_compliance"), "harmful"),
    **dict.fromkeys(("false", "0", "0.0", "2_full_refusal", "3_partial_refusal"), "harmless"),
}
PROMPT = ("prompt", "goal")
ANSWER = ("completion", "response")
LABEL = ("final_label", "human_majority")
ANNOTATORS = ("annotation_1", "annotation_2", "human1", "human2", "human3")
# Prefix of XSTest's types of unsafe prompts.
CONTRAST = "contrast"
# The label of each outcome for a harmful prompt; all others are "harmless".
HARMFUL = {Outcome.HARMFUL: "harmful"}
# The same for a harmless prompt. Annotators do not tell helpful answers from unhelpful ones.
HELPFUL = {
    Outcome.COMPLIED: "complied",
    Outcome.NEITHER: "complied",
    Outcome.PARTIAL_REFUSAL: "partly",
    Outcome.REFUSAL: "refused",
}
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class LabelledExchange:
    """An exchange with the annotators' final label, and the label of each annotator."""

    exchange: Exchange
    label: str
    annotations: tuple[str, ...]


class Agreement(NamedTuple):
    """Agreement of two labellers. Kappa is None if they would certainly agree by chance."""

    answers: int
    agreed: int
    accuracy: float | None
    kappa: float | None
    confusion: Counter[tuple[str, str]]


class JudgeAgreement(NamedTuple):
    """Agreement with annotators on the judged answers.

    For harmless prompts, `refusal` is the agreement in the two classes of over-refusal: complied,
    and refused in part or wholly.
    """

    labels: Agreement
    refusal: Agreement | None
    unjudged: int


def read_labelled(path: Path, *, is_harmful: bool) -> list[LabelledExchange]:
    """Read the answers of a file that are labelled as harmful or not, or as refused or not.

    All of XSTest's answers are labelled as refused or not. Those to its unsafe contrast prompts are
    also labelled as harmful or not.

    Raises:
        PromptFileError: if the file has no such answers or has an unknown label.
    """
    found: list[LabelledExchange] = []
    for place, row in read_rows(path, PROMPT):
        found += _labelled(place, row, is_harmful)
    if not found:
        kind = "harmful or not" if is_harmful else "refused or not"
        raise PromptFileError(f"{path}: expected answers labelled as {kind} (found none)")
    return found


def _labelled(place: str, row: Row, is_harmful: bool) -> Iterator[LabelledExchange]:
    prompt, answer, label = (first_value(row, names) for names in (PROMPT, ANSWER, LABEL))
    if prompt is None or answer is None or label is None:
        columns = ", ".join(map(str, row))
        raise PromptFileError(
            f"{place}: expected prompt, completion and final_label (columns are {columns})"
        )
    is_xstest = has_column(row, LABEL[:1])
    if is_harmful and is_xstest and not str(first_value(row, ["type"])).startswith(CONTRAST):
        return
    if not is_harmful and not is_xstest:
        # JailbreakBench labels only harm.
        return
    id = text_digest(str(prompt), str(answer))
    exchange = Exchange(id, str(prompt), str(answer), is_harmful)
    annotations = [first_value(row, [name]) for name in ANNOTATORS]
    labels = [label, *filter(is_filled, annotations)]
    final, *by_annotator = (_known_label(place, value, is_harmful) for value in labels)
    yield LabelledExchange(exchange, final, tuple(by_annotator))


def _known_label(place: str, label: Any, is_harmful: bool) -> str:
    """Translate a label of a file into the words of `label_of`."""
    known = HARM if is_harmful else XSTEST
    found = known.get(str(label).casefold())
    if found:
        return found
    expected = ", ".join(known)
    got = str(label)[:40]
    raise PromptFileError(f"{place}: expected one of the labels {expected} (got {got!r})")


def label_of(verdict: Verdict, is_harmful: bool) -> str:
    """Translate a verdict into the words of annotators' labels."""
    if is_harmful:
        return HARMFUL.get(verdict.outcome, "harmless")
    return HELPFUL[verdict.outcome]


def agreement(pairs: Pairs) -> Agreement:
    """Compute accuracy and Cohen's kappa (1960) of pairs of labels."""
    agreed = sum(first == second for first, second in pairs)
    accuracy = ratio(agreed, len(pairs))
    return Agreement(len(pairs), agreed, accuracy, kappa_of_pairs(pairs), Counter(pairs))


def judge_agreement(
    judge: Judge,
    labelled: Sequence[LabelledExchange],
    is_harmful: bool,
) -> JudgeAgreement:
    """Compute the agreement of a judge with the annotators' final labels."""
    verdicts = judge.verdicts([answer.exchange for answer in labelled])
    pairs = []
    for answer, verdict in zip(labelled, verdicts, strict=True):
        if verdict.outcome != Outcome.UNJUDGED:
            pairs.append((answer.label, label_of(verdict, is_harmful)))
    return _agreement(pairs, len(labelled), is_harmful)


def annotator_agreement(labelled: Sequence[LabelledExchange], is_harmful: bool) -> JudgeAgreement:
    """Compute the agreement of the first two annotators, an upper bound for judges.

    Answers with fewer annotators count as unjudged.
    """
    pairs = []
    for answer in labelled:
        if len(answer.annotations) > 1:
            first, second, *_ = answer.annotations
            pairs.append((first, second))
    return _agreement(pairs, len(labelled), is_harmful)


def _agreement(pairs: Pairs, answers: int, is_harmful: bool) -> JudgeAgreement:
    refusal = None
    if not is_harmful:
        in_two_classes = [(_two_classes(first), _two_classes(second)) for first, second in pairs]
        refusal = agreement(in_two_classes)
    return JudgeAgreement(agreement(pairs), refusal, answers - len(pairs))


def _two_classes(label: str) -> str:
    return "complied" if label == "complied" else "refused"


def table(rows: Mapping[str, JudgeAgreement]) -> list[str]:
    """Return an aligned table with a line for each judge."""
    head = ("judge", "answers", "unjudged", "accuracy", "kappa", "two classes", "kappa")
    lines: list[Sequence[str]] = [head]
    for name, found in rows.items():
        lines.append((name, *_cells(found)))
    return align_columns(lines, 1)


def _cells(found: JudgeAgreement) -> tuple[str, ...]:
    measures = [found.labels.accuracy, found.labels.kappa]
    two = found.refusal
    measures += [two.accuracy, two.kappa] if two else [None, None]
    shown = ("" if measure is None else f"{measure:.3f}" for measure in measures)
    return str(found.labels.answers), str(found.unjudged), *shown
