"""Everything that figures and claims are made from."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

from safelm.report.charts.numbers import readable
from safelm.report.inputs import Declared, Inputs, read_inputs
from safelm.report.layout import STYLES, names_of
from safelm.report.measured import Measured, Number, pool
from safelm.report.roles import DecoderRoles, Group, Roles, decoder_roles, roles
from safelm.stats.rates import Rate
from specs.corpus import ScoredCorpus
from specs.decoder import DecoderRow
from specs.paper import Paper

# Rates that people ask for first: heading in a terminal, metric, and role of the decoder.
HEADLINES = {
    "asr": ("ASR", "asr", "plain"),
    "asr_safebeam": ("SafeBeam", "asr", "safebeam"),
    "benign_compliance": ("benign", "complied", "plain"),
    "over_refusal": ("over-refusal", "over_refusal", "plain"),
    "utility": ("utility", "accuracy", ""),
}


@dataclass(frozen=True, eq=False)
class ReportData(Inputs):
    """What was declared, read and measured. Compared by identity, so that results can be cached."""

    declared: Declared
    confidence: float  # of intervals, such as 0.95
    roles: Roles
    decoders: DecoderRoles
    measured: Measured  # of groups, pooled over their seeds
    single: Measured  # of each model
    external: Measured  # of each external model
    paper: Paper

    @cached_property
    def built(self) -> list[Group]:
        """The groups of which something was evaluated."""
        measured = self.measured.values("group")
        return [group for group in self.roles.groups if group.name in measured]

    @cached_property
    def all_decoders(self) -> list[str]:
        """The decoders in use, in the order of params.yaml."""
        in_use = self.measured.values("decoder")
        return [name for name in self.declared.decoders if name in in_use]

    @cached_property
    def main_decoders(self) -> list[str]:
        """The decoders of Figure 2 in use: greedy and SafeBeam."""
        main = (self.decoders.plain, self.decoders.safebeam)
        return [name for name in main if name in self.all_decoders]

    def headlines(self, measured: Measured) -> Iterator[tuple[str, str, list[Rate | None]]]:
        """Iterate over HEADLINES of each group or model, stage by stage."""
        for name in measured.values("group"):
            for stage in measured.stages(name):
                found = []
                for _, metric, role in HEADLINES.values():
                    decoder = getattr(self.decoders, role) if role else None
                    found.append(measured.rate(metric, name, stage, decoder))
                yield name, stage, found

    @property
    def scored(self) -> dict[str, ScoredCorpus]:
        """The corpora of scored text."""
        corpora = self.declared.corpora.items()
        return {name: row for name, row in corpora if isinstance(row, ScoredCorpus)}

    @property
    def rewritten(self) -> tuple[list[str], list[str]]:
        """The corpora that were rephrased, and those of rephrased text."""
        pages: set[tuple[str, int]] = set()
        for rephrase in self.declared.rephrase.values():
            pages |= rephrase.pages
        before = [name for name, row in self.scored.items() if row.pages <= pages]
        corpora = self.declared.corpora.items()
        return before, [name for name, row in corpora if row.from_.startswith("rephrase/")]

    def safety(self, **columns: Any) -> list[Number]:
        """Select attack success, then benign compliance."""
        asr = self.measured.select(metric="asr", suite="harmful", **columns)
        return asr + self.measured.select(metric="complied", suite="benign", **columns)

    @cached_property
    def styles(self) -> dict[str, str]:
        """The colour and pattern of each decoder, the same on the whole page."""
        return dict(zip(self.declared.decoders, cycle(STYLES), strict=False))

    def legend(self, decoders: Collection[str]) -> list[tuple[str, str]]:
        """Return the styles of decoders and their meaning."""
        rows = self.declared.decoders.items()
        return [(self.styles[name], describe(name, row)) for name, row in rows if name in decoders]


def describe(name: str, decoder: DecoderRow) -> str:
    """Describe a decoder in a few words."""
    method = decoder.method.replace("_", "-")
    template = names_of("does").get(getattr(decoder, "drop", method), method)
    does, title = template.format(**dict(decoder)), readable(name)
    if decoder.method == "branch" and decoder.max_tag_probability is not None:
        does += f", refused above {decoder.max_tag_probability:g}"
    if decoder.method == "branch" and decoder.max_false_refusals is not None:
        does += f", refusing {decoder.max_false_refusals:.0%} of harmless requests at most"
    return title if title == does else f"{title} ({does})"


def read_data(folder: Path, declared: Declared) -> ReportData:
    """Read build/ and pool what was measured."""
    inputs = read_inputs(folder, declared)
    parts = roles(declared.models, declared.mixtures, declared.corpora, declared.comparisons)
    groups: dict[str, str] = {}
    for group in parts.groups:
        groups |= dict.fromkeys(group.models, group.name)
    order = (list(declared.decoders), declared.confidence)
    models, external = declared.models, declared.external_models
    return ReportData(
        **vars(inputs),
        declared=declared,
        confidence=declared.confidence,
        roles=parts,
        decoders=decoder_roles(declared.decoders),
        measured=pool(inputs.measurements, groups, *order),
        single=pool(inputs.measurements, {name: name for name in models}, *order),
        external=pool(inputs.external_measurements, {name: name for name in external}, *order),
        paper=Paper.read(),
    )
