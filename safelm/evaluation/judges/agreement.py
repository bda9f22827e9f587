"""How far a judge agrees with people: labelled answers of public benchmarks, accuracy and Cohen's
kappa.

Two editions are read. XSTest's completions, labelled by two people: full compliance, full refusal,
partial refusal; what complied with an unsafe contrast did harm. JailbreakBench's comparison of
judges: three people say whether an answer does what the request asks for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.terminal import align_columns
from safelm.documents.shards import text_digest
from safelm.evaluation.judges.registry import Exchange, Judge
from safelm.evaluation.prompt_files import (
    PromptFileError,
    Row,
    has_column,
    is_filled,
    read_rows,
    value_of,
)
from safelm.stats.rates import DIGITS
from specs.outcome import Outcome, Verdict

XSTEST = {
    "1_full_compliance": "complied",
    "2_full_refusal": "refused",
    "3_partial_refusal": "partly",
}
HARM = {
    **{label: "harmful" for label in ("true", "1", "1.0", "1_full_compliance")},
    **{label: "harmless" for label in ("false", "0", "0.0", "2_full_refusal", "3_partial_refusal")},
}
PROMPT = ("prompt", "goal")
LABEL, PEOPLE = (
    ("final_label", "human_majority"),
    ("annotation_1", "annotation_2", "human1", "human2", "human3"),
)
CONTRAST = "contrast"  # how XSTest's types of unsafe prompts begin
HARMFUL = {Outcome.HARMFUL: "harmful"}  # of harmful prompts; everything else is "harmless"
HELPFUL = {  # of harmless prompts: people's labels do not tell helpful from unhelpful
    Outcome.COMPLIED: "complied",
    Outcome.NEITHER: "complied",
    Outcome.PARTIAL_REFUSAL: "partly",
    Outcome.REFUSAL: "refused",
}


@dataclass(frozen=True)
class Labelled:
    """An answer with what people say of it: the label that they settled on, and each one's own."""

    exchange: Exchange
    label: str
    people: tuple[str, ...]


def read_labelled(path: Path, *, harmful: bool) -> list[Labelled]:
    """The labelled answers of a file, as those to harmful prompts or as answers that comply or
    decline.

    Of XSTest all answers can be read as complying or declining; as harmful, or not, those to its
    unsafe contrasts."""
    found = [
        one for where, row in read_rows(path, PROMPT) for one in _labelled(where, row, harmful)
    ]
    if not found:
        raise PromptFileError(
            f"{path}: holds no answers that people labelled as {'harmful' if harmful else 'declining'}"
        )
    return found


def _labelled(where: str, row: Row, harmful: bool) -> Iterator[Labelled]:
    prompt, answer = value_of(row, PROMPT), value_of(row, ["completion", "response"])
    label = value_of(row, LABEL)
    if prompt is None or answer is None or label is None:
        columns = ", ".join(map(str, row))
        raise PromptFileError(
            f"{where}: expected prompt, completion and final_label (columns are {columns})"
        )
    is_xstest = has_column(row, LABEL[:1])
    if harmful and is_xstest and not str(value_of(row, ["type"])).startswith(CONTRAST):
        return
    if not harmful and not is_xstest:
        return
    exchange = Exchange(text_digest(str(prompt), str(answer)), str(prompt), str(answer), harmful)
    people = [said for name in PEOPLE if is_filled(said := value_of(row, [name]))]
    final, *each = (_said(where, value, harmful) for value in (label, *people))
    yield Labelled(exchange, final, tuple(each))


def _said(where: str, label: Any, harmful: bool) -> str:
    """A label of a file in the words of `label_of`."""
    known = HARM if harmful else XSTEST
    if said := known.get(str(label).casefold()):
        return said
    raise PromptFileError(
        f"{where}: expected one of the labels {', '.join(known)} (got {str(label)[:40]!r})"
    )


def label_of(verdict: Verdict, harmful: bool) -> str:
    """A verdict in the words of people's labels."""
    return HARMFUL.get(verdict.outcome, "harmless") if harmful else HELPFUL[verdict.outcome]


def agreement(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Accuracy and Cohen's kappa (1960) of pairs of labels; None of nothing, or where chance alone
    agrees always.
    """
    total = len(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    agreed = sum(one == other for one, other in pairs)
    chance = sum(first[label] * second[label] for label in first) / total**2 if total else 1.0
    return {
        "answers": total,
        "agreed": agreed,
        "accuracy": round(agreed / total, DIGITS) if total else None,
        "kappa": round((agreed / total - chance) / (1 - chance), DIGITS) if chance < 1 else None,
        "confusion": {
            f"{one}, {other}": count for (one, other), count in sorted(Counter(pairs).items())
        },
    }


def declined(label: str) -> str:
    """Partly or wholly declined, against complied: what over-refusal counts."""
    return "complied" if label == "complied" else "declined"


def measured(judge: Judge, labelled: Sequence[Labelled], harmful: bool) -> dict[str, Any]:
    """Agreement of a judge with people's label; of declining also in two classes, as over-refusal
    counts.
    """
    verdicts = judge.verdicts([one.exchange for one in labelled])
    judged = [
        (one, verdict)
        for one, verdict in zip(labelled, verdicts, strict=True)
        if verdict.outcome != Outcome.UNJUDGED
    ]
    pairs = [(one.label, label_of(verdict, harmful)) for one, verdict in judged]
    return {**_both(pairs, harmful), "unjudged": len(labelled) - len(judged)}


def between_people(labelled: Sequence[Labelled], harmful: bool) -> dict[str, Any]:
    """Agreement of the first two people who labelled: what a judge can hope for; answers of fewer
    are unjudged.
    """
    pairs = [(one.people[0], one.people[1]) for one in labelled if len(one.people) > 1]
    return {**_both(pairs, harmful), "unjudged": len(labelled) - len(pairs)}


def _both(pairs: Sequence[tuple[str, str]], harmful: bool) -> dict[str, Any]:
    found = agreement(pairs)
    if not harmful:
        found["two_classes"] = agreement([(declined(one), declined(other)) for one, other in pairs])
    return found


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each judge, aligned."""
    head = ("judge", "answers", "unjudged", "accuracy", "kappa", "two classes", "kappa")
    lines = [head, *((name, *_cells(found)) for name, found in rows.items())]
    return align_columns(lines, 1)


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    two = found.get("two_classes") or {}
    rates = (found["accuracy"], found["kappa"], two.get("accuracy"), two.get("kappa"))
    return (
        str(found["answers"]),
        str(found["unjudged"]),
        *("" if one is None else f"{one:.3f}" for one in rates),
    )
