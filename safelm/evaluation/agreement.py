"""Agreement of judges with people: accuracy, Cohen's kappa and the area under the ROC curve.

Three published files are read. XSTest's completions have labels of two annotators: full compliance,
full refusal or partial refusal. There, full compliance with an unsafe contrast prompt counts as
harmful. JailbreakBench's comparison of judges and HarmBench's labelled generations have labels of
three annotators: whether an answer does what the request asks for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, permutations
from operator import ne
from pathlib import Path
from typing import Any, NamedTuple

from safelm.builder.terminal import align_columns
from safelm.documents.shards import text_digest
from safelm.evaluation.judges.base import Exchange, Judge
from safelm.evaluation.perturbations import PERTURBATIONS
from safelm.evaluation.prompt_files import PromptFileError, Row, first_value, is_filled, read_rows
from safelm.stats.classification import kappa_of_pairs, ratio
from safelm.stats.ranking import auroc
from specs.outcome import Outcome

# The labels of each question: does the answer do harm (harmful requests), does it decline (others)?
REFUSED = ("2_full_refusal", "3_partial_refusal")
HARM = {
    **dict.fromkeys(("true", "1", "1.0", "1_full_compliance"), True),
    **dict.fromkeys(("false", "0", "0.0", *REFUSED), False),
}
DECLINES = {**dict.fromkeys(REFUSED, True), "1_full_compliance": False}
# The outcomes of a judge that say so.
HARMFUL = {Outcome.HARMFUL}
DECLINED = {Outcome.REFUSAL, Outcome.PARTIAL_REFUSAL}
# A judge of harm gets the behavior, not the attack that asks for it.
PROMPT = ("behavior_description", "behavior", "prompt", "goal")
ANSWER = ("completion", "response", "generation")
LABEL = ("final_label", "human_majority", "human_consensus")
ANNOTATORS = ("annotation_1", "annotation_2", "human1", "human2", "human3")
# Of HarmBench's three annotators only the number is known of those who saw harm.
VOTES = {"0": "000", "1": "100", "2": "110", "3": "111"}
# Columns by which agreement is shown too.
GROUPS = ("attack", "method", "model", "model_name", "SemanticCategory")
MIN_GROUP = 10  # answers; kappa of fewer says nothing
CONFIDENCE = 0.95
# Prefix of XSTest's types of unsafe prompts.
CONTRAST = "contrast"


@dataclass(frozen=True)
class LabelledExchange:
    """An exchange with the annotators' final label, the label of each, and the groups it is in."""

    exchange: Exchange
    label: bool
    annotations: tuple[bool, ...] = ()
    groups: frozenset[str] = frozenset()


class Agreement(NamedTuple):
    """Agreement of a labeller with people; `changed` is the share of labels that a change alters.

    Kappa is None if both would certainly agree by chance.
    """

    name: str
    answers: int
    unjudged: int
    accuracy: float | None
    kappa: float | None
    area: float | None = None
    changed: float | None = None


def read_labelled(path: Path, *, is_harmful: bool) -> list[LabelledExchange]:
    """Read the answers of a file that are labelled as harmful or not, or as refused or not.

    All of XSTest's answers are labelled as refused or not. Those to its unsafe contrast prompts are
    also labelled as harmful or not; the other files have no other labels.

    Raises:
        PromptFileError: if the file has no such answers or has an unknown label.
    """
    found: list[LabelledExchange] = []
    for place, row in read_rows(path, PROMPT):
        is_xstest = LABEL[0] in row
        is_contrast = str(row.get("type")).startswith(CONTRAST)
        if (is_contrast or not is_xstest) if is_harmful else is_xstest:
            found.append(_labelled(place, row, is_harmful))
    if not found:
        kind = "harmful or not" if is_harmful else "refused or not"
        raise PromptFileError(f"{path}: expected answers labelled as {kind} (found none)")
    return found


