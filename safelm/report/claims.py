"""Claims of the paper and of our own, judged from intervals alone; claims.yaml has their text.

They make some twenty comparisons at 95 % confidence: about one in twenty that does not hold will
look settled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml

from safelm.report.cards import Counts, hazard_counts, matrices
from safelm.report.charts.numbers import readable
from safelm.report.claim import Claim, Comparison
from safelm.report.data import ReportData
from safelm.report.figures.differences import pair
from safelm.report.roles import STEPS, Group
from safelm.stats.classification import recall_rate
from safelm.stats.differences import Difference
from safelm.stats.rates import Rate, rate

CLAIMS = Path(__file__).with_suffix(".yaml")
SAFE, STANDARD = "all interventions", "raw data"  # names of models that were not built


class Side(NamedTuple):
    """One side of a comparison: a group of models at a stage under a decoder."""

    group: Group | None
    stage: str
    decoder: str | None
    missing: str = SAFE  # names the model where it was not built

    @property
    def name(self) -> tuple[str, ...]:
        """The words for this side."""
        model = self.group.name if self.group else f"{self.missing} (not built)"
        decoder = [readable(self.decoder)] if self.decoder else []
        return (model, self.stage, *decoder)

    @property
    def cell(self) -> tuple[Group | None, str, str | None]:
        """The group, stage and decoder to look up."""
        return self.group, self.stage, self.decoder


@cache
def _texts() -> dict[str, dict[str, str]]:
    return yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))


def claims(data: ReportData) -> list[Claim]:
    """Judge every claim, in the order of the paper."""
    return [
        *_pretraining(data),
        *_tuning(data),
        *_ablation(data),
        *_costs(data),
        *_decoding(data),
        *_corpora(data),
    ]


def _claim(
    id: str, comparisons: Sequence[Comparison], paper: Mapping[str, float] | None = None
) -> Claim:
    return Claim(id, comparisons=comparisons, paper=paper or {}, **_texts()[id])


def _safe(data: ReportData, stage: str, decoder: str | None) -> Side:
    return Side(data.roles.safe, stage, decoder)


def _standard(data: ReportData, stage: str) -> Side:
    return Side(data.roles.standard, stage, data.decoders.plain, STANDARD)


def _lower_asr(data: ReportData, lower: Side, higher: Side) -> Comparison:
    """Compare two attack success rates, the one that the claim calls lower first."""
    low, high = (data.measured.asr(*side.cell) for side in (lower, higher))
    return Comparison(lower.name, higher.name, low, high, paired=_paired(data, lower, higher))


def _more_compliance(data: ReportData, less: Side, more: Side, kept: bool = False) -> Comparison:
    """Compare two rates of benign compliance, the one that the claim calls lower first."""
    low, high = (data.measured.complied(*side.cell) for side in (less, more))
    return Comparison(less.name, more.name, low, high, kept=kept)


def _paired(data: ReportData, lower: Side, higher: Side) -> Difference | None:
    """Compare prompt by prompt; None between two stages, whose prompts are worded differently."""
    if lower.stage != higher.stage:
        return None
    sides = [(side.group, side.decoder) for side in (lower, higher)]
    # A side that was not built, or a decoder that is not declared, has no answers to pair.
    known = [(group, decoder) for group, decoder in sides if group and decoder]
    if len(known) < 2:
        return None
    difference = pair(data, lower.stage, "harmful", "asr", *known)
    return difference.gap if difference else None


def _pretraining(data: ReportData) -> Iterator[Claim]:
    paper = data.paper.asr.pretrain
    safe, standard = _safe(data, "pretrain", data.decoders.plain), _standard(data, "pretrain")
    yield _claim(
        "safety_lowers_base_asr",
        [_lower_asr(data, safe, standard)],
        {"safe": paper.safe, "standard": paper.standard},
    )
    beam = _safe(data, "pretrain", data.decoders.safebeam)
    yield _claim(
        "safebeam_lowers_base_asr",
        [_lower_asr(data, beam, safe)],
        {"safe, SafeBeam": paper.safebeam, "safe": paper.safe},
    )


def _tuning(data: ReportData) -> Iterator[Claim]:
    plain, paper = data.decoders.plain, data.paper.asr
    tuned = [group for group in data.groups_at("instruct") if group in data.groups_at("pretrain")]
    lowered = [
        _lower_asr(data, Side(group, "instruct", plain), Side(group, "pretrain", plain))
        for group in tuned
    ]
    yield _claim(
        "instruct_lowers_asr",
        lowered,
        {
            "standard, instruct": paper.instruct.standard,
            "standard, pretrain": paper.pretrain.standard,
            "safe, instruct": paper.instruct.safe,
            "safe, pretrain": paper.pretrain.safe,
        },
    )
    instruct, finetune = _standard(data, "instruct"), _standard(data, "finetune")
    standard = {"standard, instruct": paper.instruct.standard}
    standard["standard, finetune"] = paper.finetune.standard
    undone = _lower_asr(data, instruct, finetune)
    yield _claim("finetune_undoes_standard", [undone], standard)
    values = {"safe": paper.finetune.safe, "standard": paper.finetune.standard}
    stays = _lower_asr(data, _safe(data, "finetune", plain), finetune)
    yield _claim("safe_stays_lower", [stays], values)
    lowest, measured = _safe(data, "finetune", data.decoders.safebeam), data.measured
    others = [group for group in data.built if measured.asr(group, "finetune", plain)]
    yield _claim(
        "safebeam_stays_lowest",
        [_lower_asr(data, lowest, Side(group, "finetune", plain)) for group in others],
        {"safe, SafeBeam": paper.finetune.safebeam, **values},
    )


def _ablation(data: ReportData) -> Iterator[Claim]:
    paper, steps = data.paper.ablation, list(STEPS)[:-1]
    groups = dict(data.roles.ablation)
    ends = {"raw": data.roles.standard, "score_0": data.roles.filtered}
    for before, step in pairwise(steps):
        is_first = step == "score_0"
        by_step = ends if is_first else groups
        new, old = (
            Side(by_step.get(name), paper.stage, data.decoders.plain, STEPS[name])
            for name in (step, before)
        )
        # Filtering alone is claimed to raise attack success, every further step to lower it.
        sides = (old, new) if is_first else (new, old)
        values = {STEPS[name]: paper.steps[name] for name in (step, before)}
        yield _claim(f"ablation_{step}", [_lower_asr(data, *sides)], values)


def _costs(data: ReportData) -> Iterator[Claim]:
    roles, paper = data.roles, data.paper
    safe = Side(roles.safe, "pretrain", None)
    standard = Side(roles.standard, "pretrain", None, STANDARD)
    low, high = (data.measured.accuracy(side.group, side.stage) for side in (standard, safe))
    yield _claim(
        "utility_kept",
        [Comparison(standard.name, safe.name, low, high, kept=True)],
        {"safe": paper.utility.steps["moral"], "standard": paper.utility.steps["raw"]},
    )
    declined = {}
    for name in ("safe", "standard"):
        labels = getattr(paper.over_refusal, name)
        count = labels.partial_refusal + labels.refused
        declined[name] = round(100 * count / paper.over_refusal.of, 1)
    safe, standard = _safe(data, "instruct", data.decoders.plain), _standard(data, "instruct")
    low, high = (data.measured.over_refusal(*side.cell) for side in (safe, standard))
    over_refusal = Comparison(safe.name, standard.name, low, high, kept=True)
    yield _claim("over_refusal_not_higher", [over_refusal], declined)


def _decoding(data: ReportData) -> Iterator[Claim]:
    safe, decoders = data.roles.safe, data.decoders
    # Without a safe model the claims about every stage have nothing to compare.
    stages = data.measured.stages(safe) if safe else []
    base = {role: _safe(data, "pretrain", name) for role, name in decoders.named.items()}
    dropped = _lower_asr(data, base["safebeam"], base["control"])
    yield _claim("safebeam_beats_random_drop", [dropped])
    for role in ("safebeam", "branch", "threshold"):
        decoder = decoders.named[role]
        plain = [(_safe(data, stage, decoders.plain), stage) for stage in stages if decoder]
        kept = [
            _more_compliance(data, side, _safe(data, stage, decoder), kept=True)
            for side, stage in plain
        ]
        yield _claim(f"{role}_keeps_compliance", kept)
    both = stages if decoders.branch and decoders.safebeam else []
    sides = [
        (_safe(data, stage, decoders.branch), _safe(data, stage, decoders.safebeam))
        for stage in both
    ]
    as_safe = [replace(_lower_asr(data, branch, beam), kept=True) for branch, beam in sides]
    yield _claim("branch_is_as_safe", as_safe)
    helps = [_more_compliance(data, beam, branch) for branch, beam in sides]
    yield _claim("branch_helps_more", helps)
    lowered = _lower_asr(data, base["threshold"], base["plain"])
    yield _claim("threshold_lowers_base_asr", [lowered])


def _corpora(data: ReportData) -> Iterator[Claim]:
    classifier, cards = data.paper.classifier, data.inputs.cards
    rows = data.paper.card.hazards.values()
    after = _share(data, hazard_counts(cards, data.rephrased))
    before = _share(data, hazard_counts(cards, data.rephrased_from))
    yield _claim(
        "rephrasing_lowers_hazards",
        [Comparison(("rephrased",), ("its sources",), after, before, per_million=True)],
        {
            "rephrased, score 3": round(sum(row.rephrased_3 for row in rows), 2),
            "raw, score 3": round(sum(row.score_3 for row in rows), 2),
        },
    )
    theirs = recall_rate(classifier.matrices["gte-base"], 1, data.confidence)
    names = (("the paper's gte-base",), ("our classifier",))
    recalls = Comparison(*names, theirs, _recall(data), kept=True)
    gte_base = round(100 * classifier.table["gte-base"].recall_1, 2)
    yield _claim("classifier_recall", [recalls], {"gte-base": gte_base})


def _recall(data: ReportData) -> Rate | None:
    first = next(matrices(data.inputs.fit), None)
    return recall_rate(first[1], 1, data.confidence) if first else None


def _share(data: ReportData, counts: Counts) -> Rate | None:
    count, words = counts
    # n-grams overlap, so that a short text may hold more of them than words.
    return rate(min(count, words), words, data.confidence) if words else None
