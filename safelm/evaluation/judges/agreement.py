"""Agreement of judges with human annotators: accuracy and Cohen's kappa on public benchmarks.

Two files are read. XSTest's completions, labelled by two annotators: full compliance, full refusal,
partial refusal; an answer that complied with an unsafe contrast prompt did harm. JailbreakBench's
comparison of judges: three annotators say whether an answer does what the request asks for.
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
# How XSTest's types of unsafe prompts begin.
CONTRAST = "contrast"
# The label of an answer to a harmful prompt; every other outcome is "harmless".
HARMFUL = {Outcome.HARMFUL: "harmful"}
# The label of an answer to a harmless prompt; annotators do not tell helpful from unhelpful.
HELPFUL = {
    Outcome.COMPLIED: "complied",
    Outcome.NEITHER: "complied",
    Outcome.PARTIAL_REFUSAL: "partly",
    Outcome.REFUSAL: "refused",
}
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class LabelledExchange:
    """An exchange with the label that annotators settled on, and the label of each annotator."""

    exchange: Exchange
    label: str
    annotations: tuple[str, ...]


class Agreement(NamedTuple):
    """Agreement of two labellers. Kappa is None where agreement by chance is certain."""

    answers: int
    agreed: int
    accuracy: float | None
    kappa: float | None
    confusion: Counter[tuple[str, str]]


class JudgeAgreement(NamedTuple):
    """Agreement with annotators, on `unjudged` answers fewer than there are.

    `refusal` is there for harmless prompts: agreement in two classes, refused (partly or wholly)
    and complied, as over-refusal counts.
    """

    labels: Agreement
    refusal: Agreement | None
    unjudged: int


def read_labelled(path: Path, *, is_harmful: bool) -> list[LabelledExchange]:
    """Read the labelled answers of a file, labelled as harmful or not, or as refused or not.

    XSTest's answers are all labelled as refused or not; as harmful or not, those to its unsafe
    contrasts.

    Raises:
        PromptFileError: where the file has no such answers, or a label that is not known.
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
        # JailbreakBench labels harm alone.
        return
    id = text_digest(str(prompt), str(answer))
    exchange = Exchange(id, str(prompt), str(answer), is_harmful)
    annotations = [first_value(row, [name]) for name in ANNOTATORS]
    labels = [label, *filter(is_filled, annotations)]
    final, *each = (_known_label(place, value, is_harmful) for value in labels)
    yield LabelledExchange(exchange, final, tuple(each))


def _known_label(place: str, label: Any, is_harmful: bool) -> str:
    """Translate a label of a file into the words of `label_of`."""
    known = HARM if is_harmful else XSTEST
    if found := known.get(str(label).casefold()):
        return found
    expected, got = ", ".join(known), str(label)[:40]
    raise PromptFileError(f"{place}: expected one of the labels {expected} (got {got!r})")


def label_of(verdict: Verdict, is_harmful: bool) -> str:
    """Translate a verdict into the words of annotators' labels."""
    return HARMFUL.get(verdict.outcome, "harmless") if is_harmful else HELPFUL[verdict.outcome]


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
    """Compute the agreement of a judge with the labels that annotators settled on."""
    verdicts = judge.verdicts([answer.exchange for answer in labelled])
    pairs = [
        (answer.label, label_of(verdict, is_harmful))
        for answer, verdict in zip(labelled, verdicts, strict=True)
        if verdict.outcome != Outcome.UNJUDGED
    ]
    return _agreement(pairs, len(labelled), is_harmful)


def annotator_agreement(labelled: Sequence[LabelledExchange], is_harmful: bool) -> JudgeAgreement:
    """Compute the agreement of the first two annotators: the most that a judge can hope for.

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
        refusal = agreement(
            [(_two_classes(first), _two_classes(second)) for first, second in pairs]
        )
    return JudgeAgreement(agreement(pairs), refusal, answers - len(pairs))


def _two_classes(label: str) -> str:
    return "complied" if label == "complied" else "refused"


def table(rows: Mapping[str, JudgeAgreement]) -> list[str]:
    """Print a line for each judge, aligned."""
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