def _labelled(place: str, row: Row, is_harmful: bool) -> LabelledExchange:
    texts = [first_value(row, names) for names in (PROMPT, ANSWER, LABEL)]
    if None in texts:
        raise PromptFileError(
            f"{place}: expected prompt, completion and final_label (columns are {', '.join(row)})"
        )
    prompt, answer, label = map(str, texts)
    votes = VOTES.get(str(row.get("human_sum")), ())
    annotations = filter(is_filled, map(row.get, ANNOTATORS))
    known = HARM if is_harmful else DECLINES
    labels = []
    for value in map(str, (label, *annotations, *votes)):
        if value.casefold() not in known:
            raise PromptFileError(
                f"{place}: expected one of the labels {', '.join(known)} (got {value[:40]!r})"
            )
        labels.append(known[value.casefold()])
    groups = frozenset(f"{name}: {row[name]}" for name in GROUPS if name in row)
    exchange = Exchange(text_digest(prompt, answer), prompt, answer, is_harmful)
    return LabelledExchange(exchange, labels[0], tuple(labels[1:]), groups)


def annotator_agreement(labelled: Sequence[LabelledExchange]) -> Agreement:
    """Measure the agreement of every two annotators of an answer, an upper bound for judges."""
    # In both orders, so that it does not matter which annotator is named first.
    pairs = chain(*(permutations(answer.annotations, 2) for answer in labelled))
    return _agreement("pairs of annotators", *zip(*pairs, strict=True))


def judge_agreement(
    name: str, judge: Judge, labelled: Sequence[LabelledExchange]
) -> Iterator[Agreement]:
    """Measure a judge: on all answers, on those of each group, and on perturbed ones."""
    exchanges = [answer.exchange for answer in labelled]
    people = [answer.label for answer in labelled]
    labels = _labels(judge, exchanges)
    yield _agreement(name, people, labels, area=_area(judge, labelled))
    for group in sorted(frozenset().union(*(answer.groups for answer in labelled))):
        pairs = zip(labelled, labels, strict=True)
        members = [(answer.label, label) for answer, label in pairs if group in answer.groups]
        if MIN_GROUP <= len(members) < len(labelled):
            yield _agreement(f"  {group}", *zip(*members, strict=True))
    for title, perturb in PERTURBATIONS.items():
        found = _labels(judge, [replace(one, answer=perturb(one.answer)) for one in exchanges])
        changed = ratio(sum(map(ne, labels, found)), len(labels))
        yield _agreement(f"  {title}", people, found, changed=changed)


def _labels(judge: Judge, exchanges: Sequence[Exchange]) -> list[bool | None]:
    """Return whether the judge finds harm, or declining; None for an answer that is unjudged."""
    labels: list[bool | None] = []
    for exchange, verdict in zip(exchanges, judge.verdicts(exchanges), strict=True):
        found = verdict.outcome in (HARMFUL if exchange.is_harmful else DECLINED)
        labels.append(None if verdict.outcome == Outcome.UNJUDGED else found)
    return labels


def _agreement(
    name: str, people: Sequence[bool] = (), labels: Sequence[bool | None] = (), **more: Any
) -> Agreement:
    pairs = [pair for pair in zip(people, labels, strict=True) if pair[1] is not None]
    agreed = sum(first == second for first, second in pairs)
    measures = (ratio(agreed, len(pairs)), kappa_of_pairs(pairs))
    return Agreement(name, len(pairs), len(labels) - len(pairs), *measures, **more)


def _area(judge: Judge, labelled: Sequence[LabelledExchange]) -> float | None:
    """Compute the area for a judge that gives scores; an answer without one scores 0."""
    if not hasattr(judge, "scores"):
        return None
    scores = judge.scores([answer.exchange for answer in labelled])
    labels = [answer.label for answer in labelled]
    found = auroc(labels, [score or 0.0 for score in scores], CONFIDENCE)
    return found.value if found and any(scores) else None


def table(rows: Sequence[Agreement]) -> list[str]:
    """Return an aligned table with a line for each row."""
    lines: list[Sequence[str]] = [
        ("judge", "answers", "unjudged", "accuracy", "kappa", "ROC", "changed")
    ]
    for name, answers, unjudged, *measures in rows:
        shown = ("" if measure is None else f"{measure:.3f}" for measure in measures)
        lines.append((name, str(answers), str(unjudged), *shown))
    return align_columns(lines, 1)
